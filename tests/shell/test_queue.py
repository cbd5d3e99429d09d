from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hostdev_operator.core.reasons import Retry
from hostdev_operator.shell.queue import FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, SOON_SECONDS, KeyedQueue
from tests.shell.loop import on_loop


class Work:
    """Notes when each key ran; answers and waits as the test says."""

    def __init__(self, *answers: Retry | Exception) -> None:
        self.answers = list(answers)
        self.ran: list[tuple[str, float]] = []
        self.gate: asyncio.Event | None = None
        self.running = 0
        self.most = 0

    async def __call__(self, key: str) -> Retry:
        self.ran.append((key, round(asyncio.get_running_loop().time(), 3)))
        self.running += 1
        self.most = max(self.most, self.running)
        if self.gate:
            await self.gate.wait()
        self.running -= 1
        answer = self.answers.pop(0) if self.answers else Retry.ON_EVENT
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def times(self) -> list[float]:
        return [time for _, time in self.ran]


@asynccontextmanager
async def running(work: Work, workers: int = 4) -> AsyncIterator[KeyedQueue]:
    queue = KeyedQueue(work, workers)
    task = asyncio.create_task(queue.run())
    yield queue
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@on_loop
async def test_a_key_that_is_added_many_times_runs_once() -> None:
    work = Work()
    async with running(work) as queue:
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        await asyncio.sleep(10)
        assert sorted(key for key, _ in work.ran) == ["a", "b"]
        assert queue.idle


@on_loop
async def test_a_key_that_is_added_while_it_runs_runs_once_more_afterwards() -> None:
    work = Work()
    work.gate = asyncio.Event()
    async with running(work) as queue:
        queue.add("a")
        await asyncio.sleep(0.1)
        for _ in range(3):
            queue.add("a")
        await asyncio.sleep(0.1)
        assert len(work.ran) == 1
        assert not queue.idle
        work.gate.set()
        await asyncio.sleep(0.1)
        assert len(work.ran) == 2
        assert work.most == 1


@on_loop
async def test_keys_run_beside_each_other_up_to_the_number_of_workers() -> None:
    work = Work()
    work.gate = asyncio.Event()
    async with running(work, workers=2) as queue:
        for key in "abc":
            queue.add(key)
        await asyncio.sleep(0.1)
        assert work.running == 2
        work.gate.set()
        await asyncio.sleep(0.1)
        assert len(work.ran) == 3


@on_loop
async def test_backoff_doubles_up_to_its_limit_and_starts_anew_after_success() -> None:
    work = Work(*[Retry.BACKOFF] * 11, Retry.ON_EVENT, Retry.BACKOFF)
    async with running(work) as queue:
        queue.add("a")
        await asyncio.sleep(5000)
        waits = [b - a for a, b in zip(work.times, work.times[1:], strict=False)]
        expected = [min(FIRST_BACKOFF_SECONDS * 2**n, LONGEST_BACKOFF_SECONDS) for n in range(11)]
        assert waits == pytest.approx(expected)
        queue.add("a")
        await asyncio.sleep(5000)
        assert work.times[-1] - work.times[-2] == pytest.approx(FIRST_BACKOFF_SECONDS)
        assert len(work.ran) == 14


@on_loop
async def test_soon_is_soon_and_does_not_grow() -> None:
    work = Work(Retry.SOON, Retry.SOON, Retry.NEVER)
    async with running(work) as queue:
        queue.add("a")
        await asyncio.sleep(1000)
        assert work.times == pytest.approx([0, SOON_SECONDS, 2 * SOON_SECONDS])


@on_loop
async def test_an_event_is_better_than_a_timer_and_replaces_it() -> None:
    work = Work(*[Retry.BACKOFF] * 6, Retry.ON_EVENT)
    async with running(work) as queue:
        queue.add("a")
        await asyncio.sleep(40)  # now it waits for the sixth try, at 63
        assert work.times == pytest.approx([0, 1, 3, 7, 15, 31])
        queue.add("a")
        await asyncio.sleep(0.1)
        assert work.times[-1] == pytest.approx(40)
        await asyncio.sleep(1000)
        assert len(work.ran) == 7


@on_loop
async def test_an_exception_is_a_failure_with_backoff_and_ends_no_worker() -> None:
    work = Work(ValueError("x"), RuntimeError("y"))
    async with running(work, workers=1) as queue:
        queue.add("a")
        await asyncio.sleep(1000)
        assert work.times == pytest.approx([0, 1, 3])
        queue.add("b")
        await asyncio.sleep(1)
        assert work.ran[-1][0] == "b"
