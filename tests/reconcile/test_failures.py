from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.conditions import find
from hostdev_operator.core.model import VFIO_DRIVER, Use
from hostdev_operator.core.reasons import Retry
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import LONER, MATE, NIC, UID, WEB, assignment, small_host
from tests.reconcile.running import Engine, message, ready

CHANGES = ["save", "detach_driver", "add_hostdev"]


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize("after", [False, True], ids=["before it did anything", "after it did its work"])
@pytest.mark.parametrize("call", CHANGES)
def test_a_failed_action_is_rolled_back_once_and_not_tried_again(
    host: FakeHost,
    engine: Engine,
    call: str,
    after: bool,  # noqa: FBT001
    managed: bool,  # noqa: FBT001
) -> None:
    before = host.state()
    host.fail(call, reasons.IOMMU_GROUP_NOT_VIABLE, after=after)
    first = engine.run(assignment(managed=managed))
    done_by_libvirt = call == "add_hostdev" and after
    if done_by_libvirt:  # the guest has it: nothing is torn out of its XML, the next run finds it done
        assert ready(engine.run(assignment(managed=managed))) == ("True", "Assigned")
        return
    assert ready(first) == ("False", "IOMMUGroupNotViable")
    assert host.state() == before
    host.calls.clear()
    again = engine.run(assignment(managed=managed))
    assert ready(again) == ("False", "IOMMUGroupNotViable")
    assert host.calls == []
    assert again.status == first.status


def test_it_is_tried_again_when_an_input_has_changed(host: FakeHost, engine: Engine) -> None:
    host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT)
    assert ready(engine.run(assignment())) == ("False", "NoGuestPCISlot")
    host.calls.clear()
    host.bind(LONER, None)
    engine.run(assignment())
    assert host.calls == []
    host.start(WEB)
    assert ready(engine.run(assignment())) == ("True", "Assigned")


