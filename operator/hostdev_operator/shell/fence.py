"""Cluster for one of several replicas: it reads, and writes nothing unless it leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from ..ports import Body, Cluster, ClusterError

log = logging.getLogger(__name__)
T = TypeVar("T")

#: No answer at all, or one of somebody between who has none: the request may still arrive, or be under way.
_UNANSWERED = (0, 502, 504)


class Fence:
    """Cluster of ports.py. ``leads`` is asked right before each write.

    A request that was stopped after that question (the process was suspended, the network held it back) can still
    arrive late. So each write also names the version of the object that it was thought of: the API server refuses it
    if the new leader has written meanwhile.
    """

    def __init__(self, cluster: Cluster, leads: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._leads = leads
        self._under_way: set[asyncio.Task[Any]] = set()
        self._unanswered_at: float | None = None  # by the event loop's clock

    async def settled(self, seconds: float, arrives_within: float) -> bool:
        """Wait for writes whose answer nobody waits for any more; whether none is left that can still arrive.

        One that was never answered can, for ``arrives_within`` seconds.
        """
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)
        now, lost = asyncio.get_running_loop().time(), self._unanswered_at
        return not self._under_way and (lost is None or now - lost >= arrives_within)

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Body | None:
        """Reading is free."""
        return await self._cluster.get(kind, name, namespace)

    async def objects(self, kind: str, node: str | None = None) -> list[Body]:
        """Reading is free."""
        return await self._cluster.objects(kind, node)

    async def create(self, body: Body) -> Body:
        """A write."""
        return await self._write(lambda: self._cluster.create(body))

    async def replace(self, body: Body) -> Body:
        """A write."""
        return await self._write(lambda: self._cluster.replace(body))

    async def delete(self, body: Body) -> None:
        """A write."""
        await self._write(lambda: self._cluster.delete(body))

    async def apply_status(self, body: Body, status: Body, manager: str) -> Body:
        """A write."""
        return await self._write(lambda: self._cluster.apply_status(body, status, manager))

    async def clear_status(self, body: Body, fields: Iterable[str]) -> None:
        """A write."""
        await self._write(lambda: self._cluster.clear_status(body, fields))

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        """A write."""
        return await self._write(lambda: self._cluster.set_finalizers(body, finalizers))

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        """A write; that it was not made is logged and no error."""
        try:
            await self._write(lambda: self._cluster.event(body, warning=warning, reason=reason, message=message))
        except ClusterError as error:
            log.warning("event %s for %s was not written: %s", reason, body["metadata"]["name"], error)

    async def _write(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Whoever is cancelled leaves the request: one that was sent is waited for before the Lease is given up."""

        async def fenced() -> T:
            if not self._leads():
                raise ClusterError(0, "not written: this replica of the controller does not lead")
            try:
                return await call()
            except (ClusterError, asyncio.CancelledError) as error:
                if not isinstance(error, ClusterError) or error.code in _UNANSWERED:
                    self._unanswered_at = asyncio.get_running_loop().time()
                raise

        task = asyncio.get_running_loop().create_task(fenced())
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # of one that nobody waits for, asyncio would complain
