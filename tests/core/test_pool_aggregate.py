from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostdev_operator.api.common import Condition
from hostdev_operator.api.vfpool import VfCounts, VFPoolStatus
from hostdev_operator.core.pool_aggregate import aggregate
from hostdev_operator.core.pool_binding import NodePool, Nodes
from tests.core.test_pool_binding import NODES, RACK, node_pool, pool


def told(node: str, *, reason: str | None = None, seen: int = 1, **changes: Any) -> NodePool:
    """As its agent reports it; ready, unless a reason is given."""
    ready = Condition(
        type="Ready",
        status="False" if reason else "True",
        reason=reason or "Ready",
        message=f"why {node} is not ready" if reason else "",
        observed_generation=seen,
    )
    counts = VfCounts(total=7, allocated=2, free=5)
    return node_pool(node, **{"ready": ready, "counts": counts, **changes})


def ready(status: VFPoolStatus) -> tuple[str, str]:
    (one,) = status.conditions
    assert one.type == "Ready"
    return one.status, one.reason


def test_a_pool_is_ready_when_all_its_nodes_are() -> None:
    status = aggregate(pool(), [told("n1"), told("n2"), told("n3")], NODES)
    assert ready(status) == ("True", "AllNodesReady")
    assert (status.nodes, status.nodes_ready, status.observed_generation) == (3, 3, 1)
    assert status.counts == VfCounts(total=21, allocated=6, free=15)


def test_the_first_node_that_fails_is_named_before_those_that_wait() -> None:
    rows = [told("n1", seen=0), told("n2", reason="PFDown"), told("n3", reason="VFsInUse")]
    status = aggregate(pool(), rows, NODES)
    assert ready(status) == ("False", "PFDown")
    assert status.conditions[0].message == "node n2 (and 2 more of 3 nodes): why n2 is not ready"
    assert (status.nodes, status.nodes_ready) == (3, 0)


def test_a_node_that_has_not_told_of_the_newest_wish_is_not_ready() -> None:
    nodes = Nodes(frozenset({"n1"}))
    for rows in ([], [told("n1", ready=None)], [replace(told("n1"), generation=2)]):
        status = aggregate(pool(), rows, nodes)
        assert ready(status) == ("False", "Pending")
        assert (status.nodes, status.nodes_ready) == (1, 0)
        assert status.conditions[0].message.startswith("node n1: ")


def test_a_pool_that_selects_nothing_says_so_with_its_labels() -> None:
    status = aggregate(pool(selector={"rack": "r9"}), [], NODES)
    assert ready(status) == ("False", "NoNodes")
    assert "rack=r9" in status.conditions[0].message
    assert (status.nodes, status.nodes_ready, status.counts) == (0, 0, None)
    assert "agent" in aggregate(pool(), [], Nodes()).conditions[0].message


def test_a_node_whose_agent_is_gone_is_told_and_its_vfs_still_count() -> None:
    status = aggregate(pool(selector=RACK), [told("n1"), told("n3"), told("n4")], NODES)
    assert ready(status) == ("False", "NodeNotFound")
    assert "node n4: no agent" in status.conditions[0].message
    assert (status.nodes, status.nodes_ready) == (3, 2)
    assert status.counts == VfCounts(total=21, allocated=6, free=15)


def test_a_node_that_is_no_longer_selected_does_not_count() -> None:
    status = aggregate(pool(selector=RACK), [told("n1"), told("n2", deleting=True), told("n3")], NODES)
    assert ready(status) == ("True", "AllNodesReady")
    assert status.nodes == 2


def test_a_node_whose_pool_was_deleted_by_hand_is_not_ready() -> None:
    status = aggregate(pool(), [told("n1", deleting=True), told("n2"), told("n3")], NODES)
    assert ready(status) == ("False", "Pending")


def test_of_two_for_one_node_the_controllers_own_counts() -> None:
    rows = [told("n1"), told("n1", name="lan.by-hand", uid="x", reason="PoolConflict")]
    status = aggregate(pool(), rows, Nodes(frozenset({"n1"})))
    assert ready(status) == ("True", "AllNodesReady")
    assert status.counts == VfCounts(total=7, allocated=2, free=5)


def test_a_pool_that_is_being_deleted_waits_for_the_nodes_that_still_have_it() -> None:
    gone = Nodes()
    rows = [told("n2", reason="PoolInUse", deleting=True, held=True)]
    status = aggregate(pool(deleting=True), rows, NODES)
    assert ready(status) == ("False", "PoolInUse")
    assert (status.nodes, status.conditions[0].message) == (1, "node n2: why n2 is not ready")
    assert ready(aggregate(pool(deleting=True), rows, gone)) == ("False", "NodeNotFound")
    assert ready(aggregate(pool(deleting=True), [], NODES)) == ("False", "NoNodes")
