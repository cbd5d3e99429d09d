"""Guests that must not start without their device (spec.requireAtStart)."""

from __future__ import annotations

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, NIC, UID, WEB, assignment, small_host
from tests.reconcile.running import Crash, Engine, count_boundaries, message, ready

ASKED = assignment(requireAtStart=True)
GONE = assignment(requireAtStart=True, deleting=True, generation=2)


def guarded() -> FakeHost:
    host = small_host()
    host.start_hook = True
    return host


@pytest.fixture
def host() -> FakeHost:
    return guarded()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def starts(host: FakeHost, uuid: str = WEB) -> bool:
    """Whether it starts now; it is off again then, unless it runs already."""
    if host.guests[uuid].live:
        return True
    try:
        host.start(uuid)
    except HostError as error:
        assert "Hook script" in error.message  # noqa: PT017 - both ways are good
        return False
    host.stop(uuid)
    return True


def test_it_is_held_up_until_its_device_is_there_and_nobody_else(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route")
    assert ready(engine.run(ASKED)) == ("False", "HostCritical")
    assert "HostCritical" in host.closed[UID][1]
    assert (starts(host), starts(host, DB)) == (False, True)
    host.uses.clear()
    assert ready(engine.run(ASKED)) == ("True", "Assigned")
    assert starts(host)


def test_one_that_does_not_ask_for_it_starts_without(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route")
    engine.run(assignment())
    assert starts(host)
    assert not any(call.startswith("gate_") for call in host.calls)


def test_nobody_is_held_up_once_it_is_not_asked_for_any_more(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route")
    engine.run(ASKED)
    engine.run(assignment(generation=2))
    assert starts(host)


def test_a_deletion_opens_first(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route")
    before = host.state()
    engine.run(ASKED)
    assert engine.run(GONE).released
    assert host.state() == before


def test_a_deletion_that_waits_holds_nobody_up(host: FakeHost, engine: Engine) -> None:
    engine.run(ASKED)
    host.start(WEB)
    host.bind(NIC, None)
    assert ready(engine.run(GONE)) == ("False", "GuestRunning")
    assert not host.closed


def test_what_somebody_took_out_of_its_xml_is_missed(host: FakeHost, engine: Engine) -> None:
    engine.run(ASKED)
    host.define(WEB, "web")
    assert ready(engine.run(ASKED))[0] == "False"
    assert not starts(host)


def test_while_libvirt_is_away_it_stays_as_it_was(host: FakeHost, engine: Engine) -> None:
    engine.run(ASKED)
    host.down = True
    assert ready(engine.run(ASKED)) == ("False", "LibvirtUnavailable")
    assert not host.closed


def test_without_a_hook_all_is_done_and_it_is_not_ready(host: FakeHost, engine: Engine) -> None:
    host.start_hook = False
    result = engine.run(ASKED)
    assert ready(result) == ("False", "StartHookMissing")
    assert "hostdev-guest-ready" in message(result)
    assert [h.address for h in host.guests[WEB].hostdevs()] == [NIC]
    host.start_hook = True
    assert ready(engine.run(ASKED)) == ("True", "Assigned")


def test_nothing_is_changed_if_the_hook_cannot_be_told(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.fail("gate_close", reasons.STATE_DIRECTORY_FAILED, times=2)
    assert ready(engine.run(ASKED)) == ("False", "StateDirectoryFailed")
    assert host.state() == before
    assert ready(engine.run(ASKED)) == ("True", "Assigned")
    assert starts(host)


def test_a_guest_that_could_not_be_let_go_is_told_of(host: FakeHost, engine: Engine) -> None:
    host.fail("gate_open", reasons.STATE_DIRECTORY_FAILED)
    assert ready(engine.run(ASKED)) == ("False", "StateDirectoryFailed")
    assert ready(engine.run(ASKED)) == ("True", "Assigned")
    assert starts(host)


def test_one_that_would_be_resumed_without_it_is_held_up_until_its_image_is_dropped(
    host: FakeHost, engine: Engine
) -> None:
    host.start(WEB)
    host.save(WEB)
    assert ready(engine.run(ASKED)) == ("True", "Assigned")
    assert "GuestSaved" in host.closed[UID][1]
    assert not starts(host)
    host.guests[WEB].saved = None
    engine.run(ASKED)
    assert starts(host)


BOUNDARIES = count_boundaries(lambda: (Engine(guarded()), assignment(requireAtStart=True, managed=False)))


@pytest.mark.parametrize("boundary", range(1, BOUNDARIES + 1))
def test_at_no_boundary_it_starts_without_its_device(boundary: int) -> None:
    asked = assignment(requireAtStart=True, managed=False)
    engine = Engine(guarded(), crash_at=boundary)
    with pytest.raises(Crash):
        engine.run(asked)
    assert not starts(engine.host)
    engine.restart()
    assert ready(engine.run(asked)) == ("True", "Assigned")
    assert starts(engine.host)
