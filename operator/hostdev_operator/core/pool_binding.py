"""Which nodes have a pool, and what becomes of its NodeVFPools: the controller's decisions on VFPools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from ..api import API_VERSION
from ..api.common import Condition
from ..api.vfpool import (
    POOL_FINALIZER,
    NodePoolSettings,
    NodeVFPoolSpec,
    VfCounts,
    VFPoolSpec,
    VFPoolStatus,
)

_SETTINGS = tuple(NodePoolSettings.model_fields)
#: The limit of an object's name (RFC 1123 subdomain).
_NAME_LIMIT = 253
#: Hexadecimal digits of the hash that stands for a longer one.
_HASH_LENGTH = 40


@dataclass(frozen=True)
class Pool:
    """A VFPool."""

    uid: str
    name: str
    generation: int
    spec: VFPoolSpec
    status: VFPoolStatus = VFPoolStatus()  # noqa: RUF009 - frozen
    deleting: bool = False
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodePool:
    """A NodeVFPool, as far as the controller looks at it.

    ``spec`` is None if it cannot be read; ``owner`` is the UID of the VFPool in its ownerReferences; ``held`` says
    whether an agent has begun with it and not given it back; ``ready`` is its condition Ready.
    """

    uid: str
    name: str
    generation: int
    spec: NodeVFPoolSpec | None
    owner: str | None = None
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    held: bool = False
    ready: Condition | None = None
    counts: VfCounts | None = None

    def without_report(self) -> NodePool:
        """What is to be done with it depends on this alone; the rest is for the pool's status."""
        return replace(self, ready=None, counts=None, held=self.held and self.deleting)


@dataclass(frozen=True)
class Nodes:
    """The cluster's nodes: those with an agent, which are those with a DeviceHost, and the labels of the known ones.

    ``gone``: those that are gone for good, none of which are in ``agents``. ``overdue``: those of which nothing was
    heard for very long (core/gone.py). ``missing``: what is to be said of those without a Node object.
    """

    agents: frozenset[str] = frozenset()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    overdue: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)

    def selects(self, selector: Mapping[str, str], node: str) -> bool | None:
        """Whether the node has the pool; None if its agent or its labels are not there to tell.

        A node whose DeviceHost or Node object is away, perhaps for a moment, is no reason to give its VFs back.
        """
        if node in self.gone:
            return False
        labels = self.labels.get(node)
        if selector and labels is not None and any(labels.get(key) != value for key, value in selector.items()):
            return False
        known = node in self.agents and (not selector or labels is not None)
        return True if known else None

    def selected(self, selector: Mapping[str, str]) -> tuple[str, ...]:
        """The nodes that have the pool, in order."""
        return tuple(node for node in sorted(self.agents) if self.selects(selector, node))


@dataclass(frozen=True)
class Make:
    """Create the NodeVFPool of a node."""

    manifest: dict[str, Any]


@dataclass(frozen=True)
class Correct:
    """Make a NodeVFPool's spec, owner and finalizer as the manifest has them."""

    uid: str
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Remove:
    """Delete a NodeVFPool: its agent gives back, then it can go."""

    uid: str


@dataclass(frozen=True)
class LetGo:
    """Take our finalizer from a NodeVFPool that is being deleted and that no agent has."""

    uid: str
    finalizers: tuple[str, ...]


Step = Make | Correct | Remove | LetGo


def node_pool_name(pool: str, node: str) -> str:
    """``<pool>.<node>``; where that is longer than a name may be, a hash stands for both behind the pool's name.

    A pool's name has no dot (the CRD's rule), so no two pairs have the same one.
    """
    name = f"{pool}.{node}"
    if len(name) <= _NAME_LIMIT:
        return name
    return f"{pool}.{sha256(name.encode()).hexdigest()[:_HASH_LENGTH]}"


def spec_for(pool: Pool, node: str) -> NodeVFPoolSpec:
    """What the pool asks of the node."""
    settings = {name: getattr(pool.spec, name) for name in _SETTINGS}
    approved = pool.spec.approved_plans.get(node)
    return NodeVFPoolSpec(**settings, pool_name=pool.name, node_name=node, approved_plan=approved)


