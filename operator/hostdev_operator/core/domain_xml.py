"""Reads libvirt's XML of domains and node devices, and writes the elements that we own: <hostdev> and <interface>."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from lxml import etree

from .actions import AddController, HostdevXml, InterfaceXml
from .guest_slots import read_topology
from .model import Guest, Hostdev, Saved
from .nic_xml import network_interface, nics, vf_interface, with_networks
from .pci import PciAddress
from .pci_xml import Element, address_attributes, guest_address, read_address
from .slots import Slots
from .topology import BRIDGE, EXPRESS_BRIDGE, PORT, Topology

_HOSTDEVS = "devices/hostdev[@mode='subsystem'][@type='pci'] | devices/interface[@type='hostdev']"
#: The element in a domain's <metadata> that says what its Guest has asked for.
ASKED = "{https://hostdev.dev/guest}asked"
#: What QEMU calls a controller, where that is not libvirt's word.
_QEMU_MODELS = {EXPRESS_BRIDGE: "pcie-pci-bridge"}
#: Paravirtual devices, by what each kind calls itself.
_VIRTIO = (
    "devices/*[target/@bus='virtio' or @bus='virtio' or starts-with(@model, 'virtio')"
    " or starts-with(model/@type, 'virtio') or @type='virtio-serial']"
)
# Domain XML is made by whoever may define guests: no entities, no network, no DTD.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)


@dataclass(frozen=True)
class GuestXml:
    """What libvirt says of one domain; ``live`` is None while it does not run, ``config`` if it is transient.

    ``saved`` is the XML in its managed save image: None if it has none, empty if the image cannot be read.
    """

    uuid: str
    name: str
    live: str | None
    config: str | None
    saved: str | None = None


def parse(text: str) -> Element:
    """Parse libvirt's XML; etree.XMLSyntaxError if it is broken."""
    return etree.fromstring(text.encode(), _PARSER)


def asked_before(domain: Element) -> str | None:
    """What a Guest has asked for when it was defined (core/guest_xml.py); None if none has made it."""
    return domain.findtext(f"metadata/{ASKED}")


def _elements(node: Element, path: str) -> list[Element]:
    return cast("list[Element]", node.xpath(path))


def _texts(node: Element, path: str) -> list[str]:
    return [str(text) for text in cast("list[str]", node.xpath(path))]


def hostdevs(domain: Element) -> tuple[Hostdev, ...]:
    """All host PCI devices: <hostdev type='pci'>, <interface type='hostdev'>, and the disks of <disk type='nvme'>.

    A disk's alias is left out: none of those is ours.
    """
    found = []
    for element in _elements(domain, _HOSTDEVS):
        address = read_address(element.find("source/address"))
        if address:
            alias, driver = element.find("alias"), element.find("driver")
            found.append(
                Hostdev(
                    address,
                    alias.get("name") if alias is not None else None,
                    element.get("managed") == "yes",
                    element.tag,
                    driver.get("name") if driver is not None else None,
                    read_address(element.find("address[@type='pci']")),
                )
            )
    for element in _elements(domain, "devices/disk/descendant-or-self::*[@type='nvme']/source[address]"):
        address = read_address(element.find("address"))
        if address:
            found.append(Hostdev(address, None, element.get("managed") == "yes", "disk"))
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


def guest(xml: GuestXml, networks: Mapping[str, frozenset[str]]) -> Guest:
    """One guest from its live and persistent XML."""
    live = parse(xml.live) if xml.live else None
    config = parse(xml.config) if xml.config else None
    both = [d for d in (live, config) if d is not None]
    defined = nics(config) if config is not None else ()
    topology = read_topology(live) if live is not None else Topology()
    return Guest(
        uuid=xml.uuid,
        name=xml.name,
        active=live is not None,
        persistent=config is not None,
        live=hostdevs(live) if live is not None else (),
        config=hostdevs(config) if config is not None else (),
        nics=defined,
        live_nics=with_networks(nics(live), defined) if live is not None else (),
        block_paths=frozenset().union(*(block_paths(d) for d in both)),
        volume_pools=frozenset().union(*(volume_pools(d) for d in both)),
        interfaces=frozenset().union(*(interface_names(d, networks) for d in both)),
        run=_run(live),
        memory=max((_kib(d, "memory") or 0 for d in both), default=0),
        hard_limit=min((limit for d in both if (limit := _kib(d, "memtune/hard_limit")) is not None), default=None),
        slots=topology.slots(hot=True) if live is not None else Slots(),
        topology=read_topology(config) if config is not None else Topology(),
        live_topology=topology,
        viommu=any(d.find("devices/iommu") is not None for d in both),
        virtio_devices=max((len(_elements(d, _VIRTIO)) for d in both), default=0),
        scsi_disks=max((len(_elements(d, "devices/disk[target/@bus='scsi']")) for d in both), default=0),
        saved=_saved(xml.saved),
        asked=asked_before(config) if config is not None else None,
    )


