"""The agent's work on DeviceAssignments: bodies in, status and events out. Runs in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ..api.deviceassignment import DeviceAssignmentStatus
from ..core import conditions
from ..core.errors import HostError
from ..core.intent import Wish
from ..core.reasons import Retry
from ..ports import Body, Cluster, ClusterError, Host
from ..reconcile.assignment import AssignmentReconciler
from ..reconcile.bound import Assignment, Result
from .objects import parse
from .watched import Watched, condition, is_deleting

log = logging.getLogger(__name__)

FIELD_MANAGER = "hostdev-agent"
OUTDATED = (404, 409)
#: What a release clears of an assignment's status: the binding, and what stood in guest and journal, and as asked.
_GIVEN_BACK = ("nodeName", "record", "guest", "settled")


class AssignmentWork:
    """One run for one key. ``news`` is called with the UID after a status was written, or an object is gone: others may
    wait for what it gave up. ``freed`` is called after a release.
    """  # noqa: D205

    def __init__(
        self,
        node: str,
        host: Host,
        cluster: Cluster,
        reconciler: AssignmentReconciler,
        news: Callable[[str], None],
        freed: Callable[[], None],
    ) -> None:
        self._host = host
        self._cluster = cluster
        self._reconciler = reconciler
        self._news = news
        self._freed = freed
        self.objects = Watched("DeviceAssignment", cluster, lambda b: _node(b) == node, parse)

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

    async def take_up(self, body: Body) -> None:
        """A body of the first list, with the published copy of its record."""
        self.objects.put(body)
        try:
            await asyncio.to_thread(self._reconciler.take_up_record, parse(body))
        except (HostError, ValueError) as error:  # told again, in its condition, when the object is worked on
            log.warning("%s: %s", body["metadata"]["name"], error)

    async def work(self, uid: str) -> Retry:
        """Bring the host to what it asks for, and report. ClusterError if it cannot be read."""
        body, known = await self.objects.current(uid)
        if body is None:
            if known:
                self._reconciler.forget(uid)
                self._news(uid)
            return Retry.ON_EVENT
        obj = parse(body)
        result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        try:
            await self._report(body, obj, result)
        except ClusterError as error:
            if error.code in OUTDATED:
                self.objects.doubt(uid)
                return Retry.SOON
            log.warning("%s/%s: status not written: %s", obj.namespace, obj.name, error)
            return Retry.BACKOFF
        return result.retry

    async def _report(self, body: Body, obj: Assignment, result: Result) -> None:
        if result.released:
            await self._cluster.clear_status(body, _GIVEN_BACK)
            self._host.boundary("release: cleared")
            kept = obj.spec.release_policy == "Keep"
            text = "guest, drivers and VF stay as they are" if kept else "the device and its group are given back"
            await self._tell(body, "Released", text, warning=False)
            self.objects.doubt(obj.uid)  # the watch's news of it, or of its end, is asked for
            self._freed()  # another assignment of the group takes over what this one held
            return
        if result.left:
            await self._cluster.clear_status(body, _GIVEN_BACK)
            text = f"the guest is gone from node {obj.status.node_name}: the assignment is bound anew where it is"
            await self._tell(body, "GuestLeft", text, warning=False)
            self.objects.doubt(obj.uid)
            self._freed()  # of a pool that is being deleted, too
            return
        if result.corrected:
            await self._tell(body, "DriftCorrected", result.corrected, warning=True)
        old = ours(obj.status)
        if ours(result.status) == old:
            return
        phase = "release" if obj.deleting else "assign"
        self.objects.put(await self._cluster.apply_status(body, result.status.wire(), FIELD_MANAGER))
        self._host.boundary(f"{phase}: status written")
        self._news(obj.uid)
        if result.moved:
            await self._tell(body, "DeviceMoved", result.moved, warning=False)
        for changed in conditions.changed(result.status.conditions, old.conditions):
            if changed.type == conditions.READY:
                await self._tell(body, changed.reason, changed.message, warning=changed.status != "True")

    async def _tell(self, body: Body, reason: str, message: str, *, warning: bool) -> None:
        await self._cluster.event(body, warning=warning, reason=reason, message=message)


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
