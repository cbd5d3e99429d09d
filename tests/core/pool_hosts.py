"""Observations with PFs, VFs and networks, and an interpreter that carries plans for pools out on them.

The interpreter refuses what no plan may do: touch VFs or networks that somebody uses, or change anything that is not
recorded.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from lxml import etree

from hostdev_operator.api.vfpool import NodeVFPoolSpec
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Guest, Hostdev, Nic, Observation, PciDevice, Pool
from hostdev_operator.core.network import Network, NetworkDefinition
from hostdev_operator.core.network_xml import NetworkXml, network, network_text
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord, PoolWish
from hostdev_operator.core.pool_actions import (
    AutostartNetwork,
    ConfigureVf,
    DefineNetwork,
    DropPoolRecord,
    PoolAction,
    ReturnVf,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    UndefineNetwork,
    WritePoolRecord,
)
from hostdev_operator.core.pool_plan import plan_pool
from hostdev_operator.core.pool_release import plan_pool_release
from hostdev_operator.core.pool_use import on_network, taken
from hostdev_operator.core.sriov import Pf, VfConfig
from tests.core.hosts import guest, observation, with_device
from tests.fakes.samples import DB, device

VF_DRIVER = "igbvf"
PF = PciAddress.parse("0000:01:00.0")
PF2 = PciAddress.parse("0000:02:00.0")
POOL, OTHER = "pool-uid-1", "pool-uid-2"
TOTAL = 7
FRESH = VfConfig("00:00:00:00:00:00", 0, False, True, "auto", 0, 0)
MAC, MAC2 = "52:54:00:10:00:01", "52:54:00:10:00:02"


def physical(address: PciAddress = PF, **more: Any) -> PciDevice:
    """A PF without VFs."""
    return device(address, **{"driver": "igb", "group": address.bus, "product": 0x10C9, "total_vfs": TOTAL, **more})


def virtual(pf: PciAddress, index: int, driver: str | None = None) -> PciDevice:
    """One of its VFs."""
    return device(vf_at(pf, index), driver, 1000 + index, product=0x10CA, physfn=pf, vf_index=index)


def vf_at(pf: PciAddress, index: int) -> PciAddress:
    """Where VF ``index`` is: 128 functions behind the PF, every second one."""
    at = pf.bus * 256 + 0x80 + 2 * index
    return PciAddress(pf.domain, at >> 8, at >> 3 & 31, at & 7)


VFS = tuple(vf_at(PF, index) for index in range(TOTAL))
IDENTITY = physical().identity


def with_vfs(host: Observation, pf: PciAddress, count: int) -> Observation:
    """All VFs of the PF gone, then so many made."""
    devices = {a: d for a, d in host.devices.items() if d.physfn != pf}
    devices[pf] = replace(devices[pf], num_vfs=count)
    driver = VF_DRIVER if host.pfs[pf].autoprobe else None
    devices |= {vf.address: vf for vf in (virtual(pf, i, driver) for i in range(count))}
    return with_pf(replace(host, devices=MappingProxyType(devices)), pf, vfs=dict.fromkeys(range(count), FRESH))


def with_pf(host: Observation, pf: PciAddress, **changes: Any) -> Observation:
    """The PF's network side changed."""
    return settled(replace(host, pfs=MappingProxyType({**host.pfs, pf: replace(host.pfs[pf], **changes)})))


def with_networks(host: Observation, *networks: Network) -> Observation:
    """The networks of these names are there, as they are given."""
    return settled(replace(host, networks=MappingProxyType({**host.networks, **{n.name: n for n in networks}})))


def without_network(host: Observation, name: str) -> Observation:
    """The network is gone."""
    return settled(replace(host, networks=MappingProxyType({n: x for n, x in host.networks.items() if n != name})))


def with_guests(host: Observation, *guests: Guest) -> Observation:
    """These guests, and no others."""
    return replace(host, guests=guests)


def with_pool_records(host: Observation, *records: PoolRecord) -> Observation:
    """These records of pools, and no others."""
    return replace(host, pool_records=MappingProxyType({r.uid: r for r in records}))


