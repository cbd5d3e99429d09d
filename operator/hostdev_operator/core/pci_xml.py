"""PCI addresses in libvirt's XML: <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>."""

from __future__ import annotations

from lxml import etree

from .pci import PciAddress

Element = etree._Element  # noqa: SLF001 - lxml's own type has no public name
_PARTS = ("domain", "bus", "slot", "function")


def read_address(element: Element | None) -> PciAddress | None:
    """An <address> whose numbers are hexadecimal with 0x, or decimal (formatdomain); None if it is none."""
    if element is None:
        return None
    try:
        return PciAddress(*(int(element.get(part) or "0", 0) for part in _PARTS))
    except ValueError:
        return None


def address_attributes(address: PciAddress) -> dict[str, str]:
    """The attributes of an <address>, as libvirt itself writes them."""
    return {
        "domain": f"0x{address.domain:04x}",
        "bus": f"0x{address.bus:02x}",
        "slot": f"0x{address.slot:02x}",
        "function": f"0x{address.function:x}",
    }


def guest_address(address: PciAddress, *, multifunction: bool = False) -> dict[str, str]:
    """The attributes of a device's own <address>: where the guest sees it. Function 0 says that there are others."""
    shared = {"multifunction": "on"} if multifunction and address.function == 0 else {}
    return {"type": "pci", **address_attributes(address), **shared}
