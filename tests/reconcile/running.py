"""Runs the engine on a fake host the way the agent does: the status of one run is the input of the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hostdev_operator.api.deviceassignment import DeviceAssignmentStatus
from hostdev_operator.core.conditions import find
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.pool import PoolWish
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.assignment import AssignmentReconciler
from hostdev_operator.reconcile.bound import Assignment, Result
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.looker import Looker
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports


class Crash(Exception):  # noqa: N818 - no error of the product
    """The process ends here."""


@dataclass
class Engine:
    """A reconciler on a host, with the objects' statuses as the API server would keep them."""

    host: FakeHost
    clock: FakeClock = field(default_factory=FakeClock)
    statuses: dict[str, DeviceAssignmentStatus] = field(default_factory=dict)
    boundaries: list[str] = field(default_factory=list)
    crash_at: int | None = None
    settings: Settings = field(default_factory=Settings)
    #: What the agent would say of all assignments that are not being deleted.
    wishes: dict[str, Wish] = field(default_factory=dict)
    pool_wishes: tuple[PoolWish, ...] = ()

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered."""
        host = ports(self.host, self.clock, self._boundary)
        context = Context(
            lambda: self.settings, lambda: tuple(self.wishes.values()), pool_wishes=lambda: self.pool_wishes
        )
        self.reconciler = AssignmentReconciler(host, Looker(host, context))

    def run(self, obj: Assignment) -> Result:
        """One run, long after the last one; its status is kept."""
        self.clock.seconds += 1000.0
        known = self.statuses.get(obj.uid)
        if known:
            binding = {"node_name": obj.status.node_name, "domain_uuid": obj.status.domain_uuid}
            obj = replace(obj, status=known.model_copy(update=binding))
        self.wishes.pop(obj.uid, None)
        if not obj.deleting:
            self.wishes[obj.uid] = obj.wish()
        result = self.reconciler.reconcile(obj)
        if result.released:
            self.statuses.pop(obj.uid, None)
            self.reconciler.forget(obj.uid)
        else:
            self.statuses[obj.uid] = result.status
        return result

    def run_through_crashes(self, obj: Assignment) -> Result:
        """Run again in a new process after a crash."""
        try:
            return self.run(obj)
        except Crash:
            self.restart()
            return self.run(obj)

    def _boundary(self, name: str) -> None:
        self.boundaries.append(name)
        if self.crash_at == len(self.boundaries):
            raise Crash(name)


def without_plan(result: Result) -> Result:
    """All but status.plan, which is of the last run that had something to do: after a crash, of what was left."""
    return replace(result, status=result.status.model_copy(update={"plan": None}))


def ready(result: Result) -> tuple[str, str]:
    """Status and reason of the condition Ready."""
    condition = find(result.status.conditions, "Ready")
    assert condition
    return condition.status, condition.reason


def count_boundaries(prepare: Callable[[], tuple[Engine, Assignment]]) -> int:
    """How many boundaries an undisturbed run passes."""
    engine, obj = prepare()
    engine.boundaries.clear()
    engine.run(obj)
    return len(engine.boundaries)


def attached(result: Result) -> tuple[str, str]:
    """Status and reason of the condition Attached."""
    condition = find(result.status.conditions, "Attached")
    assert condition
    return condition.status, condition.reason


def message(result: Result) -> str:
    """What Ready says."""
    condition = find(result.status.conditions, "Ready")
    assert condition
    return condition.message


def asked(host: FakeHost) -> list[str]:
    """From now on: every request to a running guest, whether it was followed or not."""
    requests: list[str] = []

    def note(call: str) -> None:
        if call.startswith(("plug_", "unplug_")):
            requests.append(call)

    host.hook = note
    return requests
