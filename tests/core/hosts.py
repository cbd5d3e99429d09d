"""Observations for the tests of core, and an interpreter that carries plans out on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hostdev_operator.core.actions import (
    Action,
    AddHostdev,
    DetachDriver,
    DropRecord,
    PlugHostdev,
    RemoveHostdev,
    ReturnDriver,
    UnplugHostdev,
    WriteRecord,
)
from hostdev_operator.core.model import VFIO_DRIVER, Guest, Hostdev, Observation, PciDevice, Platform
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, plan_assign
from hostdev_operator.core.record import Record
from hostdev_operator.core.slots import Slots
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


def _after(action: Action, host: Observation) -> Observation:  # noqa: PLR0911 - one for each action
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
        case AddHostdev(uuid, xml, _):
            return with_guest(host, uuid, config=(*of(host, uuid).config, Hostdev(xml.address, xml.alias, xml.managed)))
        case PlugHostdev(uuid, xml, _):
            assert of(host, uuid).active
            live = (*of(host, uuid).live, Hostdev(xml.address, xml.alias, xml.managed))
            return with_device(with_guest(host, uuid, live=live), xml.address, driver=VFIO_DRIVER)
        case RemoveHostdev(uuid, address, _):
            return with_guest(host, uuid, config=tuple(h for h in of(host, uuid).config if h.address != address))
        case UnplugHostdev(uuid, address, _):
            return with_guest(host, uuid, live=tuple(h for h in of(host, uuid).live if h.address != address))


def of(host: Observation, uuid: str) -> Guest:
    """A guest that must be there."""
    owner = host.guest(uuid)
    assert owner is not None
    return owner