@pytest.mark.parametrize("call", ["detach_driver", "add_hostdev", "reattach_driver"])
def test_what_changes_while_it_fails_is_worth_a_try(host: FakeHost, engine: Engine, call: str) -> None:
    def start(now: str) -> None:
        if now.startswith(call):
            host.hook = lambda _call: None
            host.start(WEB)

    host.hook = start
    host.fail("detach_driver" if call == "detach_driver" else "add_hostdev", reasons.NO_GUEST_PCI_SLOT)
    assert ready(engine.run(assignment())) == ("False", "NoGuestPCISlot")
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_a_detach_that_returns_just_after_its_deadline_is_gone_on_from(host: FakeHost, engine: Engine) -> None:
    host.hook = lambda call: host.bind(MATE, VFIO_DRIVER) if call.startswith("detach_driver") else None
    host.fail("detach_driver", reasons.DETACH_BLOCKED)
    assert ready(engine.run(assignment())) == ("False", "DetachBlocked")
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_a_detach_that_has_not_returned_is_waited_for(host: FakeHost, engine: Engine) -> None:
    host.hook = lambda call: host.blocked.add(MATE) if call.startswith("detach_driver") else None
    host.fail("detach_driver", reasons.DETACH_BLOCKED)
    for _ in range(2):
        assert ready(engine.run(assignment())) == ("False", "DetachBlocked")
    host.hook = lambda _call: None
    host.blocked.clear()
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_a_reason_that_heals_with_time_is_tried_again_with_backoff(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.fail("add_hostdev", reasons.LIBVIRT_ERROR, times=2)
    for _ in range(2):
        result = engine.run(assignment())
        assert result.retry is Retry.BACKOFF
        assert host.state() == before
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_a_detach_that_ends_without_a_driver_is_rolled_back(host: FakeHost, engine: Engine) -> None:
    before = host.state()

    def lose_driver(call: str) -> None:
        if call == f"detach_driver {MATE}":
            host.bind(MATE, None)

    host.hook = lose_driver
    host.fail("detach_driver", reasons.DETACH_FAILED)
    assert ready(engine.run(assignment())) == ("False", "DetachFailed")
    assert host.state() == before


def test_a_detach_that_does_not_return_is_finished_and_not_forgotten(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.fail("detach_driver", reasons.DETACH_BLOCKED)
    host.blocked.add(MATE)
    assert ready(engine.run(assignment())) == ("False", "DetachBlocked")
    assert UID in host.records
    waiting = engine.run(assignment(deleting=True))
    assert (waiting.released, ready(waiting)) == (False, ("False", "DetachBlocked"))
    host.blocked.clear()
    host.bind(MATE, VFIO_DRIVER)  # the call has returned at last
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before


def test_events_alone_do_not_repeat_what_time_must_heal(host: FakeHost, engine: Engine) -> None:
    host.fail("add_hostdev", reasons.LIBVIRT_ERROR, times=3)
    engine.run(assignment())
    calls = len(host.calls)
    now = engine.clock.seconds
    for _ in range(10):
        engine.clock.seconds = now - 1000.0 + 0.5  # half a second after the failure, whatever run() adds
        assert ready(engine.run(assignment())) == ("False", "LibvirtError")
    assert len(host.calls) == calls
    engine.run(assignment())
    assert len(host.calls) > calls


def test_a_guest_started_while_it_is_released_keeps_its_group(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())

    def start(call: str) -> None:
        if call == "remove":  # libvirt takes the removal and the start in this order
            host.hook = lambda _call: None
            host.start(WEB)

    host.hook = start
    result = engine.run(assignment(deleting=True))
    assert (result.released, ready(result)) == (False, ("False", "GuestRunning"))
    assert host.drivers()[MATE] == VFIO_DRIVER
    assert UID in host.records
    host.stop(WEB)
    assert engine.run(assignment(deleting=True)).released


def test_a_claim_that_was_begun_and_may_not_be_finished_is_given_back(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.fail("add_hostdev", reasons.LIBVIRT_UNAVAILABLE)
    engine.run(assignment())
    assert UID in host.records
    host.uses.append(Use(NIC, "carries the default route over eth0"))
    assert ready(engine.run(assignment())) == ("False", "HostCritical")
    host.uses.clear()
    assert host.state() == before


def test_what_the_host_starts_to_use_in_the_middle_is_not_taken(host: FakeHost, engine: Engine) -> None:
    before = host.state()

    def use(call: str) -> None:
        if call.startswith("save"):
            host.uses.append(Use(MATE, "carries the default route over eth0"))

    host.hook = use
    engine.run(assignment())
    host.hook = lambda _call: None
    assert ready(engine.run(assignment())) == ("False", "HostCritical")
    host.uses.clear()
    assert host.state() == before


def test_a_release_is_not_done_twice_from_its_published_record(host: FakeHost, engine: Engine) -> None:
    status = engine.run(assignment()).status
    deleted = replace(assignment(deleting=True), status=status.model_copy(update={"domain_uuid": WEB}))
    assert engine.reconciler.reconcile(deleted).released
    calls = len(host.calls)
    assert engine.reconciler.reconcile(deleted).released  # the binding could not be cleared yet
    assert len(host.calls) == calls
    assert not host.records


def test_a_detach_that_libvirt_calls_success_is_looked_at(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.refused_by_vfio.add(MATE)
    assert ready(engine.run(assignment())) == ("False", "DetachFailed")
    assert host.state() == before


def test_a_rollback_that_fails_says_so_and_keeps_the_record(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT)
    host.fail("reattach_driver", reasons.REATTACH_BLOCKED)
    result = engine.run(assignment())
    condition = find(result.status.conditions, "Ready")
    assert condition
    assert condition.reason == "NoGuestPCISlot"
    assert "rolling back failed: ReattachBlocked" in condition.message
    assert UID in host.records
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before


def test_a_driver_that_changed_between_look_and_act_is_looked_at_again(host: FakeHost, engine: Engine) -> None:
    def rebind(call: str) -> None:
        if call.startswith("save"):
            host.bind(MATE, "other")
            host.hook = lambda _call: None

    host.hook = rebind
    result = engine.run(assignment())
    assert ready(result) == ("False", "HostChanged")
    assert result.retry is Retry.SOON
    assert host.drivers()[MATE] == "other"
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_a_rollback_that_the_host_has_overtaken_is_gone_on_with(host: FakeHost, engine: Engine) -> None:
    """Nothing else changes, so nothing else would wake it."""
    before = host.state()
    host.refused_by_vfio.add(MATE)
    host.fail("reattach_driver", reasons.HOST_CHANGED)
    result = engine.run(assignment())
    assert ready(result) == ("False", "DetachFailed")
    assert "rolling back failed: HostChanged" in message(result)
    assert result.retry is Retry.BACKOFF
    assert ready(engine.run(assignment())) == ("False", "DetachFailed")
    assert host.state() == before


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["detach_driver", "add_hostdev"])
def test_libvirt_away_in_the_middle_keeps_the_record_and_is_resumed(
    host: FakeHost,
    engine: Engine,
    call: str,
    after: bool,  # noqa: FBT001
) -> None:
    undisturbed = small_host()
    Engine(undisturbed).run(assignment())
    host.fail(call, reasons.LIBVIRT_UNAVAILABLE, after=after, down=True)
    result = engine.run(assignment())
    assert ready(result) == ("False", "LibvirtUnavailable")
    assert result.retry is Retry.BACKOFF
    assert UID in host.records
    assert ready(engine.run(assignment())) == ("False", "LibvirtUnavailable")
    host.heal()
    assert ready(engine.run(assignment())) == ("True", "Assigned")
    assert host.state() == undisturbed.state()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["remove_hostdev", "reattach_driver", "drop"])
def test_a_release_that_fails_goes_on_later(host: FakeHost, engine: Engine, call: str, after: bool) -> None:  # noqa: FBT001
    before = host.state()
    engine.run(assignment(managed=False))
    host.fail(call, reasons.REATTACH_BLOCKED, after=after)
    result = engine.run(assignment(managed=False, deleting=True))
    assert not result.released
    assert ready(result)[1] == "ReattachBlocked"
    assert result.retry is Retry.BACKOFF
    assert engine.run(assignment(managed=False, deleting=True)).released
    assert host.state() == before


def test_a_driver_that_does_not_come_back_keeps_the_release_waiting(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    host.native[MATE] = None
    for _ in range(2):
        result = engine.run(assignment(deleting=True))
        assert not result.released
        assert ready(result) == ("False", "BindFailed")
        assert UID in host.records
    host.native[MATE] = "snd_hda_intel"
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before


def test_libvirt_away_during_release_keeps_what_is_not_given_back(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    host.fail("reattach_driver", reasons.LIBVIRT_UNAVAILABLE, down=True)
    for _ in range(2):
        assert ready(engine.run(assignment(deleting=True))) == ("False", "LibvirtUnavailable")
        assert host.drivers()[MATE] == VFIO_DRIVER
        assert UID in host.records
    host.heal()
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before


def test_the_status_of_a_run_that_saw_nothing_is_the_old_one_but_not_ready(host: FakeHost, engine: Engine) -> None:
    known = engine.run(assignment()).status
    host.down = True
    result = engine.run(assignment())
    assert ready(result) == ("False", "LibvirtUnavailable")
    assert (result.status.record, result.status.guest) == (known.record, known.guest)
    assert result.status.record


@pytest.mark.parametrize("reason", [reasons.REATTACH_BLOCKED, reasons.BIND_FAILED, reasons.LIBVIRT_UNAVAILABLE])
def test_a_rollback_that_failed_is_tried_again(host: FakeHost, engine: Engine, reason: reasons.Reason) -> None:
    before = host.state()
    host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT, times=9)
    host.fail("reattach_driver", reason)
    first = engine.run(assignment())
    assert (ready(first), first.retry, UID in host.records) == (("False", "NoGuestPCISlot"), Retry.BACKOFF, True)
    calls = len(host.calls)
    engine.clock.seconds -= 1000.0  # at once, whatever run() adds
    assert (engine.run(assignment()).status, len(host.calls)) == (first.status, calls)
    again = engine.run(assignment())
    assert (ready(again), host.state()) == (("False", "NoGuestPCISlot"), before)


def test_a_guest_whose_xml_cannot_be_read_stops_everything_and_is_named(host: FakeHost, engine: Engine) -> None:
    before = host.drivers()
    host.guests[WEB].config = "<domain><devices>"
    result = engine.run(assignment())
    assert (ready(result), result.retry) == (("False", "LibvirtError"), Retry.BACKOFF)
    told = find(result.status.conditions, "Ready")
    assert told
    assert f"guest web ({WEB})" in told.message
    assert host.drivers() == before


def test_an_object_whose_status_makes_no_sense_can_be_deleted(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment(managed=False))
    broken = assignment(managed=False, deleting=True)
    status = engine.statuses[UID]
    assert status.identity
    status = status.model_copy(update={"identity": status.identity.model_copy(update={"vendor_id": "nonsense"})})
    assert engine.reconciler.reconcile(replace(broken, status=status)).released
    assert host.state() == before


def test_a_release_that_met_a_changing_host_is_tried_again(host: FakeHost, engine: Engine) -> None:
    """It was held back for ever, and looked at each second, while nothing else changed."""
    engine.run(assignment())
    host.fail("remove_hostdev", reasons.HOST_CHANGED, after=True)
    waiting = engine.run(assignment(deleting=True))
    assert (ready(waiting), waiting.retry) == (("False", "HostChanged"), Retry.SOON)
    assert engine.run(assignment(deleting=True)).released
