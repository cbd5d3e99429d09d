"""A keyed work queue: one entry for each object, never twice at once, backoff in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..core.reasons import Retry

log = logging.getLogger(__name__)

SOON_SECONDS = 1.0
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 300.0


class KeyedQueue:
    """Runs ``work(key)`` for every key that was added; its answer says when to try again.

    A key that is added while it runs, runs once more afterwards. A key that waits for its backoff runs at once when it
    is added: an event is better than a timer. Exceptions are logged and count as Retry.BACKOFF.
    """

    def __init__(self, work: Callable[[str], Awaitable[Retry]], workers: int = 4) -> None:
        self._work = work
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing runs or is about to run; timers do not count."""
        return not self._waiting and not self._running

    def add(self, key: str) -> None:
        """Run the key as soon as a worker is free."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                retry = await self._work(key)
            except Exception:
                log.exception("%s: trying again later", key)
                retry = Retry.BACKOFF
            finally:
                self._running.discard(key)
            self._schedule(key, retry)

    def _schedule(self, key: str, retry: Retry) -> None:
        if retry is not Retry.BACKOFF:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif retry is Retry.SOON:
            self._later(key, SOON_SECONDS)
        elif retry is Retry.BACKOFF:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            self._later(key, min(FIRST_BACKOFF_SECONDS * 2 ** (count - 1), LONGEST_BACKOFF_SECONDS))

    def _later(self, key: str, seconds: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.add, key)
