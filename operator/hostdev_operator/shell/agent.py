"""The node agent: what comes in (watch, libvirt, drivers) becomes keys in a queue; what comes out becomes status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

from ..api import API_VERSION
from ..api.deviceassignment import DeviceAssignmentStatus
from ..api.devicehost import DeviceHostSpec, DeviceHostStatus
from ..core import conditions
from ..core.errors import HostError
from ..core.intent import Wish
from ..core.reasons import Retry
from ..core.record import Record
from ..core.settings import Settings
from ..ports import Body, Cluster, ClusterError, Host
from ..reconcile.assignment import Assignment, AssignmentReconciler, Result
from ..reconcile.context import Context
from ..reconcile.host import HostReporter
from ..reconcile.looker import Looker
from . import runner
from .objects import ObjectCache, parse
from .probes import Probes
from .queue import KeyedQueue

log = logging.getLogger(__name__)

FIELD_MANAGER = "hostdev-agent"
_SETTLE_SECONDS = 0.1
_SCAN_SECONDS = 30.0
_LIBVIRT_RETRY_SECONDS = 2.0
_REPORT_RETRY_SECONDS = 5.0
_ORPHAN_RETRY_SECONDS = 60.0
_OUTDATED = (404, 409)


@dataclass(frozen=True)
class Senses:
    """How the agent notices changes on its host that no one tells it of."""

    connect: Callable[[], object]  # opens libvirt if it is closed; raises HostError
    connected: Callable[[], bool]


class Agent:
    """One node's agent. Everything here runs in the event loop; the engine runs in threads."""

    def __init__(self, node: str, host: Host, cluster: Cluster, senses: Senses) -> None:
        self._node = node
        self._host = host
        self._cluster = cluster
        self._senses = senses
        self._looker = Looker(host, Context(lambda: self._settings, self._wishes, lambda: self._version))
        self._reconciler = AssignmentReconciler(host, self._looker)
        self._reporter = HostReporter(host, self._looker)
        self._objects = ObjectCache()
        self._settings = Settings()
        self._version = 0
        self._doubtful: set[str] = set()
        self._listed = False
        self._host_status = DeviceHostStatus()
        self._host_written = False
        self._reported = False
        self._dirty = asyncio.Event()
        self.queue = KeyedQueue(self._work)

    # -- what comes in ------------------------------------------------------------------------------------------

    def seen(self, event: str | None, body: Body) -> None:
        """An event of the watch. DELETED also means that the object left the selector: asked for, not believed."""
        uid = body["metadata"]["uid"]
        self._version += 1
        if event == "DELETED":
            self._doubt(uid)
        elif self._objects.put(body):
            self.queue.add(uid)

    def host_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on this node's DeviceHost. Gone: the administrator says nothing any more."""
        if body["metadata"]["name"] != self._node:
            return
        self._host_written = event != "DELETED" and _in_order(_host_status(body)) == _in_order(self._host_status)
        if not self._host_written:  # somebody else has changed or deleted it
            self._dirty.set()
        settings = Settings.of(_host_spec(None if event == "DELETED" else body))
        if settings != self._settings:
            self._settings = settings
            self.host_changed()

    def _doubt(self, uid: str) -> None:
        """What is known of the object may be wrong: it is read again before the next run."""
        self._doubtful.add(uid)
        self.queue.add(uid)

    def host_changed(self) -> None:
        """Something happened on the host: look at everything again. Any assignment may be concerned."""
        self._version += 1
        for uid in self._objects:
            self.queue.add(uid)
        self._dirty.set()

    def unready(self) -> str | None:
        """For the readiness probe."""
        if not self._senses.connected():
            return "libvirt does not answer"
        return None if self._reported else "the DeviceHost has not been written yet"

    # -- background tasks ---------------------------------------------------------------------------------------

    async def watch_libvirt(self) -> None:
        """Keep the connection open: connecting is news, and so is losing it."""
        was, trouble = False, None
        while True:
            trouble = await asyncio.to_thread(_trouble, "connecting to libvirt", self._senses.connect, trouble)
            if was and trouble:
                log.warning("%s", trouble)
            now = self._senses.connected()
            if now != was:
                self.host_changed()
            was = now
            await asyncio.sleep(_LIBVIRT_RETRY_SECONDS)

    async def look_around(self) -> None:
        """Not everything raises an event, as virsh attach-device --config does not: now and then look for changes."""
        look = ("looking at the host", self._looker.fresh)
        trouble = await asyncio.to_thread(_trouble, *look, None)
        while True:
            await asyncio.sleep(_SCAN_SECONDS)
            before, trouble = trouble, await asyncio.to_thread(_trouble, *look, trouble)
            if self._looker.differed() or trouble != before:
                self.host_changed()

    async def list_bound(self) -> None:
        """Once, before any work: a node that lost its journal must know all claims before it makes a new one.

        Without the whole list nobody can tell, either, whether a record's assignment is gone; and without the
        DeviceHost nobody can tell whether the node is paused.
        """
        mine = await runner.until_it_works("reading the DeviceHost", lambda: self._cluster.host(self._node))
        self._settings = Settings.of(_host_spec(mine))
        bodies = await runner.until_it_works("listing assignments", lambda: self._cluster.bound_assignments(self._node))
        for body in bodies:
            self._objects.put(body)
            await self._take_up_record(body)
        self._listed = True
        self.host_changed()

    async def _take_up_record(self, body: Body) -> None:
        try:
            await asyncio.to_thread(self._reconciler.take_up_record, parse(body))
        except (HostError, ValueError) as error:  # told again, in its condition, when the object is worked on
            log.warning("%s: %s", body["metadata"]["name"], error)

    async def report_host(self) -> None:
        """Write the DeviceHost when something changed, after things have settled."""
        mine = await runner.until_it_works("reading the DeviceHost", lambda: self._cluster.host(self._node))
        self._host_status, self._host_written = _host_status(mine), True
        self._dirty.set()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await asyncio.sleep(_SETTLE_SECONDS)
            if not self.queue.idle and self._reported:
                self._dirty.set()
                continue
            try:
                await self._report_host()
            except Exception as error:  # a report that cannot be made must not end the care for assignments
                unforeseen = not isinstance(error, (ClusterError, HostError))
                log.warning("DeviceHost %s: %s; trying again", self._node, error, exc_info=unforeseen)
                await asyncio.sleep(_REPORT_RETRY_SECONDS)
                self._dirty.set()

    async def _report_host(self) -> None:
        alive = frozenset(self._objects) if self._listed else None
        waits = await self._release_orphans(alive) if alive is not None and self._settings.release_orphans else {}
        status = await asyncio.to_thread(self._reporter.status, self._host_status, alive, waits)
        if status != self._host_status or not self._host_written:
            self._host_status, self._host_written = status, True  # before the watch tells of it
            try:
                await self._cluster.apply_host_status(self._node, status.wire())
            except Exception:
                self._host_written = False
                raise
        self._reported = True

    async def _release_orphans(self, alive: frozenset[str]) -> dict[str, str]:
        """Give back what the administrator has listed; what each of the others waits for."""
        waits = {}
        again = False
        try:
            orphans = await asyncio.to_thread(self._reporter.orphans, alive)
        except HostError:  # the report itself tells of it (JournalReady)
            return {}
        for record in orphans:
            if record.uid in self._settings.release_orphans and await self._is_gone(record):
                refusal = await asyncio.to_thread(self._reconciler.release_orphan, record)
                if refusal:
                    waits[record.uid] = f"{refusal.reason}: {refusal.message}"
                    again = again or refusal.reason.retry is Retry.BACKOFF
                else:
                    self.host_changed()  # its group is free for others
        if again:
            asyncio.get_running_loop().call_later(_ORPHAN_RETRY_SECONDS, self._dirty.set)
        return waits

    async def _is_gone(self, record: Record) -> bool:
        """Asked, not believed: the record may be of an object that was made a moment ago."""
        now = await self._cluster.get_assignment(record.namespace, record.name)
        return now is None or now["metadata"]["uid"] != record.uid

    def _wishes(self) -> tuple[Wish, ...]:
        """Of all assignments that are not being deleted; one that makes no sense wants nothing.

        One whose plan was tried and failed stands in nobody's way, however old it is.
        """
        found = []
        for uid in self._objects:
            body = self._objects.get(uid)
            if body and "deletionTimestamp" not in body["metadata"] and not _has_failed(body):
                with contextlib.suppress(ValueError):
                    found.append(self._objects.parsed(body).wish())
        return tuple(found)

    # -- one assignment -----------------------------------------------------------------------------------------

    async def _work(self, uid: str) -> Retry:
        body = self._objects.get(uid)
        if body is None:
            self._doubtful.discard(uid)
            return Retry.ON_EVENT
        if not self._listed:  # list_bound wakes everything
            return Retry.ON_EVENT
        body = await self._still_bound(body)
        if body is None:
            self._objects.remove(uid)
            self._reconciler.forget(uid)
            self._wake_waiting(uid)
            return Retry.ON_EVENT
        obj = parse(body)
        result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        try:
            await self._report(body, obj, result)
        except ClusterError as error:
            if error.code in _OUTDATED:
                self._doubtful.add(uid)
                return Retry.SOON
            log.warning("%s/%s: status not written: %s", obj.namespace, obj.name, error)
            return Retry.BACKOFF
        return result.retry

    def _wake_waiting(self, but: str) -> None:
        """What one assignment gave up, or could not get, may be what another one waits for."""
        self._version += 1
        self._dirty.set()
        for uid in self._objects:
            body = self._objects.get(uid)
            if uid != but and body and not _is_ready(body):
                self.queue.add(uid)

    async def _still_bound(self, body: Body) -> Body | None:
        """The newest body if it is bound to this node. A DELETED event is believed only after a look."""
        meta = body["metadata"]
        bound_here = body.get("status", {}).get("nodeName") == self._node
        if bound_here and meta["uid"] not in self._doubtful:
            return body
        now = await self._cluster.get_assignment(meta["namespace"], meta["name"])
        self._doubtful.discard(meta["uid"])
        if now is None or now["metadata"]["uid"] != meta["uid"]:
            return None
        self._objects.replace(now)
        return now if now.get("status", {}).get("nodeName") == self._node else None

    async def _report(self, body: Body, obj: Assignment, result: Result) -> None:
        if result.released:
            await self._cluster.clear_binding(body)
            self._host.boundary("release: cleared")
            await self._tell(body, "Released", "the device and its group are given back", warning=False)
            self._doubtful.add(obj.uid)  # the watch's news of it, or of its end, is asked for
            self.host_changed()  # another assignment of the group takes over what this one held
            return
        old = ours(obj.status)
        if ours(result.status) == old:
            return
        phase = "release" if obj.deleting else "assign"
        self._objects.put(await self._cluster.apply_assignment_status(body, result.status.wire(), FIELD_MANAGER))
        self._host.boundary(f"{phase}: status written")
        self._wake_waiting(obj.uid)
        if result.moved:
            await self._tell(body, "DeviceMoved", result.moved, warning=False)
        for changed in conditions.changed(result.status.conditions, old.conditions):
            if changed.type == conditions.READY:
                await self._tell(body, changed.reason, changed.message, warning=changed.status != "True")

    async def _tell(self, body: Body, reason: str, message: str, *, warning: bool) -> None:
        await self._cluster.event(body, warning=warning, reason=reason, message=message)


