"""Pools on nodes without a Node object."""

from __future__ import annotations

import pytest

from tests.shell.loop import on_loop
from tests.shell.pool_world import AGENT, PoolWorld, controlling
from tests.shell.test_gone_nodes import DELETED, GRACE, LATE, NOW, begin, later, lose, say_gone, with_grace


@on_loop
async def test_the_pools_of_a_node_that_is_gone_go_with_it() -> None:
    async with controlling() as world:
        begin(world)
        world.pool()
        await world.settle()
        for name in ("lan.n1", "lan.n2"):
            await world.report(name)
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")
        lose(world)
        await world.settle()
        assert world.node_pools() == ["lan.n1", "lan.n2"]
        assert world.ready() == ("False", "NodeGone")
        world.cluster.create({"kind": "Node", "metadata": {"name": "n1"}})
        await world.settle()
        assert world.ready() == ("True", "AllNodesReady")
        lose(world)
        await world.settle()
        say_gone(world)
        await world.settle()
        assert world.node_pools() == ["lan.n2"]
        assert not world.cluster.exists("lan.n1", kind="NodeVFPool")
        assert (world.ready(), world.status()["nodes"]) == (("True", "AllNodesReady"), 1)
        assert ("lan", "NodeGone") in {told[:2] for told in world.cluster.told}


@pytest.mark.parametrize("answered", [True, False])
def test_after_the_grace_time_only_a_pool_that_is_being_deleted_goes(answered: bool) -> None:  # noqa: FBT001
    async def story() -> None:
        async with controlling() as world:
            with_grace(world)
            begin(world)
            world.pool()
            await world.settle()
            await world.report("lan.n1")
            await world.settle()
            lose(world)
            await later(world, 2 * GRACE)
            assert world.node_pools() == ["lan.n1", "lan.n2"]
            world.clock.time = DELETED  # what the fake API server notes as the time of each deletion
            world.cluster.delete("lan", kind="VFPool")
            await world.settle(0.001)
            assert world.cluster.exists("lan.n1", kind="NodeVFPool")
            if answered:
                await world.report("lan.n1", "PoolInUse")
            world.clock.time = NOW
            await later(world, GRACE)
            assert world.cluster.exists("lan.n1", kind="NodeVFPool") == answered
            assert not world.cluster.exists("lan.n2", kind="NodeVFPool")

    on_loop(story)()


def reported_of_the_pool(world: PoolWorld, time: str) -> None:
    """When the node's agent has written the NodeVFPool's status last."""
    fields = [{"manager": AGENT, "subresource": "status", "time": time, "fieldsV1": {"f:status": {}}}]
    world.cluster.annotate("lan.n1", kind="NodeVFPool", managedFields=fields)


@on_loop
async def test_a_report_on_the_pool_alone_is_a_sign_of_life_too() -> None:
    async with controlling() as world:
        begin(world)
        world.pool()
        await world.settle()
        for name in ("lan.n1", "lan.n2"):
            await world.report(name)
        reported_of_the_pool(world, NOW)
        lose(world)
        say_gone(world, LATE)
        await world.settle()
        assert world.node_pools() == ["lan.n1", "lan.n2"]
        assert (world.ready(), world.status()["nodes"]) == (("False", "NodeGone"), 2)
        assert f"has reported at {NOW}" in world.status()["conditions"][0]["message"]
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        assert world.finalizers("lan.n1")
        world.clock.time = "2026-05-01T13:00:00Z"
        say_gone(world, "2026-05-01T13:00:00Z")
        await world.settle()
        assert not world.cluster.exists("lan.n1", kind="NodeVFPool")
