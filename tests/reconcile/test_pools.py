"""Pools on the fake host: made, kept, given back, whatever happens in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Retry
from hostdev_operator.core.record import Member, Record
from hostdev_operator.core.settings import Settings
from tests.fakes.samples import NODE, UID, WEB
from tests.reconcile.pool_running import PF, Pools, count_boundaries, message, node_pool, ready

ADDRESS = PciAddress.parse(PF)


def deleted(pools: Pools) -> None:
    result = pools.run(node_pool(deleting=True))
    assert result.released, message(result)


def test_a_pool_is_claimed_made_and_given_back() -> None:
    pools = Pools()
    before = pools.host.state()
    first = pools.once(node_pool())
    assert first.claim
    assert first.status.node_name == NODE
    assert pools.host.state() == before  # nothing before the API server knows
    result = pools.once(node_pool())
    assert ready(result) == ("True", "PoolReady")
    assert result.status.counts
    assert (result.status.counts.total, result.status.counts.free) == (4, 4)
    assert result.status.network
    assert (result.status.network.active, result.status.network.autostart) == (True, True)
    assert pools.host.sriov.pfs[ADDRESS].autoprobe is False
    assert not pools.run(node_pool()).claim
    deleted(pools)
    assert pools.host.state() == before


def test_a_second_run_changes_nothing() -> None:
    pools = Pools()
    first = pools.run(node_pool())
    pools.boundaries.clear()
    assert pools.run(node_pool()).status == first.status
    assert pools.boundaries == []


@pytest.mark.parametrize("at", range(1, 1 + count_boundaries(lambda: (Pools(), node_pool()))))
def test_a_crash_at_any_boundary_of_making_ends_as_if_there_was_none(at: int) -> None:
    undisturbed = Pools()
    undisturbed.run(node_pool())
    pools = Pools()
    before = pools.host.state()
    pools.crash_at = at
    assert ready(pools.run_through_crashes(node_pool())) == ("True", "PoolReady")
    assert pools.host.state() == undisturbed.host.state()
    pools.crash_at = None
    deleted(pools)
    assert pools.host.state() == before


def made() -> Pools:
    pools = Pools()
    pools.run(node_pool())
    pools.boundaries.clear()
    return pools


@pytest.mark.parametrize("at", range(1, 1 + count_boundaries(lambda: (made(), node_pool(deleting=True)))))
def test_a_crash_at_any_boundary_of_giving_back_ends_as_if_there_was_none(at: int) -> None:
    before = Pools().host.state()
    pools = made()
    pools.crash_at = at
    assert pools.run_through_crashes(node_pool(deleting=True)).released
    assert pools.host.state() == before


def test_a_failure_is_told_kept_and_not_tried_at_every_event() -> None:
    pools = Pools()
    pools.host.fail("start_network", reasons.LIBVIRT_ERROR, "internal error: no luck", times=99)
    result = pools.run(node_pool())
    assert ready(result) == ("False", "LibvirtError")
    assert result.retry is Retry.BACKOFF
    assert len(pools.host.sriov.vfs(ADDRESS)) == 4  # it goes on from there
    pools.host.heal()
    assert ready(pools.run(node_pool())) == ("True", "PoolReady")


def test_a_pool_whose_guest_runs_waits_with_its_deletion() -> None:
    pools = Pools()
    pools.run(node_pool())
    pools.host.undefine(WEB)
    pools.host.define(WEB, "web", "<interface type='network'><source network='fast'/></interface>")
    pools.host.start(WEB)
    result = pools.run(node_pool(deleting=True))
    assert ready(result) == ("False", "PoolInUse")
    assert "web" in message(result)
    assert len(pools.host.sriov.vfs(ADDRESS)) == 4
    pools.host.stop(WEB)
    pools.host.undefine(WEB)
    deleted(pools)


def test_a_paused_node_is_not_touched() -> None:
    pools = Pools(settings=Settings(paused=True))
    before = pools.host.state()
    assert ready(pools.run(node_pool())) == ("False", "Paused")
    assert pools.host.state() == before


def test_a_lost_journal_is_taken_from_the_status() -> None:
    pools = Pools()
    before = pools.host.state()
    pools.run(node_pool())
    pools.host.pool_records.clear()
    pools.restart()
    deleted(pools)
    assert pools.host.state() == before


def test_without_libvirt_the_old_status_stays_with_the_trouble() -> None:
    pools = Pools()
    good = pools.run(node_pool()).status
    pools.host.down = True
    result = pools.run(node_pool())
    assert ready(result) == ("False", "LibvirtUnavailable")
    assert result.status.vfs == good.vfs
    pools.host.down = False
    assert ready(pools.run(node_pool())) == ("True", "PoolReady")


def test_a_setting_that_the_driver_refuses_is_named() -> None:
    pools = Pools()
    pools.host.sriov.pfs[ADDRESS].rejects.add("trust")
    result = pools.run(node_pool(vfSettings={"trust": True}))
    assert ready(result) == ("False", "VFConfigRejected")
    assert "trust" in message(result)
    result = pools.run(replace(node_pool(vfSettings={"spoofCheck": False}), generation=2))
    assert ready(result) == ("True", "PoolReady")
    assert all(config.spoof_check is False for config in pools.host.sriov.pfs[ADDRESS].configs.values())


def test_vfs_and_network_come_back_after_a_reboot() -> None:
    for unit in (True, False):
        pools = Pools()
        pools.run(node_pool())
        pools.host.reboot(unit=unit)
        pools.restart()
        assert ready(pools.run(node_pool())) == ("True", "PoolReady")
        assert len(pools.host.sriov.vfs(ADDRESS)) == 4


def test_a_guest_that_starts_in_between_keeps_its_vf() -> None:
    pools = Pools()
    pools.run(node_pool())
    pools.host.undefine(WEB)
    pools.host.define(WEB, "web", "<interface type='network'><source network='fast'/></interface>")

    before = [vf.address for vf in pools.host.sriov.vfs(ADDRESS)]
    pools.before = lambda name: pools.host.start(WEB) if "before: stop network" in name else None
    result = pools.run(replace(node_pool(numVFs=2), generation=2))
    assert ready(result)[0] == "False"
    assert [vf.address for vf in pools.host.sriov.vfs(ADDRESS)] == before
    assert pools.host.networks.by_name["fast"].connections == 1


def test_a_network_that_is_undefined_while_it_is_started_is_made_again() -> None:
    pools = Pools()
    pools.run(node_pool(driftPolicy="Correct"))
    network = pools.host.networks.by_name["fast"]
    network.live = None
    pools.before = lambda name: pools.host.networks.clear() if "before: start network" in name else None
    assert ready(pools.run(node_pool(driftPolicy="Correct"))) == ("False", "PoolNotFound")
    pools.before = lambda _name: None
    assert ready(pools.run(node_pool(driftPolicy="Correct"))) == ("True", "PoolReady")


def test_a_step_that_met_a_changing_host_is_tried_again_soon() -> None:
    """It was held back for ever, and looked at each second, while nothing else changed."""
    pools = Pools()
    pools.host.fail("define_network", reasons.HOST_CHANGED)
    first = pools.run(node_pool())
    assert (ready(first), first.retry) == (("False", "HostChanged"), Retry.SOON)
    assert ready(pools.run(node_pool())) == ("True", "PoolReady")


def test_a_pool_that_has_a_record_says_so_to_an_api_server_that_was_restored() -> None:
    """Else the controller would let the object go, and nothing would be given back."""
    pools = Pools()
    pools.run(node_pool())
    pools.statuses.clear()
    pools.restart()
    first = pools.once(node_pool())
    assert (first.claim, first.status.node_name) == (True, NODE)
    assert ready(pools.once(node_pool())) == ("True", "PoolReady")


def test_a_pool_that_is_refused_now_says_so_as_well() -> None:
    pools = Pools()
    pools.run(node_pool())
    pools.statuses.clear()
    pools.restart()
    assert pools.once(node_pool(numVFs=99)).claim


def with_vfs_that_lost_their_drivers() -> Pools:
    """4 VFs with drivers were there before the pool; while it is there, a guest had two of them."""
    pools = Pools()
    pools.host.sriov.set_count(ADDRESS, 4)
    pools.run(node_pool())
    for vf in pools.host.sriov.vfs(ADDRESS)[:2]:
        pools.host.bind(vf.address, None)
    return pools


def test_vfs_that_lost_their_drivers_meanwhile_get_them_back() -> None:
    pools = with_vfs_that_lost_their_drivers()
    deleted(pools)
    assert [vf.driver for vf in pools.host.sriov.vfs(ADDRESS)] == ["igbvf"] * 4


def test_a_vf_that_somebody_has_by_now_is_not_returned_to_the_host() -> None:
    pools = with_vfs_that_lost_their_drivers()
    first, second = (vf.address for vf in pools.host.sriov.vfs(ADDRESS)[:2])

    def take(name: str) -> None:
        if f"before: give {first} back" in name:
            pools.host.bind(first, VFIO_DRIVER)
        if f"before: give {second} back" in name:
            device = pools.host.devices[second]
            member = Member(second, device.identity, None)
            taken = Record(UID, "default", "other", second, None, None, managed=False, members=(member,))
            pools.host.records[UID] = taken.to_json()

    pools.before = take
    deleted(pools)
    assert [vf.driver for vf in pools.host.sriov.vfs(ADDRESS)] == [VFIO_DRIVER, None, "igbvf", "igbvf"]
    assert not [call for call in pools.host.calls if call.startswith("reattach_driver")]


def test_a_vf_that_does_not_come_back_keeps_the_record() -> None:
    pools = with_vfs_that_lost_their_drivers()
    pools.host.fail("reattach_driver", reasons.REATTACH_BLOCKED)
    result = pools.run(node_pool(deleting=True))
    assert (ready(result), result.retry, result.released) == (("False", "ReattachBlocked"), Retry.BACKOFF, False)
    assert pools.host.pool_records
    deleted(pools)
    assert [vf.driver for vf in pools.host.sriov.vfs(ADDRESS)] == ["igbvf"] * 4
