from __future__ import annotations

import asyncio

from hostdev_operator.api.deviceassignment import FINALIZER
from hostdev_operator.core import reasons
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.record import Record
from tests.fakes.samples import DB, MATE, NIC, WEB, body
from tests.shell.loop import on_loop
from tests.shell.world import World, running

# -- controller and agent together -----------------------------------------------------------------------------------


@on_loop
async def test_an_assignment_is_bound_carried_out_and_written_in_at_most_four_writes() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        assert world.node() == "n1"
        assert world.ready() == ("True", "Assigned")
        assert world.ready(kind="Accepted") == ("True", "Bound")
        assert [h.address for h in world.host.guests[WEB].hostdevs()] == [NIC]
        assert world.cluster.writes == [
            "set_finalizers",
            "apply DeviceAssignment by hostdev-controller",
            "apply DeviceAssignment by hostdev-agent",
        ]
        assert world.cluster.events == ["Bound", "Assigned"]


@on_loop
async def test_nothing_is_written_while_nothing_changes() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        await world.report()
        world.cluster.writes.clear()
        world.host.calls.clear()
        world.clock.time = "2027-01-01T00:00:00Z"
        for _ in range(3):
            world.cluster.touch("nic")
            world.agent.host_changed()
            await world.settle()
            await world.report()
        await asyncio.sleep(3600)
        assert world.cluster.writes == []
        assert world.host.calls == []


@on_loop
async def test_deleting_gives_everything_back_and_the_object_goes() -> None:
    async with running() as world:
        before = world.host.state()
        world.cluster.create(body())
        await world.settle()
        world.cluster.writes.clear()
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")
        assert world.host.state() == before
        assert world.cluster.writes == ["clear_binding", "set_finalizers"]
        assert world.cluster.events[-1] == "Released"


@on_loop
async def test_deleting_waits_for_the_running_guest_and_says_so_once() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        world.host.start(WEB)
        world.cluster.delete("nic")
        await world.settle()
        assert world.ready() == ("False", "GuestRunning")
        world.cluster.writes.clear()
        world.agent.host_changed()
        await world.settle()
        await asyncio.sleep(3600)
        assert world.cluster.writes == []
        world.host.stop(WEB)
        world.agent.host_changed()
        await world.settle()
        assert not world.cluster.exists("nic")


@on_loop
async def test_a_second_assignment_for_the_group_is_told_and_gets_it_after_the_first() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        world.cluster.create(body("second", address=MATE, guest="db"))
        await world.settle()
        assert world.ready("second") == ("False", "GroupInUse")
        world.cluster.delete("nic")
        await world.settle()
        world.agent.host_changed()
        await world.settle()
        assert world.ready("second") == ("True", "Assigned")
        assert [h.address for h in world.host.guests[DB].hostdevs()] == [MATE]


# -- the agent -------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_deleted_event_that_is_not_true_changes_nothing() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        state = world.host.state()
        world.cluster.writes.clear()
        world.agent.seen("DELETED", world.cluster.get("nic"))
        await world.settle()
        assert world.host.state() == state
        assert world.cluster.writes == []
        world.host.bind(MATE, "snd_hda_intel")
        world.agent.host_changed()
        await world.settle()
        assert world.host.drivers()[MATE] == VFIO_DRIVER


@on_loop
async def test_a_deleted_event_that_is_true_leaves_an_orphan_that_is_reported() -> None:
    async with running(controller=False) as world:
        bound = body()
        bound["status"] = {"nodeName": "n1", "domainUUID": WEB}
        world.cluster.create(bound)
        await world.settle()
        state = world.host.state()
        uid = world.cluster.get("nic")["metadata"]["uid"]
        world.cluster.delete("nic")
        await world.settle()
        assert world.host.state() == state
        await world.report()
        orphans = world.cluster.get("n1", "", "DeviceHost")["status"]["orphans"]
        assert [o["uid"] for o in orphans] == [uid]


@on_loop
async def test_a_namesake_made_anew_is_another_object() -> None:
    async with running(controller=False) as world:
        for _ in range(2):
            bound = body()
            bound["status"] = {"nodeName": "n1", "domainUUID": WEB}
            world.cluster.create(bound)
            await world.settle()
            first = world.ready()
            world.cluster.delete("nic")
        assert first == ("False", "DeviceInUse")


@on_loop
async def test_a_status_that_could_not_be_written_is_written_later() -> None:
    async with running() as world:
        world.cluster.create(body())
        world.cluster.fail("apply_assignment_status", 500, times=3)
        await world.settle()
        await asyncio.sleep(60)
        assert world.ready() == ("True", "Assigned")
        assert world.host.calls.count(f"add_hostdev {NIC}") == 1


