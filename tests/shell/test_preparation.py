"""The agent and the preparation of its host: asked for by the DeviceHost, answered by nobody who tells of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hostdev_operator.core.preparation import INTEL
from tests.reconcile.preparing import UNPREPARED, done
from tests.shell.loop import on_loop
from tests.shell.world import World, running


def prepared(world: World) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in world.host_status()["conditions"] if c["type"] == "Prepared")


@on_loop
async def test_the_agent_looks_whether_the_unit_has_answered() -> None:
    async with running(controller=False) as world:
        host = world.host
        host.boot_facts, host.platform = UNPREPARED, replace(host.platform, iommu=False)
        host.unit = lambda _request: done(None)
        world.administrate(preparation={"mode": "Apply", "iommu": "Required"})
        task = asyncio.create_task(world.agent.host.run())
        try:
            async with asyncio.timeout(60):
                while host.request is None:  # noqa: ASYNC110 - the clock is the test's
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)  # the report of that
                assert prepared(world) == ("Unknown", "PreparationPending")
                host.unit = done  # no event tells of it
                while prepared(world) != ("False", "RebootRequired"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            task.cancel()
        assert f"boot-word {INTEL}" in (host.request or "")


@on_loop
async def test_a_deleted_devicehost_asks_for_nothing_any_more() -> None:
    async with running(controller=False) as world:
        world.host.unit = done
        world.administrate(preparation={"mode": "Apply", "iommu": "Required"})
        await world.report()
        assert "boot-word" in (world.host.request or "")
        world.agent.host_seen("DELETED", world.cluster.get(world.agent._node, "", "DeviceHost"))
        await world.report()
        assert "boot-word" not in (world.host.request or "")
