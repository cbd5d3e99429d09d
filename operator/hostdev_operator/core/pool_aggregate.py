"""A VFPool's status: the NodeVFPools of all its nodes in one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..api.common import Condition
from ..api.vfpool import VfCounts, VFPoolStatus
from . import reasons
from .conditions import READY, condition
from .pool_binding import NodePool, Nodes, Pool, node_pool_name

#: Reasons of Ready that are no faults, so that the catalogue of reasons does not have them.
ALL_NODES_READY, NO_NODES, PENDING = "AllNodesReady", "NoNodes", "Pending"


@dataclass(frozen=True)
class _Row:
    """One node. ``reason`` and ``message`` say why it is not ready; None: it is."""

    node: str
    reason: str | None = None
    message: str = ""


def aggregate(pool: Pool, existing: Iterable[NodePool], nodes: Nodes) -> VFPoolStatus:
    """The status, its condition without its time; ``existing`` are all NodeVFPools that name the pool.

    Of a pool that is being deleted, the nodes are those that have not given back yet.
    """
    selector = pool.spec.node_selector
    by_node = {found.spec.node_name: found for found in sorted(existing, key=_is_ours) if found.spec is not None}
    if pool.deleting:
        names = sorted(by_node)
    else:
        left_alone = {node for node in by_node if nodes.selects(selector, node) is None}
        names = sorted({*nodes.selected(selector), *left_alone})
    found = {node: by_node.get(node) for node in names}
    rows = [_row(node, one, nodes) for node, one in found.items()]
    return VFPoolStatus(
        observed_generation=pool.generation,
        nodes=len(rows),
        nodes_ready=sum(row.reason is None for row in rows),
        counts=_sum([one.counts for one in found.values() if one is not None and one.counts is not None]),
        conditions=(_ready(pool, rows),),
    )


def _is_ours(found: NodePool) -> bool:
    """Whether the name is the one that the controller gives; another of the same node is about to be deleted."""
    return found.spec is not None and found.name == node_pool_name(found.spec.pool_name, found.spec.node_name)


def _sum(counts: list[VfCounts]) -> VfCounts | None:
    if not counts:
        return None
    return VfCounts(
        total=sum(c.total for c in counts), allocated=sum(c.allocated for c in counts), free=sum(c.free for c in counts)
    )


def _row(node: str, found: NodePool | None, nodes: Nodes) -> _Row:
    if node not in nodes.agents:
        return _Row(
            node,
            str(reasons.NODE_NOT_FOUND),
            "no agent reports it any more (kubectl get devicehost); what the pool has there stays as it is",
        )
    if found is None:
        return _Row(node, PENDING, "its NodeVFPool is about to be made")
    if node in nodes.missing:
        return _Row(node, reasons.NODE_GONE.name, nodes.missing[node])
    ready = found.ready
    if ready is None or ready.observed_generation not in (None, found.generation):
        return _Row(node, PENDING, "its agent has not told yet what became of the newest wish")
    if ready.status != "True":
        return _Row(node, ready.reason, ready.message)
    return _Row(node, PENDING, "its NodeVFPool is being deleted") if found.deleting else _Row(node)


def _ready(pool: Pool, rows: list[_Row]) -> Condition:
    """False as long as one node is not ready; its message names the first that fails, else the first that waits."""
    if not rows:
        return condition(READY, False, NO_NODES, _no_nodes(pool))
    waiting = sorted((r for r in rows if r.reason is not None), key=lambda r: (r.reason == PENDING, r.node))
    if not waiting:
        return condition(READY, True, ALL_NODES_READY, f"ready on {_nodes(len(rows))}")
    first = waiting[0]
    more = f" (and {len(waiting) - 1} more of {_nodes(len(rows))})" if len(waiting) > 1 else ""
    return condition(READY, False, first.reason, f"node {first.node}{more}: {first.message}")


def _no_nodes(pool: Pool) -> str:
    if pool.deleting:
        return "it is being deleted, and no node has it any more"
    selector = pool.spec.node_selector
    if not selector:
        return "no node has an agent yet (kubectl get devicehost)"
    labels = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return f"no node with an agent (kubectl get devicehost) has the labels {labels}; label one, or change nodeSelector"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
