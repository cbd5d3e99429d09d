"""Guests with a managed save image: their next start resumes that, whatever their persistent XML says."""

from __future__ import annotations

import pytest

from hostdev_operator.core.conditions import find
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, MATE, NIC, OTHER_UID, WEB, assignment, small_host
from tests.reconcile.running import Engine, attached, message, ready

GONE = assignment(deleting=True, generation=2)


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def test_one_that_was_saved_before_is_resumed_without_the_device_and_given_it_then(
    host: FakeHost, engine: Engine
) -> None:
    host.start(WEB)
    host.save(WEB)
    result = engine.run(assignment())
    assert (ready(result)[0], attached(result)) == ("True", ("False", "GuestSaved"))
    told = find(result.status.conditions, "Attached")
    assert told
    assert "virsh managedsave-remove web" in told.message
    host.start(WEB)
    assert host.guests[WEB].hostdevs(live=True) == ()
    result = engine.run(assignment())
    assert attached(result) == ("True", "InLiveXML")


def test_one_that_is_saved_with_it_keeps_it_until_the_image_is_used_or_dropped(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    host.start(WEB)
    host.save(WEB)
    assert attached(engine.run(assignment())) == ("False", "GuestShutOff")
    calls = list(host.calls)
    result = engine.run(GONE)
    assert (ready(result), host.calls) == (("False", "GuestSaved"), calls)
    assert str(NIC) in message(result)
    host.guests[WEB].saved = None
    assert engine.run(GONE).released
    assert host.state() == before


def test_what_another_guest_has_saved_is_that_guests(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.start(WEB)
    host.save(WEB)
    host.guests[WEB].config = host.define(WEB, "web").config
    host.records.clear()
    host.bind(MATE, host.native[MATE])
    result = engine.run(assignment(uid=OTHER_UID, guest=DB))
    assert ready(result) == ("False", "DeviceInUse")
    assert "web (saved)" in message(result)
