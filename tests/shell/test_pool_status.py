"""A VFPool's status and events; failures and races; assignments of its VFs."""

from __future__ import annotations

import asyncio

import pytest

from hostdev_operator.api.vfpool import POOL_FINALIZER
from hostdev_operator.shell.pool_controller import STATUS_SECONDS
from tests.fakes.cluster import FakeCluster
from tests.fakes.samples import DB, WEB
from tests.shell.loop import on_loop
from tests.shell.pool_world import STATUS, PoolWorld, by_hand, controlling

# -- status and events -----------------------------------------------------------------------------------------------


@on_loop
async def test_the_status_sums_up_and_names_the_node_that_is_not_ready() -> None:
    async with controlling("n1", "n2") as world:
        world.pool()
        await world.settle()
        assert world.ready() == ("False", "Pending")
        await world.report("lan.n1")
        await world.report("lan.n2", "PFDown")
        await world.settle()
        status = world.status()
        assert (status["nodes"], status["nodesReady"]) == (2, 1)
        assert status["counts"] == {"total": 8, "allocated": 2, "free": 6}
        assert (status["conditions"][0]["message"], world.ready()) == ("node n2: because", ("False", "PFDown"))
        await world.report("lan.n2")
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")
        assert world.cluster.events == ["Pending", "PFDown", "AllNodesReady"]


@on_loop
async def test_the_time_of_a_condition_moves_only_with_its_status() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        first = world.status()["conditions"][0]["lastTransitionTime"]
        world.clock.time = "2030-01-01T00:00:00Z"
        await world.report("lan.n1", "PFDown")
        await world.settle()
        assert world.status()["conditions"][0]["lastTransitionTime"] == first
        await world.report("lan.n1")
        await world.settle()
        assert world.status()["conditions"][0]["lastTransitionTime"] == "2030-01-01T00:00:00Z"


@on_loop
async def test_nothing_is_written_while_nothing_changes() -> None:
    async with controlling("n1", "n2") as world:
        world.pool(selector={"rack": "r1"})
        world.relabel("n1", rack="r1")
        await world.settle()
        await world.report()
        await world.settle()
        world.cluster.writes.clear()
        world.cluster.events.clear()
        world.clock.time = "2030-01-01T00:00:00Z"
        for kind, name in (("Node", "n1"), ("DeviceHost", "n1"), ("VFPool", "lan"), ("NodeVFPool", "lan.n1")):
            world.cluster.touch(name, kind=kind)
        world.relabel("n2", rack="r2")
        await world.report(vfs=[{"index": 0, "address": "0000:01:10.0"}])
        await asyncio.sleep(3600)
        assert (world.cluster.writes, world.cluster.events) == ([], [])


@on_loop
async def test_heartbeats_wake_nobody() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        await world.settle()
        for beat in range(3):
            world.cluster.touch("n1", kind="Node")
            world.cluster.touch("n1", kind="DeviceHost")
            await world.report(vfs=[])
            world.cluster.touch("lan.n1", kind="NodeVFPool")
            world.relabel("n1", beat=str(beat))
        assert world.controller.pools.queue.idle


@on_loop
async def test_many_reports_at_once_are_few_writes() -> None:
    nodes, runs = [f"n{i}" for i in range(100)], list[bool]()
    async with controlling(*nodes) as world:
        world.pool()
        await world.settle()
        world.cluster.writes.clear()
        for node in nodes:
            await world.report(f"lan.{node}")
            runs.append(not world.controller.pools.queue.idle)
            await asyncio.sleep(0.01)
        assert runs.count(True) <= 2 * 100 * 0.01 / STATUS_SECONDS + 2
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")
        assert world.cluster.writes == [STATUS] * len(world.cluster.writes)
        assert len(world.cluster.writes) <= 100 * 0.01 / STATUS_SECONDS + 2


# -- failures and races ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [409, 500, 0])
@pytest.mark.parametrize("call", ["set_finalizers VFPool", "create NodeVFPool", "apply_status VFPool"])
def test_what_fails_is_done_later(call: str, code: int) -> None:
    @on_loop
    async def scenario() -> None:
        async with controlling("n1", "n2") as world:
            world.cluster.fail(call, code, times=3)
            world.pool()
            await world.settle()
            await asyncio.sleep(60)
            assert world.node_pools() == ["lan.n1", "lan.n2"]
            assert world.ready() == ("False", "Pending")

    scenario()


@pytest.mark.parametrize("call", ["delete NodeVFPool", "set_finalizers NodeVFPool", "set_finalizers VFPool"])
def test_an_end_that_fails_is_made_later(call: str) -> None:
    @on_loop
    async def scenario() -> None:
        async with controlling("n1", "n2") as world:
            world.pool()
            await world.settle()
            world.cluster.fail(call, 409, times=3)
            world.cluster.delete("lan", kind="VFPool")
            await asyncio.sleep(60)
            assert not world.cluster.exists("lan", kind="VFPool")
            assert world.cluster.all("NodeVFPool") == []

    scenario()


@on_loop
async def test_a_node_where_it_fails_keeps_no_other_from_its_pool() -> None:
    async with controlling("n1", "n2", "n3") as world:
        world.cluster.fail("create NodeVFPool", 422)
        world.pool()
        await asyncio.sleep(10)
        assert world.node_pools() == ["lan.n1", "lan.n2", "lan.n3"]
        made = sorted(world.cluster.all("NodeVFPool"), key=lambda b: b["metadata"]["creationTimestamp"])
        assert [b["spec"]["nodeName"] for b in made] == ["n2", "n3", "n1"]


