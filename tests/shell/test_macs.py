"""Two assignments of one MAC address, wherever in the cluster they are."""

from __future__ import annotations

import asyncio
from typing import Any

from hostdev_operator.api.deviceassignment import FINALIZER
from tests.fakes.cluster import FakeCluster
from tests.fakes.samples import DB, NIC, WEB, body
from tests.shell.loop import on_loop
from tests.shell.pool_world import AGENT, PoolWorld, controlling

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


def two_nodes(world: PoolWorld) -> None:
    world.node("n1", guest=("web", WEB))
    world.node("n2", guest=("db", DB))


def assign(world: PoolWorld, name: str, mac: str | None = A, guest: str = "web", **more: Any) -> None:
    network = {"network": {"mac": mac} if mac else {}}
    world.cluster.create(body(name, address=NIC, guest=guest, **network, **more))


async def attached(world: PoolWorld, name: str, mac: str = A) -> None:
    """The agent reports the guest's NIC."""
    ready = {"type": "Ready", "status": "True", "reason": "Assigned", "lastTransitionTime": world.clock.now()}
    status = {"network": {"mac": mac}, "conditions": [ready]}
    await world.agents.apply_status(world.cluster.get(name), status, AGENT)
    world.cluster.writes.pop()


def message(world: PoolWorld, name: str) -> str:
    rows = world.cluster.get(name)["status"]["conditions"]
    return next(str(c["message"]) for c in rows if c["type"] == "Accepted")


def node(world: PoolWorld, name: str) -> str | None:
    found: str | None = world.cluster.get(name)["status"].get("nodeName")
    return found


@on_loop
async def test_the_younger_is_refused_by_name_and_bound_when_the_older_is_gone() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old")
        assign(world, "young", A.upper(), guest="db")
        await world.settle()
        assert world.accepted("old") == ("True", "Bound")
        assert world.accepted("young") == ("False", "MACInUse")
        assert all(word in message(world, "young") for word in (A, "default/old"))
        assert (node(world, "young"), world.finalizers("young", "DeviceAssignment")) == (None, [])
        assert [c["status"] for c in world.cluster.get("young")["status"]["conditions"]] == ["False", "False"]
        world.cluster.delete("old")
        await world.settle()
        assert world.accepted("young") == ("False", "MACInUse")  # its NIC is still in the guest
        world.cluster.annotate("old", finalizers=[FINALIZER, "theirs"])
        await world.agents.clear_status(world.cluster.get("old"), ["nodeName"])
        await world.settle(0.1)  # sooner than the younger is tried again by itself
        assert world.cluster.exists("old")
        assert world.accepted("young") == ("True", "Bound")
        assert node(world, "young") == "n2"


@on_loop
async def test_one_that_was_never_bound_frees_the_address_by_its_end() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old", guest="nobody")
        assign(world, "young", guest="db")
        await world.settle()
        assert world.accepted("young") == ("False", "MACInUse")
        world.cluster.delete("old")
        await world.settle(0.1)
        assert world.accepted("young") == ("True", "Bound")


@on_loop
async def test_one_that_was_bound_without_the_condition_gets_it_if_it_asks_for_an_address() -> None:
    async with controlling() as world:
        two_nodes(world)
        for name, mac in (("asks", A), ("none", None)):
            bound = body(name, network={"mac": mac} if mac else {})
            world.cluster.create({**bound, "status": {"nodeName": "n1", "domainUUID": WEB}})
        await world.settle()
        assert world.accepted("asks") == ("True", "Bound")
        assert WEB in message(world, "asks")
        assert "conditions" not in world.cluster.get("none")["status"]


@on_loop
async def test_the_older_that_changes_its_mind_frees_the_address() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old", guest="nobody")
        assign(world, "young", guest="db")
        await world.settle()
        assert world.accepted("young") == ("False", "MACInUse")
        world.cluster.edit("old", {"network": {"mac": B}})
        await world.settle()
        assert world.accepted("young") == ("True", "Bound")


@on_loop
async def test_an_address_that_a_guests_nic_has_without_being_asked_for_counts_as_well() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old", None)
        await world.settle()
        await attached(world, "old", A)
        assign(world, "young", guest="db")
        await world.settle()
        assert world.accepted("young") == ("False", "MACInUse")


