"""The agent's work on Guests: bodies in, status and events out. Runs in the event loop."""

from __future__ import annotations

import asyncio

from ..api.guest import GUEST_FINALIZER, GuestSpec, GuestStatus
from ..core import conditions
from ..core.conditions import READY
from ..core.guest import GuestWish
from ..core.reasons import Retry
from ..ports import Body, Cluster, Host
from ..reconcile.bound import Assignment
from ..reconcile.guests import BoundGuest, GuestReconciler, GuestResult
from .watched import Watched, is_deleting
from .work import Calls, Work, in_order

#: What the end of one clears of its status.
_GIVEN_BACK = ("nodeName", "domainUUID", "state", "pendingRun")


class GuestWork(Work[BoundGuest]):
    """Of the Guests of a node."""

    def __init__(self, node: str, host: Host, cluster: Cluster, reconciler: GuestReconciler, calls: Calls) -> None:
        objects = Watched("Guest", cluster, lambda b: b["spec"]["nodeName"] == node, parse_guest)
        super().__init__(host, cluster, objects, calls)
        self._reconciler = reconciler

    def _take_up(self, obj: BoundGuest) -> None:
        """They have no records."""

    def _forget(self, uid: str) -> None:
        self._reconciler.forget(uid)

    async def _run(self, body: Body) -> Retry:
        obj = parse_guest(body)
        if GUEST_FINALIZER not in (body["metadata"].get("finalizers") or ()):
            return Retry.ON_EVENT  # the controller's: without it nobody would tell of the end
        result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        if result.claim:
            body = await self._write(body, result.status.wire())
            obj = parse_guest(body)
            result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        await self._report(body, obj, result)
        return result.retry

    async def _report(self, body: Body, obj: BoundGuest, result: GuestResult) -> None:
        if result.released:
            if obj.status.node_name is not None:
                await self._cleared(body, _GIVEN_BACK, "guest: cleared")
            return
        old, new = in_order(obj.status), in_order(result.status)
        if new == old:
            return
        await self._write(body, result.status.wire())
        self._host.boundary("guest: status written")
        self._calls.news(obj.uid)
        await self._tell_ready(body, new.conditions, old.conditions)


def waiting(wish: GuestWish, assignments: Watched[Assignment]) -> str | None:
    """Why the assignments that a Guest names keep it from being started; None if they do not."""
    names = {(b["metadata"]["namespace"], b["metadata"]["name"]): b for b in assignments.bodies()}
    for reference in wish.spec.device_assignments:
        what = f"DeviceAssignment {reference.namespace}/{reference.name}"
        body = names.get((reference.namespace, reference.name))
        if body is None:
            return f"{what} is not there, or not bound to this node"
        obj = assignments.parsed(body)
        if obj.status.domain_uuid != wish.uid:
            return f"{what} is for another guest"
        ready = conditions.find(obj.status.conditions, READY)
        if obj.deleting or ready is None or ready.observed_generation != obj.generation:
            return f"{what} is not Ready yet"
        if ready.status != "True":
            return f"{what} is not Ready: {ready.reason}: {ready.message}"
    return None


def parse_guest(body: Body) -> BoundGuest:
    """The object as the engine takes it; ValueError if it does not fit the model."""
    meta = body["metadata"]
    return BoundGuest(
        uid=meta["uid"],
        name=meta["name"],
        generation=meta["generation"],
        deleting=is_deleting(body),
        spec=GuestSpec.model_validate(body["spec"]),
        status=GuestStatus.model_validate(body.get("status") or {}),
    )
