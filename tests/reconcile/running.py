"""Runs the engine on a fake host the way the agent does: the status of one run is the input of the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hostdev_operator.api.deviceassignment import DeviceAssignmentStatus
from hostdev_operator.core.conditions import find
from hostdev_operator.reconcile.assignment import Assignment, AssignmentReconciler, Result
from tests.fakes.host import FakeHost
from tests.fakes.ports import FakeClock, ports


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

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered."""
        self.reconciler = AssignmentReconciler(ports(self.host, self.clock, self._boundary))

    def run(self, obj: Assignment) -> Result:
        """One run, long after the last one; its status is kept."""
        self.clock.seconds += 1000.0
        known = self.statuses.get(obj.uid)
        if known:
            binding = {"node_name": obj.status.node_name, "domain_uuid": obj.status.domain_uuid}
            obj = replace(obj, status=known.model_copy(update=binding))
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
