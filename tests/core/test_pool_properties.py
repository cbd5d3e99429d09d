"""Whatever happens to a host: no plan touches what is in use, and carrying plans out comes to an end.

What no plan may do is asserted by the interpreter in pool_hosts.py, at each action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hostdev_operator.core.model import Observation, Use
from hostdev_operator.core.pool import PoolWish
from hostdev_operator.core.pool_actions import DropPoolRecord, WritePoolRecord
from hostdev_operator.core.pool_plan import plan_pool
from hostdev_operator.core.pool_release import plan_pool_release
from hostdev_operator.core.sriov import VfConfig
from tests.core.pool_hosts import (
    FRESH,
    OTHER,
    PF,
    POOL,
    TOTAL,
    carry_out,
    defined,
    has_plain,
    pool,
    release,
    settle,
    sriov_host,
    starts_on,
    steps_of,
    stops,
    vf_at,
    wishing,
    with_networks,
    with_pf,
    with_vfs,
    without_network,
)
from tests.fakes.samples import DB, WEB

Event = Callable[[Observation], Observation]
NAMES = st.sampled_from(["net-a", "net-b"])
GUESTS = st.sampled_from([WEB, DB])

SPECS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "pf": st.sampled_from([{"name": "ens1"}, {"name": "ens1", "vfs": "0-1"}, {"name": "ens1", "vfs": "2-3"}]),
        "numVFs": st.integers(1, TOTAL + 2),
    },
    optional={
        "bindHostDriver": st.booleans(),
        "linkUp": st.booleans(),
        "network": st.sampled_from([{"vlan": 5}, {"adopt": "Replace"}, {"portgroups": [{"name": "g", "vlan": 2}]}]),
        "vfSettings": st.sampled_from([{"trust": True}, {"spoofCheck": False, "linkState": "Disable"}]),
    },
)


def wish(name: str, spec: dict[str, Any]) -> PoolWish:
    return pool(name, POOL if name == "net-a" else OTHER, **spec)


def asks(name: str, spec: dict[str, Any]) -> Event:
    """A pool is made, or its numbers and settings are edited; which PF and VFs it means stays."""

    def event(host: Observation) -> Observation:
        new = wish(name, spec)
        old = next((w for w in host.pool_wishes if w.uid == new.uid), None)
        if old:
            new = replace(new, spec=new.spec.model_copy(update={"pf": old.spec.pf}))
        elif new.uid in host.pool_records:
            return host  # it is being deleted still
        return wishing(host, *(w for w in host.pool_wishes if w.uid != new.uid), new)

    return event


def edits_all(field: str, wire: dict[str, Any]) -> Event:
    """One field of all pools is edited alike, so that those that share the PF agree."""
    new = {field: getattr(pool(**wire).spec, field)}
    return lambda host: wishing(host, *(replace(w, spec=w.spec.model_copy(update=new)) for w in host.pool_wishes))


def edits_network(name: str, network: dict[str, Any]) -> Event:
    new = pool(network=network).spec.network
    return lambda host: wishing(
        host,
        *(
            replace(w, spec=w.spec.model_copy(update={"network": new})) if w.name == name else w
            for w in host.pool_wishes
        ),
    )


def deletes(name: str) -> Event:
    return lambda host: wishing(host, *(w for w in host.pool_wishes if w.name != name))


def guest_starts(uuid: str, name: str) -> Event:
    def event(host: Observation) -> Observation:
        guest = host.guest(uuid)
        one = host.networks.get(name)
        free = guest is not None and not guest.active and not guest.config and one is not None and one.active
        return starts_on(host, uuid, name) if free else host

    return event


def plain(uuid: str, index: int, *, running: bool) -> Event:
    def event(host: Observation) -> Observation:
        guest, address = host.guest(uuid), vf_at(PF, index)
        if guest is None or guest.active or (running and (address not in host.devices or _is_live(address, host))):
            return host
        return has_plain(host, uuid, address, running=running)

    return event


def _is_live(address: object, host: Observation) -> bool:
    return any(h.address == address for g in host.guests for h in g.live)


def guest_stops(uuid: str) -> Event:
    return lambda host: stops(host, uuid) if _active(host, uuid) else host


def forgets(uuid: str) -> Event:
    """A guest that is off gets an empty XML."""
    return lambda host: host if _active(host, uuid) else _with(host, uuid, config=(), nics=())


def _active(host: Observation, uuid: str) -> bool:
    guest = host.guest(uuid)
    return guest is not None and guest.active


def _with(host: Observation, uuid: str, **changes: Any) -> Observation:
    return replace(host, guests=tuple(replace(g, **changes) if g.uuid == uuid else g for g in host.guests))


def net_destroy(name: str) -> Event:
    def event(host: Observation) -> Observation:
        one = host.networks.get(name)
        return with_networks(host, replace(one, active=False, running=None, connections=0)) if one else host

    return event


def net_undefine(name: str) -> Event:
    def event(host: Observation) -> Observation:
        one = host.networks.get(name)
        return without_network(host, name) if one and not one.active else host

    return event


def foreign(name: str, *, whole: bool) -> Event:
    def event(host: Observation) -> Observation:
        if name in host.networks:
            return host
        source: dict[str, Any] = {"pf": "ens1"} if whole else {"addresses": (vf_at(PF, 3),)}
        return with_networks(host, defined(name, **source))

    return event


def echo(count: int) -> Event:
    """Somebody writes sriov_numvfs: the kernel lets nobody take a VF from a guest."""
    return lambda host: host if any(g.live for g in host.guests) else with_vfs(host, PF, count)


def host_uses(index: int) -> Event:
    return lambda host: replace(host, uses=(Use(vf_at(PF, index), "carries 10.0.0.1"),))


#: VFs that are there from the start, and whether the PF is up.
COUNTS = st.tuples(st.integers(0, TOTAL), st.booleans())

#: What there is at first: no pool, one of all VFs, or two that share the PF.
FIRST = st.sampled_from(
    [
        [],
        [asks("net-a", {"pf": {"name": "ens1"}, "numVFs": 4})],
        [asks("net-a", {"pf": {"name": "ens1"}, "numVFs": 2, "vfSettings": {"trust": True}})],
        [asks(n, {"pf": {"name": "ens1", "vfs": r}, "numVFs": 4}) for n, r in (("net-a", "0-1"), ("net-b", "2-3"))],
    ]
)
SETTINGS: list[dict[str, Any]] = [{"trust": True}, {"trust": False, "maxTxRate": 50}]
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(asks, NAMES, SPECS),
    st.builds(edits_all, st.just("num_vfs"), st.sampled_from([{"numVFs": n} for n in (2, 4, 5, 6)])),
    st.builds(edits_all, st.just("vf_settings"), st.sampled_from([{"vfSettings": v} for v in SETTINGS])),
    st.builds(edits_network, NAMES, st.sampled_from([{}, {"vlan": 9}, {"portgroups": [{"name": "x", "vlan": 8}]}])),
    st.builds(guest_starts, GUESTS, NAMES),
    st.builds(deletes, NAMES),
    st.builds(guest_starts, GUESTS, NAMES),
    st.builds(plain, GUESTS, st.integers(0, 3), running=st.booleans()),
    st.builds(guest_stops, GUESTS),
    st.builds(forgets, GUESTS),
    st.builds(net_destroy, NAMES),
    st.builds(net_undefine, NAMES),
    st.builds(foreign, st.sampled_from(["net-a", "old"]), whole=st.booleans()),
    st.builds(echo, st.integers(0, TOTAL)),
    st.builds(host_uses, st.integers(0, 3)),
    st.just(lambda host: replace(host, uses=())),
    st.just(lambda host: with_pf(host, PF, up=not host.pfs[PF].up)),
)


def reconcile(host: Observation) -> Observation:
    """All pools, until nobody has anything left to do: one wakes the other."""
    for _ in range(8):
        before = host
        for one in host.pool_wishes:
            host = settle(one, host)
        for uid in sorted(host.pool_records.keys() - {w.uid for w in host.pool_wishes}):
            host = release(uid, host)
        if host == before:
            return host
    raise AssertionError("the pools fight for ever")


@settings(max_examples=250, deadline=None)
@given(COUNTS, FIRST, st.lists(EVENTS, max_size=12))
def test_no_plan_touches_what_is_in_use_and_all_plans_end(
    start: tuple[int, bool], first: list[Event], events: list[Event]
) -> None:
    host = sriov_host(start[0], up=start[1])
    for event in (*first, *events):
        host = reconcile(event(host))
        assert host.devices[PF].num_vfs <= TOTAL
        _no_vf_is_handed_out_twice(host)
        _what_is_done_is_so(host)


def _what_is_done_is_so(host: Observation) -> None:
    """A pool that nothing is left to do for has all that its spec says."""
    for one in host.pool_wishes:
        if plan_pool(one, host) != ():
            continue
        network, side = host.networks[one.network_name], host.pfs[PF]
        assert network.running
        assert network.active
        assert network.autostart
        assert (network.running.vlan, network.running.managed) == (one.spec.network.vlan, True)
        assert [g.name for g in network.running.portgroups] == [g.name for g in one.spec.network.portgroups]
        assert host.devices[PF].num_vfs == one.spec.num_vfs
        assert (side.up, side.autoprobe) == (True, one.spec.bind_host_driver)
        for vf in host.vfs(PF):
            if one.indices is None or vf.vf_index in one.indices:
                asked = VfConfig.of(one.spec.vf_settings)
                assert side.vfs[vf.vf_index or 0].only(asked) == asked


def _no_vf_is_handed_out_twice(host: Observation) -> None:
    """Of what pools have started; networks of others do as they like."""
    owned = {r.network_uuid for r in host.pool_records.values()}
    running = [n.running.addresses for n in host.networks.values() if n.running and n.uuid in owned]
    listed = [address for addresses in running for address in addresses]
    assert len(listed) == len(set(listed))


@settings(max_examples=120, deadline=None)
@given(COUNTS, FIRST, st.lists(EVENTS, max_size=8))
def test_when_all_is_deleted_and_nobody_uses_anything_all_is_as_before(
    start: tuple[int, bool], first: list[Event], events: list[Event]
) -> None:
    host = sriov_host(start[0], up=start[1])
    for event in (*first, *events):
        host = reconcile(event(host))
    host = replace(host, uses=())
    for name in [n.name for n in host.networks.values() if n.uuid.startswith("uuid-of-")]:
        host = without_network(host, name)
    for guest in host.guests:
        host = forgets(guest.uuid)(guest_stops(guest.uuid)(host))
    # what somebody else did meanwhile is not the pools' to undo
    host = reconcile(wishing(host))
    assert not host.pool_records
    assert host.pfs[PF].autoprobe is True
    assert all(config == FRESH for config in host.pfs[PF].vfs.values())


@settings(max_examples=150, deadline=None)
@given(COUNTS, SPECS, st.lists(st.booleans(), max_size=6))
def test_a_crash_after_any_action_is_made_good(
    start: tuple[int, bool], spec: dict[str, Any], crashes: list[bool]
) -> None:
    """Each run may end after its first action; what follows finds what it needs in the record and on the host."""
    one = wish("net-a", spec)
    before = host = wishing(sriov_host(start[0], up=start[1]), one)
    for crash in crashes:
        plan = steps_of(plan_pool(one, host))
        host = carry_out(plan[:1] if crash else plan, host)
    host = settle(one, host)
    host = wishing(host)
    for crash in crashes:
        plan = steps_of(plan_pool_release(one.uid, host))
        host = carry_out(plan[:1] if crash else plan, host)
    host = release(one.uid, host)
    assert (host.devices, host.networks, host.pool_records) == (before.devices, before.networks, before.pool_records)
    assert host.pfs == before.pfs


@given(st.integers(0, TOTAL), SPECS)
def test_the_record_is_written_before_anything_and_dropped_after_everything(count: int, spec: dict[str, Any]) -> None:
    one = wish("net-a", spec)
    host = wishing(sriov_host(count), one)
    first = steps_of(plan_pool(one, host))
    if not first:
        return
    assert isinstance(first[0], WritePoolRecord)
    assert first[0].record.num_vfs_before == count
    host = settle(one, carry_out(first, host))
    last = steps_of(plan_pool_release(one.uid, wishing(host)))
    while last and not isinstance(last[-1], DropPoolRecord):
        assert not any(isinstance(a, DropPoolRecord) for a in last)
        host = carry_out(last, host)
        last = steps_of(plan_pool_release(one.uid, wishing(host)))
    assert isinstance(last[-1], DropPoolRecord)
