"""Binding of assignments, and the finalizer."""

from __future__ import annotations

import asyncio

from hostdev_operator.api.deviceassignment import FINALIZER
from tests.fakes.samples import WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import running


@on_loop
async def test_what_cannot_be_bound_is_refused_once_and_keeps_no_finalizer() -> None:
    async with running(agent=False) as world:
        world.cluster.create(body(guest="nobody"))
        await world.settle()
        assert world.node() is None
        assert world.ready() == ("False", "GuestNotFound")
        assert world.ready(kind="Accepted") == ("False", "GuestNotFound")
        assert FINALIZER not in world.cluster.get("nic")["metadata"].get("finalizers", [])
        world.cluster.touch("nic")
        await world.settle()
        assert world.cluster.writes == ["apply DeviceAssignment by hostdev-controller"]
        assert world.cluster.events == ["GuestNotFound"]
        world.cluster.delete("nic")
        assert not world.cluster.exists("nic")


@on_loop
async def test_an_assignment_is_bound_as_soon_as_a_host_lists_its_guest() -> None:
    async with running() as world:
        world.cluster.create(body(guest="late"))
        await world.settle()
        assert world.node() is None
        world.host.define("33333333-3333-4333-8333-333333333333", "late")
        await world.report()
        await world.settle()
        assert world.node() == "n1"
        assert world.ready() == ("True", "Assigned")
        kinds = [c["type"] for c in world.cluster.get("nic")["status"]["conditions"]]
        assert sorted(kinds) == ["Accepted", "Attached", "Configured", "GroupReady", "Planned", "Ready"]


@on_loop
async def test_nothing_is_decided_before_the_hosts_are_listed() -> None:
    async with running(agent=False, controller=False) as world:
        task = asyncio.create_task(world.controller.queue.run())
        world.cluster.watch("DeviceAssignment", world.controller.assignment_seen)
        world.cluster.create(body())
        await world.settle()
        assert world.cluster.writes == []
        assert world.controller.unready()
        await world.controller.list_all()
        await world.settle()
        assert world.node() == "n1"
        assert world.controller.unready() == "the API server's watch has told nothing yet"
        world.cluster.watch("Namespace", world.controller.namespace_seen)
        await world.settle()
        assert world.controller.unready() is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@on_loop
async def test_the_finalizer_is_there_before_the_binding_and_other_finalizers_stay() -> None:
    async with running(agent=False) as world:
        world.cluster.fail("apply_status", 500, times=2)  # the second: woken by its own write's echo
        theirs = body()
        theirs["metadata"]["finalizers"] = ["example.org/theirs"]
        world.cluster.create(theirs)
        await world.settle()
        assert world.cluster.get("nic")["metadata"]["finalizers"] == ["example.org/theirs", FINALIZER]
        assert world.node() is None
        await asyncio.sleep(60)
        assert world.node() == "n1"
        world.cluster.delete("nic")
        await world.settle()
        assert FINALIZER in world.cluster.get("nic")["metadata"]["finalizers"]
        await world.cluster.port.clear_status(world.cluster.get("nic"), ["nodeName", "record", "guest"])
        await world.settle()
        assert world.cluster.get("nic")["metadata"]["finalizers"] == ["example.org/theirs"]


@on_loop
async def test_a_conflict_is_tried_again_with_the_newer_object() -> None:
    async with running(agent=False) as world:
        world.cluster.fail("set_finalizers", 409)
        world.cluster.create(body())
        await world.settle()
        assert world.node() is None
        await asyncio.sleep(10)
        assert world.node() == "n1"


@on_loop
async def test_an_object_that_is_being_deleted_is_not_bound() -> None:
    async with running(agent=False) as world:
        theirs = body()
        theirs["metadata"] |= {"finalizers": ["example.org/theirs"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        world.cluster.create(theirs)
        await world.settle()
        assert world.node() is None
        assert world.cluster.writes == []


@on_loop
async def test_a_finalizer_that_was_taken_away_is_added_again_even_if_the_guest_is_gone() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        world.host.undefine(WEB)
        await world.report()
        bound = world.cluster.get("nic")
        await world.cluster.port.set_finalizers(bound, [])
        await world.settle()
        assert FINALIZER in world.cluster.get("nic")["metadata"]["finalizers"]
