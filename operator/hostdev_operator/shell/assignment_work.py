"""The agent's work on DeviceAssignments: bodies in, status and events out. Runs in the event loop."""

from __future__ import annotations

import asyncio
import contextlib

from ..api.deviceassignment import DeviceAssignmentStatus
from ..core import conditions
from ..core.intent import Wish
from ..core.reasons import Retry
from ..ports import Body, Cluster, Host
from ..reconcile.assignment import AssignmentReconciler
from ..reconcile.bound import Assignment, Result
from .objects import parse
from .watched import Watched, condition, is_deleting
from .work import Calls, Work

#: What a release clears of an assignment's status: the binding, and what stood in guest and journal, and as asked.
_GIVEN_BACK = ("nodeName", "record", "guest", "settled")


class AssignmentWork(Work[Assignment]):
    """Of the assignments that are bound to a node."""

    def __init__(self, node: str, host: Host, cluster: Cluster, reconciler: AssignmentReconciler, calls: Calls) -> None:
        super().__init__(host, cluster, Watched("DeviceAssignment", cluster, lambda b: _node(b) == node, parse), calls)
        self._reconciler = reconciler

    def wishes(self) -> tuple[Wish, ...]:
        """Of all assignments that are not being deleted; one that makes no sense wants nothing.

        One whose plan was tried and failed stands in nobody's way, however old it is.
        """
        found = []
        for body in self.objects.bodies():
            if not is_deleting(body) and not _has_failed(body):
                with contextlib.suppress(ValueError):
                    found.append(self.objects.parsed(body).wish())
        return tuple(found)

    def _take_up(self, obj: Assignment) -> None:
        self._reconciler.take_up_record(obj)

    def _forget(self, uid: str) -> None:
        self._reconciler.forget(uid)

    async def _run(self, body: Body) -> Retry:
        obj = parse(body)
        result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        await self._report(body, obj, result)
        return result.retry

    async def _report(self, body: Body, obj: Assignment, result: Result) -> None:
        if result.released:
            kept = obj.spec.release_policy == "Keep"
            text = "guest, drivers and VF stay as they are" if kept else "the device and its group are given back"
            await self._cleared(body, _GIVEN_BACK, "release: cleared")
            await self._tell(body, "Released", text, warning=False)
            self._calls.freed()  # another assignment of the group takes over what this one held
            return
        if result.left:
            text = f"the guest is gone from node {obj.status.node_name}: the assignment is bound anew where it is"
            await self._cleared(body, _GIVEN_BACK)
            await self._tell(body, "GuestLeft", text, warning=False)
            self._calls.freed()  # of a pool that is being deleted, too
            return
        if result.corrected:
            await self._tell(body, "DriftCorrected", result.corrected, warning=True)
        old = ours(obj.status)
        if ours(result.status) == old:
            return
        await self._write(body, result.status.wire())
        self._host.boundary(f"{'release' if obj.deleting else 'assign'}: status written")
        self._calls.news(obj.uid)
        if result.moved:
            await self._tell(body, "DeviceMoved", result.moved, warning=False)
        await self._tell_ready(body, result.status.conditions, old.conditions)


def _node(body: Body) -> str | None:
    node: str | None = body.get("status", {}).get("nodeName")
    return node


def _has_failed(body: Body) -> bool:
    """All checks passed, and still it is not ready."""
    return condition(body, conditions.PLANNED) == "True" and condition(body, conditions.READY) == "False"


def ours(status: DeviceAssignmentStatus) -> DeviceAssignmentStatus:
    """The part of the status that the agent writes: without the binding and the controller's condition.

    In order of type: the API server merges the lists of two writers as it likes.
    """
    mine = sorted((c for c in status.conditions if c.type != conditions.ACCEPTED), key=lambda c: c.type)
    return status.model_copy(update={"node_name": None, "domain_uuid": None, "conditions": tuple(mine)})
