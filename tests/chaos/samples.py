"""The node of the campaign: a shared IOMMU group, a single card, a disk that the host needs, an SR-IOV card; guests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostdev_operator.core.pci import PciAddress
from tests.chaos.parts import ChaosHost
from tests.fakes.samples import DISK, LONER, MATE, NIC, device, port

PF = PciAddress.parse("0000:05:00.0")
VF0, VF1, VF2 = (PciAddress.parse(f"0000:05:10.{function}") for function in (0, 2, 4))
OTHER_CARD = device(LONER, "ixgbe", 13, product=0x1528)
GUESTS = ("web", "db", "app")
POOLS = ("lan", "dmz")
SLOTS = ("a", "b", "c", "d", "e")
DEVICES = (str(NIC), str(MATE), str(LONER))
VFS = tuple(str(vf) for vf in (VF0, VF1, VF2))


def uuid_of(guest: str, version: int = 0) -> str:
    """The guest's; it is another one after it was redefined."""
    number = GUESTS.index(guest) + 1
    return f"{number}{version:07x}-{str(number) * 4}-4{str(number) * 3}-8{str(number) * 3}-{str(number) * 12}"


def node() -> ChaosHost:
    """As it is before anybody asks for anything."""
    host = ChaosHost(
        port(),
        device(NIC),
        replace(device(MATE, "snd_hda_intel"), class_code=0x040300),
        device(LONER, "igb", 13),
        device(DISK, "nvme", 14, class_code=0x010802),
    )
    host.use(DISK, "carries the file system that is mounted on /")
    host.sriov.add(device(PF, "igb", 30, product=0x10C9), total=4)
    for guest in GUESTS:
        host.define(uuid_of(guest), guest)
    return host


def source_of(what: str) -> dict[str, Any]:
    """spec.source and what goes with it, for a word such as 0000:01:00.0, any, pool lan, vf 0000:05:10.0."""
    kind, _, rest = what.partition(" ")
    if kind == "any":
        return {"source": {"match": {"vendor": "0x8086", "class": "0x02", "any": True}}}
    if kind == "pool":
        return {"source": {"pool": {"name": rest}}}
    if kind == "vf":
        return {"source": {"pci": {"address": rest}}, "network": {"vlan": 7, "trust": True, "spoofCheck": False}}
    return {"source": {"pci": {"address": what}}}
