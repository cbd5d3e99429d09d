"""VFPools: a NodeVFPool for each node that has the pool, and the end of both."""

from __future__ import annotations

import asyncio

import pytest

from hostdev_operator.api.vfpool import POOL_FINALIZER, NodeVFPool
from hostdev_operator.ports import Body
from tests.shell.loop import on_loop
from tests.shell.pool_world import STATUS, by_hand, controlling

# -- which nodes have it ---------------------------------------------------------------------------------------------


@on_loop
async def test_each_node_with_an_agent_gets_the_pool() -> None:
    async with controlling("n1", "n2") as world:
        world.cluster.create({"kind": "Node", "metadata": {"name": "without-an-agent"}})
        world.pool(linkUp=True)
        await world.settle()
        assert world.node_pools() == ["lan.n1", "lan.n2"]
        made = NodeVFPool.model_validate(world.node_pool())
        assert (made.spec.pool_name, made.spec.node_name, made.spec.num_vfs, made.spec.link_up) == (
            "lan",
            "n1",
            4,
            True,
        )
        assert world.finalizers("lan.n1") == [POOL_FINALIZER]
        assert world.finalizers("lan", "VFPool") == [POOL_FINALIZER]
        owner = world.node_pool()["metadata"]["ownerReferences"][0]
        assert owner["uid"] == world.cluster.get("lan", kind="VFPool")["metadata"]["uid"]
        assert world.cluster.writes == ["set_finalizers", "create NodeVFPool", "create NodeVFPool", STATUS]


@on_loop
async def test_a_node_that_comes_later_gets_it_and_one_whose_agent_is_away_keeps_it() -> None:
    async with controlling() as world:
        world.pool()
        await world.settle()
        assert (world.node_pools(), world.ready()) == ([], ("False", "NoNodes"))
        world.node("n1")
        await world.settle()
        assert world.node_pools() == ["lan.n1"]
        await world.report()
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")
        world.cluster.delete("n1", kind="DeviceHost")
        world.cluster.delete("n1", kind="Node")
        await world.settle()
        assert world.node_pools() == ["lan.n1"]
        assert world.ready() == ("False", "NodeNotFound")


@on_loop
async def test_labels_decide_and_a_node_that_loses_them_gives_back() -> None:
    async with controlling() as world:
        world.node("n1", rack="r1")
        world.node("n2", rack="r2")
        world.pool(selector={"rack": "r1"})
        await world.settle()
        assert world.node_pools() == ["lan.n1"]
        await world.report()
        world.relabel("n2", rack="r1")
        world.relabel("n1", rack="r9")
        await world.settle()
        assert world.node_pools() == ["lan.n2"]
        assert world.cluster.exists("lan.n1", kind="NodeVFPool")
        await world.give_back()
        await world.settle()
        assert not world.cluster.exists("lan.n1", kind="NodeVFPool")
        assert world.status()["nodes"] == 1


@on_loop
async def test_a_node_that_matches_again_while_it_gives_back_gets_it_anew() -> None:
    async with controlling() as world:
        world.node("n1", rack="r1")
        world.pool(selector={"rack": "r1"})
        await world.settle()
        await world.report()
        uid = world.node_pool()["metadata"]["uid"]
        world.relabel("n1")
        await world.settle()
        world.relabel("n1", rack="r1")
        await world.settle()
        assert world.ready() == ("False", "Pending")
        await world.give_back()
        await world.settle()
        assert world.node_pools() == ["lan.n1"]
        assert world.node_pool()["metadata"]["uid"] != uid


@on_loop
async def test_a_selector_that_changes_moves_the_pool() -> None:
    async with controlling() as world:
        world.node("n1", rack="r1")
        world.node("n2", rack="r2")
        world.pool(selector={"rack": "r1"})
        await world.settle()
        world.cluster.edit("lan", {"nodeSelector": {"rack": "r2"}}, kind="VFPool")
        await world.settle()
        assert world.node_pools() == ["lan.n2"]
        assert not world.cluster.exists("lan.n1", kind="NodeVFPool")