@on_loop
async def test_a_second_controller_at_work_does_no_harm() -> None:
    cluster = FakeCluster()
    async with controlling("n1", "n2", cluster=cluster) as world, controlling(cluster=cluster):
        world.pool()
        await asyncio.sleep(60)
        assert world.node_pools() == ["lan.n1", "lan.n2"]
        await world.report("lan.n1")
        await world.report("lan.n2")
        await asyncio.sleep(60)
        assert world.ready() == ("True", "AllNodesReady")
        world.cluster.delete("lan", kind="VFPool")
        await asyncio.sleep(60)
        assert world.cluster.exists("lan", kind="VFPool")
        await world.give_back("lan.n1")
        await world.give_back("lan.n2")
        await asyncio.sleep(60)
        assert world.cluster.all("VFPool") == world.cluster.all("NodeVFPool") == []


@on_loop
async def test_an_agent_that_begins_unseen_is_not_let_go() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        world.cluster.delete("lan.n1", kind="NodeVFPool")  # the controller is about to let it go
        watchers, world.cluster._watchers = world.cluster._watchers, []
        await world.report()
        await world.settle(30)
        world.cluster._watchers = watchers
        assert world.node_pool()["status"]["nodeName"] == "n1"
        assert world.finalizers("lan.n1") == [POOL_FINALIZER]


@on_loop
async def test_a_restart_changes_nothing() -> None:
    cluster = FakeCluster()
    async with controlling("n1", "n2", cluster=cluster) as world:
        world.pool()
        await world.settle()
        await world.report()
        await world.settle()
    cluster._watchers.clear()
    async with controlling(cluster=cluster) as again:
        await again.settle()
        assert again.cluster.writes == []
        assert again.controller.unready() is None


@on_loop
async def test_nothing_is_done_before_everything_is_listed() -> None:
    world = PoolWorld()
    world.node("n1")
    world.pool()
    pools = world.controller.pools
    world.cluster.create(by_hand("lan.n1", "lan"))
    world.cluster.watch("NodeVFPool", pools.node_pool_seen)  # the watch of VFPools is slower
    task = asyncio.create_task(pools.queue.run())
    await world.settle()
    assert world.cluster.writes == []
    assert world.controller.unready()
    await world.controller.list_all()
    await world.settle()
    assert "delete NodeVFPool" not in world.cluster.writes
    assert world.node_pools() == ["lan.n1"]
    task.cancel()


@on_loop
async def test_a_pool_that_cannot_be_read_loses_nothing() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        world.cluster.writes.clear()
        world.cluster.edit("lan", {"numVFs": "many"}, kind="VFPool")
        await asyncio.sleep(600)
        assert world.cluster.writes == []
        assert world.node_pools() == ["lan.n1"]
        assert world.controller.pools.homes == {"lan": {"n1"}}
        world.cluster.edit("lan", {"numVFs": 5}, kind="VFPool")
        await world.settle()
        assert world.node_pool()["spec"]["numVFs"] == 5


# -- assignments of a pool -------------------------------------------------------------------------------------------


@on_loop
async def test_an_assignment_waits_for_its_pool_and_is_bound_where_its_guest_is() -> None:
    async with controlling() as world:
        world.node("n1", guest=("web", WEB))
        world.node("n2", guest=("db", DB), rack="r1")
        world.assign("nic")
        await world.settle()
        assert world.accepted("nic") == ("False", "PoolNotFound")
        world.pool(selector={"rack": "r1"})
        await world.settle()
        assert world.accepted("nic") == ("False", "PoolNotFound")
        assert "node n1" in world.cluster.get("nic")["status"]["conditions"][0]["message"]
        world.relabel("n1", rack="r1")
        await world.settle()
        assert world.accepted("nic") == ("True", "Bound")
        assert world.cluster.get("nic")["status"]["nodeName"] == "n1"
        world.assign("late", guest="db")
        await world.settle()
        assert world.cluster.get("late")["status"]["nodeName"] == "n2"


@on_loop
async def test_nobody_is_bound_to_a_pool_that_goes() -> None:
    async with controlling() as world:
        world.node("n1", guest=("web", WEB))
        world.pool()
        await world.settle()
        await world.report()
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        world.assign("nic")
        await world.settle()
        assert world.accepted("nic") == ("False", "PoolNotFound")
        assert "being deleted" in world.cluster.get("nic")["status"]["conditions"][0]["message"]
        await world.give_back()
        await world.settle()
        world.pool()
        await world.settle()
        assert world.accepted("nic") == ("True", "Bound")


@on_loop
async def test_nobody_is_bound_to_a_node_that_gives_the_pool_back() -> None:
    async with controlling() as world:
        world.node("n1", guest=("web", WEB), rack="r1")
        world.pool(selector={"rack": "r1"})
        await world.settle()
        await world.report()
        world.relabel("n1")
        await world.settle()
        world.assign("nic")
        await world.settle()
        assert world.accepted("nic") == ("False", "PoolNotFound")
        assert "on no node" in world.cluster.get("nic")["status"]["conditions"][0]["message"]
