"""Runs in the lab host: opens a device as QEMU does, tells `open`, and keeps it until it is killed.

Usage: hold_vfio.py GROUP ADDRESS. Numbers: linux/vfio.h.
"""

import fcntl
import os
import signal
import struct
import sys

SET_IOMMU, GROUP_SET_CONTAINER, GROUP_GET_DEVICE_FD = 0x3B66, 0x3B68, 0x3B6A
TYPE1 = 1

container, group = (os.open(f"/dev/vfio/{name}", os.O_RDWR) for name in ("vfio", sys.argv[1]))
fcntl.ioctl(group, GROUP_SET_CONTAINER, struct.pack("i", container))
fcntl.ioctl(container, SET_IOMMU, TYPE1)
fcntl.ioctl(group, GROUP_GET_DEVICE_FD, sys.argv[2].encode() + b"\0")
print("open", flush=True)
signal.pause()
