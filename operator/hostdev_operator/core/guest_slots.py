"""Reads a guest's PCI topology from its XML, the live or the persistent one.

As libvirt 11.3 does: virDomainPCIAddressBusSetModel (src/conf/domain_addr.c) says what fits into which controller, and
qemuDomainValidateDevicePCISlotsPIIX3 and ...Q35 (src/qemu/qemu_domain_address.c) what a machine occupies without an
element in XML.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from .pci import PciAddress
from .pci_xml import Element, read_address
from .topology import EXPRESS_ROOT, PORT, ROOT, Bus, Place, Topology

#: ISA bridge, IDE, USB and power management of the PIIX3, of which XML shows some at most.
_PIIX3 = Place(PciAddress(0, 0, 1, 0), "the machine's own PIIX3 (ISA bridge, IDE, USB, power management)")
#: The same of q35: ISA bridge, SATA, SMBus.
_ICH9 = Place(PciAddress(0, 0, 0x1F, 0), "the machine's own ICH9 (ISA bridge, SATA, SMBus)")
_X86 = ("i686", "x86_64")


def read_topology(domain: Element) -> Topology:
    """The topology; not known without PCI controllers, and where slots are bound to groups."""
    buses = tuple(_buses(domain))
    roots = {b.model for b in buses} & {ROOT, EXPRESS_ROOT}
    if not roots or _is_pseries(domain):
        return Topology()
    places = tuple(_places(domain))
    if any(o.get("arch") in _X86 for o in _elements(domain, "os/type")):
        places += (_PIIX3 if ROOT in roots else _ICH9,)
    return Topology(buses, places, known=True)


def _buses(domain: Element) -> Iterator[Bus]:
    for controller in _elements(domain, "devices/controller[@type='pci']"):
        index = _number(controller, "index")
        if index is not None:
            hot = not _elements(controller, "target[@hotplug='off']")
            yield Bus(index, controller.get("model") or "", hot, _user_alias(controller))


def _places(domain: Element) -> Iterator[Place]:
    """Of every device. The address of a hostdev's source is the host's, and no direct child."""
    for element in _elements(domain, "devices/*[address/@type='pci']"):
        found = element.find("address[@type='pci']")
        address = read_address(found)
        if address is not None and found is not None:
            shared = found.get("multifunction") == "on"
            is_port = element.get("model") == PORT and element.tag == "controller"
            yield Place(address, _who(element), _user_alias(element), shared, is_port)


def _who(element: Element) -> str:
    """A device as messages name it."""
    source = read_address(element.find("source/address"))
    if source is not None:
        return f"host device {source}"
    mac, target = element.find("mac"), element.find("target")
    if element.tag == "controller":
        return f"controller {element.get('model') or element.get('type')} {element.get('index') or ''}".rstrip()
    if mac is not None:
        return f"{element.tag} {mac.get('address')}"
    name = target.get("dev") if target is not None else None
    return f"{element.tag} {name}" if name else f"its {element.tag}"


def _user_alias(element: Element) -> str | None:
    """Libvirt keeps those alone over restarts (formatdomain, "Device aliases")."""
    alias = element.find("alias")
    name = alias.get("name") if alias is not None else None
    return name if name is not None and name.startswith("ua-") else None


def _is_pseries(domain: Element) -> bool:
    """There libvirt gives each host device a bus of its own (isolation groups), which is not counted here."""
    return any((t.get("machine") or "").startswith("pseries") for t in _elements(domain, "os/type"))


def _elements(node: Element, path: str) -> list[Element]:
    return cast("list[Element]", node.xpath(path))


def _number(element: Element, name: str) -> int | None:
    """Hexadecimal with 0x, or decimal; 0 if absent."""
    try:
        return int(element.get(name) or "0", 0)
    except ValueError:
        return None
