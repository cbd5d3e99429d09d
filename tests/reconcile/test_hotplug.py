from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.reasons import Retry
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import LONER, MATE, NIC, UID, WEB, assignment, small_host
from tests.reconcile.running import Engine, asked, attached, count_boundaries, message, ready, without_plan

#: A q35 guest with one free root port; and one without any.
ROOT = "<controller type='pci' index='0' model='pcie-root'/>"
ONE_PORT = ROOT + "<controller type='pci' index='1' model='pcie-root-port'/>"


@pytest.fixture
def host() -> FakeHost:
    made = small_host()
    made.start(WEB)
    return made


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def live(host: FakeHost) -> list[object]:
    return [h.address for h in host.guests[WEB].hostdevs(live=True)]


def config(host: FakeHost) -> list[object]:
    return [h.address for h in host.guests[WEB].hostdevs()]


# -- what goes well --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach", ["Auto", "Live"])
def test_a_running_guest_gets_the_device_at_once_and_for_good(host: FakeHost, engine: Engine, attach: str) -> None:
    result = engine.run(assignment(attach=attach))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("True", "InLiveXML"))
    assert host.calls == [f"save {UID}", f"detach_driver {MATE}", f"plug_hostdev {NIC}", f"add_hostdev {NIC}"]
    host.calls.clear()
    host.stop(WEB)
    host.start(WEB)
    result = engine.run(assignment(attach=attach))
    assert (attached(result), host.calls) == (("True", "InLiveXML"), [])


def test_next_boot_plugs_nothing(host: FakeHost, engine: Engine) -> None:
    result = engine.run(assignment(attach="NextBoot"))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("False", "PendingGuestRestart"))
    assert (live(host), config(host)) == ([], [NIC])
    engine.run(assignment(attach="NextBoot"))
    assert live(host) == []


def test_an_edit_from_next_boot_to_auto_plugs_it(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(attach="NextBoot"))
    assert attached(engine.run(assignment(attach="Auto", generation=2))) == ("True", "InLiveXML")


def test_a_guest_that_was_started_without_the_hostdev_gets_it(host: FakeHost, engine: Engine) -> None:
    """As after a virsh define of an old file while it was off."""
    wanted = assignment(driftPolicy="Correct")
    engine.run(wanted)
    host.stop(WEB)
    host.define(WEB, "web")
    host.start(WEB)
    assert attached(engine.run(wanted)) == ("True", "InLiveXML")


@pytest.mark.parametrize("managed", [True, False])
def test_assign_all_gives_the_mates_to_the_guest_as_well(host: FakeHost, engine: Engine, managed: bool) -> None:  # noqa: FBT001
    before = host.state()
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll", "mateAddress": "Unassigned", "managed": managed}
    result = engine.run(assignment(**wanted))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("True", "InLiveXML"))
    found = [(h.address, h.alias) for h in host.guests[WEB].hostdevs(live=True)]
    assert found == [(NIC, f"ua-hostdev-{UID}"), (MATE, f"ua-hostdev-{UID}-0000-01-00-1")]
    assert found == [(h.address, h.alias) for h in host.guests[WEB].hostdevs()]
    assert (host.guests[WEB].live or "").count('type="unassigned"') == 1
    host.stop(WEB)
    engine.run(assignment(**wanted))
    assert engine.run(assignment(**wanted, deleting=True)).released
    host.start(WEB)
    assert host.state() == before


# -- slots -----------------------------------------------------------------------------------------------------------


def in_guest_with(devices: str) -> Engine:
    host = small_host()
    host.devices[NIC] = host.devices[NIC].__class__(**{**vars(host.devices[NIC]), "express": True})
    host.define(WEB, "web", devices)
    host.start(WEB)
    return Engine(host)


def test_auto_without_a_slot_waits_for_the_next_boot() -> None:
    engine = in_guest_with(ROOT)
    result = engine.run(assignment())
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("False", "NoGuestPCISlot"))
    assert config(engine.host) == [NIC]
    requests = asked(engine.host)
    engine.run(assignment())
    assert requests == []


