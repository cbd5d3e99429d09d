"""Runs in the lab host: what assign and release cost by the bare libvirt calls on one open connection.

Usage: floor.py GUEST DEVICE MATE DRIVER. Prints {"assign": seconds, "release": seconds}. Starting Python, importing
libvirt and connecting are not counted.
"""

import json
import os
import re
import sys
import time

import libvirt

guest, device, mate, driver = sys.argv[1:]
domain, bus, slot, function = re.split("[:.]", device)
address = f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
hostdev = f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{address}</source></hostdev>"
node_device = "pci_" + re.sub("[:.]", "_", mate)


def must(true: object) -> None:
    if not true:
        raise SystemExit("floor: the host is not as it should be")


def mate_driver() -> str:
    return os.path.basename(os.readlink(f"/sys/bus/pci/devices/{mate}/driver"))  # noqa: PTH115, PTH119 - the floor


connection = libvirt.open("qemu:///system")
began = time.perf_counter()
found = connection.lookupByName(guest)
must(not found.isActive())
must(not any(address in other.XMLDesc(0) for other in connection.listAllDomains(0)))
connection.nodeDeviceLookupByName(node_device).detachFlags("vfio", 0)
must(mate_driver() == "vfio-pci")
found.attachDeviceFlags(hostdev, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
must(address in found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
assigned = time.perf_counter()

middle = time.perf_counter()
found = connection.lookupByName(guest)
must(not found.isActive())
found.detachDeviceFlags(hostdev, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
connection.nodeDeviceLookupByName(node_device).reAttach()
must(mate_driver() == driver)
released = time.perf_counter()
print(json.dumps({"assign": assigned - began, "release": released - middle}))
