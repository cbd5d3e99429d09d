"""Counts the PCI slots of a running guest that hot plug can fill, from its live XML.

As libvirt 11.3 does: virDomainPCIAddressBusSetModel (src/conf/domain_addr.c) says what fits into which controller, and
qemuDomainValidateDevicePCISlotsPIIX3 (src/qemu/qemu_domain_address.c) what i440fx occupies without an element in XML.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from lxml import etree

from .slots import Slots

Element = etree._Element  # noqa: SLF001 - lxml's own type has no public name

#: One PCI Express slot each, at slot 0 of their bus.
EXPRESS_MODELS = frozenset({"pcie-root-port", "pcie-switch-downstream-port"})
#: Slots 1 to 31 of their bus. pci-expander-bus is left out: libvirt counts it, QEMU does not plug into it.
CONVENTIONAL_MODELS = frozenset({"pci-root", "pci-bridge", "pcie-to-pci-bridge"})
CONVENTIONAL_SLOTS = range(1, 32)
#: ISA bridge, IDE, USB and power management of the PIIX3, of which XML shows some at most.
_PIIX3_SLOT = 1
_X86 = ("i686", "x86_64")


def free_slots(domain: Element) -> Slots:
    """The free slots of a domain; ``known`` is False without PCI controllers, and where slots are bound to groups."""
    controllers = _elements(domain, "devices/controller[@type='pci']")
    models = {c.get("model") for c in controllers}
    if not models & {"pci-root", "pcie-root"} or _is_pseries(domain):
        return Slots(known=False)
    taken = set(_taken(domain))
    express = conventional = 0
    for controller in controllers:
        bus, model = _number(controller, "index"), controller.get("model")
        if bus is None or _elements(controller, "target[@hotplug='off']"):
            continue
        if model in EXPRESS_MODELS:
            express += (bus, 0) not in taken
        elif model in CONVENTIONAL_MODELS:
            conventional += sum((bus, slot) not in taken for slot in CONVENTIONAL_SLOTS)
    return Slots("pcie-root" in models, express, conventional)


def _taken(domain: Element) -> Iterator[tuple[int, int]]:
    """Bus and slot of every device. The address of a hostdev's source is the host's, and no direct child."""
    for address in _elements(domain, "devices/*/address[@type='pci']"):
        bus, slot = _number(address, "bus"), _number(address, "slot")
        if bus is not None and slot is not None:
            yield bus, slot
    if _is_i440fx(domain):
        yield 0, _PIIX3_SLOT


def _is_i440fx(domain: Element) -> bool:
    """An x86 machine with conventional PCI is one, whatever name its machine type has (pc, pc-i440fx-10.0, rhel6)."""
    arches = _elements(domain, "os/type")
    roots = _elements(domain, "devices/controller[@type='pci'][@model='pci-root']")
    return bool(roots) and any(a.get("arch") in _X86 for a in arches)


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