def test_live_without_a_slot_is_refused_before_anything() -> None:
    engine = in_guest_with(ROOT)
    before = engine.host.state()
    assert ready(engine.run(assignment(attach="Live"))) == ("False", "NoGuestPCISlot")
    assert (engine.host.state(), engine.host.calls) == (before, [])


def test_live_with_a_slot_is_done() -> None:
    result = in_guest_with(ONE_PORT).run(assignment(attach="Live"))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("True", "InLiveXML"))


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_auto_that_cannot_be_plugged_is_ready_and_not_tried_again(host: FakeHost, engine: Engine) -> None:
    host.fail("plug_hostdev", reasons.MEMLOCK_EXCEEDED, "cannot limit locked memory")
    result = engine.run(assignment())
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("False", "MemlockExceeded"))
    assert (live(host), config(host), host.drivers()[MATE]) == ([], [NIC], VFIO_DRIVER)
    requests = asked(host)
    for _ in range(3):
        again = engine.run(assignment())
        assert (ready(again), attached(again)) == (("True", "Assigned"), ("False", "MemlockExceeded"))
    assert requests == []
    host.stop(WEB)
    host.start(WEB)
    assert attached(engine.run(assignment())) == ("True", "InLiveXML")


def test_auto_that_time_heals_is_plugged_after_a_while(host: FakeHost, engine: Engine) -> None:
    host.fail("plug_hostdev", reasons.VFIO_GROUP_BUSY)
    result = engine.run(assignment())
    assert (attached(result), result.retry) == (("False", "VFIOGroupBusy"), Retry.BACKOFF)
    assert attached(engine.run(assignment())) == ("True", "InLiveXML")


FAILING = [
    (call, after, managed)
    for call in (f"plug_hostdev {NIC}", f"plug_hostdev {MATE}", "save", "detach_driver")
    for after in (True, False)
    for managed in (True, False)
]


@pytest.mark.parametrize(("call", "after", "managed"), FAILING)
def test_live_that_fails_is_rolled_back_as_a_whole(
    host: FakeHost,
    engine: Engine,
    call: str,
    after: bool,  # noqa: FBT001
    managed: bool,  # noqa: FBT001
) -> None:
    before = host.state()
    host.fail(call, reasons.IOMMU_GROUP_NOT_VIABLE, after=after)
    wanted = assignment(attach="Live", groupPolicy="AssignAll", managed=managed)
    first = engine.run(wanted)
    assert ready(first) == ("False", "IOMMUGroupNotViable")
    assert (live(host), host.state()) == ([], before)
    host.calls.clear()
    assert engine.run(wanted).status == first.status
    assert host.calls == []


def test_a_whole_group_that_was_plugged_is_taken_back_when_the_xml_cannot_be_written(
    host: FakeHost, engine: Engine
) -> None:
    before = host.state()
    host.fail("add_hostdev", reasons.LIBVIRT_ERROR)
    wanted = assignment(attach="Live", groupPolicy="AssignAll")
    assert ready(engine.run(wanted)) == ("False", "LibvirtError")
    assert (live(host), host.state()) == ([], before)
    assert ready(engine.run(wanted)) == ("True", "Assigned")


def test_a_rollback_unplugs_nothing_that_an_earlier_run_has_plugged(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.define(WEB, "web")
    requests = asked(host)
    host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT)
    assert ready(engine.run(assignment(attach="Live", generation=2))) == ("False", "NoGuestPCISlot")
    assert (requests, live(host)) == ([], [NIC])


