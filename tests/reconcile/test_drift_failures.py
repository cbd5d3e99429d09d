"""Drift while checks refuse or actions fail: Report changes nothing then either, and Correct takes nothing away."""

from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.simulation.host import FakeHost, without
from tests.fakes.samples import MATE, NIC, WEB, assignment
from tests.reconcile.nic_running import of_vf, vf_host, vfs
from tests.reconcile.running import Engine, asked, ready
from tests.reconcile.test_drift import DRIFTED, RUNNING, edit, network, settle


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


@pytest.mark.parametrize("more", [{}, {"driftPolicy": "Correct"}, {"approval": "Manual"}], ids=str)
def test_a_reservation_stays_when_the_host_begins_to_use_its_device(
    more: dict[str, Any], host: FakeHost, engine: Engine
) -> None:
    """Its mate is not given back, and the device is not taken from who has bound it, not even when he needs it no more.

    Correct does that then: with it the claim is as it was.
    """
    engine.run(assignment(guest=None))
    obj = assignment(guest=None, **more)
    host.bind(NIC, "e1000e")
    host.use(NIC, "has the default route")
    state = host.state()
    for _ in range(2):
        assert ready(engine.run(obj)) == ("False", "HostCritical")
        assert host.state() == state
    host.uses.pop()
    if "driftPolicy" in more:
        assert engine.run(obj).corrected
        return
    assert (ready(engine.run(obj)), host.state()) == (DRIFTED, state)


def test_a_claim_whose_guest_has_lost_the_device_stays_when_a_check_refuses(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    edit("(?s)<hostdev.*</hostdev>", "")(host)
    host.use(MATE, "carries a file system")
    state = host.state()
    assert (ready(engine.run(assignment())), host.state()) == (("False", "HostCritical"), state)
    host.uses.pop()
    assert (ready(engine.run(assignment())), host.state()) == (DRIFTED, state)


@pytest.mark.parametrize("kind", ["device", "vf"])
def test_what_was_plugged_in_anew_stays_when_the_rest_fails(kind: str, host: FakeHost, engine: Engine) -> None:
    """attach: Live is all or nothing; but to put something right nothing is taken from a running guest."""
    live: dict[str, Any] = {"attach": "Live", "driftPolicy": "Correct"}
    obj = of_vf(host, **live, **network()) if kind == "vf" else assignment(**live)
    address = vfs(host)[0] if kind == "vf" else NIC
    settle(engine, obj, running=RUNNING)
    guest = host.guests[WEB]
    host.eject(guest, address)
    guest.config = without(guest.config or "", address)
    host.fail("add_hostdev", reasons.LIBVIRT_ERROR)
    requests = asked(host)
    result = engine.run(obj)
    assert (ready(result), result.corrected) == (("False", "LibvirtError"), None)
    assert requests == [f"plug_hostdev {address}"]
    assert ready(engine.run(obj))[0] == "True"
    assert [h.address for h in guest.hostdevs()] == [address]


def test_what_failed_is_not_told_as_done(host: FakeHost, engine: Engine) -> None:
    obj = assignment(driftPolicy="Correct")
    engine.run(obj)
    host.bind(MATE, "snd_hda_intel")
    host.fail("detach_driver", reasons.BIND_FAILED)
    failed = engine.run(obj)
    assert (ready(failed), failed.corrected) == (("False", "BindFailed"), None)


def test_a_plug_that_was_not_possible_is_not_told_as_done(host: FakeHost, engine: Engine) -> None:
    obj = assignment(driftPolicy="Correct")
    settle(engine, obj, running=RUNNING)
    host.eject(host.guests[WEB], NIC)
    host.fail("plug_hostdev", reasons.NO_GUEST_PCI_SLOT)
    assert engine.run(obj).corrected is None
