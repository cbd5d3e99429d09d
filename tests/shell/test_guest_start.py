"""The agent and the guests that must not start without their device."""

from __future__ import annotations

import asyncio

from tests.fakes.samples import NIC, OTHER_UID, WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import running


@on_loop
async def test_no_status_is_written_for_it_and_a_deletion_ends_it() -> None:
    async with running() as world:
        host = world.host
        host.start_hook = True
        host.use(NIC, "carries the default route")
        world.cluster.create(body(requireAtStart=True))
        await world.settle()
        assert [guest for guest, _ in host.closed.values()] == [WEB]
        world.cluster.writes.clear()
        world.agent.host_changed()
        await world.settle()
        assert world.cluster.writes == []
        world.cluster.delete("nic")
        await world.settle()
        assert host.closed == {}


@on_loop
async def test_what_no_assignment_asks_for_any_more_is_opened() -> None:
    async with running() as world:
        host = world.host
        host.start_hook = True
        host.use(NIC, "carries the default route")
        world.cluster.create(body(requireAtStart=True))
        await world.settle()
        (kept,) = host.closed
        host.closed[OTHER_UID] = (WEB, "of a former life")
        task = asyncio.create_task(world.agent.keep_gates())
        try:
            async with asyncio.timeout(600):
                while OTHER_UID in host.closed:  # noqa: ASYNC110 - the clock is the test's
                    await asyncio.sleep(1)
        finally:
            task.cancel()
        assert list(host.closed) == [kept]
