"""The controller: binds assignments to nodes, and owns the one finalizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import kopf

from ..api import API_VERSION
from ..api.deviceassignment import FINALIZER, DeviceAssignmentStatus
from ..api.devicehost import DeviceHostStatus
from ..core import conditions
from ..core.binding import Binding, bind
from ..core.checks import Refusal
from ..core.conditions import ACCEPTED, READY, condition
from ..core.reasons import Retry
from ..ports import Body, Clock, Cluster, ClusterError
from . import runner
from .objects import ObjectCache, parse
from .probes import Probes
from .queue import KeyedQueue

log = logging.getLogger(__name__)

FIELD_MANAGER = "hostdev-controller"
_CONFLICT = 409


@dataclass(frozen=True)
class _Guests:
    """The part of a DeviceHost that binding depends on: other changes of it wake nobody."""

    guests: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, status: DeviceHostStatus) -> _Guests:
        return cls(frozenset((g.name, g.uuid) for g in status.guests))


class Controller:
    """One for the cluster. Runs in the event loop; decides from memory, writes by the API."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._objects = ObjectCache()
        self._hosts: dict[str, DeviceHostStatus] = {}
        self._hosts_listed = False
        self.queue = KeyedQueue(self._work)

    # -- what comes in ------------------------------------------------------------------------------------------

    def assignment_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on assignments."""
        uid = body["metadata"]["uid"]
        if event == "DELETED":
            self._objects.remove(uid)
        elif self._objects.put(body):
            self.queue.add(uid)

    def host_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on DeviceHosts: unbound assignments may find their guest now."""
        name = body["metadata"]["name"]
        before = _Guests.of(self._hosts[name]) if name in self._hosts else None
        if event == "DELETED":
            self._hosts.pop(name, None)
            after = None
        else:
            self._hosts[name] = DeviceHostStatus.model_validate(body.get("status") or {})
            after = _Guests.of(self._hosts[name])
        if before != after:
            self._wake_unbound()

    async def list_hosts(self) -> None:
        """Once, before anything is done: an incomplete list would refuse wrongly."""
        for body in await runner.until_it_works("listing DeviceHosts", self._cluster.hosts):
            self._hosts.setdefault(body["metadata"]["name"], DeviceHostStatus.model_validate(body.get("status") or {}))
        # only to know that the kind is there: kopf must not start before it is
        await runner.until_it_works("listing assignments", lambda: self._cluster.bound_assignments("-"))
        self._hosts_listed = True
        for uid in self._objects:
            self.queue.add(uid)

    def unready(self) -> str | None:
        """For the readiness probe."""
        return None if self._hosts_listed else "DeviceHosts have not been listed yet"

    def _wake_unbound(self) -> None:
        for uid in self._objects:
            body = self._objects.get(uid)
            if body and not body.get("status", {}).get("nodeName"):
                self.queue.add(uid)

    # -- one assignment -----------------------------------------------------------------------------------------

    async def _work(self, uid: str) -> Retry:
        body = self._objects.get(uid)
        if body is None or not self._hosts_listed:
            return Retry.ON_EVENT
        try:
            await self._reconcile(body)
        except ClusterError as error:
            if error.code == _CONFLICT:  # an older version: the watch brings the newer one
                return Retry.SOON
            log.warning("%s: %s", body["metadata"]["name"], error)
            return Retry.BACKOFF
        return Retry.ON_EVENT

    async def _reconcile(self, body: Body) -> None:
        obj = parse(body)
        finalizers: list[str] = body["metadata"].get("finalizers", [])
        ours = FINALIZER in finalizers
        if obj.deleting:
            if ours and obj.status.node_name is None:
                await self._cluster.set_finalizers(body, [f for f in finalizers if f != FINALIZER])
            return
        bound = obj.status.node_name is not None
        answer = None if bound else bind(obj.spec, self._hosts)
        if isinstance(answer, Refusal):
            await self._refuse(body, obj.status, obj.generation, answer)
            return
        held = body if ours else await self._add_finalizer(body, finalizers)
        if answer and held:
            await self._bind(held, obj.status, obj.generation, answer)

    async def _add_finalizer(self, body: Body, finalizers: list[str]) -> Body | None:
        """Before the binding; and again if somebody took it away from a bound object. None: the object is gone."""
        updated = await self._cluster.set_finalizers(body, [*finalizers, FINALIZER])
        if updated is not None:
            self._objects.put(updated)
        return updated

    async def _bind(self, body: Body, old: DeviceAssignmentStatus, generation: int, binding: Binding) -> None:
        guest = (
            f"guest {binding.domain_name} ({binding.domain_uuid})" if binding.domain_uuid else "nobody: a reservation"
        )
        text = f"bound to node {binding.node_name} for {guest}"
        accepted = condition(ACCEPTED, True, "Bound", text)
        stamped = conditions.stamp((accepted,), old.conditions, self._clock.now(), generation)
        status = DeviceAssignmentStatus(
            node_name=binding.node_name, domain_uuid=binding.domain_uuid, conditions=stamped
        )
        self._objects.put(await self._cluster.apply_assignment_status(body, status.wire(), FIELD_MANAGER))
        await self._tell(body, "Bound", text, warning=False)

    async def _refuse(self, body: Body, old: DeviceAssignmentStatus, generation: int, refusal: Refusal) -> None:
        new = tuple(condition(kind, False, refusal.reason, refusal.message) for kind in (ACCEPTED, READY))
        stamped = conditions.stamp(new, old.conditions, self._clock.now(), generation)
        if all(c in old.conditions for c in stamped):
            return
        status = DeviceAssignmentStatus(conditions=stamped)
        self._objects.put(await self._cluster.apply_assignment_status(body, status.wire(), FIELD_MANAGER))
        if conditions.changed(stamped, old.conditions):
            await self._tell(body, str(refusal.reason), refusal.message, warning=True)

    async def _tell(self, body: Body, reason: str, message: str, *, warning: bool) -> None:
        await self._cluster.event(body, warning=warning, reason=reason, message=message)


async def run_controller(controller: Controller, probes: Probes) -> None:
    """Run until kopf is told to stop (SIGTERM, SIGINT)."""
    registry = runner.registry()

    @kopf.on.event(API_VERSION, "deviceassignments", registry=registry)
    async def assignment_event(event: Any, **_: Any) -> None:
        controller.assignment_seen(event["type"], event["object"])

    @kopf.on.event(API_VERSION, "devicehosts", registry=registry)
    async def host_event(event: Any, **_: Any) -> None:
        controller.host_seen(event["type"], event["object"])

    await probes.start()
    try:
        await runner.run(registry, runner.settings({}), controller.list_hosts, controller.queue.run)
    finally:
        await probes.stop()