# -- what it asks for ------------------------------------------------------------------------------------------------


@on_loop
async def test_a_change_of_the_pool_reaches_its_nodes_and_is_not_ready_before_they_say_so() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")
        world.cluster.edit("lan", {"numVFs": 7}, kind="VFPool")
        await world.settle()
        assert world.node_pool()["spec"]["numVFs"] == 7
        assert world.ready() == ("False", "Pending")
        assert world.status()["observedGeneration"] == 2
        await world.report()
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")


@on_loop
async def test_what_somebody_edits_in_a_node_pool_is_corrected() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        await world.settle()
        before = world.node_pool()
        world.cluster.writes.clear()
        world.cluster.edit("lan.n1", {"numVFs": 1, "linkUp": True}, kind="NodeVFPool")
        await world.settle()
        assert world.node_pool()["spec"] == before["spec"]
        assert world.node_pool()["status"]["nodeName"] == "n1"
        world.cluster.annotate("lan.n1", kind="NodeVFPool", finalizers=["theirs"], ownerReferences=[])
        await world.settle()
        assert world.finalizers("lan.n1") == ["theirs", POOL_FINALIZER]
        assert world.node_pool()["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        assert world.cluster.writes.count("replace NodeVFPool") == 2


@on_loop
async def test_a_node_pool_that_somebody_deletes_is_made_anew_after_it_was_given_back() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        uid = world.node_pool()["metadata"]["uid"]
        world.cluster.delete("lan.n1", kind="NodeVFPool")
        await world.settle()
        assert world.node_pool()["metadata"]["uid"] == uid
        await world.give_back()
        await world.settle()
        assert world.node_pool()["metadata"]["uid"] != uid


@on_loop
async def test_node_pools_that_nobody_asked_for_go() -> None:
    async with controlling("n1") as world:
        world.pool()
        world.cluster.create(by_hand("lan.by-hand", "lan"))
        world.cluster.create(by_hand("nobody.n1", "nobody"))
        await world.settle()
        assert world.node_pools() == ["lan.n1"]


@on_loop
async def test_a_node_pool_that_was_made_by_hand_before_is_taken_over() -> None:
    async with controlling() as world:
        world.cluster.create(by_hand("lan.n1", "lan", numVFs=9))
        uid = world.node_pool()["metadata"]["uid"]
        world.pool()
        world.node("n1")
        await world.settle()
        assert (world.node_pool()["metadata"]["uid"], world.node_pool()["spec"]["numVFs"]) == (uid, 4)
        assert world.finalizers("lan.n1") == [POOL_FINALIZER]


@pytest.mark.parametrize(
    "other",
    [by_hand("lan.n1", "lan", pf={"name": "ens9"}), by_hand("lan.n1", "nobody"), by_hand("lan.n1", "lan", "n7")],
)
def test_a_node_pool_that_stands_in_the_way_gives_back_and_is_made_anew(other: Body) -> None:
    @on_loop
    async def scenario() -> None:
        async with controlling() as world:
            other["metadata"]["finalizers"] = [POOL_FINALIZER]
            world.cluster.create(other)
            await world.report()
            world.pool()
            world.node("n1")
            await asyncio.sleep(10)
            assert (world.node_pool()["spec"], world.node_pools()) == (other["spec"], [])
            await world.give_back()
            await asyncio.sleep(600)
            spec = NodeVFPool.model_validate(world.node_pool()).spec
            assert (spec.pool_name, spec.node_name, spec.pf.name) == ("lan", "n1", "ens1f0")

    scenario()


# -- the end ---------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_pool_goes_when_all_its_nodes_have_given_back() -> None:
    async with controlling("n1", "n2") as world:
        world.pool()
        await world.settle()
        await world.report("lan.n1")
        await world.report("lan.n2")
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        assert world.node_pools() == []
        await world.give_back("lan.n1")
        await world.settle()
        assert not world.cluster.exists("lan.n1", kind="NodeVFPool")
        assert world.cluster.exists("lan", kind="VFPool")
        await world.report("lan.n2", "PoolInUse")
        await world.settle()
        assert world.ready() == ("False", "PoolInUse")
        await world.give_back("lan.n2")
        await world.settle()
        assert not world.cluster.exists("lan", kind="VFPool")
        assert world.cluster.all("NodeVFPool") == []


@on_loop
async def test_a_pool_that_no_agent_has_begun_with_goes_at_once_and_a_namesake_is_another_pool() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        first = world.node_pool()["metadata"]["ownerReferences"]
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        assert not world.cluster.exists("lan", kind="VFPool")
        world.pool()
        await world.settle()
        assert world.node_pools() == ["lan.n1"]
        assert world.node_pool()["metadata"]["ownerReferences"] != first


@on_loop
async def test_late_news_of_a_pools_end_does_not_concern_its_namesake() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        first = world.cluster.get("lan", kind="VFPool")
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        world.pool()
        await world.settle()
        world.controller.pools.pool_seen("DELETED", first)
        await world.settle()
        assert world.node_pools() == ["lan.n1"]
        assert world.controller.pools.homes == {"lan": {"n1"}}


@on_loop
async def test_what_the_controller_does_itself_it_knows_without_the_watch() -> None:
    async with controlling("n1") as world:
        world.pool()
        watchers, world.cluster._watchers = world.cluster._watchers, []
        await world.settle()
        world.controller.pools.queue.add("lan")
        await world.settle()
        assert world.cluster.writes.count("create NodeVFPool") == 1
        world.cluster._watchers = watchers
        uid = world.node_pool()["metadata"]["uid"]
        world.cluster.delete("lan.n1", kind="NodeVFPool")
        world.cluster._watchers = []
        await world.settle()
        assert world.node_pool()["metadata"]["uid"] != uid


@on_loop
async def test_a_held_node_pool_never_loses_its_finalizer() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        world.cluster.delete("lan", kind="VFPool")
        await asyncio.sleep(3600)
        assert world.finalizers("lan.n1") == [POOL_FINALIZER]
        assert world.finalizers("lan", "VFPool") == [POOL_FINALIZER]


@on_loop
async def test_finalizers_of_others_are_left() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        world.cluster.annotate("lan.n1", kind="NodeVFPool", finalizers=["theirs", POOL_FINALIZER])
        world.cluster.annotate("lan", kind="VFPool", finalizers=[POOL_FINALIZER, "theirs"])
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        assert world.finalizers("lan.n1") == ["theirs"]
        world.cluster.annotate("lan.n1", kind="NodeVFPool", finalizers=[])
        await world.settle()
        assert world.finalizers("lan", "VFPool") == ["theirs"]
        world.cluster.writes.clear()
        world.cluster.touch("lan", kind="VFPool")
        await asyncio.sleep(600)
        assert world.cluster.writes == []


@on_loop
async def test_an_end_that_the_watch_has_missed_is_found_out() -> None:
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        watchers, world.cluster._watchers = world.cluster._watchers, []
        world.cluster.annotate("lan.n1", kind="NodeVFPool", finalizers=[])  # by force, while the watch is away
        world.cluster._watchers = watchers
        assert world.cluster.exists("lan", kind="VFPool")
        await asyncio.sleep(600)
        assert not world.cluster.exists("lan", kind="VFPool")


@on_loop
async def test_without_its_pool_a_node_pool_goes() -> None:
    """As when somebody has taken the VFPool's finalizer away; Kubernetes' garbage collection does the same."""
    async with controlling("n1") as world:
        world.pool()
        await world.settle()
        await world.report()
        world.cluster.annotate("lan", kind="VFPool", finalizers=[])
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        assert world.node_pools() == []
        await world.give_back()
        await world.settle()
        assert world.cluster.all("NodeVFPool") == []
