"""Guests with a managed save image: their next start resumes that, whatever their persistent XML says."""

from __future__ import annotations

import pytest

from hostdev_operator.core import reasons
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


def test_drop_has_the_next_start_be_a_boot_with_the_device(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    host.save(WEB)
    result = engine.run(assignment(savedImage="Drop"))
    assert (ready(result)[0], attached(result)) == ("True", ("False", "GuestShutOff"))
    assert result.status.plan
    last = result.status.plan.actions[-1]
    assert (last.action, last.disruption, last.device) == ("DropSavedImage", "GuestMemory", None)
    assert "web" in last.summary
    host.start(WEB)
    assert [h.address for h in host.guests[WEB].hostdevs(live=True)] == [NIC]
    calls = list(host.calls)
    engine.run(assignment(savedImage="Drop"))
    assert host.calls == calls


def test_drop_leaves_an_image_that_has_the_device(host: FakeHost, engine: Engine) -> None:
    wanted = assignment(savedImage="Drop")
    engine.run(wanted)
    host.start(WEB)
    host.save(WEB)
    assert attached(engine.run(wanted)) == ("False", "GuestShutOff")
    assert host.guests[WEB].saved


def test_nothing_is_dropped_for_a_device_that_cannot_be_had(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    host.save(WEB)
    engine.run(assignment(uid=OTHER_UID, guest=DB))
    assert ready(engine.run(assignment(savedImage="Drop"))) == ("False", "DeviceInUse")
    assert host.guests[WEB].saved


def test_a_deletion_drops_an_image_with_the_device_before_the_host_gets_it(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    host.start(WEB)
    host.save(WEB)
    assert engine.run(assignment(deleting=True, generation=2, savedImage="Drop")).released
    assert (host.guests[WEB].saved, host.state()) == (None, before)
    done = [call.partition(" ")[0] for call in host.calls]
    assert done.index("drop_saved_image") < done.index("reattach_driver")


def test_a_rollback_drops_nothing(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    host.save(WEB)
    host.fail("add_hostdev", reasons.LIBVIRT_ERROR)
    assert ready(engine.run(assignment(savedImage="Drop"))) == ("False", "LibvirtError")
    assert host.guests[WEB].saved
