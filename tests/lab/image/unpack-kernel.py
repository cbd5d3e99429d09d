#!/usr/bin/env python3
"""Unpacks the ELF kernel inside a bzImage. Usage: unpack-kernel.py BZIMAGE VMLINUX.

Its place is in the boot protocol's header (kernel: Documentation/arch/x86/boot.rst, payload_offset, since 2.08).
"""

import lzma
import struct
import subprocess
import sys
from pathlib import Path

source, target = map(Path, sys.argv[1:])
image = source.read_bytes()
setup_sectors = image[0x1F1] or 4
offset, length = struct.unpack_from("<II", image, 0x248)
start = (setup_sectors + 1) * 512 + offset
payload = image[start : start + length]
if payload.startswith(b"\xfd7zXZ"):
    kernel = lzma.LZMADecompressor().decompress(payload)
elif payload.startswith(b"\x28\xb5\x2f\xfd"):
    # Four bytes of size follow the packed kernel.
    kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
else:
    raise SystemExit(f"{source}: packed in a way that is not known here: {payload[:6]!r}")
if not kernel.startswith(b"\x7fELF"):
    raise SystemExit(f"{source}: what is inside is not an ELF kernel")
target.write_bytes(kernel)
