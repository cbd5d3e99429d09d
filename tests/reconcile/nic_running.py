"""A made-up host whose VFs go to guests as NICs, and assignments that ask for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostdev_operator.core.domain_xml import GuestXml, guest
from hostdev_operator.core.model import Nic
from hostdev_operator.core.network_xml import network_text
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import DEFINITION, PF, PF_MAC, POOL, RECORD
from tests.fakes.samples import DB, UID, WEB, assignment, device, small_host
from tests.reconcile.running import Engine

THIRD = "33333333-3333-4333-8333-333333333333"
SLOTS = "<controller type='pci' index='0' model='pci-root'/>"


def vf_host() -> FakeHost:
    """PF eth3 with two VFs without drivers; web, db and third are off."""
    host = small_host()
    add_vfs(host)
    return host


def add_vfs(host: FakeHost) -> None:
    """The same on a host that is there."""
    host.sriov.add(device(PF, "igb", 49), mac=PF_MAC)
    host.sriov.set_autoprobe(PF, on=False)
    host.sriov.set_count(PF, 2)
    host.sriov.set_link(PF, up=True)
    for uuid, name in ((WEB, "web"), (DB, "db"), (THIRD, "third")):
        host.define(uuid, name, SLOTS)


def make_pool(host: FakeHost, engine: Engine) -> None:
    """What pool-a makes: network net-a hands both VFs out."""
    network = host.networks.append(network_text(replace(DEFINITION, addresses=tuple(vfs(host)))))
    host.pool_records[RECORD.uid] = replace(RECORD, network_uuid=network.uuid).to_json()
    engine.pool_wishes = (POOL,)


def vfs(host: FakeHost) -> list[PciAddress]:
    """The VFs, by index."""
    return [d.address for d in host.sriov.vfs(PF)]


def of_pool(to: str = WEB, *, uid: str = UID, portgroup: str | None = None, **more: Any) -> Assignment:
    """An assignment of a VF of pool-a; ``more`` is of spec."""
    source = {"pool": {"name": "pool-a", **({"portgroup": portgroup} if portgroup else {})}}
    return assignment(None, uid=uid, guest=to, **{"source": source, **more})


def of_vf(host: FakeHost, **more: Any) -> Assignment:
    """An assignment of VF 0 as a NIC; ``more`` is of spec."""
    return assignment(vfs(host)[0], **more)


def either(name: str, host: FakeHost, **more: Any) -> Assignment:
    """The one or the other, "pool" or "vf"."""
    return of_pool(**more) if name == "pool" else of_vf(host, **more)


def delete(obj: Assignment) -> Assignment:
    """The assignment once it is being deleted."""
    return replace(obj, deleting=True)


def nics(host: FakeHost, uuid: str = WEB, *, live: bool = False) -> tuple[Nic, ...]:
    """The guest's NICs by its persistent or live XML."""
    there = host.guests[uuid]
    found = guest(GuestXml(uuid, there.name, there.live, there.config), {})
    return found.live_nics if live else found.nics


def config(host: FakeHost, index: int) -> VfConfig:
    """What the PF's driver has of a VF."""
    return host.sriov.pfs[PF].configs[index]
