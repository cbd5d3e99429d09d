"""Guests, from the object to the domain and back: controller, agent and a fake host together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hostdev_operator.api import API_VERSION
from hostdev_operator.core import domain_xml, reasons
from hostdev_operator.core.gone import ANNOTATION
from hostdev_operator.ports import Body
from hostdev_operator.simulation.host import FakeGuest
from tests.fakes.samples import DB, NIC, NODE, body
from tests.shell.loop import on_loop
from tests.shell.world import World, running

DISK = {"file": "/var/lib/images/new.qcow2", "format": "qcow2"}
NAMED = [{"namespace": "default", "name": "nic"}]


def wanted(**spec: Any) -> Body:
    full = {"nodeName": NODE, "memory": "1Gi", "disks": [DISK], "running": True, "deletionPolicy": "Keep", **spec}
    return {"apiVersion": API_VERSION, "kind": "Guest", "metadata": {"name": "new"}, "spec": full}


def create(world: World, **spec: Any) -> str:
    uid: str = world.cluster.create(wanted(**spec))["metadata"]["uid"]
    return uid


def edit(world: World, **spec: Any) -> None:
    world.cluster.edit("new", spec, "", "Guest")


def ready(world: World, kind: str = "Ready") -> tuple[str, str]:
    rows = world.cluster.get("new", "", "Guest")["status"]["conditions"]
    return next((c["status"], c["reason"]) for c in rows if c["type"] == kind)


def found(world: World) -> FakeGuest | None:
    return next((g for g in world.host.guests.values() if g.name == "new"), None)


def there(world: World) -> FakeGuest:
    guest = found(world)
    assert guest is not None
    return guest


@on_loop
async def test_one_apply_makes_a_guest_that_runs_with_its_device() -> None:
    async with running() as world:
        uid = create(world, deviceAssignments=NAMED)
        world.cluster.create(body(guest="new"))
        await world.settle()
        assert ready(world) == ("False", "AssignmentsNotReady")
        assert there(world).live is None
        await world.report()
        await world.settle()
        guest = there(world)
        assert (guest.uuid, [h.address for h in guest.hostdevs(live=True)]) == (uid, [NIC])
        assert (ready(world), world.ready()) == (("True", "AsAsked"), ("True", "Assigned"))
        assert world.cluster.get("new", "", "Guest")["status"]["state"] == "Running"


@on_loop
async def test_nothing_is_written_while_nothing_changes() -> None:
    async with running() as world:
        create(world)
        await world.settle()
        assert ready(world) == ("True", "AsAsked")
        world.cluster.writes.clear()
        world.host.calls.clear()
        for _ in range(3):
            world.agent.host_changed()
            await world.settle()
        await asyncio.sleep(3600)
        assert (world.cluster.writes, world.host.calls) == ([], [])


@on_loop
async def test_what_has_changed_is_for_the_next_boot_and_nobody_restarts_the_guest() -> None:
    async with running() as world:
        create(world)
        await world.settle()
        edit(world, vcpus=4)
        await world.settle()
        assert domain_xml.parse(str(there(world).config)).findtext("vcpu") == "4"
        assert domain_xml.parse(str(there(world).live)).findtext("vcpu") == "1"
        assert (ready(world), ready(world, "Running")) == (("True", "AsAsked"), ("True", "PendingGuestRestart"))
        edit(world, running=False)
        await world.settle()
        edit(world, running=True)
        await world.settle()
        assert ready(world, "Running") == ("True", "Running")


@on_loop
async def test_a_device_of_an_assignment_survives_a_change() -> None:
    async with running() as world:
        create(world, running=False)
        world.cluster.create(body(guest="new"))
        await world.settle()
        await world.report()
        await world.settle()
        before = there(world).hostdevs()
        edit(world, memory="2Gi", disks=[])
        await world.settle()
        assert (len(before), there(world).hostdevs()) == (1, before)
        assert domain_xml.parse(str(there(world).config)).find("devices/disk") is None


@on_loop
async def test_one_that_goes_off_is_started_again_after_growing_delays() -> None:
    async with running() as world:
        uid = create(world)
        await world.settle()
        for seconds in (1.0, 11.0, 31.0):
            world.host.stop(uid)
            world.clock.seconds += 1.0
            world.agent.host_changed()
            await world.settle()
            assert (ready(world), there(world).live) == (("False", "GuestStops"), None)
            world.clock.seconds += seconds + 9.0
            world.agent.host_changed()
            await world.settle()
            assert ready(world) == ("True", "AsAsked")
        world.clock.seconds += 700.0
        world.host.stop(uid)
        world.agent.host_changed()
        await world.settle()
        assert ready(world) == ("True", "AsAsked")


@on_loop
async def test_one_that_does_not_listen_is_asked_now_and_then_and_never_destroyed() -> None:
    async with running() as world:
        create(world)
        await world.settle()
        there(world).manner = "is silent"
        edit(world, running=False)
        await world.settle()
        assert ready(world) == ("False", "ShuttingDown")
        asked = "shut_down_guest new"
        assert world.host.calls.count(asked) == 1
        world.clock.seconds += 61.0
        world.agent.host_changed()
        await world.settle()
        assert (world.host.calls.count(asked), there(world).live is None) == (2, False)


@on_loop
async def test_a_guest_of_that_name_is_left_alone() -> None:
    async with running() as world:
        before = world.host.state()
        create(world, name="web")
        await world.settle()
        assert ready(world) == ("False", "GuestExists")
        assert world.host.state() == before
        del world.host.guests[next(u for u, g in world.host.guests.items() if g.name == "web")]
        world.agent.host_changed()
        await world.settle()
        assert ready(world) == ("True", "AsAsked")


@on_loop
async def test_an_assignment_of_another_guest_does_not_count() -> None:
    async with running() as world:
        world.cluster.create(body(guest=world.host.guests[DB].name))
        create(world, deviceAssignments=NAMED)
        await world.settle()
        assert ready(world) == ("False", "AssignmentsNotReady")
        edit(world, deviceAssignments=[])
        await world.settle()
        assert ready(world) == ("True", "AsAsked")


@on_loop
async def test_a_failed_start_is_told_and_tried_again_after_some_time() -> None:
    async with running() as world:
        world.host.fail("start_guest", reasons.LIBVIRT_ERROR, "no such emulator")
        create(world)
        await world.settle()
        assert ready(world) == ("False", "LibvirtError")
        assert ready(world, "Defined") == ("True", "Defined")
        world.clock.seconds += 400.0
        world.agent.host_changed()
        await world.settle()
        assert ready(world) == ("True", "AsAsked")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"paused": True}, "Paused"), ({"approval": "Manual"}, "ApprovalUnsupported")],
)
def test_the_administrator_of_the_node_has_the_last_word(spec: dict[str, Any], reason: str) -> None:
    async def test() -> None:
        async with running() as world:
            world.administrate(**spec)
            create(world)
            await world.settle()
            assert (ready(world), found(world)) == (("False", reason), None)
            world.administrate(paused=False, approval="Automatic")
            await world.settle()
            assert ready(world) == ("True", "AsAsked")

    on_loop(test)()


@on_loop
async def test_xml_that_cannot_be_taken_leaves_the_guest_as_it_is() -> None:
    async with running() as world:
        create(world)
        await world.settle()
        before = there(world).config
        edit(world, domainXML="<domain><name>other</name></domain>")
        await world.settle()
        assert (ready(world), there(world).config) == (("False", "DomainXMLUnusable"), before)


# -- the end ---------------------------------------------------------------------------------------------------------


@on_loop
async def test_keep_leaves_it_running() -> None:
    async with running() as world:
        create(world)
        await world.settle()
        before = world.host.state()
        world.cluster.delete("new", "", "Guest")
        await world.settle()
        assert not world.cluster.exists("new", "", "Guest")
        assert world.host.state() == before


@on_loop
async def test_undefine_waits_for_the_shutdown_and_for_the_assignments() -> None:
    async with running() as world:
        before = world.host.state()
        create(world, deletionPolicy="Undefine", deviceAssignments=NAMED)
        world.cluster.create(body(guest="new"))
        await world.settle()
        await world.report()
        await world.settle()
        there(world).manner = "is silent"
        world.cluster.delete("new", "", "Guest")
        await world.settle()
        assert ready(world) == ("False", "ShuttingDown")
        world.host.stop(there(world).uuid)
        world.agent.host_changed()
        await world.settle()
        assert ready(world) == ("False", "GuestHasDevices")
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")
        assert not world.cluster.exists("new", "", "Guest")
        assert world.host.state() == before


@on_loop
async def test_undefine_leaves_what_a_guest_has_in_memory() -> None:
    async with running() as world:
        uid = create(world, deletionPolicy="Undefine")
        await world.settle()
        world.host.save(uid)
        world.cluster.delete("new", "", "Guest")
        await world.settle()
        assert ready(world) == ("False", "GuestSaved")
        there(world).saved = None
        world.agent.host_changed()
        await world.settle()
        assert (found(world), world.cluster.exists("new", "", "Guest")) == (None, False)


@on_loop
async def test_nothing_is_done_before_the_controller_holds_its_end_up() -> None:
    async with running(controller=False) as world:
        create(world)
        await world.settle()
        assert (found(world), world.cluster.writes) == (None, [])


@on_loop
async def test_the_end_of_one_whose_node_is_gone_for_good_waits_for_nobody() -> None:
    async with running(agent=False) as world:
        create(world)
        await world.settle()
        guest = world.cluster.get("new", "", "Guest")
        await world.cluster.port.apply_status(guest, {"nodeName": NODE}, "hostdev-agent")
        world.cluster.delete("new", "", "Guest")
        await world.settle()
        assert world.cluster.exists("new", "", "Guest")
        world.cluster.annotate(NODE, kind="DeviceHost", annotations={ANNOTATION: world.clock.now()})
        await world.settle()
        assert not world.cluster.exists("new", "", "Guest")
        assert world.cluster.events[-1] == "NodeGone"
