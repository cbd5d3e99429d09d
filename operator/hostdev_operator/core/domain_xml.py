"""Reads libvirt's XML of domains, networks and node devices, and writes the one element that we own: <hostdev>."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from lxml import etree

from .actions import HostdevXml
from .guest_slots import free_slots
from .model import Guest, Hostdev
from .pci import PciAddress
from .slots import Slots

# Domain XML is made by whoever may define guests: no entities, no network, no DTD.
Element = etree._Element  # noqa: SLF001 - lxml's own type has no public name
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)


@dataclass(frozen=True)
class GuestXml:
    """What libvirt says of one domain; ``live`` is None while it does not run, ``config`` if it is transient."""

    uuid: str
    name: str
    live: str | None
    config: str | None


def parse(text: str) -> Element:
    """Parse libvirt's XML; etree.XMLSyntaxError if it is broken."""
    return etree.fromstring(text.encode(), _PARSER)


def _elements(node: Element, path: str) -> list[Element]:
    return cast("list[Element]", node.xpath(path))


def _texts(node: Element, path: str) -> list[str]:
    return [str(text) for text in cast("list[str]", node.xpath(path))]


def _address(element: Element) -> PciAddress | None:
    """An <address> with domain, bus, slot and function: hexadecimal with 0x, or decimal (formatdomain)."""
    try:
        numbers = [int(element.get(part) or "0", 0) for part in ("domain", "bus", "slot", "function")]
        return PciAddress(*numbers)
    except ValueError:
        return None


def hostdevs(domain: Element) -> tuple[Hostdev, ...]:
    """All host PCI devices: <hostdev type='pci'>, <interface type='hostdev'>, and the disks of <disk type='nvme'>.

    A disk's alias is left out: none of those is ours.
    """
    found = []
    path = "devices/hostdev[@mode='subsystem'][@type='pci'] | devices/interface[@type='hostdev']"
    for element in _elements(domain, path):
        source = element.find("source/address")
        address = _address(source) if source is not None else None
        if address:
            alias = element.find("alias")
            found.append(
                Hostdev(
                    address,
                    alias.get("name") if alias is not None else None,
                    element.get("managed") == "yes",
                )
            )
    for element in _elements(domain, "devices/disk/descendant-or-self::*[@type='nvme']/source[address]"):
        address = _address(_elements(element, "address")[0])
        if address:
            found.append(Hostdev(address, None, element.get("managed") == "yes"))
    return tuple(found)


def block_paths(domain: Element) -> frozenset[str]:
    """What of the host's block storage serves as disks, below backing stores and mirrors too.

    Paths such as /dev/disk/by-id/x; and, as text that no path can be, SCSI devices that are passed through, which
    cannot be followed. QEMU's own iSCSI needs no controller. USB devices are left out.
    """
    found = set(_texts(domain, "devices/disk//source/@dev"))
    files = _texts(domain, "devices/disk//source/@file[starts-with(., '/dev/')]")
    found.update(path for path in files if not path.startswith("/dev/shm/"))  # noqa: S108 - a prefix, not a file
    for source in _elements(domain, "devices/hostdev[@type='scsi' or @type='scsi_host']/source"):
        if source.get("protocol") != "iscsi":
            adapter = source.find("adapter")
            name = adapter.get("name") if adapter is not None else source.get("wwpn")
            found.add(f"SCSI device of {name or 'an unknown adapter'}")
    return frozenset(found)


def volume_pools(domain: Element) -> frozenset[str]:
    """The storage pools whose volumes serve as disks."""
    return frozenset(_texts(domain, "devices/disk//source/@pool"))


