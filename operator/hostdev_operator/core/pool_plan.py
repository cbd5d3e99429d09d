"""Plans for pools: what to do on this host, as a pure function of wish, records and observation.

A plan is one step, since VFs that are made show only afterwards: whoever carries it out looks again and plans again,
until there is nothing left to do or what is left must wait. Three steps at most: networks are stopped, VFs are made,
settings and networks follow. How a pool is given back: pool_release.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import reasons
from .checks import Refusal
from .model import Observation
from .network_xml import network_text
from .pool import PoolRecord, PoolWish
from .pool_actions import (
    AutostartNetwork,
    ConfigureVf,
    DefineNetwork,
    PoolAction,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    WritePoolRecord,
)
from .pool_checks import CHANGE, COUNT, SUBJECTS, first_refusal, pf_is_up
from .pool_network import PoolCase
from .pool_source import pf_meant
from .pool_use import listed, on_network, users
from .sriov import VfConfig

#: Ordered actions; none says that everything stands as asked.
PoolPlan = tuple[PoolAction, ...]


@dataclass(frozen=True)
class _Step:
    """What can be done now, and what must wait for somebody else."""

    actions: PoolPlan = ()
    waits: tuple[Refusal, ...] = ()

    def __add__(self, other: _Step) -> _Step:
        return _Step(self.actions + other.actions, self.waits + other.waits)


def plan_pool(wish: PoolWish, host: Observation) -> PoolPlan | Refusal:
    """The next step; a refusal if nothing can be done, or nothing more than what is waited for."""
    device = pf_meant(wish, host)
    if isinstance(device, Refusal):
        return device
    case = PoolCase(wish, host, device)
    if refusal := first_refusal(case, SUBJECTS):
        return refusal
    late = first_refusal(case, COUNT) if case.count_differs else None
    if late and (case.record is None or not case.vfs_are_there):
        return late
    if case.count_differs and not late:
        step = _Step(_make_vfs(case))
        record = _record(case, case.count)
    else:
        step = _Step(_probing(case) + _link(case)) + _settings(case) + _network(case)
        record = _record(case, case.record.num_vfs if late and case.record else case.count)
        step = _Step(step.actions, (*((late,) if late else ()), *step.waits))
    actions = step.actions if record == case.record else (WritePoolRecord(record), *step.actions)
    if actions:
        return first_refusal(case, CHANGE) or actions
    return next(iter(step.waits), None) or pf_is_up(case) or ()


# -- the PF -----------------------------------------------------------------------------------------------------------


def _make_vfs(case: PoolCase) -> PoolPlan:
    """First nobody can get a VF any more; that nobody has got one meanwhile is looked at before they go."""
    idle = (n for n in case.own_networks if n.active and not on_network(n, case.host))
    stops = tuple(StopNetwork(network.name) for network in idle) if case.device.num_vfs else ()
    if stops or case.count is None:
        return stops
    make = SetVfCount(case.device.address, case.count, case.device.identity)
    return (*_probing(case), make, *_link(case))


def _probing(case: PoolCase) -> PoolPlan:
    wanted = case.wish.spec.bind_host_driver
    return (SetAutoprobe(case.device.address, wanted),) if case.pf.autoprobe is (not wanted) else ()


def _link(case: PoolCase) -> PoolPlan:
    return (SetLink(case.device.address, True),) if case.wish.spec.link_up and not case.pf.up else ()


# -- the VFs ----------------------------------------------------------------------------------------------------------


def _settings(case: PoolCase) -> _Step:
    """Those of VFs that nobody has; the others follow when they are free."""
    free, busy = [], []
    for vf, lacking in case.lacking:
        who = users(vf, case.host)
        if who:
            busy.append(f"VF {vf.vf_index} ({vf.address}): {'; '.join(map(str, who))}")
        elif vf.vf_index is not None:
            free.append(ConfigureVf(case.device.address, vf.vf_index, lacking))
    if not busy:
        return _Step(tuple(free))
    text = f"settings of VFs of pool {case.wish.name} wait until nobody uses them: {listed(busy)}"
    return _Step(tuple(free), (Refusal(reasons.PENDING_IDLE, text),))


# -- the network ------------------------------------------------------------------------------------------------------


def _network(case: PoolCase) -> _Step:
    network, name = case.network, case.wish.network_name
    if network is None or case.difference is not None:
        text = network_text(case.wanted, network.xml if network else None, case.ownership[0])
        defined: PoolPlan = (DefineNetwork(name, text),)
    else:
        defined = ()
    if network is None or not network.autostart:
        defined += (AutostartNetwork(name),)
    if network is None or not network.active:
        return _Step((*defined, StartNetwork(name)))
    if not case.must_be_restarted:
        return _Step(defined)
    if not case.network_users:
        return _Step((StopNetwork(name), *defined, StartNetwork(name)))
    waits = Refusal(
        reasons.PENDING_IDLE,
        f"libvirt network {name} of pool {case.wish.name} must be restarted for a change, once nobody is on it any"
        f" more: {listed(case.network_users)}; shut them off",
    )
    return _Step(defined, (waits,))


# -- the record -------------------------------------------------------------------------------------------------------


def _record(case: PoolCase, num_vfs: int | None) -> PoolRecord:
    """As it must stand before anything is changed: what was there before any pool, and what a reboot shall bring."""
    device, pf, spec, old = case.device, case.pf, case.wish.spec, case.record
    probing = (r.autoprobe_before for r in (old, *case.siblings) if r and r.autoprobe_before is not None)
    first = next(iter(case.siblings), None)
    base = old or PoolRecord(
        uid=case.wish.uid,
        name=case.wish.name,
        pf=device.address,
        identity=device.identity,
        pf_mac=pf.mac,
        num_vfs_before=first.num_vfs_before if first else device.num_vfs,
        up_before=first.up_before if first else pf.up,
        network_name=case.wish.network_name,
    )
    uid, adopted = case.ownership
    record = replace(
        base,
        pf=device.address,
        pf_mac=base.pf_mac or pf.mac,
        autoprobe_before=next(probing, pf.autoprobe if _probing(case) else None),
        num_vfs=num_vfs,
        autoprobe=None if pf.autoprobe is None or spec.bind_host_driver else False,
        link_up=spec.link_up,
        network_uuid=uid,
        adopted=adopted,
        vfs_before=_before(case, base),
    )
    return replace(record, sequence=record.sequence + 1) if old and record != old else record


def _before(case: PoolCase, record: PoolRecord) -> dict[int, VfConfig]:
    """What was recorded once stays; of the rest, what is about to be changed."""
    found = dict(record.vfs_before)
    for vf, lacking in case.lacking:
        if vf.vf_index is not None and not users(vf, case.host):
            known = found.get(vf.vf_index, VfConfig())
            found[vf.vf_index] = known.or_else(case.config(vf).only(lacking))
    return found
