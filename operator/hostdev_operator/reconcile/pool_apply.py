"""apply for pools: carries a plan out, action by action, with a boundary between any two."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..core import reasons
from ..core.errors import HostError
from ..core.identity import Identity
from ..core.network_xml import network
from ..core.pci import PciAddress
from ..core.pool_actions import (
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
from ..ports import Host

log = logging.getLogger(__name__)

#: The kernel lets each driver probe its VF before it returns: 16 s for 7 VFs in the slow lab, a minute for 128 at work.
VF_SECONDS = 300.0


def apply_pool(actions: Sequence[PoolAction], host: Host, pool: str, phase: str) -> None:
    """Do the actions in order; HostError at the first that fails, with everything before it done.

    ``phase`` (pool, pool release) names the boundaries.
    """
    if actions:
        log.info("pool %s: %s: %s", pool, phase, "; ".join(map(str, actions)))
    for action in actions:
        host.boundary(f"{phase}: before: {action}")
        _PERFORM[type(action)](action, host)


def _set_vf_count(action: SetVfCount, host: Host) -> None:
    _same_pf(action.pf, action.identity, host)
    host.devices.set_num_vfs(action.pf, action.count, VF_SECONDS)


def _return_vf(action: ReturnVf, host: Host) -> None:
    """Looked at once more: somebody may have it by now. libvirt itself refuses what a guest has."""
    device = host.devices.device(action.address)
    if device is None or device.driver is not None or not action.identity.same(device.identity):
        return
    if not any(record.covers(action.address) for record in host.records.load().values()):
        host.hypervisor.reattach_driver(action.address)


def _stop_network(action: StopNetwork, host: Host) -> None:
    """Libvirt would stop it under running guests, and forget which VFs they have."""
    found = next((network(xml) for xml in host.hypervisor.networks() if xml.name == action.name), None)
    if found is not None and found.active and found.connections:
        raise HostError(
            reasons.HOST_CHANGED, f"{found.connections} NICs of running guests are on network {action.name} by now"
        )
    host.hypervisor.stop_network(action.name)


def _same_pf(address: PciAddress, identity: Identity, host: Host) -> None:
    """Looked at once more: between plan and action another card may have been put there."""
    device = host.devices.device(address)
    if device is None:
        raise HostError(reasons.DEVICE_NOT_FOUND, f"PF {address} was there a moment ago, and is gone")
    if not identity.same(device.identity):
        raise HostError(
            reasons.IDENTITY_CHANGED,
            f"{device.label} {device.identity} is not the PF {identity}, which was there a moment ago",
        )


_PERFORM: dict[type[PoolAction], Callable[[Any, Host], None]] = {
    WritePoolRecord: lambda a, h: h.pool_records.save(a.record),
    SetAutoprobe: lambda a, h: h.devices.set_autoprobe(a.pf, on=a.on),
    SetVfCount: _set_vf_count,
    SetLink: lambda a, h: h.devices.set_link(a.pf, up=a.up),
    ConfigureVf: lambda a, h: h.devices.configure_vf(a.pf, a.index, a.config),
    ReturnVf: _return_vf,
    DefineNetwork: lambda a, h: h.hypervisor.define_network(a.xml),
    StartNetwork: lambda a, h: h.hypervisor.start_network(a.name),
    AutostartNetwork: lambda a, h: h.hypervisor.autostart_network(a.name),
    StopNetwork: _stop_network,
    UndefineNetwork: lambda a, h: h.hypervisor.undefine_network(a.name, a.uuid),
    DropPoolRecord: lambda a, h: h.pool_records.drop(a.uid),
}
