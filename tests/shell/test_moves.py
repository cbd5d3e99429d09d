"""A guest that moves to another node: its assignment of a pool is unbound there, and bound anew here."""

from __future__ import annotations

import asyncio

from hostdev_operator.ports import Body
from tests.fakes.samples import DB, NODE, WEB, body
from tests.shell.loop import on_loop
from tests.shell.pool_world import PoolWorld, controlling
from tests.shell.world import running

POOL = {"source": {"pool": {"name": "lan"}}}


def bound(name: str = "nic") -> Body:
    return {**body(name, **POOL), "status": {"nodeName": NODE, "domainUUID": WEB}}


@on_loop
async def test_the_agent_gives_the_binding_up_once_the_guest_is_gone_and_writes_no_more() -> None:
    async with running(controller=False) as world:
        world.cluster.create(bound())
        await world.settle()
        assert world.ready() == ("False", "PoolNotFound")
        world.host.undefine(WEB)
        world.agent.host_changed()
        await asyncio.sleep(5)
        assert (world.node(), world.ready()) == (NODE, ("False", "GuestNotFound"))
        world.clock.seconds += 10
        await asyncio.sleep(5)
        assert world.node() is None
        assert world.cluster.get("nic")["status"]["domainUUID"] == WEB
        assert world.cluster.events[-1] == "GuestLeft"
        world.cluster.writes.clear()
        world.agent.host_changed()
        await asyncio.sleep(100)
        assert world.cluster.writes == []
        assert list(world.agent.assignments.objects) == []


@on_loop
async def test_what_was_given_up_is_asked_for_and_not_waited_for() -> None:
    """Another node may have the guest by now: until the watch tells, nothing is done here from memory."""
    async with running(controller=False) as world:
        world.cluster.create(bound())
        world.host.undefine(WEB)
        await world.settle()
        world.cluster._watchers.clear()
        world.clock.seconds += 10
        await asyncio.sleep(5)
        assert world.node() is None
        assert list(world.agent.assignments.objects) == []


async def moving(world: PoolWorld) -> None:
    """Bound to n1, whose agent then gives the binding up."""
    world.node("n1", guest=("web", WEB))
    world.node("n2")
    world.pool()
    await world.settle()
    world.assign("nic")
    await world.settle()
    assert status(world) == ("n1", WEB)
    guests(world, "n1")
    await world.agents.clear_status(world.cluster.get("nic"), ["nodeName", "record", "guest"])
    await world.settle()


def guests(world: PoolWorld, node: str, *found: tuple[str, str]) -> None:
    """What the node's agent reports."""
    old = world.cluster.get(node, kind="DeviceHost")
    rows = [{"name": name, "uuid": uuid, "active": False, "persistent": True} for name, uuid in found]
    world.cluster._store({**old, "status": {"guests": rows}}, old)


def status(world: PoolWorld) -> tuple[str | None, str | None]:
    found = world.cluster.get("nic")["status"]
    return found.get("nodeName"), found.get("domainUUID")


@on_loop
async def test_the_controller_binds_it_where_the_guest_comes_up_whatever_its_name() -> None:
    async with controlling() as world:
        await moving(world)
        assert (status(world), world.accepted("nic")) == ((None, WEB), ("False", "GuestNotFound"))
        guests(world, "n2", ("renamed", WEB))
        await world.settle()
        assert (status(world), world.accepted("nic")) == (("n2", WEB), ("True", "Bound"))


@on_loop
async def test_another_guest_of_its_name_gets_nothing() -> None:
    async with controlling() as world:
        await moving(world)
        guests(world, "n2", ("web", DB))
        await world.settle()
        assert (status(world), world.accepted("nic")) == ((None, WEB), ("False", "GuestIdentityChanged"))
        guests(world, "n2", ("web", DB), ("other", WEB))
        await world.settle()
        assert status(world) == ("n2", WEB)


@on_loop
async def test_an_assignment_that_belongs_nowhere_is_deleted_at_once() -> None:
    async with controlling() as world:
        await moving(world)
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")
