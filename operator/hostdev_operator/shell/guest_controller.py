"""The controller's part for Guests: their finalizer. What is done is their node's affair."""

from __future__ import annotations

import logging

from ..api.guest import GUEST_FINALIZER
from ..core.reasons import NODE_GONE, Retry
from ..ports import Body, Cluster, ClusterError
from . import runner
from .gone_nodes import GoneNodes
from .objects import ObjectCache
from .queue import KeyedQueue
from .watched import is_deleting

log = logging.getLogger(__name__)

_CONFLICT = 409


class GuestController:
    """Keys of the queue are UIDs of Guests. Runs in the event loop."""

    def __init__(self, cluster: Cluster, fates: GoneNodes) -> None:
        self._cluster = cluster
        self._fates = fates
        self._bodies: ObjectCache[Body] = ObjectCache(lambda body: body)
        self._listed = False
        self.queue = KeyedQueue(self._work)

    def seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on Guests."""
        uid = body["metadata"]["uid"]
        if event == "DELETED":
            self._bodies.remove(uid)
        elif self._bodies.put(body):
            self.queue.add(uid)

    async def list_all(self) -> None:
        """Once, before anything is done."""
        for body in await runner.listed(self._cluster, "Guest"):
            self._bodies.put(body)
        self._listed = True
        self.wake_all()

    def wake_all(self) -> None:
        """Look at every Guest again: a node came, went, or is said to be gone."""
        for uid in self._bodies:
            self.queue.add(uid)

    async def _work(self, uid: str) -> Retry:
        body = self._bodies.get(uid)
        if body is None or not self._listed:
            return Retry.ON_EVENT
        try:
            await self._reconcile(body)
        except ClusterError as error:
            if error.code == _CONFLICT:  # an older version: the watch brings the newer one
                return Retry.SOON
            log.warning("guest %s: %s", body["metadata"]["name"], error)
            return Retry.BACKOFF
        return Retry.ON_EVENT

    async def _reconcile(self, body: Body) -> None:
        finalizers: list[str] = body["metadata"].get("finalizers") or []
        if not is_deleting(body):
            if GUEST_FINALIZER not in finalizers:
                await self._set_finalizers(body, [*finalizers, GUEST_FINALIZER])
            return
        node = (body.get("status") or {}).get("nodeName")
        if GUEST_FINALIZER not in finalizers or (node and not await self._is_lost(node, body)):
            return
        if node:
            text = f"node {node} is gone: the guest was left there as it was"
            await self._cluster.event(body, warning=True, reason=NODE_GONE.name, message=text)
        await self._set_finalizers(body, [f for f in finalizers if f != GUEST_FINALIZER])

    async def _is_lost(self, node: str, body: Body) -> bool:
        """Whether its node is gone for good; overdue is enough if its agent has not answered the deletion."""
        unanswered = (body.get("status") or {}).get("observedGeneration") != body["metadata"]["generation"]
        return await self._fates.is_left(node, body, unanswered=unanswered)

    async def _set_finalizers(self, body: Body, finalizers: list[str]) -> None:
        updated = await self._cluster.set_finalizers(body, finalizers)
        if updated is not None:
            self._bodies.put(updated)
