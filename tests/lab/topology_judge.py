"""Lets the laboratory's libvirt judge what core/topology.py says: runs there, and prints a line of JSON.

Guests with all kinds of topologies are defined; devices are added to each one by one, as the product does, together
with the controllers that are said to be ours. None is started: libvirt takes hostdevs of addresses that do not exist,
and calls them PCI Express; conventional devices are emulated NICs.
"""

from __future__ import annotations

import json
import random
import sys

import libvirt
from lxml import etree

from hostdev_operator.core import domain_xml
from hostdev_operator.core.actions import AddController
from hostdev_operator.core.guest_slots import read_topology
from hostdev_operator.core.topology import Topology

CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
ALIAS = "ua-hostdev-judged-bus-"
#: Devices to be added: PCI Express, conventional, and slots that shall be free then.
WANTED = ((1, 0, 0), (0, 1, 0), (2, 3, 0), (0, 35, 0), (4, 0, 2), (1, 1, 3), (0, 64, 1), (9, 0, 0))

#: Of the first guest, an empty i440fx.
MANY = (0, 300, 0)


def address(bus: int, slot: int) -> str:
    return f"<address type='pci' domain='0' bus='{bus}' slot='{slot}' function='0'/>"


def hostdev(number: int) -> str:
    source = f"<address domain='0' bus='{0x80 + number // 32}' slot='{number % 32}' function='0'/>"
    return f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{source}</source></hostdev>"


def nic(place: str = "", model: str = "e1000") -> str:
    return f"<interface type='user'><model type='{model}'/>{place}</interface>"


def controller(index: int, model: str, place: str = "") -> str:
    return f"<controller type='pci' index='{index}' model='{model}'>{place}</controller>"


def some_i440fx(chance: random.Random) -> list[str]:
    bridges, free = chance.choice([0, 0, 1, 2]), chance.choice([0, 0, 1, 2, 3, 10])
    devices = [controller(n, "pci-bridge", address(0, n + 1)) for n in range(1, bridges + 1)]
    devices += [nic(address(0, slot)) for slot in range(2 + bridges, 32 - free)]
    for bus in range(1, bridges + 1):
        devices += [nic(address(bus, slot)) for slot in range(1, 32 - chance.choice([0, 0, 1, 5]))]
    return devices


def some_q35(chance: random.Random) -> list[str]:
    ports = chance.choice([0, 1, 3, 5])
    devices = [controller(0, "pcie-root"), *(controller(n, "pcie-root-port") for n in range(1, ports + 1))]
    if ports and chance.random() < 0.6:
        devices.append(controller(ports + 1, "pcie-to-pci-bridge", address(1, 0)))
        devices += [nic(address(ports + 1, slot)) for slot in range(1, 32 - chance.choice([0, 0, 1, 2, 20]))]
    first = chance.choice([31, 31, 4, 3])
    return devices + [nic(address(0, slot), "e1000e") for slot in range(first, 31)]


def topology(domain: libvirt.virDomain) -> Topology:
    return read_topology(etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))


def add(domain: libvirt.virDomain, devices: list[str]) -> str | None:
    """What libvirt says against it."""
    try:
        for device in devices:
            domain.attachDeviceFlags(device, CONFIG)
    except libvirt.libvirtError as error:
        return str(error)
    return None


def judge(domain: libvirt.virDomain, wanted: tuple[int, int, int]) -> tuple[str, list[str]]:
    """What was said and what libvirt said, and everything that is wrong about it."""
    before = topology(domain)
    express, conventional, spare = wanted if before.has_express else (0, wanted[0] + wanted[1], wanted[2])
    growth = before.growth(express=express, conventional=conventional, spare=spare)
    new = [domain_xml.controller_xml(AddController("", c, f"{ALIAS}{c.index}")) for c in growth.ours]
    refused = add(domain, [*new, *(hostdev(n) for n in range(express)), *(nic() for _ in range(conventional))])
    after = topology(domain)
    places = [p.address for p in after.places if not p.who.startswith("the machine")]
    slots = after.slots(hot=True)
    free = slots.express if slots.has_express else slots.conventional
    faults = {
        f"said {growth}, libvirt: {refused}": bool(growth.full) != bool(refused),
        f"{sorted(map(str, places))}: one of them twice": len(places) != len(set(places)),
        "an address has moved": bool(
            {(p.address, p.who) for p in before.places} - {(p.address, p.who) for p in after.places}
        ),
        f"{free} slots are free, of {spare}": not growth.full and free < spare,
    }
    return "full" if growth.full else "fits", [f"{wanted}: {text}" for text, there in faults.items() if there]


def main(seed: int, guests: int) -> None:
    """Judge so many guests."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    connection, chance = libvirt.open("qemu:///system"), random.Random(seed)  # noqa: S311
    counts: dict[str, int] = {}
    faults: list[str] = []
    for number in range(guests):
        machine = "q35" if number % 2 else "pc"
        devices = [] if number == 0 else (some_q35 if number % 2 else some_i440fx)(chance)
        domain = connection.defineXML(
            f"<domain type='qemu'><name>judged</name><memory unit='MiB'>64</memory>"
            f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os><devices>"
            f"<controller type='usb' model='none'/><memballoon model='none'/>{''.join(devices)}</devices></domain>"
        )
        try:
            said, wrong = judge(domain, MANY if number == 0 else chance.choice(WANTED))
        finally:
            domain.undefine()
        counts[f"{machine} {said}"] = counts.get(f"{machine} {said}", 0) + 1
        faults += wrong
    print(json.dumps({"counts": counts, "faults": faults}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