def _trouble(what: str, work: Callable[[], object], before: str | None) -> str | None:
    """What is wrong with it; None if it works. The unforeseen is logged once, and ends no care for assignments."""
    try:
        work()
    except HostError as error:
        return error.message
    except Exception as error:  # such as one strange XML
        trouble = repr(error)
        if trouble != before:
            log.exception("%s", what)
        return trouble
    return None


def _host_status(body: Body | None) -> DeviceHostStatus:
    try:
        return DeviceHostStatus.model_validate((body or {}).get("status") or {})
    except ValueError:  # of another version of the CRD: it is written anew
        return DeviceHostStatus()


def _in_order(status: DeviceHostStatus) -> DeviceHostStatus:
    """For comparing: the API server merges the list of conditions as it likes."""
    return status.model_copy(update={"conditions": tuple(sorted(status.conditions, key=lambda c: c.type))})


def _host_spec(body: Body | None) -> DeviceHostSpec | None:
    spec = (body or {}).get("spec")
    return DeviceHostSpec.model_validate(spec) if spec else None


def _condition(body: Body, kind: str) -> str | None:
    rows = body.get("status", {}).get("conditions", [])
    return next((c["status"] for c in rows if c["type"] == kind), None)


def _is_ready(body: Body) -> bool:
    return _condition(body, conditions.READY) == "True"


