"""Reads a guest's NICs, and writes the two kinds of <interface> that are ours (libvirt: formatdomain).

A started guest's <interface type='network'> of a network that hands out VFs reads type='hostdev', with the VF that
libvirt has allocated in the place of the network (libvirt 11.3, domain_conf.c: virDomainNetDefFormat). Its alias and
MAC are the same as in the persistent XML: by those it is told what network it is of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from lxml import etree

from .actions import HostdevXml, InterfaceXml, NicXml
from .model import Nic
from .pci_xml import Element, address_attributes, guest_address, read_address

#: The one type of virtual port that libvirt takes for a device that is passed through.
PROFILE_TYPE = "802.1Qbh"


def nics(domain: Element) -> tuple[Nic, ...]:
    """All NICs, those on bridges and the like as well: they have MAC addresses."""
    return tuple(_nic(e) for e in cast("list[Element]", domain.xpath("devices/interface")))


def _nic(interface: Element) -> Nic:
    source = interface.find("source")
    address = interface.find("address[@type='pci']")
    return Nic(
        alias=_attribute(interface, "alias", "name"),
        mac=(_attribute(interface, "mac", "address") or "").lower() or None,
        network=source.get("network") if source is not None else None,
        portgroup=source.get("portgroup") if source is not None else None,
        vlan=_vlan(interface),
        profile=_attribute(interface, f"virtualport[@type='{PROFILE_TYPE}']/parameters", "profileid"),
        address=read_address(interface.find("source/address")) if interface.get("type") == "hostdev" else None,
        guest_address=read_address(address),
    )


def _attribute(parent: Element, path: str, name: str) -> str | None:
    element = parent.find(path)
    return element.get(name) if element is not None else None


def _vlan(interface: Element) -> int | None:
    """The one tag; None if there is none, or a trunk of several."""
    tags = interface.findall("vlan/tag")
    number = tags[0].get("id", "") if len(tags) == 1 else ""
    return int(number) if number.isdigit() else None


def with_networks(live: tuple[Nic, ...], config: tuple[Nic, ...]) -> tuple[Nic, ...]:
    """The running guest's NICs, with the networks that libvirt has put VFs in the place of.

    That is looked up in the persistent XML, by alias, or by MAC for a NIC without an alias of its own. Portgroups are
    not: they may have been changed there since.
    """

    def completed(nic: Nic) -> Nic:
        if nic.address is None or nic.network is not None:
            return nic
        twins = [n for n in config if n.network is not None]
        twin = next((n for n in twins if n.alias is not None and n.alias == nic.alias), None)
        twin = twin or next((n for n in twins if n.alias is None and n.mac is not None and n.mac == nic.mac), None)
        return replace(nic, network=twin.network) if twin else nic

    return tuple(completed(nic) for nic in live)


def vf_interface(wanted: HostdevXml, nic: NicXml) -> Element:
    """<interface type='hostdev'>: a certain VF."""
    interface = etree.Element("interface", type="hostdev", managed="yes" if wanted.managed else "no")
    if wanted.driver:
        etree.SubElement(interface, "driver", name=wanted.driver)
    source = etree.SubElement(interface, "source")
    etree.SubElement(source, "address", {"type": "pci", **address_attributes(wanted.address)})
    return _completed(interface, wanted.alias, nic)


def network_interface(wanted: InterfaceXml) -> Element:
    """<interface type='network'>: any VF of the network."""
    interface = etree.Element("interface", type="network")
    source = etree.SubElement(interface, "source", network=wanted.network)
    if wanted.portgroup is not None:
        source.set("portgroup", wanted.portgroup)
    return _completed(interface, wanted.alias, wanted.nic)


def _completed(interface: Element, alias: str, nic: NicXml) -> Element:
    etree.SubElement(interface, "mac", address=nic.mac)
    if nic.vlan is not None:
        etree.SubElement(etree.SubElement(interface, "vlan"), "tag", id=str(nic.vlan))
    if nic.profile is not None:
        port = etree.SubElement(interface, "virtualport", type=PROFILE_TYPE)
        etree.SubElement(port, "parameters", profileid=nic.profile)
    etree.SubElement(interface, "alias", name=alias)
    if nic.guest_address is not None:
        place = guest_address(nic.guest_address, multifunction=nic.multifunction)
        etree.SubElement(interface, "address", place)
    return interface
