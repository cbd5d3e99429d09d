"""What a DeviceAssignment asks for, freed of its wire form."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.deviceassignment import PciSource
from .pci import PciAddress

ALIAS_PREFIX = "ua-hostdev-"


@dataclass(frozen=True)
class Intent:
    """One assignment, bound to this node and to a guest's UUID."""

    uid: str
    namespace: str
    name: str
    address: PciAddress
    domain_uuid: str
    domain_name: str | None
    managed: bool = True
    driver: str | None = None

    @property
    def alias(self) -> str:
        """The hostdev's user alias in the guest's XML: tells our device from a foreign one without any record.

        libvirt keeps aliases that start with ``ua-`` (formatdomain, "Device aliases").
        """
        return ALIAS_PREFIX + self.uid

    @property
    def owner(self) -> str:
        """The assignment as namespace/name."""
        return f"{self.namespace}/{self.name}"


def address_of(pci: PciSource) -> PciAddress:
    """The address that a source names; ValueError says what is wrong with it."""
    if pci.address is not None:
        return PciAddress.parse(pci.address)
    if pci.bus is None or pci.slot is None or pci.function is None:
        raise ValueError("a source needs either address, or bus, slot and function")
    return PciAddress.from_numbers(pci.domain, pci.bus, pci.slot, pci.function)