def _has_failed(body: Body) -> bool:
    """All checks passed, and still it is not ready."""
    return _condition(body, conditions.PLANNED) == "True" and _condition(body, conditions.READY) == "False"


def ours(status: DeviceAssignmentStatus) -> DeviceAssignmentStatus:
    """The part of the status that the agent writes: without the binding and the controller's condition.

    In order of type: the API server merges the lists of two writers as it likes.
    """
    mine = sorted((c for c in status.conditions if c.type != conditions.ACCEPTED), key=lambda c: c.type)
    return status.model_copy(update={"node_name": None, "domain_uuid": None, "conditions": tuple(mine)})


async def run_agent(agent: Agent, node: str, probes: Probes) -> None:
    """Run until kopf is told to stop (SIGTERM, SIGINT)."""
    registry = runner.registry()

    @kopf.on.event(API_VERSION, "deviceassignments", registry=registry)
    async def assignment_event(event: Any, **_: Any) -> None:
        agent.seen(event["type"], event["object"])

    @kopf.on.event(API_VERSION, "devicehosts", registry=registry)
    async def host_event(event: Any, **_: Any) -> None:
        agent.host_seen(event["type"], event["object"])

    await probes.start()
    try:
        await runner.run(
            registry,
            runner.settings({"deviceassignments": f"status.nodeName={node}", "devicehosts": f"metadata.name={node}"}),
            agent.list_bound,
            agent.queue.run,
            agent.watch_libvirt,
            agent.look_around,
            agent.report_host,
        )
    finally:
        await probes.stop()
