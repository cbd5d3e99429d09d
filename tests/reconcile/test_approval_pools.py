"""The plan of a pool is shown as a whole, approved as a whole, and carried out step by step."""

from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.api.plan import PlanStatus
from hostdev_operator.core import described
from hostdev_operator.core.conditions import find
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.pools import NodePool, PoolResult
from tests.fakes.samples import NODE
from tests.reconcile.pool_running import PF, Pools, count_boundaries, node_pool, pf_host, ready

WAITS = ("False", "AwaitingApproval")
DONE = ("True", "PoolReady")
SETTINGS: dict[str, Any] = {"vfSettings": {"trust": True, "spoofCheck": False}}


def manual(approved: str | None = None, **more: Any) -> NodePool:
    """The sample pool, which needs approval."""
    return node_pool(approval="Manual", approvedPlan=approved, **more)


def plan(result: PoolResult) -> PlanStatus:
    assert result.status.plan
    return result.status.plan


def actions(result: PoolResult) -> list[str]:
    return [action.action for action in plan(result).actions]


def done(pools: Pools) -> list[str]:
    """The names of all actions that were carried out, in order."""
    began = [name for name in pools.boundaries if name.startswith("pool: before: ")]
    return [name.removeprefix("pool: before: ") for name in began]


def test_nothing_is_changed_before_the_plan_is_approved_not_even_the_status_claims_the_node() -> None:
    pools = Pools()
    result = pools.run(manual(**SETTINGS))
    assert ready(result) == WAITS
    assert not result.claim
    assert result.status.node_name is None
    assert pools.host.calls == []


def test_the_whole_plan_is_shown_with_what_follows_when_the_vfs_are_there() -> None:
    result = Pools().run(manual(**SETTINGS))
    rows = [(a.action, a.summary, a.before, a.after, a.disruption) for a in plan(result).actions]
    assert [row[0] for row in rows] == [
        "WritePoolRecord",
        "SetAutoprobe",
        "SetVfCount",
        "SetLink",
        "ConfigureVf",
        "DefineNetwork",
        "AutostartNetwork",
        "StartNetwork",
    ]
    assert rows[2][1:] == (f"make 4 VFs of {PF}", "0 VFs, none of them in use", "4 VFs", "LinkDown")
    assert rows[4][1:4] == (f"configure VFs 0-3 of {PF}", "not known", "trust true, spoof check false")
    assert rows[5][3] == f"defined: all VFs of PF eth3 ({PF})"


def test_the_message_approves_for_this_node_alone() -> None:
    result = Pools().run(manual())
    condition = find(result.status.conditions, "Planned")
    assert condition
    patch = f'{{"spec":{{"approvedPlans":{{"{NODE}":"{plan(result).hash}"}}}}}}'
    assert f"kubectl patch vfpool fast --type merge -p '{patch}'" in condition.message


@pytest.mark.parametrize(
    "spec",
    [
        {},
        SETTINGS,
        {"vfs": "1-2", **SETTINGS},
        {"bindHostDriver": True, "linkUp": True},
        {"network": {"name": "lan", "vlan": 7, "portgroups": [{"name": "a", "vlan": 3, "default": True}]}},
    ],
)
def test_one_approval_is_enough_for_all_steps_and_what_was_foreseen_is_what_is_done(spec: dict[str, Any]) -> None:
    pools = Pools()
    waiting = pools.run(manual(**spec))
    result = pools.run(manual(plan(waiting).hash, **spec))
    assert ready(result) == DONE
    assert len(done(pools)) > len(plan(waiting).actions) - 1
    assert plan(result).actions == plan(waiting).actions, "status.plan is the whole of it, not its last step"
    automatic = Pools(host=pf_host())
    automatic.run(node_pool(**spec))
    assert done(automatic) == done(pools)


def test_changed_while_it_stands_it_waits_for_a_new_approval() -> None:
    pools = Pools()
    first = plan(pools.run(manual())).hash
    assert ready(pools.run(manual(first))) == DONE
    pools.host.calls.clear()
    result = pools.run(manual(first, numVFs=6))
    assert ready(result) == WAITS
    assert pools.host.calls == []
    assert actions(result)[:3] == ["WritePoolRecord", "StopNetwork", "SetVfCount"]
    assert ready(pools.run(manual(plan(result).hash, numVFs=6))) == DONE
    assert len(pools.host.sriov.vfs(PciAddress.parse(PF))) == 6


def boundaries() -> int:
    def prepared() -> tuple[Pools, NodePool]:
        pools = Pools()
        return pools, manual(plan(pools.run(manual(**SETTINGS))).hash, **SETTINGS)

    return count_boundaries(prepared)


@pytest.mark.parametrize("boundary", range(2, boundaries() + 1))
def test_after_a_crash_what_is_left_needs_no_approval(boundary: int) -> None:
    pools = Pools()
    approved = manual(plan(pools.run(manual(**SETTINGS))).hash, **SETTINGS)
    pools.crash_at = boundary
    assert ready(pools.run_through_crashes(approved)) == DONE
    taken_back = pools.run(manual(**SETTINGS))
    assert ready(taken_back) == DONE


def test_a_repair_waits_and_no_approval_is_good_twice() -> None:
    pools = Pools()
    first = plan(pools.run(manual())).hash
    pools.run(manual(first))
    pools.host.sriov.set_link(PciAddress.parse(PF), up=False)
    result = pools.run(manual(first))
    assert (ready(result), actions(result)) == (("False", "Drifted"), ["SetLink"])
    repair = plan(result).hash
    assert ready(pools.run(manual(repair))) == DONE
    pools.host.sriov.set_link(PciAddress.parse(PF), up=False)
    assert ready(pools.run(manual(repair))) == ("False", "Drifted")


def test_a_deletion_needs_no_approval() -> None:
    pools = Pools()
    before = pools.host.state()
    pools.run(manual(plan(pools.run(manual())).hash))
    assert pools.run(manual(deleting=True)).released
    assert pools.host.state() == before
    assert pools.host.approvals == {}


def test_the_host_can_ask_for_approval() -> None:
    pools = Pools(settings=Settings(manual=True))
    result = pools.run(node_pool())
    assert ready(result) == WAITS
    assert ready(pools.run(node_pool(approvedPlan=plan(result).hash))) == DONE


def test_a_plan_of_very_many_actions_says_that_there_are_more() -> None:
    steps = [described.Step("StopNetwork", f"stop {n}", keys=(str(n),)) for n in range(300)]
    rows = described.described(steps).actions()
    assert len(rows) == 256
    assert rows[-1].summary == "and 45 more actions"
    other = described.described([*steps[:-1], described.Step("StopNetwork", "stop x", keys=("x",))])
    assert other.hash("n1", 0) != described.described(steps).hash("n1", 0), "the hash is over all of them"
