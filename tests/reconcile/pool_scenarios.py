"""How the reasons of the failure catalogue that are about pools are made to happen: each on a small host with a PF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostdev_operator.core import reasons
from tests.core.pool_hosts import defined
from tests.fakes.samples import NIC, WEB, device
from tests.reconcile.pool_running import PF, Pools, node_pool, ready
from tests.reconcile.running import Engine

ON_FAST = "<interface type='network'><source network='fast'/></interface>"
PLAIN = "<hostdev mode='subsystem' type='pci' managed='yes'><source>{}</source></hostdev>"
VF3 = "<address domain='0' bus='5' slot='16' function='6'/>"


def pools_of(engine: Engine) -> Pools:
    """The engine's host has a PF that can have 7 VFs."""
    engine.host.sriov.add(device(PF, "igb", 30, product=0x10C9))
    return Pools(engine.host)


def reason(pools: Pools, **more: Any) -> str:
    """What a run ends with, which must not be True."""
    status, why = ready(pools.run(node_pool(**more)))
    assert status == "False"
    return why


def sriov_unsupported(engine: Engine) -> str:
    return reason(pools_of(engine), pf={"address": str(NIC)})


def vf_count_too_high(engine: Engine) -> str:
    return reason(pools_of(engine), numVFs=9)


def vfs_not_created(engine: Engine) -> str:
    return reason(pools_of(engine), numVFs=None, externallyManaged=True)


def vfs_in_use(engine: Engine) -> str:
    """A guest that is off is defined with one of them."""
    pools = pools_of(engine)
    pools.run(node_pool())
    engine.host.define(WEB, "web", PLAIN.format(VF3))
    why = reason(pools, numVFs=6)
    engine.host.define(WEB, "web")
    return why


def pool_conflict(engine: Engine) -> str:
    pools = pools_of(engine)
    pools.run(node_pool())
    return reason(pools, name="other", uid="other-uid")


def pool_in_use(engine: Engine) -> str:
    pools = pools_of(engine)
    pools.run(node_pool())
    engine.host.define(WEB, "web", ON_FAST)
    return reason(pools, deleting=True)


def network_differs(engine: Engine) -> str:
    pools = pools_of(engine)
    engine.host.networks.append(defined("fast", pf="eth9").xml or "")
    return reason(pools)


def pending_idle(engine: Engine) -> str:
    pools = pools_of(engine)
    pools.run(node_pool())
    engine.host.define(WEB, "web", ON_FAST)
    engine.host.start(WEB)
    why = reason(pools, network={"vlan": 7})
    engine.host.stop(WEB)
    return why


POOL_SCENARIOS: dict[str, Callable[[Engine], str]] = {
    reasons.SRIOV_UNSUPPORTED.name: sriov_unsupported,
    reasons.VF_COUNT_TOO_HIGH.name: vf_count_too_high,
    reasons.VFS_NOT_CREATED.name: vfs_not_created,
    reasons.VFS_IN_USE.name: vfs_in_use,
    reasons.POOL_CONFLICT.name: pool_conflict,
    reasons.POOL_IN_USE.name: pool_in_use,
    reasons.NETWORK_DIFFERS.name: network_differs,
    reasons.PENDING_IDLE.name: pending_idle,
}
