"""What is there, read from the made-up host itself and not by the product's own code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from lxml import etree

from hostdev_operator.core.model import PciDevice, Role
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.simulation.host import FakeGuest, FakeHost

PREFIX = "ua-hostdev-"


@dataclass(frozen=True)
class Owned:
    """One <hostdev> or <interface> of a guest: its device, or the network that gives it one."""

    alias: str
    address: PciAddress | None
    network: str | None

    def is_of(self, uid: str) -> bool:
        """Whether it is an assignment's."""
        return self.alias == PREFIX + uid or self.alias.startswith(f"{PREFIX}{uid}-")


@lru_cache(maxsize=4096)
def owned(text: str | None) -> tuple[Owned, ...]:
    """All that a guest's XML has of the host."""
    if text is None:
        return ()
    found = []
    for element in etree.fromstring(text).iterfind("devices/*"):
        if element.tag not in ("hostdev", "interface"):
            continue
        alias, address, source = element.find("alias"), element.find("source/address"), element.find("source")
        where = address.attrib if address is not None else None
        found.append(
            Owned(
                str(alias.get("name")) if alias is not None else "",
                PciAddress(*(int(str(where[n]), 16) for n in ("domain", "bus", "slot", "function"))) if where else None,
                source.get("network") if source is not None else None,
            )
        )
    return tuple(found)


def of_alias(guest: FakeGuest, uid: str, *, live: bool) -> tuple[Owned, ...]:
    """What a guest has of an assignment."""
    return tuple(o for o in owned(guest.live if live else guest.config) if o.is_of(uid))


def has_anything_of(host: FakeHost, uid: str) -> bool:
    """Whether any guest has."""
    return any(of_alias(g, uid, live=live) for g in host.guests.values() for live in (True, False))


def holders(host: FakeHost, address: PciAddress) -> list[FakeGuest]:
    """The running guests that have the device."""
    return [g for g in host.guests.values() if any(o.address == address for o in owned(g.live))]


def endpoints(host: FakeHost, address: PciAddress) -> list[PciDevice]:
    """Those of the device's IOMMU group, itself included; none if it is gone."""
    device = host.devices.get(address)
    if device is None:
        return []
    return [d for d in host.devices.values() if d.iommu_group == device.iommu_group and d.role is Role.ENDPOINT]


def on_host_driver(device: PciDevice) -> bool:
    """Whether a driver of the host is bound."""
    return device.driver is not None and device.driver != "vfio-pci"
