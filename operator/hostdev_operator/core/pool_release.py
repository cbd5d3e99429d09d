"""Plans for giving a pool back: what is left to do so that nothing of it remains on this host.

A plan is one step, as in pool_plan.py: first the network goes, so that nobody can get a VF any more; the VFs follow
after a second look.
"""

from __future__ import annotations

from . import reasons
from .checks import Refusal
from .model import Observation, PciDevice
from .network import Network
from .pool import PoolRecord
from .pool_actions import (
    ConfigureVf,
    DropPoolRecord,
    PoolAction,
    ReturnVf,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    UndefineNetwork,
)
from .pool_checks import blocked, spared, vf_users
from .pool_network import siblings
from .pool_plan import PoolPlan
from .pool_source import recorded_pf
from .pool_use import defined_with, listed, on_network, taken, users
from .sriov import Pf, VfConfig


def plan_pool_release(uid: str, host: Observation, *, keep: bool = False) -> PoolPlan | Refusal:
    """The next step; a refusal says what it waits for. Nothing to do without a record.

    ``keep`` (releasePolicy Keep): network, VFs and PF stay as they are, whoever uses them.
    """
    record = host.pool_records.get(uid)
    if record is None:
        return ()
    if keep:
        return _named(record, host) or _paused(record, host) or (DropPoolRecord(record.uid),)
    if refusal := _in_use(record, host):
        return refusal
    device = recorded_pf(record, host)
    if isinstance(device, Refusal) and device.reason is reasons.AMBIGUOUS_DEVICE:
        return device
    network = _own_network(record, host)
    # a card that is gone has nothing to be given back, and another one in its place is not ours
    pf = None if isinstance(device, Refusal) else device
    answer = _give_back(record, pf, network, host)
    if isinstance(answer, Refusal):
        return answer
    return _paused(record, host) or answer


def _paused(record: PoolRecord, host: Observation) -> Refusal | None:
    if not host.settings.paused:
        return None
    return Refusal(
        reasons.PAUSED,
        f"nothing of pool {record.name} is given back: the node is paused; set spec.paused of its DeviceHost to false",
    )


def _own_network(record: PoolRecord, host: Observation) -> Network | None:
    network = host.networks.get(record.network_name)
    return network if network is not None and network.uuid == record.network_uuid else None


def _in_use(record: PoolRecord, host: Observation) -> Refusal | None:
    """Guests and assignments. A network that was there before stays, and so may its guests."""
    found = _naming(record, host)
    network = _own_network(record, host)
    if network is not None and not record.adopted:
        found += [f"{who} is on its libvirt network" for who in on_network(network, host)]
        defined = defined_with(network.name, host)
        found += [f"guest {guest.name} is defined with its libvirt network {network.name}" for guest in defined]
    return _pool_in_use(record, found)


def _named(record: PoolRecord, host: Observation) -> Refusal | None:
    """Without the pool, the assignments that name it would have none."""
    return _pool_in_use(record, _naming(record, host))


def _naming(record: PoolRecord, host: Observation) -> list[str]:
    naming = (w for w in host.wishes if w.spec.source.pool is not None and w.spec.source.pool.name == record.name)
    return [f"assignment {wish.owner} names it" for wish in naming]


def _pool_in_use(record: PoolRecord, found: list[str]) -> Refusal | None:
    if not found:
        return None
    return Refusal(
        reasons.POOL_IN_USE,
        f"pool {record.name} is given back when nobody uses it any more: {listed(found)}",
    )


def _give_back(
    record: PoolRecord, pf: PciDevice | None, network: Network | None, host: Observation
) -> PoolPlan | Refusal:
    last = pf is not None and not siblings(record.uid, pf, host)
    count_differs = pf is not None and last and record.num_vfs is not None and pf.num_vfs != record.num_vfs_before
    if pf is not None:
        name = f"PF {pf.address}"
        ours = {network.name} if network else set()
        refusal = blocked(pf, name, host)
        if count_differs:
            refusal = refusal or spared(pf, name, host) or _vfs_in_use(record, pf, vf_users(pf, host, ours))
        else:
            changed = [vf for vf in host.vfs(pf.address) if not _lacking(vf, record, host).empty]
            refusal = refusal or _vfs_in_use(record, pf, taken(changed, host))
        if refusal:
            return refusal
    if steps := _network_steps(record, network, stop=count_differs):
        return steps
    steps = _pf_steps(record, pf, host, count_differs, last) if pf else ()
    if network is not None and record.adopted and not network.active and record.num_vfs_before:
        steps += (StartNetwork(network.name),)
    return (*steps, DropPoolRecord(record.uid))


def _vfs_in_use(record: PoolRecord, pf: PciDevice, found: tuple[str, ...]) -> Refusal | None:
    if not found:
        return None
    return Refusal(
        reasons.VFS_IN_USE,
        f"the VFs of PF {pf.address} get back what they had before pool {record.name} when nobody uses them any more:"
        f" {listed(found)}",
    )


def _network_steps(record: PoolRecord, network: Network | None, *, stop: bool) -> PoolPlan:
    """What was made goes; what was there before stays, but while VFs are made anew nobody may get one of it."""
    if network is None:
        return ()
    if record.adopted:
        return (StopNetwork(network.name),) if stop and network.active else ()
    stopped: PoolPlan = (StopNetwork(network.name),) if network.active else ()
    return (*stopped, UndefineNetwork(network.name, network.uuid)) if network.persistent else stopped


def _pf_steps(record: PoolRecord, pf: PciDevice, host: Observation, count_differs: bool, last: bool) -> PoolPlan:  # noqa: FBT001
    """Probing comes before the VFs: those that were there before had the drivers that it brings."""
    now = host.pfs.get(pf.address) or Pf(pf.address)
    steps: list[PoolAction] = []
    if not count_differs:
        steps += [
            ConfigureVf(pf.address, vf.vf_index, lacking)
            for vf in host.vfs(pf.address)
            if vf.vf_index is not None and not (lacking := _lacking(vf, record, host)).empty
        ]
    if not last:
        return tuple(steps)
    if record.autoprobe_before is not None and now.autoprobe is not record.autoprobe_before:
        steps.append(SetAutoprobe(pf.address, record.autoprobe_before))
    if count_differs:
        steps.append(SetVfCount(pf.address, record.num_vfs_before, pf.identity))
    else:
        steps += _drivers(record, pf, host)
    if now.up and not record.up_before and not host.uses_of(pf.address) and not taken(host.vfs(pf.address), host):
        steps.append(SetLink(pf.address, False))
    return tuple(steps)


def _drivers(record: PoolRecord, pf: PciDevice, host: Observation) -> list[PoolAction]:
    """For VFs that stay, and have lost their driver to a guest while there was no probing: none came back after it.

    One without a driver from before gets one, too, if the kernel knows any: so it would have with the probing that
    there was. What a guest has now gets its driver when the guest is off.
    """
    if record.autoprobe_before is not True:
        return []
    idle = (vf for vf in host.vfs(pf.address) if vf.driver is None and not users(vf, host))
    return [ReturnVf(vf.address, vf.identity) for vf in idle]


def _lacking(vf: PciDevice, record: PoolRecord, host: Observation) -> VfConfig:
    """What of a VF's settings is not as it was before."""
    before = record.vfs_before.get(vf.vf_index) if vf.vf_index is not None else None
    pf = host.pfs.get(vf.physfn) if vf.physfn else None
    if before is None or pf is None or vf.vf_index is None:
        return VfConfig()
    return pf.vfs.get(vf.vf_index, VfConfig()).lacking(before)
