"""A simulated host that begins as a recorded one was."""

from __future__ import annotations

from lxml import etree

from ..core import domain_xml
from ..core.errors import HostError
from ..core.model import PciDevice, is_vfio
from ..core.network_xml import NetworkXml
from ..core.pci import PciAddress
from ..core.pci_xml import read_address
from ..core.sriov import Pf, VfConfig
from ..ports import Host
from .host import FakeGuest, FakeHost
from .networks import FakeNetwork
from .sriov import FRESH, FakePf

#: Whose VFs get a driver of another name.
_VF_DRIVERS = {"i40e": "iavf", "ice": "iavf", "igb": "igbvf", "ixgbe": "ixgbevf"}


def simulated(recorded: Host) -> FakeHost:
    """Devices, guests, networks and journal as they were; HostError where libvirt or the journal told nothing.

    Names of disks and interfaces are looked up in the recording for as long as it is open. What a guest had before it
    got a device is in no recording: given back, a device gets the driver of its record, or none, and a VF new settings.
    """
    records, pool_records = recorded.records.load(), recorded.pool_records.load()
    host = FakeHost(*recorded.devices.devices())
    host.recorded = recorded.devices
    before = {m.address: m.driver for _, record in sorted(records.items()) for m in record.members}
    for address, device in host.devices.items():
        if is_vfio(device.driver):
            host.native[address] = before.get(address)
    host.platform = recorded.devices.platform()
    try:
        host.uses = list(recorded.devices.uses())
    except HostError as error:
        host.unknown_use = error.message
    host.names = dict(recorded.hypervisor.names(tuple(host.devices)))
    host.storage_pools = list(recorded.hypervisor.storage_pools() or ())
    host.rejections = set(recorded.hypervisor.rejections())
    host.records.update({uid: record.to_json() for uid, record in records.items()})
    host.pool_records.update({uid: record.to_json() for uid, record in pool_records.items()})
    host.approvals.update({uid: approval.to_json() for uid, approval in recorded.approvals.load().items()})
    for pf in recorded.devices.pfs():
        host.sriov.pfs[pf.address] = _pf(pf, host)
    for xml in recorded.hypervisor.guests():
        host.guests[xml.uuid] = _guest(FakeGuest(xml.uuid, xml.name, xml.config, xml.live, xml.saved), host)
    for network in recorded.hypervisor.networks():
        host.networks.by_name[network.name] = _network(network, host)
    return host


def _pf(pf: Pf, host: FakeHost) -> FakePf:
    vfs = host.sriov.vfs(pf.address)
    driver = host.devices[pf.address].driver or ""
    bound = (vf.driver for vf in vfs if vf.on_host_driver)
    return FakePf(
        pf.address,
        pf.netdev,
        pf.mac,
        pf.up,
        pf.autoprobe,
        vf_driver=next(bound, None) or _VF_DRIVERS.get(driver, driver),
        configs={_index(vf): pf.vfs.get(_index(vf), FRESH) for vf in vfs} if pf.netdev else {},
    )


def _index(vf: PciDevice) -> int:
    return vf.vf_index or 0


def _guest(guest: FakeGuest, host: FakeHost) -> FakeGuest:
    """What it gives back when it is shut off."""
    if guest.live is None:
        return guest
    tree = domain_xml.parse(guest.live)
    host.runs = max(host.runs, int(tree.get("id") or 0))
    managed = (h.address for h in domain_xml.hostdevs(tree) if h.managed)
    guest.before = {address: host.native.get(address) for address in managed}
    nics = (read_address(nic.find("source/address")) for nic in tree.findall("devices/interface[@type='hostdev']"))
    guest.configs = {vf: VfConfig(mac=FRESH.mac, vlan=FRESH.vlan) for vf in nics if vf and _has_settings(vf, host)}
    return guest


def _has_settings(vf: PciAddress, host: FakeHost) -> bool:
    device = host.devices.get(vf)
    pf = host.sriov.pfs.get(device.physfn) if device and device.physfn else None
    return device is not None and pf is not None and device.vf_index in pf.configs


def _network(xml: NetworkXml, host: FakeHost) -> FakeNetwork:
    """With the NICs of running guests that are on it."""
    made = FakeNetwork(xml.name, xml.uuid, xml.config, xml.live, xml.autostart)
    if xml.live is None:
        return made
    tree = domain_xml.parse(xml.live)
    if tree.attrib.pop("connections", ""):
        made.live = etree.tostring(tree, encoding="unicode")
    handed_out = {read_address(address) for address in tree.findall("forward[@mode='hostdev']/address")}
    for guest in host.guests.values():
        for nic in domain_xml.parse(guest.live).findall("devices/interface") if guest.live else ():
            vf, source = read_address(nic.find("source/address")), nic.find("source")
            if vf is not None and vf in handed_out:
                made.ports[vf] = guest.uuid
            elif source is not None and source.get("network") == xml.name:
                made.others[guest.uuid] = made.others.get(guest.uuid, 0) + 1
    return made