def interface_names(domain: Element, networks: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The host's bridges and netdevs that carry the guest's NICs, those of its libvirt networks included."""
    names = set(_texts(domain, "devices/interface[@type='bridge']/source/@bridge"))
    names.update(_texts(domain, "devices/interface[@type='direct']/source/@dev"))
    for network in _texts(domain, "devices/interface[@type='network']/source/@network"):
        names |= networks.get(network, frozenset())
    return frozenset(names)


@dataclass(frozen=True)
class NetworkXml:
    """A libvirt network. ``interfaces``: its bridge, and the host's netdevs that it forwards to.

    One that hands out VFs (forward mode hostdev) has their ``addresses``, or the netdevs of their ``pfs``.
    """

    name: str
    interfaces: frozenset[str]
    hands_out_vfs: bool = False
    pfs: frozenset[str] = frozenset()
    addresses: frozenset[PciAddress] = frozenset()


def network(text: str) -> NetworkXml:
    """One network from its XML."""
    tree = parse(text)
    if _elements(tree, "forward[@mode='hostdev']"):
        found = (_address(e) for e in _elements(tree, "forward/address[@type='pci']"))
        addresses = frozenset(a for a in found if a)
        pfs = frozenset(_texts(tree, "forward/pf/@dev"))
        return NetworkXml(tree.findtext("name") or "", frozenset(), True, pfs, addresses)
    names = _texts(tree, "bridge/@name | forward/@dev | forward/interface/@dev")
    return NetworkXml(tree.findtext("name") or "", frozenset(names))


def guest(xml: GuestXml, networks: Mapping[str, frozenset[str]]) -> Guest:
    """One guest from its live and persistent XML."""
    live = parse(xml.live) if xml.live else None
    config = parse(xml.config) if xml.config else None
    both = [d for d in (live, config) if d is not None]
    return Guest(
        uuid=xml.uuid,
        name=xml.name,
        active=live is not None,
        persistent=config is not None,
        live=hostdevs(live) if live is not None else (),
        config=hostdevs(config) if config is not None else (),
        block_paths=frozenset().union(*(block_paths(d) for d in both)),
        volume_pools=frozenset().union(*(volume_pools(d) for d in both)),
        interfaces=frozenset().union(*(interface_names(d, networks) for d in both)),
        run=_run(live),
        slots=free_slots(live) if live is not None else Slots(),
    )


def _run(live: Element | None) -> int | None:
    """Libvirt's id of a running domain."""
    number = live.get("id") if live is not None else None
    return int(number) if number is not None and number.isdigit() else None


def node_device_names(text: str) -> tuple[str | None, str | None]:
    """Vendor and product names in the XML of a PCI node device; None where the PCI ID database has none."""
    device = parse(text)
    return (
        device.findtext("capability[@type='pci']/vendor") or None,
        device.findtext("capability[@type='pci']/product") or None,
    )


def _source_address(address: PciAddress) -> dict[str, str]:
    return {
        "domain": f"0x{address.domain:04x}",
        "bus": f"0x{address.bus:02x}",
        "slot": f"0x{address.slot:02x}",
        "function": f"0x{address.function:x}",
    }


def hostdev_xml(wanted: HostdevXml) -> str:
    """The <hostdev> that is added to a guest. Built as a tree, so that no name can inject markup."""
    hostdev = etree.Element("hostdev", mode="subsystem", type="pci", managed="yes" if wanted.managed else "no")
    if wanted.driver:
        etree.SubElement(hostdev, "driver", name=wanted.driver)
    source = etree.SubElement(hostdev, "source")
    etree.SubElement(source, "address", _source_address(wanted.address))
    etree.SubElement(hostdev, "alias", name=wanted.alias)
    if wanted.unassigned:
        etree.SubElement(hostdev, "address", type="unassigned")
    return str(etree.tostring(hostdev, encoding="unicode"))


def find_hostdev(text: str, address: PciAddress) -> str | None:
    """The text of the <hostdev> with this source address in a domain's XML: what detach-device wants."""
    for element in _elements(parse(text), "devices/hostdev[@mode='subsystem'][@type='pci']"):
        source = element.find("source/address")
        if source is not None and _address(source) == address:
            return str(etree.tostring(element, encoding="unicode", with_tail=False))
    return None
