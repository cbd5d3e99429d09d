"""What the administrator says in the DeviceHost, and who is woken by whom."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hostdev_operator.core import reasons
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.ports import Body
from tests.fakes.samples import DB, LONER, MATE, NIC, NODE, WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import World, running

NEW = PciAddress.parse("0000:05:00.0")


def conditions(world: World) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in world.host_status()["conditions"]}


def bound(name: str = "nic", uuid: str | None = WEB, **more: Any) -> Body:
    """An assignment as the controller leaves it."""
    made = body(name, **more)
    made["status"] = {"nodeName": NODE, **({"domainUUID": uuid} if uuid else {})}
    return made


# -- paused ----------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_node_that_is_paused_from_the_start_is_never_touched() -> None:
    async with running(agent=False) as world:
        world.administrate(paused=True)
        world.cluster.create(body())
        await world.settle()
        world.agent.seen(None, world.cluster.get("nic"))  # the watch of assignments is faster than that of the host
        task = asyncio.create_task(world.agent.queue.run())
        await world.settle()
        assert world.host.calls == []
        await world.agent.list_bound()
        await world.settle()
        assert world.ready() == ("False", "Paused")
        assert world.host.calls == []
        await world.report()
        assert conditions(world)["Paused"] == ("True", "Paused")
        task.cancel()


@on_loop
async def test_a_pause_that_ends_is_news() -> None:
    async with running() as world:
        world.administrate(paused=True)
        world.cluster.create(body())
        await world.settle()
        assert (world.ready(), world.host.calls) == (("False", "Paused"), [])
        world.administrate(paused=False)
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        await world.report()
        assert "Paused" not in conditions(world)


@on_loop
async def test_a_pause_stops_a_release() -> None:
    async with running() as world:
        before = world.host.state()
        world.cluster.create(body())
        await world.settle()
        world.administrate(paused=True)
        world.cluster.delete("nic")
        await world.settle()
        assert world.ready() == ("False", "Paused")
        world.administrate(paused=False)
        await world.settle()
        assert not world.cluster.exists("nic")
        assert world.host.state() == before


@on_loop
async def test_a_device_host_that_is_deleted_says_nothing_any_more() -> None:
    async with running() as world:
        world.administrate(paused=True)
        world.cluster.create(body())
        await world.settle()
        world.cluster.delete(NODE, "", "DeviceHost")
        await world.settle()
        assert world.ready() == ("True", "Assigned")


@on_loop
async def test_the_device_host_of_another_node_says_nothing_here() -> None:
    async with running() as world:
        other = {"apiVersion": "hostdev.dev/v1alpha1", "kind": "DeviceHost", "metadata": {"name": "n2"}}
        world.cluster.create({**other, "spec": {"paused": True}})
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("True", "Assigned")


# -- overrides -------------------------------------------------------------------------------------------------------


@on_loop
async def test_an_override_that_is_added_is_news() -> None:
    async with running() as world:
        world.host.use(NIC, "carries the default route over eth0")
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("False", "HostCritical")
        world.administrate(criticalOverrides=[{"device": str(NIC), "reason": "eth1 is up"}])
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        assert world.ready(kind="Planned") == ("True", "CriticalOverride")
        await world.report()
        assert conditions(world)["CriticalOverrides"] == ("True", "CriticalOverride")


# -- orphans ---------------------------------------------------------------------------------------------------------


async def orphaned(world: World, **more: Any) -> str:
    """An assignment that is gone from the API without a release, as after an etcd restore."""
    world.cluster.create(bound(**more))
    await world.settle()
    uid: str = world.cluster.get("nic")["metadata"]["uid"]
    world.cluster.delete("nic")
    await world.settle()
    await world.report()
    assert [o["uid"] for o in world.host_status()["orphans"]] == [uid]
    return uid


@on_loop
async def test_an_orphan_that_is_listed_is_given_back() -> None:
    async with running(controller=False) as world:
        before = world.host.state()
        uid = await orphaned(world)
        assert world.host.state() != before
        world.administrate(releaseOrphans=["another", uid])
        await world.settle()
        await world.report()
        assert world.host.state() == before
        await world.report()
        assert not world.host_status().get("orphans")


@on_loop
async def test_an_orphan_waits_for_its_running_guest_and_says_so() -> None:
    async with running(controller=False) as world:
        before = world.host.state()
        world.host.start(WEB)
        uid = await orphaned(world)
        world.administrate(releaseOrphans=[uid])
        await world.settle()
        await world.report()
        assert "GuestRunning: guest web runs" in world.host_status()["orphans"][0]["message"]
        world.host.stop(WEB)
        world.agent.host_changed()
        await world.settle()
        await world.report()
        assert world.host.state() == before


@on_loop
async def test_a_record_whose_assignment_exists_is_left_alone_although_it_is_listed() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        state = world.host.state()
        world.administrate(releaseOrphans=[world.cluster.get("nic")["metadata"]["uid"]])
        # the watch has not told of it yet
        world.agent.assignments.objects._cache.remove(world.cluster.get("nic")["metadata"]["uid"])
        await world.settle()
        await world.report()
        assert world.host.state() == state


@on_loop
async def test_who_waits_for_an_orphans_group_gets_it() -> None:
    async with running(controller=False) as world:
        uid = await orphaned(world)
        world.cluster.create(bound("second", DB, address=MATE, guest="db"))
        await world.settle()
        assert world.ready("second") == ("False", "GroupInUse")
        world.administrate(releaseOrphans=[uid])
        await world.settle()
        await world.report()
        await world.settle()
        assert world.ready("second") == ("True", "Assigned")


# -- devices that move -----------------------------------------------------------------------------------------------


@on_loop
async def test_a_device_that_moved_is_an_event() -> None:
    async with running() as world:
        world.cluster.create(body(address=LONER))
        await world.settle()
        card = world.host.remove(LONER)
        world.host.insert(replace(card, address=NEW))
        world.agent.host_changed()
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        assert world.cluster.events == ["Bound", "Assigned", "DeviceMoved"]
        assert world.cluster.get("nic")["status"]["identity"]["address"] == str(NEW)
        assert [h.address for h in world.host.guests[WEB].hostdevs()] == [NEW]


# -- who waits for whom ----------------------------------------------------------------------------------------------


@on_loop
async def test_who_waits_is_woken_by_a_release() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        world.cluster.create(body("second", address=MATE, guest="db"))
        await world.settle()
        assert world.ready("second") == ("False", "GroupInUse")
        world.cluster.delete("nic")
        await world.settle()
        assert world.ready("second") == ("True", "Assigned")


@on_loop
async def test_who_waits_for_its_elder_is_woken_when_that_is_refused() -> None:
    async with running(controller=False) as world:
        world.host.use(MATE, "plays the alarm")
        world.administrate(criticalOverrides=[{"device": str(MATE), "reason": "x"}], paused=True)
        world.cluster.create(bound(groupPolicy="RequireFree"))
        world.cluster.create(bound("second", DB, address=MATE, guest="db"))
        await world.settle()
        world.administrate(paused=False)
        await world.settle()
        assert world.ready() == ("False", "GroupInUse")
        assert world.ready("second") == ("True", "Assigned")


@on_loop
async def test_of_two_that_come_at_once_the_older_gets_it_whoever_is_looked_at_first() -> None:
    async with running(controller=False, agent=False) as world:
        for made in (bound(), bound("second", DB, address=MATE, guest="db")):
            world.cluster.create(made)
        world.cluster.watch("DeviceAssignment", world.agent.seen, NODE)
        await world.agent.list_bound()
        for name in ("second", "nic"):
            await world.agent._work(world.cluster.get(name)["metadata"]["uid"])
        assert world.ready() == ("True", "Assigned")
        assert world.ready("second") == ("False", "GroupInUse")
        assert "older" in next(
            c["message"] for c in world.cluster.get("second")["status"]["conditions"] if c["type"] == "Ready"
        )


@on_loop
async def test_a_mate_plugged_by_hand_is_followed_without_a_loop() -> None:
    """Nothing is written and nothing is done while nothing changes, also for a guest that cannot be plugged."""
    async with running() as world:
        world.host.start(WEB)
        world.host.fail("plug_hostdev", reasons.MEMLOCK_EXCEEDED)
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        assert world.ready(kind="Attached") == ("False", "MemlockExceeded")
        world.cluster.writes.clear()
        world.host.calls.clear()
        for _ in range(3):
            world.agent.host_changed()
            await world.settle()
        await asyncio.sleep(3600)
        assert (world.cluster.writes, world.host.calls) == ([], [])
        assert world.host.drivers()[MATE] == VFIO_DRIVER


# -- the journal -----------------------------------------------------------------------------------------------------


@on_loop
async def test_a_journal_that_cannot_be_read_is_a_condition_of_the_host_and_of_the_assignment() -> None:
    async with running() as world:
        world.host.fail("load", reasons.STATE_DIRECTORY_FAILED, "the record x.json cannot be read", times=1000)
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("False", "StateDirectoryFailed")
        world.agent.host_changed()
        await world.report()
        assert conditions(world)["JournalReady"] == ("False", "StateDirectoryFailed")
        assert world.host.calls == []
        world.host.heal()
        await asyncio.sleep(600)
        await world.report()
        assert world.ready() == ("True", "Assigned")
        assert conditions(world)["JournalReady"] == ("True", "Readable")


# -- hot unplug ------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_release_that_waits_can_be_told_to_ask_the_guest() -> None:
    async with running() as world:
        before = world.host.state()
        world.host.start(WEB)
        world.cluster.create(body())
        await world.settle()
        assert world.ready(kind="Attached") == ("True", "InLiveXML")
        world.cluster.delete("nic")
        await world.settle()
        assert world.ready() == ("False", "GuestRunning")
        world.cluster.edit("nic", {"detach": "Live"})
        await world.settle()
        assert not world.cluster.exists("nic")
        assert world.host.state() == before


@on_loop
async def test_a_reservation_is_bound_held_and_given_back() -> None:
    async with running() as world:
        before = world.host.state()
        world.cluster.create(body(guest=None))
        await world.settle()
        assert world.ready() == ("True", "Reserved")
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")
        assert world.host.state() == before


@on_loop
async def test_a_device_host_that_was_deleted_is_made_again_and_its_own_echo_is_no_news() -> None:
    async with running(controller=False) as world:
        world.agent.host.dirty.clear()
        await world.report()
        assert not world.agent.host.dirty.is_set()
        writes = len(world.cluster.writes)
        await world.report()
        assert len(world.cluster.writes) == writes
        world.cluster.delete(NODE, "", "DeviceHost")
        assert world.agent.host.dirty.is_set()
        await world.report()
        assert world.host_status()["devices"]


@on_loop
async def test_a_journal_that_cannot_be_read_is_reported_although_orphans_are_to_be_released() -> None:
    async with running(controller=False) as world:
        world.administrate(releaseOrphans=["some-uid"])
        await world.settle()
        world.host.fail("load", reasons.STATE_DIRECTORY_FAILED, "the record x.json cannot be read", times=9)
        world.agent._version += 1
        await world.report()
        told = {c["type"]: c["status"] for c in world.host_status()["conditions"]}
        assert told["JournalReady"] == "False"
