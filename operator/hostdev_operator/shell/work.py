"""The agent's work on the objects of one kind: bodies in, status and events out. Runs in the event loop."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..api.common import Conditions
from ..api.devicehost import DeviceHostStatus
from ..api.guest import GuestStatus
from ..api.vfpool import NodeVFPoolStatus
from ..core import conditions
from ..core.errors import HostError
from ..core.reasons import Retry
from ..ports import Body, Cluster, ClusterError, Host
from .watched import Watched

log = logging.getLogger(__name__)

FIELD_MANAGER = "hostdev-agent"
_OUTDATED = (404, 409)

T = TypeVar("T")
#: What has conditions in its status.
S = TypeVar("S", DeviceHostStatus, GuestStatus, NodeVFPoolStatus)


@dataclass(frozen=True)
class Calls:
    """Who is told of what became of an object.

    ``news`` is called with the UID after a status was written, or an object is gone: others may wait for what it gave
    up. ``freed`` is called after a release.
    """

    news: Callable[[str], None]
    freed: Callable[[], None]


class Work(ABC, Generic[T]):
    """One run for one key."""

    def __init__(self, host: Host, cluster: Cluster, objects: Watched[T], calls: Calls) -> None:
        self.objects = objects
        self._host = host
        self._cluster = cluster
        self._calls = calls

    @abstractmethod
    def _take_up(self, obj: T) -> None:
        """Take the published copy of its record, where the journal has none. HostError, ValueError."""

    @abstractmethod
    def _forget(self, uid: str) -> None:
        """The object is gone."""

    @abstractmethod
    async def _run(self, body: Body) -> Retry:
        """Bring the host to what it asks for, and report. ClusterError if that cannot be written."""

    async def take_up(self, body: Body) -> None:
        """A body of the first list, with the published copy of its record."""
        self.objects.put(body)
        try:
            await asyncio.to_thread(self._take_up, self.objects.parsed(body))
        except (HostError, ValueError) as error:  # told again, in its condition, when the object is worked on
            log.warning("%s: %s", body["metadata"]["name"], error)

    async def work(self, uid: str) -> Retry:
        """Bring the host to what it asks for, and report. ClusterError if it cannot be read."""
        body, known = await self.objects.current(uid)
        if body is None:
            if known:
                self._forget(uid)
                self._calls.news(uid)
            return Retry.ON_EVENT
        try:
            return await self._run(body)
        except ClusterError as error:
            if error.code in _OUTDATED:
                self.objects.doubt(uid)
                return Retry.SOON
            log.warning("%s %s: status not written: %s", self.objects.kind, body["metadata"]["name"], error)
            return Retry.BACKOFF

    async def _write(self, body: Body, status: Body) -> Body:
        written = await self._cluster.apply_status(body, status, FIELD_MANAGER)
        self.objects.put(written)
        return written

    async def _cleared(self, body: Body, fields: tuple[str, ...], boundary: str = "") -> None:
        """Nothing of it is here any more; ``boundary`` as in Host."""
        await self._cluster.clear_status(body, fields)
        if boundary:
            self._host.boundary(boundary)
        self.objects.doubt(body["metadata"]["uid"])  # the watch's news of it, or of its end, is asked for

    async def _tell_ready(self, body: Body, new: Conditions, old: Conditions) -> None:
        """An event at each change of Ready."""
        for changed in conditions.changed(new, old):
            if changed.type == conditions.READY:
                await self._tell(body, changed.reason, changed.message, warning=changed.status != "True")

    async def _tell(self, body: Body, reason: str, message: str, *, warning: bool) -> None:
        await self._cluster.event(body, warning=warning, reason=reason, message=message)


def in_order(status: S) -> S:
    """For comparing: the API server merges the list of conditions as it likes."""
    return status.model_copy(update={"conditions": tuple(sorted(status.conditions, key=lambda c: c.type))})
