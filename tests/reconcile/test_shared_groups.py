"""Several assignments and one group: of one guest, of two, and of nobody."""

from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.record import Record
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, UID, WEB, assignment, device, small_host
from tests.reconcile.running import Engine, attached, count_boundaries, message, ready, without_plan
from tests.reconcile.test_assign import host_device

THIRD_UID = "0a0a0a0a-0000-4000-8000-000000000003"


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def mate(**more: Any) -> Assignment:
    return assignment(MATE, uid=OTHER_UID, **more)


def drivers_of(host: FakeHost, uid: str) -> dict[object, str | None]:
    return {m.address: m.driver for m in Record.from_json(host.records[uid]).members}


# -- one guest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize("first", [UID, OTHER_UID])
def test_a_group_shared_by_two_is_given_back_by_the_last(
    host: FakeHost,
    engine: Engine,
    first: str,
    managed: bool,  # noqa: FBT001
) -> None:
    before = host.state()
    nic: dict[str, Any] = {"managed": managed}
    assert ready(engine.run(assignment(**nic))) == ("True", "Assigned")
    assert ready(engine.run(mate(**nic))) == ("True", "Assigned")
    assert drivers_of(host, OTHER_UID) == {NIC: "e1000e", MATE: "snd_hda_intel"}
    host.start(WEB)
    assert [attached(engine.run(o)) for o in (assignment(**nic), mate(**nic))] == [("True", "InLiveXML")] * 2
    host.stop(WEB)
    objects = [assignment(**nic, deleting=True), mate(**nic, deleting=True)]
    one, two = objects if first == UID else reversed(objects)
    assert engine.run(one).released
    assert (host.drivers()[NIC], host.drivers()[MATE]) == (VFIO_DRIVER, VFIO_DRIVER)
    assert engine.run(two).released
    assert host.state() == before


