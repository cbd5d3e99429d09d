"""How the reasons of the failure catalogue that are about NICs are made to happen: each on a small host."""

from __future__ import annotations

from collections.abc import Callable

from hostdev_operator.core import reasons
from tests.core.nics import MAC, PF
from tests.fakes.samples import DB, OTHER_UID, WEB, assignment
from tests.reconcile.nic_running import add_vfs, make_pool, of_pool, of_vf
from tests.reconcile.running import Engine, attached, ready


def not_virtual_function(engine: Engine) -> str:
    return ready(engine.run(assignment(network={"mac": MAC})))[1]


def pf_down(engine: Engine) -> str:
    add_vfs(engine.host)
    engine.host.sriov.set_link(PF, up=False)
    return ready(engine.run(of_vf(engine.host, network={"mac": MAC})))[1]


def vf_config_rejected(engine: Engine) -> str:
    add_vfs(engine.host)
    engine.host.sriov.pfs[PF].rejects.add("trust")
    return ready(engine.run(of_vf(engine.host, network={"trust": True})))[1]


def mac_in_use(engine: Engine) -> str:
    add_vfs(engine.host)
    engine.host.define(DB, "db", f"<interface type='bridge'><mac address='{MAC}'/><source bridge='br0'/></interface>")
    return ready(engine.run(of_vf(engine.host, network={"mac": MAC})))[1]


def network_pending(engine: Engine) -> str:
    add_vfs(engine.host)
    engine.host.start(WEB)
    engine.run(of_vf(engine.host, network={"vlan": 10}))
    return attached(engine.run(of_vf(engine.host, network={"vlan": 20}, generation=2)))[1]


def pool_not_found(engine: Engine) -> str:
    return ready(engine.run(of_pool()))[1]


def pool_inactive(engine: Engine) -> str:
    add_vfs(engine.host)
    make_pool(engine.host, engine)
    engine.host.networks.by_name["net-a"].live = None
    return ready(engine.run(of_pool()))[1]


def portgroup_unknown(engine: Engine) -> str:
    add_vfs(engine.host)
    make_pool(engine.host, engine)
    return ready(engine.run(of_pool(portgroup="green")))[1]


def pool_exhausted(engine: Engine) -> str:
    """Both VFs go to guest db, by hand."""
    add_vfs(engine.host)
    make_pool(engine.host, engine)
    nic = "<interface type='network'><source network='net-a'/></interface>"
    engine.host.define(DB, "db", nic * 2)
    engine.host.start(DB)
    engine.host.start(WEB)
    result = engine.run(of_pool(uid=OTHER_UID, attach="Live"))
    engine.host.stop(DB)
    engine.host.define(DB, "db")
    return ready(result)[1]


NIC_SCENARIOS: dict[str, Callable[[Engine], str]] = {
    reasons.NOT_VIRTUAL_FUNCTION.name: not_virtual_function,
    reasons.PF_DOWN.name: pf_down,
    reasons.VF_CONFIG_REJECTED.name: vf_config_rejected,
    reasons.MAC_IN_USE.name: mac_in_use,
    reasons.NETWORK_PENDING.name: network_pending,
    reasons.POOL_NOT_FOUND.name: pool_not_found,
    reasons.POOL_INACTIVE.name: pool_inactive,
    reasons.PORTGROUP_UNKNOWN.name: portgroup_unknown,
    reasons.POOL_EXHAUSTED.name: pool_exhausted,
}
