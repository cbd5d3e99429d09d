"""The agent's work on NodeVFPools: bodies in, status and events out. Runs in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ..api.vfpool import NodeVFPoolSpec, NodeVFPoolStatus
from ..core import conditions
from ..core.errors import HostError
from ..core.pool import PoolWish
from ..core.reasons import Retry
from ..ports import Body, Cluster, ClusterError, Host
from ..reconcile.pools import NodePool, PoolReconciler, PoolResult
from .assignment_work import FIELD_MANAGER, OUTDATED
from .watched import Watched, is_deleting

log = logging.getLogger(__name__)

#: What a release clears of a pool's status: that the node has it, and what stood on the host and in the journal.
_GIVEN_BACK = ("nodeName", "record", "pf", "vfs", "counts", "network", "settled")


class PoolWork:
    """One run for one key; ``news`` and ``freed`` as in AssignmentWork."""

    def __init__(
        self,
        node: str,
        host: Host,
        cluster: Cluster,
        reconciler: PoolReconciler,
        news: Callable[[str], None],
        freed: Callable[[], None],
    ) -> None:
        self._host = host
        self._cluster = cluster
        self._reconciler = reconciler
        self._news = news
        self._freed = freed
        self.objects = Watched("NodeVFPool", cluster, lambda b: b["spec"]["nodeName"] == node, parse_pool)

    def wishes(self) -> tuple[PoolWish, ...]:
        """Of all pools that are not being deleted; one that makes no sense wants nothing."""
        found = []
        for body in self.objects.bodies():
            if not is_deleting(body):
                with contextlib.suppress(ValueError):
                    found.append(self.objects.parsed(body).wish())
        return tuple(found)

    async def take_up(self, body: Body) -> None:
        """A body of the first list, with the published copy of its record."""
        self.objects.put(body)
        try:
            await asyncio.to_thread(self._reconciler.take_up_record, parse_pool(body))
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
        try:
            obj = parse_pool(body)
            result = await asyncio.to_thread(self._reconciler.reconcile, obj)
            if result.claim:
                body = await self._write(body, result)
                obj = parse_pool(body)
                result = await asyncio.to_thread(self._reconciler.reconcile, obj)
            await self._report(body, obj, result)
        except ClusterError as error:
            if error.code in OUTDATED:
                self.objects.doubt(uid)
                return Retry.SOON
            log.warning("pool %s: status not written: %s", body["metadata"]["name"], error)
            return Retry.BACKOFF
        return result.retry

    async def _write(self, body: Body, result: PoolResult) -> Body:
        written = await self._cluster.apply_status(body, result.status.wire(), FIELD_MANAGER)
        self.objects.put(written)
        return written

    async def _report(self, body: Body, obj: NodePool, result: PoolResult) -> None:
        if result.released:
            if obj.status.node_name is not None or obj.status.record is not None:
                await self._cluster.clear_status(body, _GIVEN_BACK)
                self._host.boundary("pool release: cleared")
                await self._tell(body, "Released", "VFs and network are given back", warning=False)
                self.objects.doubt(obj.uid)
                self._freed()  # once: it wakes this pool as well, which stays until the controller lets it go
            return
        if result.corrected:
            await self._tell(body, "DriftCorrected", result.corrected, warning=True)
        old, new = _in_order(obj.status), _in_order(result.status)
        if new == old:
            return
        await self._write(body, result)
        self._host.boundary(f"{'pool release' if obj.deleting else 'pool'}: status written")
        self._news(obj.uid)
        for changed in conditions.changed(new.conditions, old.conditions):
            if changed.type == conditions.READY:
                await self._tell(body, changed.reason, changed.message, warning=changed.status != "True")

    async def _tell(self, body: Body, reason: str, message: str, *, warning: bool) -> None:
        await self._cluster.event(body, warning=warning, reason=reason, message=message)


def _in_order(status: NodeVFPoolStatus) -> NodeVFPoolStatus:
    """For comparing: the API server merges the list of conditions as it likes."""
    return status.model_copy(update={"conditions": tuple(sorted(status.conditions, key=lambda c: c.type))})


def parse_pool(body: Body) -> NodePool:
    """The object as the engine takes it; ValueError if it does not fit the model."""
    meta = body["metadata"]
    return NodePool(
        uid=meta["uid"],
        name=meta["name"],
        created=meta["creationTimestamp"],
        generation=meta["generation"],
        deleting=is_deleting(body),
        spec=NodeVFPoolSpec.model_validate(body["spec"]),
        status=NodeVFPoolStatus.model_validate(body.get("status") or {}),
    )
