from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.reasons import Retry
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, UID, WEB, assignment, small_host
from tests.reconcile.running import Engine, asked, attached, count_boundaries, message, ready
from tests.reconcile.test_assign import host_device

GONE = assignment(detach="Live", deleting=True, generation=2)


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    """The guest runs with the device."""
    made = Engine(host)
    host.start(WEB)
    made.run(assignment(detach="Live"))
    host.calls.clear()
    return made


def before() -> object:
    return small_host().state()


def live(host: FakeHost) -> list[object]:
    return [h.address for h in host.guests[WEB].hostdevs(live=True)]


def test_a_guest_that_answers_gives_the_device_back_at_once(host: FakeHost, engine: Engine) -> None:
    assert engine.run(GONE).released
    assert (live(host), host.state()) == ([], before())
    calls = [f"unplug_hostdev {NIC}", f"remove_hostdev {NIC}", f"reattach_driver {MATE}", f"drop {UID}"]
    assert host.calls == calls


def test_an_unmanaged_group_is_unplugged_and_given_back_as_a_whole(host: FakeHost) -> None:
    engine = Engine(host)
    host.start(WEB)
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll", "managed": False, "detach": "Live"}
    engine.run(assignment(**wanted))
    assert live(host) == [NIC, MATE]
    assert engine.run(assignment(**wanted, deleting=True)).released
    assert (live(host), host.state()) == ([], before())


def test_a_managed_group_is_never_unplugged_one_by_one(host: FakeHost) -> None:
    """Libvirt would give the first to the host while the guest has the second."""
    engine = Engine(host)
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll", "detach": "Live"}
    engine.run(assignment(**wanted))
    host.start(WEB)
    requests = asked(host)
    waiting = engine.run(assignment(**wanted, deleting=True))
    assert ready(waiting) == ("False", "GroupInUse")
    assert "virsh shutdown web" in message(waiting)
    assert requests == []
    host.stop(WEB)
    assert engine.run(assignment(**wanted, deleting=True)).released
    assert host.state() == before()


def test_when_off_never_asks(host: FakeHost, engine: Engine) -> None:
    requests = asked(host)
    for _ in range(3):
        assert ready(engine.run(assignment(deleting=True, generation=2))) == ("False", "GuestRunning")
    assert requests == []
    assert engine.run(assignment(detach="Live", deleting=True, generation=3)).released


@pytest.mark.parametrize(("manner", "reason"), [("is silent", "UnplugPending"), ("refuses", "UnplugRejected")])
def test_a_guest_that_keeps_it_is_asked_once(host: FakeHost, engine: Engine, manner: str, reason: str) -> None:
    requests = asked(host)
    host.guests[WEB].manner = manner
    for _ in range(5):
        result = engine.run(GONE)
        assert not result.released
        assert (ready(result), attached(result)[0], result.retry) == (("False", reason), "True", Retry.ON_RESTART)
    assert requests == [f"unplug_hostdev {NIC}"]
    assert (live(host), host.drivers()[MATE]) == ([NIC], VFIO_DRIVER)


@pytest.mark.parametrize("manner", ["is silent", "refuses"])
def test_it_is_asked_again_when_its_run_or_the_spec_changes(host: FakeHost, engine: Engine, manner: str) -> None:
    requests = asked(host)
    host.guests[WEB].manner = manner
    engine.run(GONE)
    engine.run(assignment(detach="Live", deleting=True, generation=3))
    assert len(requests) == 2
    host.stop(WEB)
    host.start(WEB)
    engine.run(assignment(detach="Live", deleting=True, generation=3))
    assert len(requests) == 3
    engine.run(assignment(detach="WhenOff", deleting=True, generation=4))
    assert len(requests) == 3


def test_a_guest_that_answers_late_is_gone_on_with(host: FakeHost, engine: Engine) -> None:
    host.guests[WEB].manner = "is silent"
    engine.run(GONE)
    host.eject(host.guests[WEB], NIC)
    assert engine.run(GONE).released
    assert host.state() == before()


def test_a_guest_that_refuses_late_is_told(host: FakeHost, engine: Engine) -> None:
    host.guests[WEB].manner = "is silent"
    assert ready(engine.run(GONE)) == ("False", "UnplugPending")
    host.rejections.add((WEB, f"ua-hostdev-{UID}"))
    requests = asked(host)
    result = engine.run(GONE)
    assert ready(result) == ("False", "UnplugRejected")
    assert "guest web" in message(result)
    assert requests == []


