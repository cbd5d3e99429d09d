"""A NIC of a pool whose assignment is gone without a release, as after an etcd restore: its alias tells."""

from __future__ import annotations

import pytest

from hostdev_operator.ports import Body, ClusterError
from tests.fakes.samples import UID, WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import World, running

POOL: Body = {"source": {"pool": {"name": "lan"}}}


def with_nic(world: World, uid: str) -> None:
    """Guest web, whose XML has it; the agent is told."""
    nic = f"<interface type='network'><source network='lan'/><alias name='ua-hostdev-{uid}'/></interface>"
    world.host.define(WEB, "web", nic)
    world.agent.host_changed()


def orphans(world: World) -> list[object]:
    found: list[object] = world.host_status().get("orphans", [])
    return found


@on_loop
async def test_it_is_reported_and_given_back_when_it_is_listed() -> None:
    async with running() as world:
        with_nic(world, UID)
        await world.settle()
        await world.report()
        assert orphans(world) == [{"uid": UID, "guest": "web"}]
        world.administrate(releaseOrphans=["another"])
        await world.report()
        assert "ua-hostdev" in (world.host.guests[WEB].config or "")
        world.administrate(releaseOrphans=[UID])
        await world.report()
        assert "ua-hostdev" not in (world.host.guests[WEB].config or "")
        await world.report()
        assert orphans(world) == []


@on_loop
async def test_what_it_waits_for_is_told() -> None:
    async with running() as world:
        with_nic(world, UID)
        world.administrate(releaseOrphans=[UID], paused=True)
        await world.settle()
        await world.report()
        (told,) = world.host_status()["orphans"]
        assert told["message"].startswith("Paused: ")


@on_loop
async def test_a_nic_whose_assignment_is_another_nodes_is_left_alone_although_it_is_listed() -> None:
    """Its guest has just moved here, or was copied with its alias."""
    async with running(controller=False) as world:
        world.cluster.create({**body(**POOL), "status": {"nodeName": "n2", "domainUUID": WEB}})
        uid = world.cluster.get("nic")["metadata"]["uid"]
        with_nic(world, uid)
        world.administrate(releaseOrphans=[uid])
        await world.settle()
        await world.report()
        assert orphans(world) == []
        assert uid in (world.host.guests[WEB].config or "")
        world.cluster.delete("nic")
        await world.report()
        assert uid not in (world.host.guests[WEB].config or "")


@on_loop
async def test_if_the_api_cannot_be_asked_nothing_is_given_back() -> None:
    async with running() as world:
        with_nic(world, UID)
        world.administrate(releaseOrphans=[UID])
        world.cluster.fail("objects", 500)
        with pytest.raises(ClusterError):
            await world.report()
        assert UID in (world.host.guests[WEB].config or "")


@on_loop
async def test_without_such_a_nic_the_assignments_of_other_nodes_are_not_asked_for() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        world.cluster.fail("objects", 500)
        await world.report()
        assert orphans(world) == []
