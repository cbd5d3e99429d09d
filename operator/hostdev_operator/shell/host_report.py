"""The node's DeviceHost: what the administrator says in its spec, and the agent's report in its status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from ..api import API_VERSION
from ..api.devicehost import DeviceHostSpec, DeviceHostStatus
from ..core.checks import Refusal
from ..core.errors import HostError
from ..core.orphans import Orphan
from ..core.pool_binding import node_pool_name
from ..core.reasons import Retry
from ..core.settings import Settings
from ..ports import Body, Cluster, ClusterError
from ..reconcile.host import HostReporter
from . import runner
from .work import FIELD_MANAGER, in_order

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.1
_REPORT_RETRY_SECONDS = 5.0
_ORPHAN_RETRY_SECONDS = 60.0
_NOT_FOUND = 404
#: The host's unit tells nobody that it has answered.
_UNIT_SECONDS = 15.0
_UNIT_WORKS_SECONDS = 2.0


class HostReport:
    """Writes the DeviceHost when something has changed (``dirty``), and gives back the orphans that its spec lists.

    ``release`` gives an orphan back; a refusal says what it waits for. ``alive`` tells the UIDs of the node's
    assignments and pools, None while they have not been listed; ``idle`` whether no work is under way; ``freed`` is
    called when an orphan was given back.
    """

    def __init__(
        self,
        node: str,
        cluster: Cluster,
        reporter: HostReporter,
        release: Callable[[Orphan], Refusal | None],
        alive: Callable[[], frozenset[str] | None],
        idle: Callable[[], bool],
        freed: Callable[[], None],
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._reporter = reporter
        self._release = release
        self._alive = alive
        self._idle = idle
        self._freed = freed
        self.status = DeviceHostStatus()  # as it was reported last
        self._written = False
        self.reported = False
        self.settings = Settings()
        self.dirty = asyncio.Event()

    async def read_settings(self) -> None:
        """Once, before any work: without it nobody can tell whether the node is paused."""
        body = await runner.until_it_works("reading the DeviceHost", self._read)
        self.settings = Settings.of(_spec(body))

    def seen(self, event: str | None, body: Body) -> bool:
        """An event of the watch; whether what the administrator says has changed. Gone: nothing is said any more."""
        if body["metadata"]["name"] != self._node:
            return False
        self._written = event != "DELETED" and in_order(_status(body)) == in_order(self.status)
        if not self._written:  # somebody else has changed or deleted it
            self.dirty.set()
        settings = Settings.of(_spec(None if event == "DELETED" else body))
        changed = settings != self.settings
        self.settings = settings
        return changed

    async def run(self) -> None:
        """Write it whenever something has changed, after things have settled."""
        self.status, self._written = _status(await runner.until_it_works("reading the DeviceHost", self._read)), True
        self.dirty.set()
        while True:
            await self._wait()
            self.dirty.clear()
            await asyncio.sleep(_SETTLE_SECONDS)
            if not self._idle() and self.reported:
                self.dirty.set()
                continue
            try:
                await self.report()
            except Exception as error:  # a report that cannot be made must not end the care for assignments
                unforeseen = not isinstance(error, (ClusterError, HostError))
                log.warning("DeviceHost %s: %s; trying again", self._node, error, exc_info=unforeseen)
                await asyncio.sleep(_REPORT_RETRY_SECONDS)
                self.dirty.set()

    async def _wait(self) -> None:
        """Until something has changed; where the host is to be prepared, look now and then what has become of it."""
        seconds = _UNIT_SECONDS if self.settings.preparation else None
        if self._reporter.preparer.waits:
            seconds = _UNIT_WORKS_SECONDS
        with suppress(TimeoutError):
            await asyncio.wait_for(self.dirty.wait(), seconds)

    async def report(self) -> None:
        """Once, if it differs from what was written before."""
        alive = self._alive()
        gone: frozenset[str] = frozenset()
        waits: dict[str, str] = {}
        if alive is not None:
            gone = await self._gone(alive)
            if self.settings.release_orphans:
                waits = await self._release_orphans(alive, gone)
        status = await asyncio.to_thread(self._reporter.status, self.status, alive, gone, waits)
        if status != self.status or not self._written:
            self.status, self._written = status, True  # before the watch tells of it
            try:
                await self._write(status.wire())
            except Exception:
                self._written = False
                raise
        self.reported = True

    async def _read(self) -> Body | None:
        return await self._cluster.get("DeviceHost", self._node)

    async def _write(self, status: Body) -> None:
        """Tries the status first: the object is missing only once in a node's life."""
        body = {"apiVersion": API_VERSION, "kind": "DeviceHost", "metadata": {"name": self._node}}
        try:
            await self._cluster.apply_status(body, status, FIELD_MANAGER)
        except ClusterError as error:
            if error.code != _NOT_FOUND:
                raise
            await self._cluster.create(body)
            await self._cluster.apply_status(body, status, FIELD_MANAGER)

    async def _gone(self, alive: frozenset[str]) -> frozenset[str]:
        """Of the NICs with an alias that no assignment of this node explains: those that none of all nodes does.

        The host is looked at first: an assignment is older than its NIC, so the list that is asked for then has it.
        """
        foreign = await asyncio.to_thread(self._reporter.foreign_nics, alive)
        if not foreign:
            return foreign
        return foreign - {body["metadata"]["uid"] for body in await self._cluster.objects("DeviceAssignment")}

    async def _release_orphans(self, alive: frozenset[str], gone: frozenset[str]) -> dict[str, str]:
        """Give back what the administrator has listed; what each of the others waits for."""
        waits = {}
        again = False
        for orphan in await asyncio.to_thread(self._reporter.orphans, alive, gone):
            if orphan.uid in self.settings.release_orphans and await self._is_gone(orphan):
                refusal = await asyncio.to_thread(self._release, orphan)
                if refusal:
                    waits[orphan.uid] = f"{refusal.reason}: {refusal.message}"
                    again = again or refusal.reason.retry in (Retry.BACKOFF, Retry.SOON)
                else:
                    self._freed()  # its group is free for others
        if again:
            asyncio.get_running_loop().call_later(_ORPHAN_RETRY_SECONDS, self.dirty.set)
        return waits

    async def _is_gone(self, orphan: Orphan) -> bool:
        """Asked, not believed: the record may be of an object that was made a moment ago. Of NICs it was asked."""
        now: Body | None = None
        if orphan.record:
            now = await self._cluster.get("DeviceAssignment", orphan.record.name, orphan.record.namespace)
        elif orphan.pool:
            now = await self._cluster.get("NodeVFPool", node_pool_name(orphan.pool.name, self._node))
        return now is None or now["metadata"]["uid"] != orphan.uid


def _status(body: Body | None) -> DeviceHostStatus:
    try:
        return DeviceHostStatus.model_validate((body or {}).get("status") or {})
    except ValueError:  # of another version of the CRD: it is written anew
        return DeviceHostStatus()


def _spec(body: Body | None) -> DeviceHostSpec | None:
    spec = (body or {}).get("spec")
    return DeviceHostSpec.model_validate(spec) if spec else None
