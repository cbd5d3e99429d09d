"""What the controller does with namespaces that may not have an assignment, or may no longer."""

from __future__ import annotations

from tests.fakes.samples import NODE, WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import World, running

ALLOWED = {"hostdev.dev/assignments": "allowed"}


def label(world: World, **labels: str) -> None:
    world.cluster.annotate("default", kind="Namespace", labels=labels)


@on_loop
async def test_nothing_is_bound_in_a_namespace_without_the_label_until_it_has_it() -> None:
    async with running(agent=False) as world:
        label(world)
        world.cluster.create(body())
        await world.settle()
        assert world.node() is None
        assert world.ready() == ("False", "NamespaceNotAllowed")
        assert world.ready(kind="Accepted") == ("False", "NamespaceNotAllowed")
        assert world.cluster.events == ["NamespaceNotAllowed"]
        label(world, **ALLOWED, other="x")
        await world.settle()
        assert world.node() == NODE


@on_loop
async def test_what_is_bound_stays_when_the_label_goes_and_can_be_deleted() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        label(world)
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")


@on_loop
async def test_a_guest_that_moves_is_followed_although_the_label_is_gone() -> None:
    async with running(agent=False) as world:
        label(world)
        world.cluster.create({**body(), "status": {"domainUUID": WEB}})
        await world.settle()
        assert world.node() == NODE


@on_loop
async def test_a_watch_that_is_late_refuses_nothing() -> None:
    """The policies have seen the label before the controller did."""
    async with running(agent=False) as world:
        label(world)
        world.cluster._watchers = [w for w in world.cluster._watchers if w[0] != "Namespace"]
        label(world, **ALLOWED)
        world.cluster.create(body())
        await world.settle()
        assert world.node() == NODE
        assert "NamespaceNotAllowed" not in world.cluster.events


@on_loop
async def test_a_namespace_that_changes_otherwise_wakes_nobody() -> None:
    async with running(agent=False) as world:
        label(world)
        world.cluster.create(body())
        await world.settle()
        world.cluster.asked["hostdev-controller"].clear()
        label(world, other="x")
        await world.settle()
        assert world.cluster.asked["hostdev-controller"] == set()
        world.controller.namespace_seen("DELETED", world.cluster.get("default", kind="Namespace"))
        await world.settle()
        assert world.node() is None