def test_a_rollback_that_the_guest_does_not_answer_is_told_and_finished_later(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.guests[WEB].manner = "is silent"
    host.fail(f"plug_hostdev {MATE}", reasons.IOMMU_GROUP_NOT_VIABLE)
    wanted = assignment(attach="Live", groupPolicy="AssignAll")
    result = engine.run(wanted)
    assert ready(result) == ("False", "IOMMUGroupNotViable")
    assert "rolling back failed: UnplugPending" in message(result)
    assert (live(host), host.drivers()[MATE]) == ([NIC], VFIO_DRIVER)
    host.stop(WEB)
    deleted = assignment(attach="Live", groupPolicy="AssignAll", deleting=True)
    assert engine.run(deleted).released
    assert host.state() == before


def test_a_plug_that_failed_is_tried_again_when_spec_is_changed(host: FakeHost, engine: Engine) -> None:
    host.fail("plug_hostdev", reasons.MEMLOCK_EXCEEDED, times=2)
    engine.run(assignment(attach="Live"))
    for generation, tries in ((1, 0), (2, 1)):
        requests = asked(host)
        engine.clock.seconds -= 1000.0  # what run() adds
        result = engine.run(assignment(attach="Live", generation=generation))
        assert ready(result) == ("False", "MemlockExceeded")
        assert (config(host), len(requests)) == ([], tries)
    assert ready(engine.run(assignment(attach="Live", generation=3))) == ("True", "Assigned")


def test_what_the_host_begins_to_use_is_not_plugged(host: FakeHost, engine: Engine) -> None:
    before = host.state()

    def use(call: str) -> None:
        if call.startswith("detach_driver"):
            host.use(NIC, "carries the default route over eth0")

    host.hook = use
    assert ready(engine.run(assignment())) == ("False", "HostChanged")
    host.hook = lambda _call: None
    assert ready(engine.run(assignment())) == ("False", "HostCritical")
    host.uses.pop()
    assert (live(host), host.state()) == ([], before)


# -- the brake -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach", ["Auto", "Live"])
def test_who_ejects_it_again_and_again_waits_longer_and_longer(host: FakeHost, engine: Engine, attach: str) -> None:
    wanted = assignment(attach=attach, driftPolicy="Correct")
    engine.run(wanted)
    requests = asked(host)
    plugs = []
    start = engine.clock.seconds
    for second in range(200):
        if live(host):
            plugs.append(second)
            host.eject(host.guests[WEB], NIC)
        engine.clock.seconds = start + second - 1000.0
        result = engine.run(wanted)
        if not live(host):
            assert (ready(result), result.retry) == (("False", "DriftsAgain"), Retry.BACKOFF)
    delays = [b - a for a, b in itertools.pairwise(plugs)]
    assert delays == sorted(delays)
    assert delays[-1] >= 64
    assert len(requests) <= 10


def test_a_new_run_of_the_guest_is_not_braked(host: FakeHost, engine: Engine) -> None:
    wanted = assignment(driftPolicy="Correct")
    engine.run(wanted)
    for outcome in (("True", "Assigned"), ("False", "DriftsAgain")):
        host.eject(host.guests[WEB], NIC)
        engine.clock.seconds -= 1000.0
        assert ready(engine.run(wanted)) == outcome
    host.stop(WEB)
    host.start(WEB)
    engine.clock.seconds -= 1000.0
    assert attached(engine.run(wanted)) == ("True", "InLiveXML")


# -- crashes ---------------------------------------------------------------------------------------------------------

Prepared = Callable[[], tuple[Engine, Assignment]]


def plugging() -> tuple[Engine, Assignment]:
    host = small_host()
    host.start(WEB)
    return Engine(host), assignment(groupPolicy="AssignAll", managed=False, attach="Live")


def test_there_is_a_boundary_around_every_change() -> None:
    assert count_boundaries(plugging) == 8  # record, two drivers, two plugs, two hostdevs, done


@pytest.mark.parametrize("boundary", range(1, 9))
def test_a_crash_at_any_point_leads_to_the_same_end(boundary: int) -> None:
    undisturbed, obj = plugging()
    expected = undisturbed.run(obj)
    crashed, _ = plugging()
    crashed.crash_at = boundary
    assert without_plan(crashed.run_through_crashes(obj)) == without_plan(expected)
    assert crashed.host.state() == undisturbed.host.state()
    assert live(crashed.host) == [NIC, MATE]
    assert LONER in crashed.host.devices
