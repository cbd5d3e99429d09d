"""Replicas, their Lease and their writes, in made-up time: each has a clock of its own, which no other one sees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core.lease import LeadershipLostError, Lease, Timing
from hostdev_operator.ports import Body, ClusterError
from hostdev_operator.shell.fence import Fence
from hostdev_operator.shell.leadership import Leadership
from tests.fakes.cluster import FakeCluster
from tests.fakes.samples import body
from tests.shell.loop import on_loop

TIMING = Timing(30)


class FakeLease:
    """A Lease as the API server has it; each replica's way to it may be slow or cut."""

    def __init__(self) -> None:
        self.now: Lease | None = None
        self.writes: list[Lease] = []
        self._version = 0

    def put(self, lease: Lease | None) -> Lease | None:
        """What is stored, with a version of its own."""
        self._version += 1
        self.now = replace(lease, version=str(self._version)) if lease else None
        return self.now

    def write(self, lease: Lease) -> Lease:
        if lease.version != (self.now.version if self.now else ""):
            raise ClusterError(409 if self.now else 404, "it has changed")
        self.writes.append(lease)
        stored = self.put(lease)
        assert stored
        return stored


class Way:
    """LeaseStore of one replica. ``trouble`` is called before and after each request, and may wait or fail."""

    def __init__(self, lease: FakeLease, trouble: Callable[[], float] = lambda: 0.0) -> None:
        self._lease = lease
        self._trouble = trouble
        self.cut = False

    async def _go(self) -> None:
        delay = self._trouble()
        if self.cut or delay < 0:
            raise ClusterError(0, "no answer")
        await asyncio.sleep(delay)

    async def read(self) -> Lease | None:
        await self._go()
        found = self._lease.now
        await self._go()
        return found

    async def write(self, lease: Lease) -> Lease:
        await self._go()
        stored = self._lease.write(lease)
        await self._go()  # or the answer is lost
        return stored


def replica(name: str, way: Way, skew: float = 0.0) -> Leadership:
    loop = asyncio.get_running_loop()
    return Leadership(way, name, lambda: loop.time() + skew, TIMING)


async def ended(task: asyncio.Task[None]) -> str:
    """What a replica's end says."""
    with pytest.raises(LeadershipLostError) as lost:
        await task
    return str(lost.value)