def test_a_running_guest_keeps_the_group_when_one_of_its_two_is_released(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    wanted: dict[str, Any] = {"managed": False, "detach": "Live"}
    host.start(WEB)
    engine.run(assignment(**wanted))
    engine.run(mate(**wanted))
    assert engine.run(assignment(**wanted, deleting=True)).released
    assert [h.address for h in host.guests[WEB].hostdevs(live=True)] == [MATE]
    assert (host.drivers()[NIC], host.drivers()[MATE]) == (VFIO_DRIVER, VFIO_DRIVER)
    assert engine.run(mate(**wanted, deleting=True)).released
    assert host.state() == before


def test_a_managed_one_of_two_is_not_unplugged(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    engine.run(assignment(detach="Live"))
    engine.run(mate(detach="Live"))
    assert ready(engine.run(assignment(detach="Live", deleting=True))) == ("False", "GroupInUse")
    host.stop(WEB)
    assert engine.run(assignment(detach="Live", deleting=True)).released
    assert ready(engine.run(mate())) == ("True", "Assigned")
    assert host.drivers()[NIC] == VFIO_DRIVER


def test_a_function_that_only_one_of_two_has_recorded_is_left_to_the_other(host: FakeHost, engine: Engine) -> None:
    """It was added to the running host, and its recorder is deleted before the other one has had a turn."""
    wanted: dict[str, Any] = {"managed": False, "detach": "Live"}
    host.start(WEB)
    engine.run(assignment(**wanted))
    engine.run(mate(**wanted))
    new = device("0000:01:00.2", "igb")
    host.insert(new)
    engine.run(assignment(**wanted))
    assert engine.run(assignment(**wanted, deleting=True)).released
    assert host.drivers()[new.address] == VFIO_DRIVER
    assert drivers_of(host, OTHER_UID)[new.address] == "igb"
    assert engine.run(mate(**wanted, deleting=True)).released
    assert host.drivers() == host.native


def test_release_waits_for_a_function_that_the_guest_has_by_hand_and_nobody_recorded(
    host: FakeHost, engine: Engine
) -> None:
    engine.run(assignment(managed=False))
    new = device("0000:01:00.2", None)
    host.insert(new)
    host.define(WEB, "web", host_device(new.address))
    host.start(WEB)
    assert ready(engine.run(assignment(managed=False, deleting=True))) == ("False", "GroupInUse")
    assert (host.drivers()[NIC], host.drivers()[MATE]) == (VFIO_DRIVER, VFIO_DRIVER)
    host.stop(WEB)
    assert engine.run(assignment(managed=False, deleting=True)).released


def test_assign_all_leaves_what_another_assignment_of_the_guest_has_and_takes_it_over(
    host: FakeHost, engine: Engine
) -> None:
    before = host.state()
    engine.run(assignment())
    everything = mate(groupPolicy="AssignAll")
    assert ready(engine.run(everything)) == ("True", "Assigned")
    assert {h.alias for h in host.guests[WEB].hostdevs()} == {f"ua-hostdev-{UID}", f"ua-hostdev-{OTHER_UID}"}
    assert engine.run(assignment(deleting=True)).released
    assert ready(engine.run(everything)) == ("True", "Assigned")
    aliases = {h.address: h.alias for h in host.guests[WEB].hostdevs()}
    assert aliases == {MATE: f"ua-hostdev-{OTHER_UID}", NIC: f"ua-hostdev-{OTHER_UID}-0000-01-00-0"}
    assert engine.run(mate(groupPolicy="AssignAll", deleting=True)).released
    assert host.state() == before


def test_a_mate_that_a_running_guest_has_by_hand_gets_its_driver_back(host: FakeHost, engine: Engine) -> None:
    """Libvirt alone knows what the mate had before: it must not be recorded as being on vfio-pci from the start."""
    host.define(WEB, "web", host_device(MATE))
    engine.run(assignment(LONER, uid=THIRD_UID))
    host.bind(NIC, None)
    host.start(WEB)
    host.bind(NIC, None)
    assert ready(engine.run(assignment(driftPolicy="Correct"))) == ("True", "Assigned")
    host.stop(WEB)
    host.define(WEB, "web")
    engine.run(assignment(driftPolicy="Correct"))
    assert host.drivers()[MATE] == VFIO_DRIVER
    assert engine.run(assignment(deleting=True)).released
    assert host.drivers()[MATE] == "snd_hda_intel"


# -- RequireFree -----------------------------------------------------------------------------------------------------


def test_require_free_takes_nothing_from_the_host(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    wanted = assignment(groupPolicy="RequireFree")
    assert ready(engine.run(wanted)) == ("False", "GroupNotFree")
    assert (host.calls, host.state()) == ([], before)
    host.bind(MATE, None)
    assert ready(engine.run(wanted)) == ("True", "Assigned")
    assert host.calls == [f"save {UID}", f"add_hostdev {NIC}"]
    host.bind(MATE, "snd_hda_intel")
    assert ready(engine.run(wanted)) == ("False", "GroupNotFree")
    assert [h.address for h in host.guests[WEB].hostdevs()] == [NIC]
    host.bind(MATE, VFIO_DRIVER)  # by the administrator's hand
    assert ready(engine.run(wanted)) == ("True", "Assigned")
    assert engine.run(assignment(groupPolicy="RequireFree", deleting=True)).released
    assert host.drivers()[MATE] == VFIO_DRIVER


def test_require_free_gives_back_what_another_assignment_held_for_it(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(mate(managed=False))
    assert ready(engine.run(assignment(groupPolicy="RequireFree"))) == ("True", "Assigned")
    assert engine.run(mate(managed=False, deleting=True)).released
    assert engine.run(assignment(groupPolicy="RequireFree", deleting=True)).released
    assert host.state() == before


# -- reservations ----------------------------------------------------------------------------------------------------


def test_a_reservation_holds_the_group_for_nobody_and_gives_it_back(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    result = engine.run(assignment(guest=None))
    assert ready(result) == ("True", "Reserved")
    assert [c.type for c in result.status.conditions] == ["Planned", "GroupReady", "Ready"]
    assert (host.drivers()[NIC], host.drivers()[MATE]) == (VFIO_DRIVER, VFIO_DRIVER)
    assert ready(engine.run(mate())) == ("False", "GroupInUse")
    assert ready(engine.run(mate(guest=None))) == ("False", "GroupInUse")
    assert engine.run(assignment(guest=None, deleting=True)).released
    assert host.state() == before


def reserving() -> tuple[Engine, Assignment]:
    return Engine(small_host()), assignment(guest=None)


def test_there_is_a_boundary_around_every_change() -> None:
    assert count_boundaries(reserving) == 4  # record, two drivers, done


@pytest.mark.parametrize("boundary", range(1, 5))
def test_a_crash_at_any_point_of_a_reservation_leads_to_the_same_end(boundary: int) -> None:
    undisturbed, obj = reserving()
    expected = undisturbed.run(obj)
    crashed, _ = reserving()
    crashed.crash_at = boundary
    assert without_plan(crashed.run_through_crashes(obj)) == without_plan(expected)
    assert crashed.host.state() == undisturbed.host.state()


def test_a_reservation_whose_device_vanishes_on_the_way_is_told(host: FakeHost, engine: Engine) -> None:
    def pull(call: str) -> None:
        if call.startswith("save"):
            host.hook = lambda _call: None
            host.remove(LONER)

    host.hook = pull
    assert ready(engine.run(assignment(LONER, guest=None)))[1] == "DeviceNotFound"
    assert engine.run(assignment(LONER, guest=None, deleting=True)).released
    assert not host.records


# -- the older one goes first ----------------------------------------------------------------------------------------

OLD = "2026-01-01T00:00:00Z"
YOUNG = "2026-01-01T00:00:09Z"


def test_the_younger_waits_for_the_elder_although_it_is_looked_at_first(host: FakeHost, engine: Engine) -> None:
    elder, younger = assignment(created=OLD), mate(guest=DB, created=YOUNG)
    engine.wishes[elder.uid] = elder.wish()
    waiting = engine.run(younger)
    assert ready(waiting) == ("False", "GroupInUse")
    assert "default/nic, which is older" in message(waiting)
    assert host.calls == []
    assert ready(engine.run(elder)) == ("True", "Assigned")
    assert ready(engine.run(younger)) == ("False", "GroupInUse")


def test_the_younger_goes_when_the_elder_is_refused(host: FakeHost, engine: Engine) -> None:
    elder, younger = assignment(created=OLD), mate(guest=DB, created=YOUNG)
    engine.wishes[elder.uid] = elder.wish()
    host.undefine(WEB)
    assert ready(engine.run(younger)) == ("True", "Assigned")


def test_the_younger_goes_when_the_elder_is_deleted(host: FakeHost, engine: Engine) -> None:
    younger = mate(guest=DB, created=YOUNG)
    assert engine.run(assignment(created=OLD, deleting=True)).released
    assert ready(engine.run(younger)) == ("True", "Assigned")


def test_what_the_younger_has_already_is_not_taken_from_it(host: FakeHost, engine: Engine) -> None:
    younger, elder = mate(guest=DB, created=YOUNG), assignment(created=OLD)
    assert ready(engine.run(younger)) == ("True", "Assigned")
    assert ready(engine.run(elder)) == ("False", "GroupInUse")
    assert ready(engine.run(younger)) == ("True", "Assigned")