def settled(host: Observation) -> Observation:
    """With what follows from the rest: which VFs each network hands out (as reconcile/observe.py finds them)."""
    by_netdev = {pf.netdev: address for address, pf in host.pfs.items()}
    pools = []
    for one in host.networks.values():
        if one.hands_out_vfs:
            vfs = (d.address for name in one.pfs if name in by_netdev for d in host.vfs(by_netdev[name]))
            pools.append(Pool(one.name, one.addresses.union(vfs)))
    return replace(host, pools=tuple(pools))


def sriov_host(count: int = 0, *, up: bool = True, pfs: int = 1, **more: Any) -> Observation:
    """One PF ens1 (or two: ens2), up, with so many VFs; two guests, both off."""
    addresses = (PF, PF2)[:pfs]
    sides = {
        a: Pf(a, f"ens{n}", (MAC, MAC2)[n - 1], up, True) for n, a in enumerate(addresses, start=1)
    }  # fmt: skip
    host = observation(
        [physical(a) for a in addresses], (guest(), guest(DB, "db")), pfs=MappingProxyType(sides), **more
    )
    for address in addresses:
        host = with_vfs(host, address, count)
    return host


def pool(name: str = "net-a", uid: str = POOL, created: str = "2026-01-01T00:00:00Z", **more: Any) -> PoolWish:
    """A pool of all 4 VFs of ens1; ``more`` is of its spec, on the wire."""
    wire: dict[str, Any] = {"pf": {"name": "ens1"}, "numVFs": 4, "poolName": name, "nodeName": "n1", **more}
    return PoolWish(uid, name, created, 1, NodeVFPoolSpec.model_validate(wire))


def made(host: Observation, *wishes: PoolWish) -> Observation:
    """The host after these pools were carried out."""
    host = wishing(host, *wishes)
    for wish in wishes:
        host = settle(wish, host)
    return host


def wishing(host: Observation, *wishes: PoolWish) -> Observation:
    """The host with these pools asked for, and no others."""
    return replace(host, pool_wishes=wishes)


def settle(wish: PoolWish, host: Observation, rounds: int = 3) -> Observation:
    """Plan and carry out until nothing is left; at most three steps have actions."""
    for _ in range(rounds):
        plan = plan_pool(wish, host)
        if not isinstance(plan, tuple) or not plan:
            return host
        host = carry_out(plan, host)
    assert not steps_of(plan_pool(wish, host)), "the plan does not end"
    return host


def release(uid: str, host: Observation, rounds: int = 3) -> Observation:
    """The same for a pool that is deleted."""
    host = wishing(host, *(w for w in host.pool_wishes if w.uid != uid))
    for _ in range(rounds):
        plan = plan_pool_release(uid, host)
        if not isinstance(plan, tuple) or not plan:
            return host
        host = carry_out(plan, host)
    assert not steps_of(plan_pool_release(uid, host)), "the release does not end"
    return host


def planned(host: Observation, **more: Any) -> tuple[PoolAction, ...]:
    """The next step of a pool, which must not be refused."""
    answer = plan_pool(pool(**more), host)
    assert isinstance(answer, tuple), answer
    return answer


def refused(host: Observation, **more: Any) -> Refusal:
    """The refusal of a pool."""
    answer = plan_pool(pool(**more), host)
    assert isinstance(answer, Refusal), answer
    return answer


def kinds(actions: tuple[object, ...]) -> list[str]:
    """Names of the actions."""
    return [type(action).__name__ for action in actions]


def steps_of(plan: object) -> tuple[PoolAction, ...]:
    """The actions of a plan; none if it is a refusal."""
    return plan if isinstance(plan, tuple) else ()


def defined(
    name: str, *, pf: str | None = None, active: bool = False, uuid: str = "", xml: str | None = None, **more: Any
) -> Network:
    """A network that somebody made with virsh; ``more`` as for NetworkDefinition."""
    text = xml or network_text(NetworkDefinition(name, pf=pf, **more))
    found = network(NetworkXml(name, uuid or f"uuid-of-{name}", False, True, True, None, text))
    return replace(found, active=True, running=found.hands_out) if active else found


