"""What the administrator says of the node, and what becomes of claims that stand."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.conditions import find
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.orphans import Orphan
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.record import Record
from hostdev_operator.core.settings import Settings
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, DISK, LONER, MATE, NIC, UID, WEB, assignment, small_host
from tests.reconcile.running import Crash, Engine, message, ready

PAUSED = Settings(paused=True)


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


# -- paused ----------------------------------------------------------------------------------------------------------


def test_nothing_is_assigned_while_the_node_is_paused(host: FakeHost, engine: Engine) -> None:
    engine.settings = PAUSED
    before = host.state()
    assert ready(engine.run(assignment())) == ("False", "Paused")
    assert (host.calls, host.state()) == ([], before)
    engine.settings = Settings()
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_what_stands_stays_ready_and_is_not_mended(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    engine.settings = PAUSED
    assert ready(engine.run(assignment())) == ("True", "Assigned")
    host.bind(MATE, "snd_hda_intel")
    host.calls.clear()
    assert ready(engine.run(assignment())) == ("False", "Paused")
    assert host.calls == []


def test_a_running_guest_gets_nothing_while_paused(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.define(WEB, "web")
    host.start(WEB)
    engine.settings = PAUSED
    host.calls.clear()
    assert ready(engine.run(assignment())) == ("False", "Paused")
    assert host.calls == []


@pytest.mark.parametrize("boundary", [2, 3])
def test_what_was_begun_is_not_rolled_back_while_paused(host: FakeHost, boundary: int) -> None:
    engine = Engine(host, crash_at=boundary)
    with pytest.raises(Crash):
        engine.run(assignment())
    engine.settings = PAUSED
    engine.restart()
    host.use(NIC, "carries the default route over eth0")
    before = host.state()
    host.calls.clear()
    assert ready(engine.run(assignment())) == ("False", "Paused")
    assert (host.calls, host.state()) == ([], before)
    engine.settings = Settings()
    assert ready(engine.run(assignment())) == ("False", "HostCritical")
    assert not host.records


def test_a_failure_is_not_rolled_back_if_the_pause_came_meanwhile(host: FakeHost, engine: Engine) -> None:
    def pause(call: str) -> None:
        if call.startswith("detach_driver"):
            engine.settings = PAUSED

    host.hook = pause
    host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT)
    assert ready(engine.run(assignment())) == ("False", "NoGuestPCISlot")
    assert (host.drivers()[MATE], set(host.records)) == (VFIO_DRIVER, {UID})
    assert ready(engine.run(assignment())) == ("False", "Paused")
    engine.settings = Settings()
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def test_a_release_waits_and_goes_on(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    engine.settings = PAUSED
    host.calls.clear()
    result = engine.run(assignment(deleting=True))
    assert (result.released, ready(result), host.calls) == (False, ("False", "Paused"), [])
    assert "spec.paused" in message(result)
    engine.settings = Settings()
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before


def test_a_release_that_has_nothing_to_give_back_does_not_wait(engine: Engine) -> None:
    engine.settings = PAUSED
    engine.run(assignment())
    assert engine.run(assignment(deleting=True)).released


def test_a_release_in_the_middle_stops_at_the_next_look(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())

    def pause(call: str) -> None:
        if call.startswith("remove_hostdev"):
            engine.settings = PAUSED

    host.hook = pause
    assert ready(engine.run(assignment(deleting=True))) == ("False", "Paused")
    assert (host.drivers()[MATE], set(host.records)) == (VFIO_DRIVER, {UID})
    engine.settings = Settings()
    assert engine.run(assignment(deleting=True)).released


# -- overrides -------------------------------------------------------------------------------------------------------


def overriding(*addresses: PciAddress) -> Settings:
    return Settings(overrides=MappingProxyType(dict.fromkeys(addresses, "eth1 is up")))


def test_an_override_lifts_what_the_host_needs_and_says_so(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route over eth0")
    host.use(MATE, "plays the alarm")
    engine.settings = overriding(NIC)
    assert ready(engine.run(assignment(managed=False))) == ("False", "HostCritical")
    engine.settings = overriding(NIC, MATE)
    result = engine.run(assignment(managed=False))
    assert ready(result) == ("True", "Assigned")
    planned = find(result.status.conditions, "Planned")
    assert planned
    assert (planned.reason, "default route" in planned.message, "eth1 is up" in planned.message) == (
        "CriticalOverride", True, True,
    )  # fmt: skip
    assert host.drivers()[NIC] == VFIO_DRIVER


def test_an_override_lets_a_running_guest_have_it_too(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route over eth0")
    host.start(WEB)
    engine.settings = overriding(NIC)
    assert ready(engine.run(assignment(attach="Live"))) == ("True", "Assigned")
    assert [h.address for h in host.guests[WEB].hostdevs(live=True)] == [NIC]


def test_an_override_does_not_lift_what_a_guest_needs(host: FakeHost, engine: Engine) -> None:
    host.disks["/dev/sdb"] = frozenset({DISK})
    host.define(DB, "db", "<disk type='block'><source dev='/dev/sdb'/></disk>")
    engine.settings = overriding(DISK)
    result = engine.run(assignment(DISK))
    assert ready(result) == ("False", "HostCritical")
    assert "guest db" in message(result)
    host.define(DB, "db")
    assert ready(engine.run(assignment(DISK))) == ("True", "Assigned")


# -- pools -----------------------------------------------------------------------------------------------------------


def test_a_vf_that_a_network_hands_out_is_refused_until_it_is_taken_out_of_it(host: FakeHost, engine: Engine) -> None:
    host.devices[LONER] = replace(host.devices[LONER], physfn=NIC, vf_index=0)
    host.interfaces["eth0"] = frozenset({NIC})
    host.networks.append("<network><name>vfs</name><forward mode='hostdev'><pf dev='eth0'/></forward></network>")
    result = engine.run(assignment(LONER))
    assert ready(result) == ("False", "DeviceInUse")
    assert "network vfs" in message(result)
    host.networks.clear()
    assert ready(engine.run(assignment(LONER))) == ("True", "Assigned")


# -- the host begins to use what stands ------------------------------------------------------------------------------


def test_what_the_host_uses_between_two_runs_is_told_and_heals(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.use(NIC, "carries the default route over eth0")
    host.calls.clear()
    result = engine.run(assignment())
    assert ready(result) == ("False", "HostUsing")
    assert "web does not run with" in message(result)
    assert host.calls == []
    host.uses.pop()
    assert ready(engine.run(assignment())) == ("True", "Assigned")
    host.start(WEB)
    host.use(NIC, "carries the default route over eth0")
    assert ready(engine.run(assignment())) == ("True", "Assigned")


# -- orphans ---------------------------------------------------------------------------------------------------------


def orphan(host: FakeHost) -> Orphan:
    return Orphan(UID, Record.from_json(host.records[UID]))


def test_an_orphan_is_given_back(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment(managed=False))
    assert engine.reconciler.release_orphan(orphan(host)) is None
    assert host.state() == before


def test_an_orphan_waits_for_its_running_guest_and_never_asks_it(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.start(WEB)
    engine.run(assignment(detach="Live"))
    host.calls.clear()
    for _ in range(2):
        waits = engine.reconciler.release_orphan(orphan(host))
        assert waits
        assert waits.reason is reasons.GUEST_RUNNING
    assert host.calls == []
    host.stop(WEB)
    assert engine.reconciler.release_orphan(orphan(host)) is None
    assert host.state() == before


def test_an_orphan_waits_while_paused(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    engine.settings = PAUSED
    waits = engine.reconciler.release_orphan(orphan(host))
    assert waits
    assert waits.reason is reasons.PAUSED
    engine.settings = Settings()
    assert engine.reconciler.release_orphan(orphan(host)) is None


def test_an_orphan_that_cannot_be_given_back_is_tried_again_after_a_while(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    left = orphan(host)
    host.native[MATE] = None
    failed = engine.reconciler.release_orphan(left)
    assert failed
    assert failed.reason is reasons.BIND_FAILED
    calls = len(host.calls)
    assert engine.reconciler.release_orphan(left) == failed
    assert len(host.calls) == calls
    host.native[MATE] = "snd_hda_intel"
    engine.clock.seconds += 1000.0
    assert engine.reconciler.release_orphan(left) is None


def test_libvirt_away_leaves_an_orphan_as_it_is(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    left = orphan(host)
    host.down = True
    failed = engine.reconciler.release_orphan(left)
    assert failed
    assert failed.reason is reasons.LIBVIRT_UNAVAILABLE
    assert UID in host.records
    host.heal()
    assert engine.reconciler.release_orphan(left) is None


def test_an_orphan_that_met_a_changing_host_is_tried_again(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    left = orphan(host)
    host.fail("remove_hostdev", reasons.HOST_CHANGED, after=True)
    refusal = engine.reconciler.release_orphan(left)
    assert refusal
    assert refusal.reason is reasons.HOST_CHANGED
    assert engine.reconciler.release_orphan(left) is None
    assert host.records == {}
