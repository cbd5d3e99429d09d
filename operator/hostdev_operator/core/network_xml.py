"""Reads and writes libvirt's XML of networks (libvirt: formatnetwork).

What a pool owns of a network are <forward>, <vlan> and <portgroup>. Facts of libvirt 11.3 (network_conf.c): the XML of
a started network has the attribute ``connections``, and the VFs that were found for its <pf>.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from lxml import etree

from .domain_xml import parse
from .network import Network, NetworkDefinition, NetworkPortgroup
from .pci import PciAddress
from .pci_xml import Element, address_attributes, read_address

#: Says nothing of what guests get.
_INERT = frozenset({"name", "uuid", "title", "description", "metadata"})
_OWNED = frozenset({"forward", "vlan", "portgroup"})
_SHOWN = 8


@dataclass(frozen=True)
class NetworkXml:
    """What libvirt says of one network.

    ``live`` is None while it is not started, ``config`` where it is transient. The live text alone has the attribute
    ``connections`` and the VFs that libvirt has found for a <pf>. Of a network that hands out no VFs one text is
    enough: ``config`` may be None though it is persistent, if ``live`` is there.
    """

    name: str
    uuid: str
    active: bool
    autostart: bool
    persistent: bool
    live: str | None
    config: str | None


def network(xml: NetworkXml) -> Network:
    """One network from its XML; etree.XMLSyntaxError if that is broken."""
    live = parse(xml.live) if xml.live else None
    config = parse(xml.config) if xml.config else None
    hands_out = _definition(config) if config is not None else None
    running = _definition(live) if live is not None else None
    names = frozenset(name for tree in (live, config) if tree is not None for name in _interfaces(tree))
    return Network(
        name=xml.name,
        uuid=xml.uuid,
        active=xml.active,
        autostart=xml.autostart,
        persistent=xml.persistent,
        interfaces=names,
        hands_out=hands_out,
        running=running,
        strange=_strange(config) if config is not None and hands_out else None,
        running_strange=_strange(live) if live is not None and running else None,
        connections=_connections(live),
        xml=xml.config,
    )


def _forward(tree: Element) -> Element | None:
    """The <forward> of a network that hands out VFs."""
    forward = tree.find("forward")
    return forward if forward is not None and forward.get("mode") == "hostdev" else None


def _interfaces(tree: Element) -> list[str]:
    if _forward(tree) is not None:
        return []
    return [str(t) for t in cast("list[str]", tree.xpath("bridge/@name | forward/@dev | forward/interface/@dev"))]


def _connections(live: Element | None) -> int:
    number = live.get("connections", "0") if live is not None else "0"
    return int(number) if number.isdigit() else 0


def _definition(tree: Element) -> NetworkDefinition | None:
    forward = _forward(tree)
    if forward is None:
        return None
    pf = forward.find("pf")
    addresses = (read_address(element) for element in forward.findall("address"))
    return NetworkDefinition(
        name=tree.findtext("name") or "",
        pf=pf.get("dev") if pf is not None else None,
        addresses=tuple(address for address in addresses if address),
        vlan=_vlan(tree),
        portgroups=tuple(
            NetworkPortgroup(group.get("name") or "", _vlan(group), group.get("default") == "yes")
            for group in tree.findall("portgroup")
        ),
        managed=forward.get("managed") == "yes",
    )


def _vlan(parent: Element) -> int | None:
    """The one tag of its <vlan>; None if there is none, or more than that."""
    tags = parent.findall("vlan/tag")
    number = tags[0].get("id", "") if len(tags) == 1 and _is_plain(parent.find("vlan")) else ""
    return int(number) if number.isdigit() else None


def _is_plain(vlan: Element | None) -> bool:
    return vlan is None or (not vlan.get("trunk") and len(vlan) == 1 and vlan[0].get("nativeMode") is None)


def _strange(tree: Element) -> str | None:
    """What would be there that no pool writes, and that changes what guests get."""
    found = [f"<{tag}>" for tag in _tags(tree) if tag not in _INERT | _OWNED]
    found += [name for name in ("trustGuestRxFilters",) if tree.get(name)]
    forward = _forward(tree)
    if forward is not None:
        found += [f"<{tag}> in <forward>" for tag in _tags(forward) if tag not in {"pf", "address", "driver"}]
        driver = forward.find("driver")
        found += ["<driver> other than vfio"] if driver is not None and driver.get("name") != "vfio" else []
    if not _is_plain(tree.find("vlan")):
        found.append("several VLANs")
    for group in tree.findall("portgroup"):
        where = f"in portgroup {group.get('name')}"
        found += [f"<{tag}> {where}" for tag in _tags(group) if tag != "vlan"]
        found += ["several VLANs " + where] if not _is_plain(group.find("vlan")) else []
        found += ["trustGuestRxFilters " + where] if group.get("trustGuestRxFilters") else []
    return "it has " + ", ".join(dict.fromkeys(found)) if found else None


def _tags(parent: Element) -> Iterator[str]:
    """Names of the elements; comments have none."""
    return (child.tag for child in parent if isinstance(child.tag, str))


def difference(network: Network, wanted: NetworkDefinition) -> str | None:
    """In words, how the network's persistent definition is not as wanted; None if it is. Order does not matter."""
    now = network.hands_out
    if now is None:
        return "it hands out no VFs" if network.persistent else "it has no persistent definition"
    found = [
        *_source_difference(now, wanted),
        *([] if now.managed == wanted.managed else [f"it has managed='{'yes' if now.managed else 'no'}'"]),
        *([] if now.vlan == wanted.vlan else [f"its VLAN is {now.vlan or 'none'} instead of {wanted.vlan or 'none'}"]),
        *_portgroup_difference(now.portgroups, wanted.portgroups),
        *([network.strange] if network.strange else []),
    ]
    return "; ".join(found) or None


