"""The agent's part of a NodeVFPool's status, computed once, at the end, from what is there."""

from __future__ import annotations

from ..api.common import Condition
from ..api.vfpool import NetworkStatus, NodeVFPoolStatus, PfStatus, VfCounts, VfStatus
from . import reasons
from .assignment_status import NOT_TRIED, Outcome
from .checks import Refusal
from .conditions import NETWORK_READY, PLANNED, READY, VFS_READY, condition
from .model import Observation, PciDevice
from .pool import PoolWish
from .pool_checks import held_words
from .pool_network import PoolCase
from .pool_published import pool_record_status
from .pool_source import pf_meant
from .pool_use import listed, users

#: Of VFs, and of a holder's name, in the CRD.
_ROWS, _HOLDER = 1024, 320


def pool_status(wish: PoolWish, host: Observation, outcome: Outcome) -> NodeVFPoolStatus:
    """The status without node and times: those are stamped by whoever writes it."""
    device = pf_meant(wish, host)
    case = None if isinstance(device, Refusal) else PoolCase(wish, host, device)
    record = host.pool_records.get(wish.uid)
    rows = tuple(_vf(vf, case) for vf in case.vfs[:_ROWS]) if case and record else ()
    allocated = sum(row.holder is not None for row in rows)
    return NodeVFPoolStatus(
        pf=_pf(case) if case else None,
        vfs=rows,
        counts=VfCounts(total=len(rows), allocated=allocated, free=len(rows) - allocated),
        network=_network(case) if case else None,
        record=pool_record_status(record) if record else None,
        conditions=_conditions(wish, case, outcome),
    )


def old_pool_status_but(old: NodeVFPoolStatus, outcome: Outcome) -> NodeVFPoolStatus:
    """The status where nothing could be observed: what was known, with the trouble in Ready."""
    trouble = outcome.trouble
    ours: tuple[Condition, ...] = tuple(c for c in old.conditions if c.type != READY)
    if trouble:
        ours = (*ours, condition(READY, False, trouble.reason, trouble.message))
    return old.model_copy(update={"conditions": ours})


# -- what is there ----------------------------------------------------------------------------------------------------


def _pf(case: PoolCase) -> PfStatus:
    pf, device = case.pf, case.device
    return PfStatus(
        address=str(device.address),
        name=pf.netdev,
        mac=pf.mac,
        up=pf.up,
        total_vfs=device.total_vfs,
        num_vfs=device.num_vfs,
    )


def _vf(vf: PciDevice, case: PoolCase) -> VfStatus:
    config = case.config(vf)
    who = users(vf, case.host)
    return VfStatus(
        index=vf.vf_index or 0,
        address=str(vf.address),
        driver=vf.driver,
        mac=config.mac,
        vlan=config.vlan,
        holder=who[0].who[:_HOLDER] if who else None,
    )


def _network(case: PoolCase) -> NetworkStatus | None:
    """Its own one; a network of somebody else that has the name is said by a condition."""
    network = case.network
    if network is None or not case.owned:
        return None
    return NetworkStatus(
        name=network.name,
        uuid=network.uuid,
        active=network.active,
        autostart=network.autostart,
        connections=network.connections,
    )


# -- conditions -------------------------------------------------------------------------------------------------------


def _conditions(wish: PoolWish, case: PoolCase | None, outcome: Outcome) -> tuple[Condition, ...]:
    parts = (_planned(case, outcome), _vfs_ready(case, outcome), _network_ready(wish, case, outcome))
    return (*parts, _ready(wish, case, outcome, parts))


def _planned(case: PoolCase | None, outcome: Outcome) -> Condition:
    if outcome.refused:
        return condition(PLANNED, False, outcome.refused.reason, outcome.refused.message)
    if case and case.held and case.vfs_are_there:
        text = f"every check passed; VFs that others have are left out of the network: {listed(held_words(case))}"
        return condition(PLANNED, True, "VFsLeftOut", text)
    return condition(PLANNED, True, "ChecksPassed", "every check passed")


def _vfs_ready(case: PoolCase | None, outcome: Outcome) -> Condition:
    if case and case.vfs_are_there and not case.count_differs:
        text = f"{case.name} has {case.device.num_vfs} VFs, {len(case.vfs)} of them the pool's"
        return condition(VFS_READY, True, "VFsCreated", text)
    if case is None:
        return _not_done(VFS_READY, outcome, reasons.DEVICE_NOT_FOUND, "the PF is not there")
    wanted = f"{case.count} are wanted" if case.count is not None else "those of the pool are missing"
    return _not_done(
        VFS_READY, outcome, reasons.VFS_NOT_CREATED, f"{case.name} has {case.device.num_vfs} VFs, and {wanted}"
    )


def _network_ready(wish: PoolWish, case: PoolCase | None, outcome: Outcome) -> Condition:
    name = wish.network_name
    network = case.network if case and case.owned else None
    if case is None or network is None:
        text = f"libvirt network {name} is not there, or not the pool's"
        return _not_done(NETWORK_READY, outcome, reasons.POOL_NOT_FOUND, text)
    if not network.active or not network.autostart:
        text = f"libvirt network {name} is not started" if not network.active else f"{name} is not started at boot"
        return _not_done(NETWORK_READY, outcome, reasons.POOL_INACTIVE, text)
    differs = case.difference if case.vfs_are_there else None
    if differs:
        return _not_done(NETWORK_READY, outcome, reasons.NETWORK_DIFFERS, f"libvirt network {name}: {differs}")
    if case.vfs_are_there and case.must_be_restarted:
        text = f"libvirt network {name} is still the one that was started before a change"
        return _not_done(NETWORK_READY, outcome, reasons.PENDING_IDLE, text)
    text = f"libvirt network {name} ({network.uuid}) is as asked, active and started at boot"
    return condition(NETWORK_READY, True, "NetworkActive", text)


def _not_done(kind: str, outcome: Outcome, otherwise: object, text: str) -> Condition:
    """Whose fault it is: the refusal is said once, by Planned; a failure here."""
    if outcome.refused:
        return condition(kind, False, NOT_TRIED, f"{text}: see Planned")
    if outcome.failed:
        return condition(kind, False, outcome.failed.reason, outcome.failed.message)
    return condition(kind, False, otherwise, text)


def _ready(wish: PoolWish, case: PoolCase | None, outcome: Outcome, parts: tuple[Condition, ...]) -> Condition:
    trouble = outcome.trouble
    if trouble:
        return condition(READY, False, trouble.reason, trouble.message)
    missing = next((part for part in parts if part.status != "True"), None)
    if missing or case is None:
        return condition(READY, False, missing.reason if missing else NOT_TRIED, missing.message if missing else "")
    left = len(case.vfs) - len(case.held)
    text = f"libvirt network {wish.network_name} hands out {left} VFs of {case.name}"
    return condition(READY, True, "PoolReady", text)
