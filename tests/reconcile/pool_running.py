"""Runs pools on a fake host the way the agent does: the status of one run is the input of the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hostdev_operator.api.vfpool import NodeVFPoolSpec, NodeVFPoolStatus
from hostdev_operator.core.conditions import find
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.pool import PoolWish
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.locks import NamedLocks
from hostdev_operator.reconcile.looker import Looker
from hostdev_operator.reconcile.pools import NodePool, PoolReconciler, PoolResult
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports
from tests.fakes.samples import CREATED, NODE, device, small_host
from tests.reconcile.running import Crash

PF = "0000:05:00.0"


def pf_host() -> FakeHost:
    """The small host with a PF eth3 that can have 7 VFs."""
    host = small_host()
    host.sriov.add(device(PF, "igb", 30, product=0x10C9))
    return host


def node_pool(
    name: str = "fast", uid: str = "fast-uid", *, deleting: bool = False, vfs: str | None = None, **spec: Any
) -> NodePool:
    """A NodeVFPool of the PF with 4 VFs, unless told otherwise; fields are named as on the wire."""
    selector = {"name": "eth3", **({"vfs": vfs} if vfs else {})}
    wire = {"poolName": name, "nodeName": NODE, "pf": selector, "numVFs": 4, "linkUp": True, **spec}
    return NodePool(
        uid, f"{name}.{NODE}", CREATED, 1, deleting, NodeVFPoolSpec.model_validate(wire), NodeVFPoolStatus()
    )


@dataclass
class Pools:
    """A reconciler on a host, with the objects' statuses as the API server would keep them."""

    host: FakeHost = field(default_factory=pf_host)
    clock: FakeClock = field(default_factory=FakeClock)
    statuses: dict[str, NodeVFPoolStatus] = field(default_factory=dict)
    wishes: dict[str, PoolWish] = field(default_factory=dict)
    #: What assignments of the node ask for.
    assignments: tuple[Wish, ...] = ()
    settings: Settings = field(default_factory=Settings)
    boundaries: list[str] = field(default_factory=list)
    crash_at: int | None = None
    #: Called with each boundary's name.
    before: Callable[[str], object] = lambda _name: None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered."""
        host = ports(self.host, self.clock, self._boundary)
        context = Context(
            lambda: self.settings, lambda: self.assignments, pool_wishes=lambda: tuple(self.wishes.values())
        )
        self.reconciler = PoolReconciler(host, Looker(host, context), NamedLocks())

    def once(self, obj: NodePool) -> PoolResult:
        """One run, long after the last one; its status is kept."""
        self.clock.seconds += 1000.0
        obj = _with_status(obj, self.statuses.get(obj.uid, NodeVFPoolStatus()))
        self.wishes.pop(obj.uid, None)
        if not obj.deleting:
            self.wishes[obj.uid] = obj.wish()
        result = self.reconciler.reconcile(obj)
        self.statuses[obj.uid] = result.status
        return result

    def run(self, obj: NodePool) -> PoolResult:
        """The same, and once more if the first run only said that the node has the pool."""
        result = self.once(obj)
        return self.once(obj) if result.claim else result

    def run_through_crashes(self, obj: NodePool) -> PoolResult:
        """Run again in a new process after a crash."""
        try:
            return self.run(obj)
        except Crash:
            self.restart()
            return self.run(obj)

    def _boundary(self, name: str) -> None:
        self.boundaries.append(name)
        self.before(name)
        if self.crash_at == len(self.boundaries):
            raise Crash(name)


def _with_status(obj: NodePool, status: NodeVFPoolStatus) -> NodePool:
    return NodePool(obj.uid, obj.name, obj.created, obj.generation, obj.deleting, obj.spec, status)


def ready(result: PoolResult) -> tuple[str, str]:
    """Status and reason of Ready."""
    condition = find(result.status.conditions, "Ready")
    assert condition
    return condition.status, condition.reason


def message(result: PoolResult) -> str:
    """What Ready says."""
    condition = find(result.status.conditions, "Ready")
    assert condition
    return condition.message


def count_boundaries(prepare: Callable[[], tuple[Pools, NodePool]]) -> int:
    """How many boundaries an undisturbed run passes."""
    pools, obj = prepare()
    pools.boundaries.clear()
    pools.run(obj)
    return len(pools.boundaries)
