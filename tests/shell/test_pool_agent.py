"""The agent's work on a pool, where the controller or the API server does not keep up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.fakes.samples import NODE, body, device
from tests.reconcile.pool_running import PF
from tests.shell.loop import on_loop
from tests.shell.pool_world import by_hand
from tests.shell.test_agent import Told
from tests.shell.world import World, running


@asynccontextmanager
async def with_pool() -> AsyncIterator[tuple[World, str]]:
    """A pool that is ready, and its UID; the controller does nothing, so it stays when it is deleted."""
    async with running(controller=False) as world:
        world.host.sriov.add(device(PF, "igb", 30, product=0x10C9))
        world.cluster.watch("NodeVFPool", world.agent.pool_seen, NODE)
        made = by_hand(f"lan.{NODE}", "lan", NODE, pf={"name": "eth3"}, linkUp=True)
        made["metadata"]["finalizers"] = ["hostdev.dev/pool"]
        uid: str = world.cluster.create(made)["metadata"]["uid"]
        await world.settle()
        assert len(world.host.sriov.vfs(next(iter(world.host.sriov.pfs)))) == 4
        yield world, uid


@on_loop
async def test_a_pool_that_was_given_back_tells_others_once_however_long_it_stays() -> None:
    """It woke itself again and again, with a question to the API server each time."""
    async with with_pool() as (world, uid):
        freed: list[None] = []
        pools = world.agent.pools
        pools._calls = replace(pools._calls, freed=lambda: freed.append(None))
        world.cluster.delete(f"lan.{NODE}", kind="NodeVFPool")
        await world.settle()
        for _ in range(3):
            world.agent.queue.add(uid)
            await world.settle()
        assert freed == [None]
        assert "nodeName" not in world.cluster.get(f"lan.{NODE}", kind="NodeVFPool")["status"]


@pytest.mark.parametrize("kind", ["DeviceAssignment", "NodeVFPool"])
def test_an_object_that_cannot_be_read_is_tried_later_and_is_no_riddle(kind: str) -> None:
    """Told in a line of the log, without a traceback."""

    async def test() -> None:
        told = Told()
        logging.getLogger("hostdev_operator").addHandler(told)
        async with with_pool() as (world, pool):
            uid = pool
            if kind == "DeviceAssignment":
                made = {**body(), "status": {"nodeName": NODE, "domainUUID": next(iter(world.host.guests))}}
                uid = world.cluster.create(made)["metadata"]["uid"]
                await world.settle()
            work = world.agent.pools if kind == "NodeVFPool" else world.agent.assignments
            work.objects.doubt(uid)
            world.cluster.fail(f"get {kind}", 500)
            world.agent.queue.add(uid)
            await world.settle()
            assert (f"{uid}: not read: injected 500", False) in told.of
            assert not any(traceback for _, traceback in told.of)
            assert uid in world.agent.queue._timers
        logging.getLogger("hostdev_operator").removeHandler(told)

    on_loop(test)()


@on_loop
async def test_what_a_vanished_pool_has_left_is_an_orphan_that_is_given_back_when_it_is_listed() -> None:
    """As after an etcd restore, or after somebody took the finalizer away."""
    async with with_pool() as (world, uid):
        pf = next(iter(world.host.sriov.pfs))
        await world.report()
        assert world.host_status().get("orphans", []) == []
        world.cluster.annotate(f"lan.{NODE}", kind="NodeVFPool", finalizers=[])
        world.cluster.delete(f"lan.{NODE}", kind="NodeVFPool")
        await world.settle()
        await world.report()
        assert world.host_status()["orphans"] == [{"uid": uid, "pool": "lan", "address": str(pf)}]
        assert (len(world.host.sriov.vfs(pf)), list(world.host.networks.by_name)) == (4, ["lan"])
        world.administrate(releaseOrphans=[uid], paused=True)
        await world.report()
        assert world.host_status()["orphans"][0]["message"].startswith("Paused: nothing of pool lan is given back")
        world.administrate(releaseOrphans=[uid], paused=False)
        await world.report()
        await world.report()
        assert world.host_status().get("orphans", []) == []
        assert (world.host.sriov.vfs(pf), list(world.host.networks.by_name)) == ([], [])
        assert world.host.pool_records == {}
