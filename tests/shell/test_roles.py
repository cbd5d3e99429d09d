from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from hostdev_operator.core import reasons
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.record import Record
from tests.fakes.samples import DB, MATE, NIC, WEB, body
from tests.shell.loop import on_loop
from tests.shell.pool_world import controlling
from tests.shell.test_guests import wanted
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
        assert world.cluster.writes == ["clear_status", "set_finalizers"]
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
        world.cluster.create(body(driftPolicy="Correct"))
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
        world.cluster.fail("apply_status", 500, times=3)
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
        world.cluster.fail("clear_status", 503, times=2)
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
        world.cluster.create(body(driftPolicy="Correct"))
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
        task = asyncio.create_task(world.agent.host.run())
        await asyncio.sleep(10)
        assert world.cluster.writes == ["create DeviceHost", "apply DeviceHost by hostdev-agent"]
        assert world.agent.unready() == "the API server's watch has told nothing yet"
        world.cluster.watch("DeviceHost", world.agent.host_seen)
        await world.settle()
        assert world.agent.unready() is None
        world.cluster.writes.clear()
        world.agent.host_changed()
        await asyncio.sleep(10)
        assert world.cluster.writes == []
        world.host.start(WEB)
        world.agent.host_changed()
        await asyncio.sleep(10)
        assert world.cluster.writes == ["apply DeviceHost by hostdev-agent"]
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
        world.cluster.create(body(managed=False, driftPolicy="Correct"))
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
        world.cluster.fail("apply_status", 409)
        await world.settle()
        await asyncio.sleep(5)
        assert world.ready() == ("True", "Assigned")


# -- what they may do ------------------------------------------------------------------------------------------------

BASE = Path(__file__).resolve().parents[2] / "manifests" / "base"
WATCHED = {
    "hostdev-agent": ("deviceassignments", "devicehosts", "nodevfpools", "guests"),
    "hostdev-controller": (
        "deviceassignments",
        "devicehosts",
        "vfpools",
        "nodevfpools",
        "guests",
        "nodes",
        "namespaces",
    ),
}
CONTROLLER_NEEDS = {
    ("list", "deviceassignments"),
    ("get", "deviceassignments"),
    ("patch", "deviceassignments"),
    ("patch", "deviceassignments/status"),
    ("list", "devicehosts"),
    ("list", "vfpools"),
    ("patch", "vfpools"),
    ("patch", "vfpools/status"),
    ("list", "nodevfpools"),
    ("create", "nodevfpools"),
    ("patch", "nodevfpools"),
    ("delete", "nodevfpools"),
    ("list", "guests"),
    ("patch", "guests"),
    ("list", "nodes"),
    ("list", "namespaces"),
    ("create", "events"),
}


def allowed(role: str) -> set[tuple[str, str]]:
    """Verbs and resources of its ClusterRole."""
    text = (BASE / f"rbac-{role.removeprefix('hostdev-')}.yaml").read_text()
    (found,) = (one for one in yaml.safe_load_all(text) if one["kind"] == "ClusterRole")
    return {(verb, name) for rule in found["rules"] for name in rule["resources"] for verb in rule["verbs"]}


@on_loop
async def test_the_controllers_role_has_what_its_work_needs() -> None:
    async with controlling() as world:
        world.node("n1", guest=("web", WEB))
        world.pool()
        await world.settle()
        await world.report()
        world.cluster.create(wanted())
        world.cluster.edit("lan.n1", {"numVFs": 1}, kind="NodeVFPool")
        for name in ("first", "second"):
            world.cluster.create(body(name, network={"mac": "52:54:00:00:00:0a"}))
        await world.settle()
        world.cluster.delete("lan", kind="VFPool")
        await world.settle()
        await world.give_back()
        await world.settle()
        assert not world.cluster.exists("lan", kind="VFPool")
        assert world.cluster.asked["hostdev-controller"] == CONTROLLER_NEEDS


@on_loop
async def test_the_agents_role_has_what_its_work_needs() -> None:
    async with running(report=False) as world:
        await world.report()
        world.cluster.create(body())
        world.cluster.create(wanted())
        await world.settle()
        world.agent.seen("DELETED", world.cluster.get("nic"))
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")
        asked = world.cluster.asked["hostdev-agent"]
        assert {("create", "devicehosts"), ("patch", "deviceassignments/status"), ("create", "events")} <= asked
        assert ("patch", "guests/status") in asked
        assert asked <= allowed("hostdev-agent")


@pytest.mark.parametrize("role", WATCHED)
def test_the_roles_allow_what_is_watched(role: str) -> None:
    watched = {(verb, name) for name in WATCHED[role] for verb in ("list", "watch")}
    assert watched - allowed(role) == set()


def test_the_controllers_role_has_nothing_more() -> None:
    watched = {(verb, name) for name in WATCHED["hostdev-controller"] for verb in ("list", "watch")}
    not_allowed = {("get", "namespaces")}  # of one that does not allow it yet: tests/cluster/test_controller.py
    gone = {("get", "nodes"), ("get", "devicehosts")}  # of one that is said to be: tests/cluster/test_gone_nodes.py
    asked_by_a_policy = {("bind-assignments", "deviceassignments")}  # tests/cluster/test_node_authority.py
    assert allowed("hostdev-controller") == CONTROLLER_NEEDS | watched | not_allowed | gone | asked_by_a_policy