def test_the_refusal_of_another_device_is_not_this_ones(host: FakeHost, engine: Engine) -> None:
    host.guests[WEB].manner = "is silent"
    engine.run(GONE)
    host.rejections.add((WEB, f"ua-hostdev-{OTHER_UID}"))
    assert ready(engine.run(GONE)) == ("False", "UnplugPending")


@pytest.mark.parametrize("manner", ["is silent", "refuses"])
def test_a_guest_that_is_stopped_meanwhile_has_nothing_to_say(host: FakeHost, engine: Engine, manner: str) -> None:
    host.guests[WEB].manner = manner
    engine.run(GONE)
    host.stop(WEB)
    assert engine.run(GONE).released
    assert host.state() == before()


def test_a_guest_that_is_started_while_it_is_released_keeps_its_group(host: FakeHost, engine: Engine) -> None:
    """Between unplugging and editing the XML it was restarted: it has the device again."""

    def restart(call: str) -> None:
        if call == "remove":
            host.hook = lambda _call: None
            host.stop(WEB)
            host.start(WEB)

    host.hook = restart
    result = engine.run(GONE)
    assert not result.released
    assert (live(host), host.drivers()[MATE]) == ([NIC], VFIO_DRIVER)
    assert UID in host.records
    assert engine.run(GONE).released
    assert host.state() == before()


def test_a_device_that_was_ejected_by_hand_needs_no_question(host: FakeHost, engine: Engine) -> None:
    host.eject(host.guests[WEB], NIC)
    requests = asked(host)
    assert engine.run(GONE).released
    assert requests == []


def test_the_other_device_of_the_guest_stays(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(LONER, uid=OTHER_UID))
    assert engine.run(GONE).released
    assert live(host) == [LONER]
    assert OTHER_UID in host.records


def test_an_unplug_that_libvirt_refuses_is_tried_again_with_delays(host: FakeHost, engine: Engine) -> None:
    host.fail("unplug_hostdev", reasons.LIBVIRT_ERROR)
    result = engine.run(GONE)
    assert (ready(result), result.retry) == (("False", "LibvirtError"), Retry.BACKOFF)
    assert engine.run(GONE).released


def test_libvirt_away_after_the_unplug_is_resumed(host: FakeHost, engine: Engine) -> None:
    host.fail("unplug_hostdev", reasons.LIBVIRT_UNAVAILABLE, after=True, down=True)
    assert ready(engine.run(GONE)) == ("False", "LibvirtUnavailable")
    host.heal()
    assert engine.run(GONE).released
    assert host.state() == before()


# -- crashes ---------------------------------------------------------------------------------------------------------


def unplugging() -> tuple[Engine, Assignment]:
    host = small_host()
    host.start(WEB)
    engine = Engine(host)
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll", "managed": False, "detach": "Live"}
    engine.run(assignment(**wanted))
    engine.boundaries.clear()
    return engine, assignment(**wanted, deleting=True)


def test_there_is_a_boundary_around_every_change() -> None:
    assert count_boundaries(unplugging) == 8  # two unplugs, two hostdevs, two drivers, record, done


@pytest.mark.parametrize("boundary", range(1, 9))
def test_a_crash_at_any_point_leads_to_the_same_end(boundary: int) -> None:
    crashed, obj = unplugging()
    crashed.crash_at = boundary
    assert crashed.run_through_crashes(obj).released
    assert (live(crashed.host), crashed.host.state()) == ([], before())
    assert DB in crashed.host.guests


def test_a_guest_that_lets_go_just_after_we_stopped_waiting_is_not_waited_for(host: FakeHost, engine: Engine) -> None:
    guest = host.guests[WEB]
    guest.manner = "is silent"
    requests: list[str] = []

    def let_go(call: str) -> None:
        if call.startswith("unplug_hostdev "):
            requests.append(call)
        elif call == "guests" and requests:
            host.eject(guest, NIC)

    host.hook = let_go
    result = engine.run(GONE)
    assert (result.released, result.retry) == (False, Retry.SOON)
    assert engine.run(GONE).released
    assert host.state() == before()


def test_a_mate_that_somebody_gave_to_the_guest_by_hand_is_never_taken_from_it() -> None:
    host = small_host()
    host.define(WEB, "web", host_device(MATE))
    engine = Engine(host)
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll", "detach": "Live", "managed": False}
    for _ in range(2):
        engine.run(assignment(**wanted))
    host.start(WEB)
    requests = asked(host)
    engine.run(assignment(**wanted, deleting=True))
    assert [call for call in requests if str(MATE) in call] == []
    assert MATE in [h.address for h in host.guests[WEB].hostdevs()]
    assert MATE in live(host)
