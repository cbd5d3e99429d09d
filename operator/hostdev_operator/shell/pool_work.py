"""The agent's work on NodeVFPools: bodies in, status and events out. Runs in the event loop."""

from __future__ import annotations

import asyncio
import contextlib

from ..api.vfpool import NodeVFPoolSpec, NodeVFPoolStatus
from ..core.pool import PoolWish
from ..core.reasons import Retry
from ..ports import Body, Cluster, Host
from ..reconcile.pools import NodePool, PoolReconciler, PoolResult
from .watched import Watched, is_deleting
from .work import Calls, Work, in_order

#: What a release clears of a pool's status: that the node has it, and what stood on the host and in the journal.
_GIVEN_BACK = ("nodeName", "record", "pf", "vfs", "counts", "network", "settled")


class PoolWork(Work[NodePool]):
    """Of the pools of a node."""

    def __init__(self, node: str, host: Host, cluster: Cluster, reconciler: PoolReconciler, calls: Calls) -> None:
        objects = Watched("NodeVFPool", cluster, lambda b: b["spec"]["nodeName"] == node, parse_pool)
        super().__init__(host, cluster, objects, calls)
        self._reconciler = reconciler

    def wishes(self) -> tuple[PoolWish, ...]:
        """Of all pools that are not being deleted; one that makes no sense wants nothing."""
        found = []
        for body in self.objects.bodies():
            if not is_deleting(body):
                with contextlib.suppress(ValueError):
                    found.append(self.objects.parsed(body).wish())
        return tuple(found)

    def _take_up(self, obj: NodePool) -> None:
        self._reconciler.take_up_record(obj)

    def _forget(self, uid: str) -> None:
        self._reconciler.forget(uid)

    async def _run(self, body: Body) -> Retry:
        obj = parse_pool(body)
        result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        if result.claim:
            body = await self._write(body, result.status.wire())
            obj = parse_pool(body)
            result = await asyncio.to_thread(self._reconciler.reconcile, obj)
        await self._report(body, obj, result)
        return result.retry

    async def _report(self, body: Body, obj: NodePool, result: PoolResult) -> None:
        if result.released:
            if obj.status.node_name is not None or obj.status.record is not None:
                await self._cleared(body, _GIVEN_BACK, "pool release: cleared")
                await self._tell(body, "Released", "VFs and network are given back", warning=False)
                self._calls.freed()  # once: it wakes this pool as well, which stays until the controller lets it go
            return
        if result.corrected:
            await self._tell(body, "DriftCorrected", result.corrected, warning=True)
        old, new = in_order(obj.status), in_order(result.status)
        if new == old:
            return
        await self._write(body, result.status.wire())
        self._host.boundary(f"{'pool release' if obj.deleting else 'pool'}: status written")
        self._calls.news(obj.uid)
        await self._tell_ready(body, new.conditions, old.conditions)


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
