"""The agent's own part: its DeviceHost stays as it was written, and nothing strange ends its background tasks."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.ports import Body, ClusterError
from hostdev_operator.shell.agent import Agent, Senses
from hostdev_operator.simulation.ports import ports
from tests.fakes.samples import NODE, WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import World, running

WRITE = "apply DeviceHost by hostdev-agent"


class Told(logging.Handler):
    """What was logged, and whether with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.of: list[tuple[str, bool]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.of.append((record.getMessage(), record.exc_info is not None))


@asynccontextmanager
async def in_background(task: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """One of the agent's tasks, beside the test."""
    started = asyncio.create_task(task)
    await asyncio.sleep(0.01)
    yield started
    started.cancel()
    await asyncio.gather(started, return_exceptions=True)


@asynccontextmanager
async def reporting() -> AsyncIterator[World]:
    """A world whose agent writes its DeviceHost by itself, and has done so."""
    async with running(controller=False, report=False) as world, in_background(world.agent.host.run()):
        await asyncio.sleep(10)
        assert world.cluster.writes == ["create DeviceHost", WRITE]
        world.cluster.writes.clear()
        yield world


def set_status(world: World, **fields: object) -> Body:
    """Kubectl edit --subresource=status, by somebody else."""
    old = world.cluster.get(NODE, "", "DeviceHost")
    return world.cluster._store({**old, "status": {**old["status"], **fields}}, old)


# -- its DeviceHost --------------------------------------------------------------------------------------------------


@on_loop
async def test_a_device_host_that_was_deleted_is_made_again_once() -> None:
    async with reporting() as world:
        before = world.host_status()
        world.cluster.delete(NODE, "", "DeviceHost")
        await asyncio.sleep(10)
        assert world.host_status() == before
        assert world.cluster.writes == ["create DeviceHost", WRITE]


@on_loop
async def test_a_status_that_somebody_has_changed_is_corrected_once() -> None:
    async with reporting() as world:
        before = world.host_status()
        changes: list[Body] = [{"summary": "nothing"}, {"guests": []}, {"conditions": before["conditions"][1:]}]
        for changed in changes:
            set_status(world, **changed)
            await asyncio.sleep(10)
            now = world.host_status()
            now["conditions"].sort(key=before["conditions"].index)
            assert now == before
            assert world.cluster.writes == [WRITE]
            world.cluster.writes.clear()


@on_loop
async def test_the_echo_of_our_own_write_causes_none_in_whatever_order_its_conditions_come() -> None:
    async with reporting() as world:
        set_status(world, conditions=world.host_status()["conditions"][::-1])
        world.cluster.edit(NODE, {"releaseOrphans": ["x"]}, "", "DeviceHost")
        await asyncio.sleep(3600)
        assert world.cluster.writes == []


@on_loop
async def test_the_status_of_another_version_is_replaced_and_what_the_spec_says_is_taken() -> None:
    async with reporting() as world:
        before = world.host_status()
        world.cluster.create(body())
        old = world.cluster.get(NODE, "", "DeviceHost")
        world.cluster._store({**old, "spec": {"paused": True}, "status": {**before, "devices": "many"}}, old)
        await asyncio.sleep(10)
        assert world.agent.host.settings.paused
        assert world.host_status()["devices"] == before["devices"]


@on_loop
async def test_what_was_not_written_is_written_later_with_the_guests_that_were_seen_before_libvirt_went() -> None:
    async with running(agent=False, controller=False) as world:
        before = world.host_status()
        assert before["guests"]
        world.host.down = True
        again = Agent(NODE, ports(world.host, world.clock), world.cluster.port, Senses(lambda: None, lambda: False))
        world.cluster.fail("apply_status DeviceHost", 500)
        async with in_background(again.host.run()):
            await asyncio.sleep(60)
        now = world.host_status()
        assert now["guests"] == before["guests"]
        assert {c["type"]: c["status"] for c in now["conditions"]}["LibvirtReady"] == "False"


@on_loop
async def test_a_write_whose_answer_was_lost_is_made_again() -> None:
    async with reporting() as world:
        world.host.undefine(next(iter(world.host.guests)))
        world.agent._version += 1
        world.cluster.fail("apply_status DeviceHost", 500)
        with pytest.raises(ClusterError):
            await world.report()
        await world.report()
        assert world.cluster.writes == [WRITE]
        assert len(world.host_status()["guests"]) == 1


# -- its background tasks --------------------------------------------------------------------------------------------


@on_loop
async def test_a_look_that_fails_strangely_is_logged_once_and_its_end_is_news() -> None:
    async with running(controller=False) as world, in_background(world.agent.look_around()) as task:
        looks: list[str] = []

        def explode(call: str) -> None:
            looks.append(call)
            raise ValueError("a strange XML")

        told = Told()
        log = logging.getLogger("hostdev_operator.shell.agent")
        log.addHandler(told)
        usual, world.host.hook = world.host.hook, explode
        await asyncio.sleep(300)
        log.removeHandler(told)
        assert not task.done()
        assert len(looks) > 3
        assert told.of == [("looking at the host", True)]
        world.host.hook = usual
        version = world.agent._version
        await asyncio.sleep(60)
        assert world.agent._version == version + 1


@on_loop
async def test_what_is_taken_out_of_the_persistent_xml_by_hand_is_seen_within_5_seconds() -> None:
    async with running() as world, in_background(world.agent.look_around()):
        await asyncio.sleep(10)
        world.cluster.create(body(driftPolicy="Correct"))
        await world.settle()
        guest = world.host.guests[WEB]
        assert guest.config is not None
        assert "<hostdev" in guest.config
        guest.config = re.sub("<hostdev.*</hostdev>", "", guest.config, flags=re.DOTALL)
        await asyncio.sleep(5)
        assert "<hostdev" in guest.config


@on_loop
async def test_a_connection_that_fails_strangely_is_tried_again() -> None:
    world = World()
    tries: list[int] = []

    def connect() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no more file descriptors")
        if len(tries) == 2:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket")

    senses = Senses(connect, lambda: len(tries) > 2)
    agent = Agent(NODE, ports(world.host, world.clock), world.cluster.port, senses)
    async with in_background(agent.watch_libvirt()) as task:
        await asyncio.sleep(60)
        assert not task.done()
        assert len(tries) > 3
        assert agent._version == 1


# -- events of the host ----------------------------------------------------------------------------------------------


@on_loop
async def test_events_are_answered_once_and_those_of_a_guests_start_at_its_end() -> None:
    world = World()
    starting = False
    agent = Agent(
        NODE,
        ports(world.host, world.clock),
        world.cluster.port,
        Senses(lambda: None, lambda: True, lambda: starting),
    )
    async with in_background(agent.answer_events()):
        for _ in range(3):
            agent.host_event()
        await asyncio.sleep(1)
        assert agent._version == 1
        starting = True
        agent.host_event()
        await asyncio.sleep(5)
        agent.host_event()
        await asyncio.sleep(1)
        assert agent._version == 1
        starting = False
        agent.host_event()
        await asyncio.sleep(1)
        assert agent._version == 2


@on_loop
async def test_a_start_that_does_not_end_is_waited_for_ten_seconds() -> None:
    world = World()
    senses = Senses(lambda: None, lambda: True, lambda: True)
    agent = Agent(NODE, ports(world.host, world.clock), world.cluster.port, senses)
    async with in_background(agent.answer_events()) as task:
        agent.host_event()
        await asyncio.sleep(9)
        assert agent._version == 0
        await asyncio.sleep(2)
        assert agent._version == 1
        assert not task.done()


@on_loop
async def test_events_are_answered_where_it_cannot_be_told_whether_a_guest_is_being_started() -> None:
    def explode() -> bool:
        raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket")

    world = World()
    senses = Senses(lambda: None, lambda: True, explode)
    agent = Agent(NODE, ports(world.host, world.clock), world.cluster.port, senses)
    async with in_background(agent.answer_events()):
        agent.host_event()
        await asyncio.sleep(1)
        assert agent._version == 1
