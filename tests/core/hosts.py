"""Observations for the tests of core, and an interpreter that carries plans out on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hostdev_operator.core.actions import (
    Action,
    AddController,
    AddHostdev,
    AddInterface,
    DetachDriver,
    DropRecord,
    DropSavedImage,
    HostdevXml,
    InterfaceXml,
    PlugHostdev,
    PlugInterface,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    ReturnDriver,
    UnplugHostdev,
    UnplugInterface,
    WriteRecord,
)
from hostdev_operator.core.model import VFIO_DRIVER, Guest, Hostdev, Nic, Observation, PciDevice, Platform
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, plan_assign
from hostdev_operator.core.pool_actions import ConfigureVf
from hostdev_operator.core.record import Record
from hostdev_operator.core.slots import Slots
from hostdev_operator.core.topology import Bus
from tests.fakes.samples import DB, LONER, MATE, NIC, WEB, device, intent, port

PLATFORM = Platform(iommu=True, interrupt_remapping=True, unsafe_interrupts=False, vfio=True)
DEVICES = (port(), device(NIC), device(MATE, "snd_hda_intel"), device(LONER, "igb", 13))

IDENTITIES = {d.address: d.identity for d in DEVICES}


def guest(uuid: str = WEB, name: str = "web", **more: Any) -> Guest:
    """A guest that is off and has nothing, but slots enough."""
    return Guest(uuid, name, **{"active": False, "persistent": True, "slots": Slots(conventional=32), **more})


GUESTS = (guest(), guest(DB, "db"))


def observation(
    devices: Iterable[PciDevice] = DEVICES,
    guests: tuple[Guest, ...] = GUESTS,
    records: Iterable[Record] = (),
    **more: Any,
) -> Observation:
    """A host where everything is ready."""
    return Observation(
        devices=MappingProxyType({d.address: d for d in devices}),
        guests=guests,
        records=MappingProxyType({r.uid: r for r in records}),
        **{"platform": PLATFORM, **more},
    )


def with_device(host: Observation, address: PciAddress, **changes: Any) -> Observation:
    """The host with one device changed."""
    return replace(host, devices=MappingProxyType({**host.devices, address: replace(host.devices[address], **changes)}))


def with_guest(host: Observation, uuid: str, **changes: Any) -> Observation:
    """The host with one guest changed."""
    return replace(host, guests=tuple(replace(g, **changes) if g.uuid == uuid else g for g in host.guests))


def with_records(host: Observation, records: Mapping[str, Record]) -> Observation:
    """The host with another journal."""
    return replace(host, records=MappingProxyType(dict(records)))


def assigned(host: Observation | None = None, **wanted: Any) -> Observation:
    """The host after the sample assignment was carried out."""
    start = host or observation()
    return carry_out(actions_of(plan_assign(intent(**{"attach": "NextBoot", **wanted}), start)), start)


def actions_of(plan: object) -> tuple[Action, ...]:
    """The actions of a plan that must not be a refusal."""
    assert isinstance(plan, Plan), plan
    return plan.actions


def carry_out(actions: Iterable[Action], host: Observation) -> Observation:
    """What the host is after these actions, each of which must find what it expects."""
    for action in actions:
        host = _after(action, host)
    return host


def _after(action: Action, host: Observation) -> Observation:  # noqa: C901, PLR0911, PLR0912 - one for each action
    match action:
        case WriteRecord(record):
            return with_records(host, {**host.records, record.uid: record})
        case DropRecord(uid):
            return with_records(host, {u: r for u, r in host.records.items() if u != uid})
        case DetachDriver(address, driver):
            assert (host.devices[address].driver or "") == driver
            return with_device(host, address, driver=VFIO_DRIVER)
        case ReturnDriver(address, driver, _):
            return with_device(host, address, driver=driver)
        case ConfigureVf(pf, index, config):
            side = host.pfs[pf]
            side = replace(side, vfs={**side.vfs, index: config.or_else(side.vfs[index])})
            return replace(host, pfs=MappingProxyType({**host.pfs, pf: side}))
        case AddHostdev(uuid, xml, _):
            guest = of(host, uuid)
            assert all(h.address != xml.address for h in guest.config)
            return with_guest(host, uuid, config=(*guest.config, _hostdev(xml)), nics=(*guest.nics, *_nics(xml)))
        case PlugHostdev(uuid, xml, _):
            guest = of(host, uuid)
            assert guest.active
            assert all(h.address != xml.address for h in guest.live)
            live, nics = (*guest.live, _hostdev(xml)), (*guest.live_nics, *_nics(xml))
            return with_device(with_guest(host, uuid, live=live, live_nics=nics), xml.address, driver=VFIO_DRIVER)
        case RemoveHostdev(uuid, address, _):
            return _without(host, uuid, live=False, address=address)
        case UnplugHostdev(uuid, address, _):
            return _without(host, uuid, live=True, address=address)
        case AddController(uuid, new, alias):
            topology = of(host, uuid).topology
            assert all(b.index != new.index for b in topology.buses)
            buses = (*topology.buses, Bus(new.index, new.model, alias=alias))
            return with_guest(host, uuid, topology=replace(topology, buses=buses))
        case RemoveController(uuid, gone, alias):
            topology = of(host, uuid).topology
            buses = tuple(b for b in topology.buses if (b.index, b.alias) != (gone.index, alias))
            return with_guest(host, uuid, topology=replace(topology, buses=buses))
        case DropSavedImage(uuid):
            return with_guest(host, uuid, saved=None)
        case AddInterface(uuid, interface):
            return with_guest(host, uuid, nics=(*of(host, uuid).nics, _nic(interface)))
        case PlugInterface(uuid, interface):
            return _plugged(host, uuid, interface)
        case RemoveInterface(uuid, alias):
            return _without(host, uuid, live=False, alias=alias)
        case UnplugInterface(uuid, alias, _):
            return _without(host, uuid, live=True, alias=alias)


def _hostdev(xml: HostdevXml) -> Hostdev:
    return Hostdev(xml.address, xml.alias, xml.managed, guest_address=xml.guest_address)


def _nics(xml: HostdevXml) -> tuple[Nic, ...]:
    nic = xml.nic
    return (Nic(xml.alias, nic.mac, None, None, nic.vlan, nic.profile, xml.address),) if nic else ()


def _nic(xml: InterfaceXml) -> Nic:
    return Nic(xml.alias, xml.nic.mac, xml.network, xml.portgroup, xml.nic.vlan, xml.nic.profile)


def _plugged(host: Observation, uuid: str, xml: InterfaceXml) -> Observation:
    """Libvirt takes the first VF that no NIC has, and the VLAN of the portgroup before that of the network."""
    running = host.networks[xml.network].running
    assert running
    held = {n.address for g in host.guests for n in g.live_nics}
    address = next(a for a in running.addresses if a not in held)
    group = next((g for g in running.portgroups if g.name == xml.portgroup or (not xml.portgroup and g.default)), None)
    vlan = xml.nic.vlan or (group.vlan if group else None) or running.vlan
    nic = replace(_nic(xml), portgroup=None, vlan=vlan, address=address)
    guest = of(host, uuid)
    live = (*guest.live, Hostdev(address, xml.alias, managed=True))
    return with_device(
        with_guest(host, uuid, live=live, live_nics=(*guest.live_nics, nic)), address, driver=VFIO_DRIVER
    )


def _without(
    host: Observation, uuid: str, *, live: bool, address: PciAddress | None = None, alias: str | None = None
) -> Observation:
    """A guest without the device of this address, or the NIC of this alias."""
    guest = of(host, uuid)
    nics = guest.live_nics if live else guest.nics
    gone = {n for n in nics if (n.alias == alias if alias else n.address == address)}
    addresses = {address} | {n.address for n in gone}
    left = tuple(n for n in nics if n not in gone)
    rest = tuple(h for h in (guest.live if live else guest.config) if h.address not in addresses)
    return with_guest(host, uuid, **({"live": rest, "live_nics": left} if live else {"config": rest, "nics": left}))


def of(host: Observation, uuid: str) -> Guest:
    """A guest that must be there."""
    owner = host.guest(uuid)
    assert owner is not None
    return owner
