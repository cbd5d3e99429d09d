"""libvirt's networks on the made-up host, those that hand out VFs among them (src/network/bridge_driver.c)."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lxml import etree

from ..core import domain_xml, reasons
from ..core.errors import HostError
from ..core.network_xml import NetworkXml
from ..core.pci import PciAddress
from ..core.pci_xml import Element, address_attributes, read_address

if TYPE_CHECKING:
    from .host import FakeHost


@dataclass
class FakeNetwork:
    """One network: the texts of its XML.

    ``ports``: which guest (UUID) has which of its VFs; ``others``: NICs of each guest on a network without VFs.
    """

    name: str
    uuid: str
    config: str | None
    live: str | None = None
    autostart: bool = False
    ports: dict[PciAddress, str] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    @property
    def connections(self) -> int:
        """NICs of running guests."""
        return len(self.ports) + sum(self.others.values())

    def live_text(self) -> str | None:
        """What net-dumpxml shows."""
        if self.live is None or not self.connections:
            return self.live
        tree = domain_xml.parse(self.live)
        tree.set("connections", str(self.connections))
        return etree.tostring(tree, encoding="unicode")


class FakeNetworks:
    """All networks of one host, by name."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self.by_name: dict[str, FakeNetwork] = {}
        self.new_uuid: Callable[[], str] = lambda: str(uuids.uuid4())

    # -- for tests ----------------------------------------------------------------------------------------------------

    def append(self, xml: str) -> FakeNetwork:
        """Define, autostart and start, whatever it hands out."""
        network = self.define(xml)
        network.autostart = True
        network.live = self._expanded(network)
        return network

    def clear(self) -> None:
        """None is left."""
        self.by_name.clear()

    def state(self) -> object:
        """What pools could change."""
        return {n.name: (n.config, n.autostart, n.live is not None) for n in self.by_name.values()}

    # -- what libvirt does --------------------------------------------------------------------------------------------

    def look(self) -> tuple[NetworkXml, ...]:
        """Hypervisor.networks."""
        return tuple(
            NetworkXml(n.name, n.uuid, n.live is not None, n.autostart, n.config is not None, n.live_text(), n.config)
            for n in self.by_name.values()
        )

    def need(self, name: str) -> FakeNetwork:
        """A network that must be there."""
        if name not in self.by_name:
            raise HostError(reasons.POOL_NOT_FOUND, f"Network not found: no network with matching name '{name}'")
        return self.by_name[name]

    def define(self, xml: str) -> FakeNetwork:
        """Virsh net-define; the UUID is made up if none stands there."""
        tree = domain_xml.parse(xml)
        name = tree.findtext("name") or ""
        uuid = tree.findtext("uuid") or self.new_uuid()
        for other in self.by_name.values():
            if (other.name == name) != (other.uuid == uuid):
                words = f"network '{other.name}' already exists with uuid {other.uuid}"
                raise HostError(reasons.NETWORK_DIFFERS, f"operation failed: {words}")
        if tree.find("uuid") is None:
            tree.insert(1, etree.Element("uuid"))
            tree[1].text = uuid
        network = self.by_name.setdefault(name, FakeNetwork(name, uuid, None))
        network.config = etree.tostring(tree, encoding="unicode")
        return network

    def start(self, name: str) -> None:
        """Virsh net-start: a <pf> must have VFs."""
        network = self.need(name)
        if network.live is not None:
            raise HostError(reasons.LIBVIRT_ERROR, "network is already active")
        live = self._expanded(network)
        forward = domain_xml.parse(live).find("forward[@mode='hostdev']")
        pf = forward.find("pf") if forward is not None else None
        if forward is not None and pf is not None and forward.find("address") is None:
            words = f"No usable Vf's present on SRIOV PF {pf.get('dev')}"
            raise HostError(reasons.VFS_NOT_CREATED, words)
        network.live = live

    def destroy(self, name: str) -> None:
        """Virsh net-destroy, by whomever: which VFs were handed out is forgotten."""
        network = self.need(name)
        network.live, network.ports, network.others = None, {}, {}
        if network.config is None:
            del self.by_name[name]

    def undefine(self, name: str) -> None:
        """Virsh net-undefine: a started network becomes transient."""
        network = self.need(name)
        network.config, network.autostart = None, False
        if network.live is None:
            del self.by_name[name]

    def _expanded(self, network: FakeNetwork) -> str:
        """The live XML: the VFs of a <pf> stand behind it."""
        assert network.config is not None
        tree = domain_xml.parse(network.config)
        pf = tree.find("forward[@mode='hostdev']/pf")
        forward = tree.find("forward")
        if pf is not None and forward is not None:
            found = self._host.sriov.by_netdev(pf.get("dev") or "")
            for vf in self._host.sriov.vfs(found.address) if found else ():
                etree.SubElement(forward, "address", {"type": "pci", **address_attributes(vf.address)})
        return etree.tostring(tree, encoding="unicode")

    # -- guests -------------------------------------------------------------------------------------------------------

    def allocate(self, guest: str, devices: Element) -> None:
        """At a start or a plug: each <interface type='network'> below ``devices`` becomes what the live XML shows.

        A NIC of a network that hands out VFs gets the first one that no NIC has; libvirt does not know of plain
        hostdevs, and ignores a portgroup that is not there.
        """
        try:
            for nic in devices.findall("interface[@type='network']"):
                self._allocate(guest, nic)
        except HostError:
            self.give_back(
                guest, {a for e in devices.iter("interface") if (a := read_address(e.find("source/address")))}
            )
            raise

    def _allocate(self, guest: str, nic: Element) -> None:
        source = nic.find("source")
        assert source is not None
        network = self.need(source.get("network") or "")
        if network.live is None:
            raise HostError(reasons.POOL_INACTIVE, f"network '{network.name}' is not active")
        tree = domain_xml.parse(network.live)
        forward = tree.find("forward[@mode='hostdev']")
        if forward is None:
            network.others[guest] = network.others.get(guest, 0) + 1
            return
        addresses = (read_address(e) for e in forward.findall("address"))
        free = next((a for a in addresses if a and a not in network.ports), None)
        if free is None:
            words = f"network '{network.name}' requires exclusive access to interfaces, but none are available"
            raise HostError(reasons.POOL_EXHAUSTED, words)
        network.ports[free] = guest
        portgroup = source.get("portgroup")
        groups = tree.findall("portgroup")
        group = next((g for g in groups if g.get("name") == portgroup), None)
        if portgroup is None:
            group = next((g for g in groups if g.get("default") == "yes"), None)
        vlans = (nic.find("vlan"), group.find("vlan") if group is not None else None, tree.find("vlan"))
        vlan = next((v for v in vlans if v is not None), None)
        nic.set("type", "hostdev")
        nic.set("managed", forward.get("managed") or "no")
        source.attrib.clear()
        etree.SubElement(source, "address", {"type": "pci", **address_attributes(free)})
        if vlan is not None and nic.find("vlan") is None:
            nic.append(domain_xml.parse(etree.tostring(vlan, encoding="unicode")))

    def give_back(self, guest: str, addresses: set[PciAddress]) -> None:
        """The guest's VFs are free again."""
        for network in self.by_name.values():
            network.ports = {a: g for a, g in network.ports.items() if g != guest or a not in addresses}

    def leave(self, guest: str) -> None:
        """The guest is off."""
        for network in self.by_name.values():
            network.others.pop(guest, None)
            network.ports = {a: g for a, g in network.ports.items() if g != guest}

    def power_cycle(self) -> None:
        """At boot libvirtd starts those that are autostarted, as far as that goes."""
        for network in [*self.by_name.values()]:
            network.live, network.ports, network.others = None, {}, {}
            if network.config is None:
                del self.by_name[network.name]
            elif network.autostart:
                with suppress(HostError):
                    self.start(network.name)