def _source_difference(now: NetworkDefinition, wanted: NetworkDefinition) -> list[str]:
    if now.pf != wanted.pf or set(now.addresses) != set(wanted.addresses):
        return [f"it hands out {_source(now)} instead of {_source(wanted)}"]
    return []


def _source(definition: NetworkDefinition) -> str:
    if definition.pf:
        return f"the VFs of {definition.pf}"
    if not definition.addresses:
        return "nothing"
    return _list(definition.addresses)


def _list(addresses: Iterable[PciAddress]) -> str:
    listed = sorted(addresses)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(map(str, listed[:_SHOWN])) + more


def _portgroup_difference(now: tuple[NetworkPortgroup, ...], wanted: tuple[NetworkPortgroup, ...]) -> list[str]:
    had, asked = {g.name: g for g in now}, {g.name: g for g in wanted}
    found = [f"it has a portgroup {name}" for name in had if name not in asked]
    found += [f"it has no portgroup {name}" for name in asked if name not in had]
    for name in asked.keys() & had.keys():
        before, after = had[name], asked[name]
        if before.vlan != after.vlan:
            found.append(f"portgroup {name} has VLAN {before.vlan or 'none'} instead of {after.vlan or 'none'}")
        if before.default != after.default:
            found.append(f"portgroup {name} is {'' if before.default else 'not '}the default")
    return sorted(found)


def network_text(wanted: NetworkDefinition, now: str | None = None, uuid: str | None = None) -> str:
    """The XML to be defined. ``now``: what is defined so far; name, UUID, title and metadata of it stay.

    ``uuid`` is for a network that is new; without it libvirt makes one up.

    Built as a tree, so that no name can inject markup.
    """
    root = parse(now) if now else etree.Element("network")
    for child in list(root):
        if isinstance(child.tag, str) and child.tag not in _INERT:
            root.remove(child)
    for attribute in ("connections", "trustGuestRxFilters"):
        root.attrib.pop(attribute, "")
    if root.find("name") is None:
        etree.SubElement(root, "name").text = wanted.name
    if uuid is not None and root.find("uuid") is None:
        etree.SubElement(root, "uuid").text = uuid
    forward = etree.SubElement(root, "forward", mode="hostdev", managed="yes" if wanted.managed else "no")
    if wanted.pf:
        etree.SubElement(forward, "pf", dev=wanted.pf)
    else:
        for address in wanted.addresses:
            etree.SubElement(forward, "address", {"type": "pci", **address_attributes(address)})
    _add_vlan(root, wanted.vlan)
    for group in wanted.portgroups:
        element = etree.SubElement(root, "portgroup", name=group.name)
        if group.default:
            element.set("default", "yes")
        _add_vlan(element, group.vlan)
    return str(etree.tostring(root, encoding="unicode"))


def _add_vlan(parent: Element, tag: int | None) -> None:
    if tag is not None:
        vlan = etree.SubElement(parent, "vlan")
        etree.SubElement(vlan, "tag", id=str(tag))
