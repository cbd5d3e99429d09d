"""Nodes without a Node object: what waits for them, what is let go, and what never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hostdev_operator.api.deviceassignment import FINALIZER
from hostdev_operator.core.gone import ANNOTATION
from hostdev_operator.shell.controller import Controller
from tests.fakes.samples import DB, WEB, body
from tests.shell.loop import on_loop
from tests.shell.pool_world import AGENT, PoolWorld, controlling

EARLY, LATE, NOW = "2026-05-01T08:00:00Z", "2026-05-01T10:00:00Z", "2026-05-01T12:00:00Z"
DELETED = "2026-01-01T00:00:00Z"
READY = {"type": "Ready", "status": "True", "reason": "Assigned", "message": "", "lastTransitionTime": EARLY}
GRACE = 3600.0


async def assigned(
    world: PoolWorld, name: str = "nic", guest: str = "web", generation: int = 1, **more: object
) -> None:
    """Bound to n1, and carried out by its agent."""
    world.cluster.create(body(name, guest=guest, **more))
    await world.settle()
    ids = {"vendorId": "0x8086", "productId": "0x10c9"}
    device = {"address": "0000:01:00.0", "name": "pci_0000_01_00_0", **ids}
    more_ids = {"subsystemVendorId": "0x8086", "subsystemProductId": "0x0001"}
    seen = {"address": "0000:01:00.0", **ids, **more_ids, "function": 0, "slotPath": "0000:00/01.0/00.0"}
    status = {
        "observedGeneration": generation,
        "device": device,
        "identity": seen,
        "guest": {"name": guest, "active": True, "persistent": True, "live": True},
        "conditions": [READY],
    }
    await world.agents.apply_status(world.cluster.get(name), status, AGENT)
    await world.settle()
    world.cluster.writes.clear()
    world.cluster.events.clear()
    world.cluster.told.clear()


def reported(world: PoolWorld, time: str, node: str = "n1") -> None:
    """When its agent has written its DeviceHost last, as the API server notes it."""
    fields = [{"manager": AGENT, "subresource": "status", "operation": "Apply", "time": time}]
    world.cluster.annotate(node, kind="DeviceHost", managedFields=fields)


def say_gone(world: PoolWorld, time: str = LATE, node: str = "n1") -> None:
    """Kubectl annotate."""
    world.cluster.annotate(node, kind="DeviceHost", annotations={ANNOTATION: time})


def lose(world: PoolWorld, node: str = "n1") -> None:
    world.cluster.delete(node, kind="Node")


def accepted(world: PoolWorld, name: str = "nic") -> tuple[str, str, str]:
    rows = world.cluster.get(name)["status"]["conditions"]
    return next((c["status"], c["reason"], c["message"]) for c in rows if c["type"] == "Accepted")


def begin(world: PoolWorld) -> None:
    world.clock.time = NOW
    world.node("n1", guest=("web", WEB))
    world.node("n2", guest=("db", DB))
    reported(world, EARLY)


@asynccontextmanager
async def held(*, grace: bool = False) -> AsyncIterator[PoolWorld]:
    """A cluster in which node n1 has the assignment nic."""
    async with controlling() as world:
        if grace:
            with_grace(world)
        begin(world)
        await assigned(world)
        yield world


@on_loop
async def test_a_deletion_waits_for_a_node_that_is_gone_and_says_for_what() -> None:
    async with held() as world:
        lose(world)
        world.cluster.delete("nic")
        await world.settle()
        status, reason, message = accepted(world)
        assert (status, reason) == ("False", "NodeGone")
        assert f"kubectl annotate --overwrite devicehost n1 {ANNOTATION}=" in message
        assert world.cluster.events == ["NodeGone"]
        world.clock.seconds += 9 * GRACE
        await asyncio.sleep(9 * GRACE)
        await world.settle()
        assert FINALIZER in world.finalizers("nic", "DeviceAssignment")
        assert world.cluster.events == ["NodeGone"]
        say_gone(world)
        await world.settle()
        assert not world.cluster.exists("nic")
        told = world.cluster.told[-1]
        assert told[:2] == ("nic", "NodeGone")
        assert "0000:01:00.0 for guest web was not given back" in told[2]


@on_loop
async def test_while_there_is_a_node_no_word_counts() -> None:
    async with held() as world:
        say_gone(world)
        world.cluster.delete("nic")
        await world.settle()
        assert world.finalizers("nic", "DeviceAssignment") == [FINALIZER]
        assert world.node_of("nic") == "n1"
        assert world.cluster.events == []


@on_loop
async def test_a_guest_gets_its_binding_where_it_is_defined_anew() -> None:
    async with held() as world:
        lose(world)
        await world.settle()
        assert accepted(world)[:2] == ("False", "NodeGone")  # who looks why the guest has nothing elsewhere
        assert world.node_of("nic") == "n1"
        say_gone(world)
        await world.settle()
        assert accepted(world)[:2] == ("False", "GuestNotFound")  # the report of n1 that lists it means nothing now
        left = world.cluster.get("nic")["status"]
        assert left.keys() == {"domainUUID", "identity", "observedGeneration", "conditions"}
        assert {c["type"]: c["status"] for c in left["conditions"]} == {"Accepted": "False", "Ready": "False"}
        guest = {"name": "web", "uuid": WEB, "active": False, "persistent": True}
        await world.agents.apply_status(world.cluster.get("n2", kind="DeviceHost"), {"guests": [guest]}, AGENT)
        await world.settle()
        assert (world.node_of("nic"), accepted(world)[1]) == ("n2", "Bound")
        assert FINALIZER in world.finalizers("nic", "DeviceAssignment")


@on_loop
async def test_a_node_that_comes_back_has_lost_nothing() -> None:
    async with held() as world:
        lose(world)
        await world.settle()
        assert accepted(world)[1] == "NodeGone"
        world.cluster.create({"kind": "Node", "metadata": {"name": "n1"}})
        await world.settle()
        assert (world.node_of("nic"), accepted(world)[1]) == ("n1", "Bound")
        assert world.cluster.events == ["NodeGone", "Bound"]


@on_loop
async def test_an_agent_that_has_reported_since_makes_the_word_void() -> None:
    """Of a year ago, say, when the node was gone for good the last time."""
    async with held() as world:
        say_gone(world, EARLY)
        reported(world, LATE)
        lose(world)
        world.cluster.delete("nic")
        await world.settle()
        assert FINALIZER in world.finalizers("nic", "DeviceAssignment")
        assert f"has reported at {LATE}" in accepted(world)[2]
        say_gone(world, NOW)
        await world.settle()
        assert not world.cluster.exists("nic")


@on_loop
async def test_a_report_on_the_assignment_alone_is_a_sign_of_life_too() -> None:
    async with held() as world:
        fields = [{"manager": AGENT, "subresource": "status", "time": NOW}]
        world.cluster.annotate("nic", managedFields=fields)
        lose(world)
        say_gone(world)
        world.cluster.delete("nic")
        await world.settle()
        assert FINALIZER in world.finalizers("nic", "DeviceAssignment")
        assert f"has reported at {NOW}" in accepted(world)[2]


@on_loop
async def test_what_the_watch_has_missed_is_asked_for() -> None:
    """The controller still takes it for gone, and for there: the API server knows better in both cases."""
    async with held() as world:
        watchers, world.cluster._watchers = world.cluster._watchers, []
        lose(world)
        world.cluster._watchers = watchers
        world.cluster.delete("nic")
        await world.settle()
        assert FINALIZER in world.finalizers("nic", "DeviceAssignment")
        say_gone(world)
        await world.settle()
        assert not world.cluster.exists("nic")

        world.cluster._watchers = []
        world.cluster.create({"kind": "Node", "metadata": {"name": "n1"}})
        world.cluster._watchers = watchers
        bound = body("second")
        bound["metadata"]["finalizers"] = [FINALIZER]
        bound["status"] = {"nodeName": "n1", "domainUUID": WEB}
        world.cluster.create(bound)
        await world.settle()
        assert world.node_of("second") == "n1"


@on_loop
async def test_a_conflict_at_the_last_moment_stops_it() -> None:
    """What the agent has written meanwhile is read first."""
    async with held() as world:
        lose(world)
        world.cluster.fail("clear_status", 409)
        say_gone(world)
        await world.settle(0.1)
        assert world.node_of("nic") == "n1"
        await world.settle(10)
        assert world.node_of("nic") is None


@on_loop
async def test_hosts_that_never_were_nodes_are_left_in_peace() -> None:
    """As in a cluster for tests: nothing is said of what is bound there, and a deletion gets a minute."""
    async with controlling() as world:
        begin(world)
        lose(world)
        await world.settle()
    async with controlling(cluster=world.cluster) as again:
        again.clock.time = NOW
        await assigned(again)
        await again.settle(600)
        assert again.cluster.writes == []
        again.cluster.delete("nic")
        again.clock.seconds += 30
        await again.settle(30)
        assert again.cluster.writes == []
        again.clock.seconds += 600
        await again.settle(600)
        again.cluster.touch("nic")
        await again.settle()
        assert accepted(again)[1] == "NodeGone"


@on_loop
async def test_a_node_without_its_device_host_can_be_given_up_too() -> None:
    async with held() as world:
        lose(world)
        world.cluster.delete("n1", kind="DeviceHost")
        world.cluster.delete("nic")
        await world.settle()
        assert "create one" in accepted(world)[2]
        world.cluster.create({"kind": "DeviceHost", "metadata": {"name": "n1", "annotations": {ANNOTATION: LATE}}})
        await world.settle()
        assert not world.cluster.exists("nic")


@on_loop
async def test_a_word_for_a_time_to_come_counts_then() -> None:
    """Nothing else happens meanwhile; and the time of day is not that of the event loop."""
    async with held() as world:
        lose(world)
        world.cluster.delete("nic")
        say_gone(world, "2026-05-01T15:00:00Z")
        await world.settle()
        assert "is of a time to come" in accepted(world)[2]
        await world.settle(3 * 3600)
        assert world.cluster.exists("nic")
        world.clock.time = "2026-05-01T14:59:30Z"
        await world.settle(3600)
        assert not world.cluster.exists("nic")


# -- the grace time --------------------------------------------------------------------------------------------------


def with_grace(world: PoolWorld, seconds: float = GRACE) -> None:
    """As with --gone-after; before anything is seen."""
    world.controller._fates._grace = seconds


async def later(world: PoolWorld, seconds: float) -> None:
    world.clock.seconds += seconds
    await world.settle(seconds)


@on_loop
async def test_after_the_grace_time_a_deletion_goes_on_and_nothing_else_does() -> None:
    async with held(grace=True) as world:
        await assigned(world, "stays", address="0000:02:00.0")
        lose(world)
        world.cluster.delete("nic")
        await later(world, GRACE - 10)
        assert world.cluster.exists("nic")
        await later(world, 60)
        assert not world.cluster.exists("nic")
        assert world.node_of("stays") == "n1"


@on_loop
async def test_any_sign_of_life_begins_the_grace_time_anew() -> None:
    async with held(grace=True) as world:
        lose(world)
        world.cluster.delete("nic")
        await later(world, GRACE - 10)
        reported(world, LATE)
        await later(world, GRACE - 10)
        assert world.cluster.exists("nic")
        await later(world, 60)
        assert not world.cluster.exists("nic")


@on_loop
async def test_a_deletion_that_the_agent_has_answered_needs_an_administrators_word() -> None:
    """It said GuestRunning, for example: the guest may run on, wherever the Node object went."""
    async with held(grace=True) as world:
        world.cluster.delete("nic")
        status = {"observedGeneration": 2, "conditions": [{**READY, "status": "False", "reason": "GuestRunning"}]}
        await world.agents.apply_status(world.cluster.get("nic"), status, AGENT)
        lose(world)
        await later(world, 3 * GRACE)
        assert world.cluster.exists("nic")
        say_gone(world)
        await world.settle()
        assert not world.cluster.exists("nic")


@on_loop
async def test_a_controller_that_starts_anew_begins_the_grace_time_anew() -> None:
    async with held(grace=True) as world:
        lose(world)
        world.cluster.delete("nic")
        await later(world, GRACE - 10)
    world.cluster._watchers.clear()
    async with controlling(cluster=world.cluster) as again:
        with_grace(again)
        again.clock.time = NOW
        await again.settle()
        await later(again, GRACE - 10)
        assert again.cluster.exists("nic")
        await later(again, 60)
        assert not again.cluster.exists("nic")


@on_loop
async def test_no_word_nothing_asked() -> None:
    """The API server is asked about Nodes only where somebody says that one is gone."""
    async with held() as world:
        lose(world)
        world.cluster.delete("nic")
        await later(world, GRACE)
        asked = world.cluster.asked["hostdev-controller"]
        assert {("get", "nodes"), ("get", "devicehosts")} & asked == set()
        say_gone(world)
        await world.settle()
        assert {("get", "nodes"), ("get", "devicehosts")} <= asked


def test_the_controller_knows_no_grace_time_unless_told() -> None:
    world = PoolWorld()
    assert isinstance(world.controller, Controller)
    assert world.controller._fates._grace is None