@on_loop
async def test_other_addresses_are_no_matter() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "one")
        assign(world, "two", B, guest="db")
        assign(world, "three", None, guest="db")
        await world.settle()
        assert [world.accepted(name) for name in ("one", "two", "three")] == [("True", "Bound")] * 3


@on_loop
async def test_a_bound_one_that_asks_for_a_used_address_keeps_its_binding_and_is_told() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old", B)
        assign(world, "young", A, guest="db")
        await world.settle()
        await attached(world, "old", B)
        await attached(world, "young", A)
        world.cluster.edit("old", {"network": {"mac": A}})
        await world.settle()
        assert world.accepted("old") == ("False", "MACInUse")
        assert "default/young" in message(world, "old")
        assert node(world, "old") == "n1"
        assert world.cluster.get("old")["status"]["domainUUID"] == WEB
        assert world.finalizers("old", "DeviceAssignment") == [FINALIZER]
        ready = [c["status"] for c in world.cluster.get("old")["status"]["conditions"] if c["type"] == "Ready"]
        assert ready == ["True"]  # the agent's: its NIC is as it was
        assert world.accepted("young") == ("True", "Bound")
        world.cluster.writes.clear()
        world.cluster.touch("old")
        await asyncio.sleep(600)
        assert world.cluster.writes == []
        world.cluster.edit("old", {"network": {"mac": B}})
        await world.settle()
        assert world.accepted("old") == ("True", "Bound")


@on_loop
async def test_each_generation_of_a_spec_with_an_address_is_accepted_by_number() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "nic", A)
        assign(world, "none", None, guest="db")
        await world.settle()
        text = message(world, "nic")
        world.cluster.writes.clear()
        world.cluster.events.clear()
        world.cluster.edit("nic", {"network": {"mac": B}})
        world.cluster.edit("none", {"attach": "Live"})
        await world.settle()
        accepted = next(c for c in world.cluster.get("nic")["status"]["conditions"] if c["type"] == "Accepted")
        assert (accepted["observedGeneration"], accepted["message"]) == (2, text)
        assert world.cluster.writes == ["apply DeviceAssignment by hostdev-controller"]
        assert world.cluster.events == []
        assert node(world, "nic") == "n1"


@on_loop
async def test_nothing_is_written_while_one_waits() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old")
        assign(world, "young", guest="db")
        await world.settle()
        world.cluster.writes.clear()
        world.cluster.events.clear()
        for name in ("old", "young"):
            world.cluster.touch(name)
        await asyncio.sleep(3600)
        assert (world.cluster.writes, world.cluster.events) == ([], [])


@on_loop
async def test_an_older_one_whose_end_the_watch_has_missed_stands_in_nobodys_way() -> None:
    async with controlling() as world:
        two_nodes(world)
        assign(world, "old")
        assign(world, "young", guest="db")
        await world.settle()
        assert world.accepted("young") == ("False", "MACInUse")
        watchers, world.cluster._watchers = world.cluster._watchers, []
        world.cluster.annotate("old", finalizers=[])
        world.cluster.delete("old")
        world.cluster._watchers = watchers
        await asyncio.sleep(600)
        assert world.accepted("young") == ("True", "Bound")


@on_loop
async def test_after_a_restart_the_older_is_known_before_the_younger_is_decided() -> None:
    cluster = FakeCluster()
    first = PoolWorld(cluster)
    two_nodes(first)
    assign(first, "old", guest="nobody")
    assign(first, "young", guest="db")
    async with controlling(cluster=cluster) as world:
        await world.settle()
        assert world.accepted("young") == ("False", "MACInUse")
        assert world.accepted("old") == ("False", "GuestNotFound")


@on_loop
async def test_an_assignment_that_cannot_be_read_claims_nothing_and_stops_nobody() -> None:
    cluster = FakeCluster()
    broken = body("broken", network={"mac": A})
    broken["spec"]["managed"] = "perhaps"
    cluster.create(broken)
    async with controlling(cluster=cluster) as world:
        two_nodes(world)
        assign(world, "nic")
        await world.settle()
        assert world.accepted("nic") == ("True", "Bound")