# -- guests -----------------------------------------------------------------------------------------------------------


def starts_on(host: Observation, uuid: str, name: str) -> Observation:
    """A guest with a NIC of the network starts: libvirt takes the first VF without a connection, or fails."""
    one = host.networks[name]
    assert one.running, "network is not active"
    theirs = {n.address for g in host.guests for n in g.live_nics}
    address = next((a for a in one.running.addresses if a not in theirs), None)
    if address is None or address not in host.devices or any(h.address == address for g in host.guests for h in g.live):
        return host  # libvirt refuses: none is available, or it is in use by a guest whose port was lost
    host = with_networks(host, replace(one, connections=one.connections + 1))
    return replace(
        host,
        guests=tuple(
            replace(
                g,
                active=True,
                nics=(Nic("net0", f"52:54:00:00:00:{len(uuid):02x}", name),),
                live=(*g.live, Hostdev(address, managed=True)),
                live_nics=(Nic("net0", address=address),),
            )
            if g.uuid == uuid
            else g
            for g in host.guests
        ),
    )


def stops(host: Observation, uuid: str) -> Observation:
    """A guest is shut off, and its ports are given back, of those networks that still know of them."""
    one = host.guest(uuid)
    assert one
    for nic in one.nics:
        there = host.networks.get(nic.network or "")
        had = {n.address for n in one.live_nics}
        if there and there.running and had & set(there.running.addresses) and there.connections:
            host = with_networks(host, replace(there, connections=there.connections - 1))
    off = replace(one, active=False, live=(), live_nics=())
    return replace(host, guests=tuple(off if g.uuid == uuid else g for g in host.guests))


def has_plain(host: Observation, uuid: str, address: PciAddress, *, running: bool = False) -> Observation:
    """A guest has the VF as a plain <hostdev> in its XML, and runs with it."""
    hostdev = (Hostdev(address, managed=True),)
    return replace(
        host,
        guests=tuple(
            replace(g, config=hostdev, active=running, live=hostdev if running else ()) if g.uuid == uuid else g
            for g in host.guests
        ),
    )


# -- the interpreter --------------------------------------------------------------------------------------------------


def carry_out(plan: tuple[PoolAction, ...], host: Observation) -> Observation:
    """The host after the actions. AssertionError for what no plan may do."""
    for number, action in enumerate(plan):
        assert number == 0 or not isinstance(action, WritePoolRecord), "the record comes first"
        host = _perform(action, host)
    return host


def _perform(action: PoolAction, host: Observation) -> Observation:  # noqa: PLR0911
    match action:
        case WritePoolRecord(record):
            old = host.pool_records.get(record.uid)
            assert old is None or record.sequence == old.sequence + 1
            return with_pool_records(host, *{**host.pool_records, record.uid: record}.values())
        case DropPoolRecord(uid):
            return with_pool_records(host, *(r for r in host.pool_records.values() if r.uid != uid))
        case SetAutoprobe(pf, on):
            assert any(r.autoprobe_before is not None for r in _recorded(pf, host))
            return with_pf(host, pf, autoprobe=on)
        case SetLink(pf, up):
            assert up or not any(r.up_before for r in _recorded(pf, host))
            return with_pf(host, pf, up=up)
        case SetVfCount(pf, count, identity):
            return _set_count(host, pf, count, identity)
        case ConfigureVf(pf, index, config):
            return _configure(host, pf, index, config)
        case ReturnVf(address, identity):
            return _return(host, address, identity)
        case _:
            return _on_network(action, host)


def _recorded(pf: PciAddress, host: Observation) -> list[PoolRecord]:
    found = [r for r in host.pool_records.values() if r.pf == pf]
    assert found, "what is changed must be recorded"
    return found