async def stopped(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@on_loop
async def test_one_leads_and_the_others_wait_and_are_ready() -> None:
    lease = FakeLease()
    one, other = replica("one", Way(lease)), replica("other", Way(lease), skew=-1e6)
    assert one.unready() == "the Lease was not read yet"
    tasks = [asyncio.create_task(one.run())]
    await asyncio.sleep(0.1)
    tasks.append(asyncio.create_task(other.run()))
    await asyncio.sleep(600)
    assert (one.leads(), one.waits, one.unready()) == (True, False, None)
    assert (other.leads(), other.waits, other.unready()) == (False, True, None)
    assert {found.holder for found in lease.writes} == {"one"}
    assert len(lease.writes) == 1 + 60  # one each 10 s: as often as a kubelet writes its Node's
    await stopped(*tasks)


@on_loop
async def test_after_a_kill_the_other_one_waits_for_the_lease_to_run_out() -> None:
    lease = FakeLease()
    one, other = replica("one", Way(lease)), replica("other", Way(lease))
    first = asyncio.create_task(one.run())
    await asyncio.sleep(1)
    second = asyncio.create_task(other.run())
    await asyncio.sleep(100)
    await stopped(first)
    since = asyncio.get_running_loop().time()
    await other.taken()
    assert 20 <= asyncio.get_running_loop().time() - since <= 39
    assert lease.now
    assert (lease.now.holder, lease.now.transitions, lease.now.seconds) == ("other", 1, 30)
    await stopped(second)


@on_loop
async def test_a_lease_that_is_given_up_is_taken_at_the_next_look() -> None:
    lease = FakeLease()
    one, other = replica("one", Way(lease)), replica("other", Way(lease))
    first = asyncio.create_task(one.run())
    await asyncio.sleep(1)
    second = asyncio.create_task(other.run())
    await asyncio.sleep(9)
    await stopped(first)
    await one.release()
    assert not one.leads()
    since = asyncio.get_running_loop().time()
    await other.taken()
    assert asyncio.get_running_loop().time() - since < 5
    await one.release()
    assert lease.now
    assert lease.now.holder == "other"
    await stopped(second)


@on_loop
async def test_a_lease_is_given_up_though_its_renewal_was_cut_off() -> None:
    """Nobody knows then which version there is."""
    lease = FakeLease()
    delay = 0.0
    one = replica("one", Way(lease, lambda: delay))
    task = asyncio.create_task(one.run())
    await one.taken()
    delay = 3.0
    await asyncio.sleep(TIMING.renew + 4)  # it is stored, and its answer is on the way
    assert len(lease.writes) == 2
    await stopped(task)
    delay = 0.0
    await one.release()
    assert lease.now
    assert (lease.now.holder, lease.now.transitions) == ("", 0)


@on_loop
async def test_who_cannot_renew_stops_in_time() -> None:
    lease = FakeLease()
    way = Way(lease)
    one = replica("one", way)
    task = asyncio.create_task(one.run())
    await asyncio.sleep(1)
    way.cut = True
    await asyncio.sleep(18)
    assert one.leads()
    assert one.unready()
    await asyncio.sleep(1.5)
    assert not one.leads()
    assert "no answer" in await ended(task)
    way.cut = False
    assert not one.leads()
    assert one.unready() == "the Lease is lost"


@on_loop
async def test_a_short_trouble_is_survived() -> None:
    lease = FakeLease()
    way = Way(lease)
    one = replica("one", way)
    task = asyncio.create_task(one.run())
    await asyncio.sleep(9)
    way.cut = True
    await asyncio.sleep(7)
    way.cut = False
    await asyncio.sleep(60)
    assert one.leads()
    assert lease.now
    assert lease.now.transitions == 0
    await stopped(task)


@on_loop
async def test_who_finds_another_holder_stops_at_once() -> None:
    lease = FakeLease()
    one = replica("one", Way(lease))
    task = asyncio.create_task(one.run())
    await asyncio.sleep(1)
    lease.put(Lease("thief", 30, 1, "", ""))
    assert "thief has it" in await ended(task)
    await one.release()
    assert lease.now
    assert lease.now.holder == "thief"


@on_loop
async def test_a_deleted_lease_is_made_again_by_its_holder_and_by_nobody_before() -> None:
    lease = FakeLease()
    one, other = replica("one", Way(lease)), replica("other", Way(lease))
    first = asyncio.create_task(one.run())
    await asyncio.sleep(1)
    second = asyncio.create_task(other.run())
    await asyncio.sleep(3)
    lease.put(None)
    await asyncio.sleep(60)
    assert one.leads()
    assert not other.leads()
    await stopped(first, second)


@on_loop
async def test_a_suspended_leader_writes_nothing_when_it_goes_on() -> None:
    """Its clock has gone on, and nothing of it has run: what it wakes up with is a write."""
    jump = 0.0
    lease, cluster = FakeLease(), FakeCluster()
    loop = asyncio.get_running_loop()
    one = Leadership(Way(lease), "one", lambda: loop.time() + jump, TIMING)
    port = one.fenced(cluster.port)
    task = asyncio.create_task(one.run())
    await one.taken()
    await port.create(body("before"))
    jump = 40.0
    with pytest.raises(ClusterError, match="does not lead"):
        await port.create(body("after"))
    assert [b["metadata"]["name"] for b in cluster.all("DeviceAssignment")] == ["before"]
    await ended(task)
    assert lease.now
    assert lease.now.holder == "one"  # what it does not lead by, it cannot give up either


@on_loop
async def test_never_do_two_lead_whatever_the_network_does() -> None:
    """Three replicas with clocks of their own; requests that are slow, fail, or lose their answers; pauses; kills."""
    for seed in range(60):
        await _race(random.Random(seed))  # noqa: S311 - no secret


async def _race(dice: random.Random) -> None:
    lease, taken = FakeLease(), set()
    running: dict[str, tuple[Leadership, asyncio.Task[None]]] = {}

    def trouble() -> float:
        return dice.choice((0.0, 0.0, 0.0, 0.01, 1.0, 4.0, 9.0, -1.0))

    for step in range(300):
        await asyncio.sleep(dice.random() * 4)
        leading = [name for name, (one, _) in running.items() if one.leads()]
        assert len(leading) <= 1, leading
        taken.update(leading)
        for name in [name for name, (_, task) in running.items() if task.done()]:
            await ended(running.pop(name)[1])
        if len(running) < 3:
            made = replica(f"r{step}", Way(lease, trouble), dice.uniform(-1e6, 1e6))
            running[f"r{step}"] = made, asyncio.create_task(made.run())
        if dice.random() < 0.02:
            one, task = running.pop(dice.choice(list(running)))
            await stopped(task)
            if dice.random() < 0.5:
                await one.release()
    await stopped(*(task for _, task in running.values()))
    assert len(taken) > 1


# -- the fence -------------------------------------------------------------------------------------------------------


@on_loop
async def test_who_does_not_lead_reads_and_writes_nothing() -> None:
    cluster = FakeCluster()
    made = cluster.create(body())
    fence = Fence(cluster.port, lambda: False)
    assert await fence.get("DeviceAssignment", "nic", "default") == made
    assert await fence.objects("DeviceAssignment") == [made]
    calls = (
        fence.create(body("other")),
        fence.replace(made),
        fence.delete(made),
        fence.apply_status(made, {"nodeName": "n1"}, "hostdev-controller"),
        fence.clear_status(made, ["nodeName"]),
        fence.set_finalizers(made, ["hostdev.dev/release"]),
    )
    for call in calls:
        with pytest.raises(ClusterError, match="does not lead"):
            await call
    await fence.event(made, warning=False, reason="Bound", message="")
    assert cluster.writes == cluster.events == []
    assert cluster.get("nic") == made


@on_loop
async def test_what_was_sent_is_waited_for_before_the_lease_is_given_up() -> None:
    answered = asyncio.Event()

    class Slow:
        async def create(self, sent: Body) -> Body:
            await answered.wait()
            return sent

    lease = FakeLease()
    one = replica("one", Way(lease))
    port = one.fenced(Slow())  # type: ignore[arg-type]
    leading = asyncio.create_task(one.run())
    await one.taken()
    writing = asyncio.create_task(port.create(body()))
    await asyncio.sleep(0.1)
    await stopped(writing)
    giving = asyncio.create_task(one.release())
    await asyncio.sleep(1)
    assert not giving.done()
    answered.set()
    await giving
    assert lease.now
    assert lease.now.holder == ""
    await stopped(leading)


@pytest.mark.parametrize(("code", "since", "holder"), [(0, 1, "one"), (504, 1, "one"), (0, 40, ""), (409, 1, "")])
def test_a_write_that_was_not_answered_can_arrive_as_long_as_the_lease_runs(code: int, since: int, holder: str) -> None:
    class Broken:
        async def create(self, sent: Body) -> Body:
            raise ClusterError(code, "the connection was closed")

    async def story() -> None:
        lease = FakeLease()
        one = replica("one", Way(lease))
        port = one.fenced(Broken())  # type: ignore[arg-type]
        leading = asyncio.create_task(one.run())
        await one.taken()
        with pytest.raises(ClusterError):
            await port.create(body())
        await asyncio.sleep(since)
        await stopped(leading)
        await one.release()
        assert lease.now
        assert lease.now.holder == holder

    on_loop(story)()


@on_loop
async def test_what_was_not_sent_does_not_keep_the_lease() -> None:
    """By a replica that was not leading then."""
    lease = FakeLease()
    one = replica("one", Way(lease))
    port = one.fenced(FakeCluster().port_for("hostdev-controller"))
    with pytest.raises(ClusterError):
        await port.create(body())
    leading = asyncio.create_task(one.run())
    await one.taken()
    await stopped(leading)
    await one.release()
    assert lease.now
    assert lease.now.holder == ""


@on_loop
async def test_a_write_that_does_not_end_lets_the_lease_run_out() -> None:
    class Stuck:
        async def create(self, sent: Body) -> Body:
            await asyncio.sleep(3600)
            return sent

    lease = FakeLease()
    one = replica("one", Way(lease))
    port = one.fenced(Stuck())  # type: ignore[arg-type]
    leading = asyncio.create_task(one.run())
    await one.taken()
    writing = asyncio.create_task(port.create(body()))
    await asyncio.sleep(0.1)
    await stopped(writing, leading)
    await one.release()
    assert lease.now
    assert lease.now.holder == "one"