def _saved(text: str | None) -> Saved | None:
    if not text:
        return None if text is None else Saved(known=False)
    domain = parse(text)
    return Saved(hostdevs(domain), nics(domain))


def _kib(domain: Element, path: str) -> int | None:
    """Libvirt itself always writes KiB."""
    text = domain.findtext(path) or ""
    return int(text) if text.isdigit() else None


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


def hostdev_xml(wanted: HostdevXml) -> str:
    """The element that is added to a guest. Built as a tree, so that no name can inject markup."""
    if wanted.nic is not None:
        return _text(vf_interface(wanted, wanted.nic))
    hostdev = etree.Element("hostdev", mode="subsystem", type="pci", managed="yes" if wanted.managed else "no")
    if wanted.driver:
        etree.SubElement(hostdev, "driver", name=wanted.driver)
    source = etree.SubElement(hostdev, "source")
    etree.SubElement(source, "address", address_attributes(wanted.address))
    etree.SubElement(hostdev, "alias", name=wanted.alias)
    if wanted.unassigned:
        etree.SubElement(hostdev, "address", type="unassigned")
    elif wanted.guest_address is not None:
        place = guest_address(wanted.guest_address, multifunction=wanted.multifunction)
        etree.SubElement(hostdev, "address", place)
    return _text(hostdev)


def controller_xml(wanted: AddController) -> str:
    """A PCI controller, with all that libvirt demands of one that is attached: it fills nothing in then.

    Its own address is left to libvirt. Chassis numbers tell ports apart, so a port's number may be any.
    """
    new = wanted.controller
    controller = etree.Element("controller", type="pci", index=str(new.index), model=new.model)
    etree.SubElement(controller, "model", name=_QEMU_MODELS.get(new.model, new.model))
    if new.model == PORT:
        etree.SubElement(controller, "target", chassis=str(new.index), port=f"{new.index:#x}")
    elif new.model == BRIDGE:
        etree.SubElement(controller, "target", chassisNr=str(new.index))
    etree.SubElement(controller, "alias", name=wanted.alias)
    return _text(controller)


def find_controller(text: str, index: int, alias: str | None = None) -> str | None:
    """The text of the PCI controller of this index in a domain's XML; with ``alias``: only if it has that."""
    for element in _elements(parse(text), "devices/controller[@type='pci']"):
        named = element.find("alias")
        fits = alias is None or (named is not None and named.get("name") == alias)
        if element.get("index") == str(index) and fits:
            return _text(element)
    return None


def interface_xml(wanted: InterfaceXml) -> str:
    """The <interface> that is added to a guest for a VF of a network, in the same way."""
    return _text(network_interface(wanted))


def find_hostdev(text: str, address: PciAddress) -> str | None:
    """The text of the element with this source address in a domain's XML, which is what detach-device wants.

    A <hostdev> or an <interface>; in live XML the VF of a network that libvirt has allocated as well.
    """
    for element in _elements(parse(text), _HOSTDEVS):
        if read_address(element.find("source/address")) == address:
            return _text(element)
    return None


def find_interface(text: str, alias: str | None, mac: str | None = None) -> str | None:
    """The text of the <interface> with this alias in a domain's XML, whatever its type; without alias by MAC address.

    ``mac`` is lower case.
    """
    found = next(iter(interfaces(parse(text), alias, mac)), None)
    return None if found is None else _text(found)


def interfaces(domain: Element, alias: str | None, mac: str | None = None) -> list[Element]:
    """All that find_interface could mean."""
    found = []
    for element in _elements(domain, "devices/interface"):
        named, addressed = element.find("alias"), element.find("mac")
        if alias is not None:
            fits = named is not None and named.get("name") == alias
        else:
            fits = mac is not None and addressed is not None and (addressed.get("address") or "").lower() == mac
        if fits:
            found.append(element)
    return found


def _text(element: Element) -> str:
    return str(etree.tostring(element, encoding="unicode", with_tail=False))