def _set_count(host: Observation, pf: PciAddress, count: int, identity: object) -> Observation:
    device = host.devices[pf]
    assert identity == device.identity
    assert 0 <= count <= device.total_vfs
    assert device.num_vfs != count
    records = _recorded(pf, host)
    assert count in {r.num_vfs for r in records} | {r.num_vfs_before for r in records}
    assert taken(host.vfs(pf), host) == (), "VFs that are in use must stay"
    addresses = {vf.address for vf in host.vfs(pf)}
    for one in host.networks.values():
        assert not (one.active and one.addresses & addresses), "a guest could take a VF meanwhile"
    assert not host.settings.paused
    return with_vfs(host, pf, count)


def _return(host: Observation, address: PciAddress, identity: object) -> Observation:
    vf = host.devices[address]
    assert (identity, vf.driver) == (vf.identity, None)
    assert taken([vf], host) == (), "what is in use is not touched"
    assert vf.physfn
    assert host.pfs[vf.physfn].autoprobe, "the kernel would bind nothing"
    return with_device(host, address, driver=VF_DRIVER)


def _configure(host: Observation, pf: PciAddress, index: int, config: VfConfig) -> Observation:
    vf = next(vf for vf in host.vfs(pf) if vf.vf_index == index)
    assert taken([vf], host) == (), "VFs that are in use must stay as they are"
    assert not config.empty
    before = [r.vfs_before[index] for r in _recorded(pf, host) if index in r.vfs_before]
    assert any(b.only(config) == b.only(config) and not b.only(config).empty for b in before), "not recorded"
    vfs = dict(host.pfs[pf].vfs)
    vfs[index] = config.or_else(vfs[index])
    return with_pf(host, pf, vfs=vfs)


def _on_network(action: PoolAction, host: Observation) -> Observation:
    owned = {(r.network_name, r.network_uuid) for r in host.pool_records.values()}
    if isinstance(action, DefineNetwork):
        return _define(host, action, owned)
    assert isinstance(action, AutostartNetwork | StartNetwork | StopNetwork | UndefineNetwork)
    one = host.networks[action.name]
    assert (one.name, one.uuid) in owned, "not the pool's network"
    match action:
        case AutostartNetwork():
            return with_networks(host, replace(one, autostart=True))
        case StartNetwork():
            return _start(host, one)
        case StopNetwork():
            assert on_network(one, host) == (), "a network that is in use must go on"
            stopped = replace(one, active=False, running=None, connections=0, running_strange=None)
            return with_networks(host, stopped) if one.persistent else without_network(host, one.name)
        case UndefineNetwork():
            assert action.uuid == one.uuid
            assert not one.active
            return without_network(host, one.name)


def _define(host: Observation, action: DefineNetwork, owned: set[tuple[str, str | None]]) -> Observation:
    now = host.networks.get(action.name)
    uuid = etree.fromstring(action.xml).findtext("uuid")
    assert (action.name, uuid) in owned or (now and (action.name, now.uuid) in owned), "not recorded"
    uid = now.uuid if now else (uuid or "")
    found = network(NetworkXml(action.name, uid, False, bool(now and now.autostart), True, None, action.xml))
    assert found.hands_out
    assert found.hands_out.pf or found.hands_out.addresses, "a network without VFs"
    if now:
        found = replace(
            found,
            active=now.active,
            running=now.running,
            running_strange=now.running_strange,
            connections=now.connections,
        )
    return with_networks(host, found)


def _start(host: Observation, one: Network) -> Observation:
    if one.active:
        return host
    assert one.hands_out
    by_netdev = {pf.netdev: address for address, pf in host.pfs.items()}
    addresses = one.hands_out.addresses
    if one.hands_out.pf:
        addresses = tuple(vf.address for vf in host.vfs(by_netdev[one.hands_out.pf]))
    assert addresses, "No usable Vf's present on SRIOV PF"
    for address in addresses:
        for g in host.holders(address):
            assert not g.active, "libvirt would hand out a VF that a guest has"
    return with_networks(
        host,
        replace(one, active=True, running=replace(one.hands_out, addresses=addresses), running_strange=one.strange),
    )