@on_loop
async def test_a_binding_that_could_not_be_cleared_is_cleared_later() -> None:
    async with running() as world:
        before = world.host.state()
        world.cluster.create(body())
        await world.settle()
        world.cluster.fail("clear_binding", 503, times=2)
        world.cluster.delete("nic")
        await world.settle()
        assert world.cluster.exists("nic")
        await asyncio.sleep(60)
        assert not world.cluster.exists("nic")
        assert world.host.state() == before


@on_loop
async def test_libvirt_away_is_a_condition_and_heals_by_itself() -> None:
    async with running() as world:
        world.host.down = True
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("False", "LibvirtUnavailable")
        assert world.agent.unready() == "libvirt does not answer"
        world.host.heal()
        await asyncio.sleep(600)
        assert world.ready() == ("True", "Assigned")
        assert world.agent.unready() is None


@on_loop
async def test_connecting_to_libvirt_and_a_driver_from_outside_are_news() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        tasks = [asyncio.create_task(world.agent.watch_libvirt()), asyncio.create_task(world.agent.look_around())]
        await asyncio.sleep(10)
        world.host.bind(MATE, "snd_hda_intel")
        await asyncio.sleep(40)
        assert world.host.drivers()[MATE] == VFIO_DRIVER
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@on_loop
async def test_the_host_is_reported_once_and_again_when_it_changed() -> None:
    async with running(agent=False, controller=False, report=False) as world:
        assert world.agent.unready() == "the DeviceHost has not been written yet"
        task = asyncio.create_task(world.agent.report_host())
        await asyncio.sleep(10)
        assert world.cluster.writes == ["apply DeviceHost by hostdev-agent"]
        assert world.agent.unready() is None
        world.agent.host_changed()
        await asyncio.sleep(10)
        assert len(world.cluster.writes) == 1
        world.host.start(WEB)
        world.agent.host_changed()
        await asyncio.sleep(10)
        assert len(world.cluster.writes) == 2
        guests = world.cluster.get("n1", "", "DeviceHost")["status"]["guests"]
        assert [(g["name"], g["active"]) for g in guests] == [("db", False), ("web", True)]
        world.host.down = True
        world.agent.host_changed()
        await asyncio.sleep(10)
        status = world.cluster.get("n1", "", "DeviceHost")["status"]
        assert len(status["guests"]) == 2
        assert [c["reason"] for c in status["conditions"] if c["status"] != "True"] == ["LibvirtUnavailable"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@on_loop
async def test_a_lost_journal_is_taken_from_all_statuses_before_anything_new_is_claimed() -> None:
    async with running() as world:
        world.cluster.create(body(managed=False))
        await world.settle()
    world.host.define(WEB, "web")  # without the device: only the record says that its group is claimed
    world.host.records.clear()
    second = body("second", address=MATE, guest="db", managed=False)
    second["status"] = {"nodeName": "n1", "domainUUID": DB}
    world.cluster.create(second)
    restarted = World(world.host, world.cluster)
    restarted.agent.seen(None, world.cluster.get("second"))  # the watch is faster than the list
    task = asyncio.create_task(restarted.agent.queue.run())
    await restarted.settle()
    assert not world.host.records
    await restarted.agent.list_bound()
    await restarted.settle()
    task.cancel()
    assert restarted.ready("second") == ("False", "GroupInUse")
    assert restarted.ready() == ("True", "Assigned")
    assert {m.driver for text in world.host.records.values() for m in Record.from_json(text).members} == {
        "e1000e",
        "snd_hda_intel",
    }


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
        await world.controller.list_hosts()
        await world.settle()
        assert world.node() == "n1"
        assert world.controller.unready() is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@on_loop
async def test_the_finalizer_is_there_before_the_binding_and_other_finalizers_stay() -> None:
    async with running(agent=False) as world:
        world.cluster.fail("apply_assignment_status", 500, times=2)  # the second: woken by its own write's echo
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
        await world.cluster.clear_binding(world.cluster.get("nic"))
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
        await world.cluster.set_finalizers(bound, [])
        await world.settle()
        assert FINALIZER in world.cluster.get("nic")["metadata"]["finalizers"]


@on_loop
async def test_a_failed_assignment_is_rolled_back_and_told() -> None:
    async with running() as world:
        before = world.host.state()
        world.host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT, "No more available PCI slots")
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("False", "NoGuestPCISlot")
        assert world.host.state() == before
        assert world.cluster.events == ["Bound", "NoGuestPCISlot"]
        world.host.start(WEB)
        world.agent.host_changed()
        await world.settle()
        assert world.ready() == ("True", "Assigned")


@on_loop
async def test_an_outdated_write_is_refused_and_the_object_read_again() -> None:
    async with running(controller=False) as world:
        bound = body()
        bound["status"] = {"nodeName": "n1", "domainUUID": WEB}
        world.cluster.create(bound)
        world.cluster.fail("apply_assignment_status", 409)
        await world.settle()
        await asyncio.sleep(5)
        assert world.ready() == ("True", "Assigned")