def manifest(pool: Pool, node: str) -> dict[str, Any]:
    """The NodeVFPool as it is created."""
    owner = {"apiVersion": API_VERSION, "kind": "VFPool", "name": pool.name, "uid": pool.uid, "controller": True}
    return {
        "apiVersion": API_VERSION,
        "kind": "NodeVFPool",
        "metadata": {
            "name": node_pool_name(pool.name, node),
            "finalizers": [POOL_FINALIZER],
            "ownerReferences": [owner],
        },
        "spec": spec_for(pool, node).wire(),
    }


def steps(pool: Pool | None, existing: Iterable[NodePool], nodes: Nodes) -> tuple[Step, ...]:
    """What is to be done with the NodeVFPools of one pool; ``existing`` are all that name it. None: there is no pool.

    One that is being deleted is waited for, whatever is wanted: it is made anew when it is gone.
    """
    there = tuple(existing)
    names = {found.name for found in there}
    wanted = nodes.selected(pool.spec.node_selector) if pool is not None and not pool.deleting else ()
    made = (Make(manifest(pool, node)) for node in wanted if pool and node_pool_name(pool.name, node) not in names)
    return (*(step for found in there if (step := _step(pool, found, nodes)) is not None), *made)


def _step(pool: Pool | None, found: NodePool, nodes: Nodes) -> Step | None:
    if policy := _policy(pool, found):
        return policy
    if found.deleting:
        ours = POOL_FINALIZER in found.finalizers
        rest = tuple(f for f in found.finalizers if f != POOL_FINALIZER)
        return LetGo(found.uid, rest) if ours and (not found.held or _is_lost(found, nodes)) else None
    if pool is None or pool.deleting or found.spec is None:
        return Remove(found.uid)
    node = found.spec.node_name
    if (
        found.name != node_pool_name(pool.name, node)
        or nodes.selects(pool.spec.node_selector, node) is False
        or not _can_become(found.spec, pool.spec)
    ):
        return Remove(found.uid)
    if _is_as(found.spec, pool) and found.owner == pool.uid and POOL_FINALIZER in found.finalizers:
        return None
    return Correct(found.uid, manifest(pool, node))


def _is_lost(found: NodePool, nodes: Nodes) -> bool:
    """Whether nobody is left to give it back. An overdue agent that has answered the deletion was there then."""
    if found.spec is None or found.spec.node_name in nodes.gone:
        return found.spec is not None
    answered = found.ready is not None and found.ready.observed_generation == found.generation
    return found.spec.node_name in nodes.overdue and not answered


def _policy(pool: Pool | None, found: NodePool) -> Correct | None:
    """Whether it is kept or returned can be changed until it is gone, so that comes before a deletion."""
    if pool is None or found.spec is None or found.owner != pool.uid or POOL_FINALIZER not in found.finalizers:
        return None
    if found.spec.release_policy == pool.spec.release_policy or (found.deleting and not found.held):
        return None
    spec = found.spec.model_copy(update={"release_policy": pool.spec.release_policy})
    made = manifest(pool, spec.node_name)
    return Correct(found.uid, {**made, "metadata": {**made["metadata"], "name": found.name}, "spec": spec.wire()})


def _is_as(spec: NodeVFPoolSpec, pool: Pool) -> bool:
    """Whether it is what the pool asks of its node. There are many nodes, so no spec is made to compare with."""
    if spec.pool_name != pool.name or spec.approved_plan != pool.spec.approved_plans.get(spec.node_name):
        return False
    return all(getattr(spec, name) == getattr(pool.spec, name) for name in _SETTINGS)


def _can_become(spec: NodePoolSettings, wanted: NodePoolSettings) -> bool:
    """Whether the API server lets the one be changed into the other: not if it is another PF, or another network."""
    return spec.pf == wanted.pf and spec.network.name == wanted.network.name
