"""What somebody else changes by hand of a pool: reported or put right; and what is nobody's doing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.api.vfpool import NodeVFPoolStatus
from hostdev_operator.core import reasons
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Retry
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.reconcile.pools import NodePool
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, WEB
from tests.reconcile.pool_running import PF, Pools, message, node_pool, ready

SETTLED = ("True", "PoolReady")
DRIFTED = ("False", "Drifted")
ADDRESS = PciAddress.parse(PF)
ByHand = Callable[[FakeHost], object]


def redefine(host: FakeHost) -> None:
    """Virsh net-edit, and the network started anew."""
    text = host.networks.by_name["fast"].config
    assert text
    host.networks.define(re.sub("</network>", "<vlan><tag id='7'/></vlan></network>", text))
    host.networks.destroy("fast")
    host.networks.start("fast")


def no_autostart(host: FakeHost) -> None:
    host.networks.by_name["fast"].autostart = False


def undefine(host: FakeHost) -> None:
    host.networks.destroy("fast")
    host.networks.undefine("fast")


#: What is done by hand.
CHANGES: dict[str, ByHand] = {
    "VFs removed": lambda host: host.sriov.set_count(ADDRESS, 0),
    "another number of VFs": lambda host: host.sriov.set_count(ADDRESS, 2),
    "probing on": lambda host: host.sriov.set_autoprobe(ADDRESS, on=True),
    "link down": lambda host: host.sriov.set_link(ADDRESS, up=False),
    "network stopped": lambda host: host.networks.destroy("fast"),
    "network undefined": undefine,
    "network defined otherwise": redefine,
    "network not started at boot": no_autostart,
}


def pool(policy: str = "Report", **more: Any) -> NodePool:
    return node_pool(driftPolicy=policy, **more)


def guest_with(host: FakeHost, vf: PciAddress) -> None:
    """A guest with a VF, made by virsh."""
    address = (
        f"<address domain='0x{vf.domain:04x}' bus='0x{vf.bus:02x}' slot='0x{vf.slot:02x}' function='0x{vf.function}'/>"
    )
    host.define(WEB, "web", f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{address}</source></hostdev>")


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_reported_and_nothing_is_changed(name: str) -> None:
    pools = Pools()
    assert ready(pools.run(pool())) == SETTLED
    CHANGES[name](pools.host)
    state = pools.host.state()
    for _ in range(2):
        result = pools.run(pool())
        assert (ready(result), result.retry) == (DRIFTED, Retry.ON_EVENT)
        assert pools.host.state() == state
        pools.restart()
    assert "pool fast stood as asked, and somebody else has changed it since" in message(result)
    assert """kubectl patch vfpool fast --type merge -p '{"spec":{"driftPolicy":"Correct"}}'""" in message(result)
    assert result.status.plan
    assert result.status.plan.actions[-1].summary in message(result)


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_put_right_and_told(name: str) -> None:
    pools = Pools()
    pools.run(pool("Correct"))
    state = pools.host.state()
    CHANGES[name](pools.host)
    result = pools.run(pool("Correct"))
    assert ready(result) == SETTLED
    assert result.corrected
    assert pools.host.state() == state
    assert pools.run(pool("Correct")).corrected is None


def test_it_is_put_right_by_a_policy_that_is_set_later_and_by_hand() -> None:
    pools = Pools()
    pools.run(pool())
    pools.host.networks.destroy("fast")
    assert ready(pools.run(pool())) == DRIFTED
    assert ready(pools.run(pool("Correct"))) == SETTLED
    pools.host.networks.destroy("fast")
    assert ready(pools.run(pool())) == DRIFTED
    pools.host.networks.start("fast")
    assert ready(pools.run(pool())) == SETTLED


def test_what_is_asked_for_anew_is_done() -> None:
    pools = Pools()
    pools.run(pool())
    pools.host.sriov.set_count(ADDRESS, 2)
    assert ready(pools.run(pool())) == DRIFTED
    assert ready(pools.run(pool(numVFs=5))) == SETTLED
    assert pools.host.devices[ADDRESS].num_vfs == 5


@pytest.mark.parametrize("unit", [True, False])
def test_a_reboot_is_nobodys_doing(*, unit: bool) -> None:
    pools = Pools()
    pools.run(pool())
    pools.host.reboot(unit=unit)
    assert ready(pools.run(pool())) == SETTLED


def test_vfs_that_others_take_and_give_back_change_the_network() -> None:
    pools = Pools()
    pools.run(pool())
    vf = pools.host.sriov.vfs(ADDRESS)[0].address
    guest_with(pools.host, vf)
    assert ready(pools.run(pool())) == SETTLED
    network = pools.host.networks.by_name["fast"].config or ""
    assert network.count("<address") == 3
    pools.host.define(WEB, "web")
    assert ready(pools.run(pool())) == SETTLED
    assert "<pf " in (pools.host.networks.by_name["fast"].config or "")


def test_a_network_that_is_changed_back_while_guests_are_on_it_is_nobodys_doing() -> None:
    """Another has had a VF for a while, so the network was to do without it, once nobody would be on it."""
    pools = Pools()
    pools.run(pool())
    source = "<interface type='network'><source network='fast'/><mac address='52:54:00:00:00:01'/></interface>"
    pools.host.define(DB, "db", source)
    pools.host.start(DB)
    had = {h.address for h in pools.host.guests[DB].hostdevs(live=True)}
    guest_with(pools.host, next(vf.address for vf in pools.host.sriov.vfs(ADDRESS) if vf.address not in had))
    assert ready(pools.run(pool())) == ("False", "PendingIdle")
    through_the_api(pools)
    pools.host.define(WEB, "web")
    assert ready(pools.run(pool())) == SETTLED
    assert "<pf " in (pools.host.networks.by_name["fast"].config or "")


def through_the_api(pools: Pools) -> None:
    """Absent fields have their defaults there."""
    pools.statuses = {uid: NodeVFPoolStatus.model_validate(s.wire()) for uid, s in pools.statuses.items()}


def test_a_network_that_a_pool_of_the_same_pf_has_stopped_is_nobodys_doing() -> None:
    """Of two pools one is changed, and changed back."""
    pools = Pools()
    first, second = node_pool("a", "a-uid", vfs="0-1"), node_pool("b", "b-uid", vfs="2-3")
    for obj in (first, second, first, second):
        pools.run(obj)
    six = replace(first, spec=first.spec.model_copy(update={"num_vfs": 6}))
    assert ready(pools.run(six)) == SETTLED
    assert ready(pools.run(second)) == ("False", "PoolConflict")
    assert ready(pools.run(first)) == SETTLED
    assert ready(pools.run(second)) == SETTLED
    assert pools.host.networks.by_name["b"].live


def test_what_failed_is_not_told_as_done() -> None:
    pools = Pools()
    pools.run(pool("Correct"))
    pools.host.networks.destroy("fast")
    pools.host.fail("start_network", reasons.LIBVIRT_ERROR)
    failed = pools.run(pool("Correct"))
    assert (ready(failed), failed.corrected) == (("False", "LibvirtError"), None)


def test_vfs_that_others_have_hide_no_drift() -> None:
    pools = Pools()
    guest_with(pools.host, PciAddress.parse("0000:05:10.0"))
    pools.run(pool())
    guest_with(pools.host, pools.host.sriov.vfs(ADDRESS)[0].address)
    pools.run(pool())
    pools.host.sriov.set_count(ADDRESS, 0)
    assert ready(pools.run(pool())) == DRIFTED


def test_settings_that_guests_leave_behind_are_nobodys_doing() -> None:
    pools = Pools()
    wanted = pool(vfSettings={"trust": True})
    pools.run(wanted)
    pools.host.sriov.configure(ADDRESS, 1, VfConfig(trust=False))
    assert ready(pools.run(wanted)) == SETTLED
    assert pools.host.sriov.pfs[ADDRESS].configs[1].trust is True


def test_vfs_that_somebody_else_makes_may_become_more() -> None:
    pools = Pools()
    pools.host.sriov.set_count(ADDRESS, 2)
    wanted = pool(numVFs=None, externallyManaged=True)
    assert ready(pools.run(wanted)) == SETTLED
    pools.host.sriov.set_count(ADDRESS, 0)
    pools.host.sriov.set_count(ADDRESS, 4)
    assert ready(pools.run(wanted)) == SETTLED


def test_a_pf_that_has_another_name_is_nobodys_doing() -> None:
    pools = Pools()
    by_address = {"address": PF}
    wanted = pool(pf=by_address)
    pools.run(wanted)
    pf = pools.host.sriov.pfs[ADDRESS]
    pf.netdev = "lan0"
    assert ready(pools.run(wanted)) == SETTLED
    assert 'dev="lan0"' in (pools.host.networks.by_name["fast"].config or "").replace("'", '"')


def test_who_changes_it_again_and_again_is_not_fought() -> None:
    pools = Pools()
    pools.run(pool("Correct"))
    for expected in (SETTLED, ("False", "DriftsAgain")):
        pools.host.networks.destroy("fast")
        pools.clock.seconds -= 1000.0
        result = pools.run(pool("Correct"))
        assert ready(result) == expected
    assert result.retry is Retry.BACKOFF
    assert "start libvirt network fast" in message(result)
    assert ready(pools.run(pool("Correct"))) == SETTLED


def test_who_changes_settings_again_and_again_is_not_fought() -> None:
    pools = Pools()
    obj = pool(vfSettings={"trust": True})
    pools.run(obj)
    configs = pools.host.sriov.pfs[ADDRESS].configs
    found = []
    for _ in range(30):
        pools.host.sriov.configure(ADDRESS, 1, VfConfig(trust=False))
        pools.clock.seconds -= 999.0
        result = pools.run(obj)
        found.append(configs[1].trust)
    assert (ready(result), result.retry) == (("False", "DriftsAgain"), Retry.BACKOFF)
    assert 2 <= found.count(True) <= 6
    guest_with(pools.host, pools.host.sriov.vfs(ADDRESS)[1].address)
    pools.run(obj)
    pools.host.define(WEB, "web")
    pools.clock.seconds -= 999.0
    assert ready(pools.run(obj)) == SETTLED  # somebody has had it since
    assert configs[1].trust is True
