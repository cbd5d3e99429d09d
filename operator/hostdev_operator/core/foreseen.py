"""What a host will be like after actions of a pool: for showing the whole plan of a pool, which is made step by step.

VFs that are not there yet have no addresses and no settings that anybody could know. So they are given addresses that
no words show, and settings that are unknown. If it comes otherwise, the plan is another one: nothing is done that was
not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .checks import Refusal
from .model import Observation, PciDevice
from .network import Network, NetworkDefinition
from .network_xml import NetworkXml, network
from .pci import PciAddress
from .pool import PoolWish
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
from .pool_plan import PoolPlan, plan_pool
from .sriov import Pf, VfConfig

#: Networks are stopped, VFs are made, settings and networks follow.
_ROUNDS = 3
#: A PCI domain that no host has: Linux numbers them from 0, and virtual ones (VMD) from 0x10000.
_NOWHERE = 0x7FFFFFFF


def foreseen(wish: PoolWish, host: Observation, first: PoolPlan) -> tuple[tuple[PoolAction, Observation], ...]:
    """All actions that follow from the first step, each with the host as it is before it.

    It ends where something is waited for: nobody knows what the host will be like then.
    """
    found: list[tuple[PoolAction, Observation]] = []
    answer: PoolPlan | Refusal = first
    for _ in range(_ROUNDS):
        if isinstance(answer, Refusal):
            break
        for action in answer:
            found.append((action, host))
            host = after(action, host)
        answer = plan_pool(wish, host)
    return tuple(found)


def after(action: PoolAction, host: Observation) -> Observation:
    """The host after an action that a claim has; others leave it as it is."""
    change = _AFTER.get(type(action))
    return change(action, host) if change else host


def _with_pf(host: Observation, address: PciAddress, **changes: Any) -> Observation:
    pf = host.pfs.get(address) or Pf(address)
    return replace(host, pfs=MappingProxyType({**host.pfs, address: replace(pf, **changes)}))


def _with_network(host: Observation, found: Network) -> Observation:
    return replace(host, networks=MappingProxyType({**host.networks, found.name: found}))


def _recorded(action: WritePoolRecord, host: Observation) -> Observation:
    records = {**host.pool_records, action.record.uid: action.record}
    return replace(host, pool_records=MappingProxyType(records))


def _counted(action: SetVfCount, host: Observation) -> Observation:
    pf = host.devices[action.pf]
    kept = {a: d for a, d in host.devices.items() if d.physfn != action.pf}
    made = {vf.address: vf for vf in (_vf(pf, index) for index in range(action.count))}
    devices = {**kept, pf.address: replace(pf, num_vfs=action.count), **made}
    unknown: Mapping[int, VfConfig] = MappingProxyType({})
    return _with_pf(replace(host, devices=MappingProxyType(devices)), action.pf, vfs=unknown)


def _vf(pf: PciDevice, index: int) -> PciDevice:
    address = PciAddress(_NOWHERE, index >> 8, index >> 3 & 0x1F, index & 7)
    return PciDevice(address, pf.vendor, 0, pf.class_code, physfn=pf.address, vf_index=index, express=pf.express)


def _configured(action: ConfigureVf, host: Observation) -> Observation:
    now = host.pfs[action.pf].vfs if action.pf in host.pfs else {}
    then = action.config.or_else(now.get(action.index, VfConfig()))
    return _with_pf(host, action.pf, vfs=MappingProxyType({**now, action.index: then}))


def _defined(action: DefineNetwork, host: Observation) -> Observation:
    told = network(NetworkXml(action.name, "", active=False, autostart=False, persistent=True, live=None,
                              config=action.xml))  # fmt: skip
    old = host.networks.get(action.name)
    uuid = old.uuid if old else _uuid(action, host)
    return _with_network(
        host,
        replace(
            told,
            uuid=uuid,
            active=old.active if old else False,
            autostart=old.autostart if old else False,
            running=old.running if old else None,
            xml=action.xml,
        ),
    )


def _uuid(action: DefineNetwork, host: Observation) -> str:
    """As the pool's record has it: so the network is known as the pool's own."""
    records = host.pool_records.values()
    return next((r.network_uuid for r in records if r.network_name == action.name and r.network_uuid), "")


def _started(action: StartNetwork, host: Observation) -> Observation:
    found = host.networks[action.name]
    return _with_network(host, replace(found, active=True, running=_running(found.hands_out, host)))


def _running(definition: NetworkDefinition | None, host: Observation) -> NetworkDefinition | None:
    """With the VFs that libvirt finds for its <pf>."""
    if definition is None or definition.pf is None:
        return definition
    pf = next((pf.address for pf in host.pfs.values() if pf.netdev == definition.pf), None)
    return replace(definition, addresses=tuple(vf.address for vf in host.vfs(pf))) if pf else definition


def _stopped(action: StopNetwork, host: Observation) -> Observation:
    return _with_network(host, replace(host.networks[action.name], active=False, running=None))


def _autostarted(action: AutostartNetwork, host: Observation) -> Observation:
    return _with_network(host, replace(host.networks[action.name], autostart=True))


_AFTER: dict[type, Callable[[Any, Observation], Observation]] = {
    WritePoolRecord: _recorded,
    SetAutoprobe: lambda action, host: _with_pf(host, action.pf, autoprobe=action.on),
    SetVfCount: _counted,
    SetLink: lambda action, host: _with_pf(host, action.pf, up=action.up),
    ConfigureVf: _configured,
    DefineNetwork: _defined,
    StartNetwork: _started,
    StopNetwork: _stopped,
    AutostartNetwork: _autostarted,
}
