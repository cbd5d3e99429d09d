from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    AddHostdev,
    DetachDriver,
    HostdevXml,
)
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Observation
from hostdev_operator.core.plan import Plan, inputs, plan_assign
from tests.core.hosts import (
    actions_of,
    assigned,
    carry_out,
    observation,
    with_device,
    with_guest,
)
from tests.core.plans import ALIAS, member_drivers, refusal_of, summary
from tests.fakes.samples import DB, LONER, MATE, NIC, PORT, UID, WEB, device, intent


def test_a_managed_claim_holds_the_mates_and_leaves_the_device_to_libvirt() -> None:
    plan = plan_assign(intent(), observation())
    assert summary(plan) == [("WriteRecord", ""), ("DetachDriver", str(MATE)), ("AddHostdev", str(NIC))]
    assert member_drivers(assigned()) == {NIC: "e1000e", MATE: "snd_hda_intel"}


def test_an_unmanaged_claim_holds_the_device_as_well() -> None:
    plan = plan_assign(intent(managed=False), observation())
    kinds = [("WriteRecord", ""), ("DetachDriver", str(MATE)), ("DetachDriver", str(NIC)), ("AddHostdev", str(NIC))]
    assert summary(plan) == kinds
    added = actions_of(plan)[-1]
    assert added == AddHostdev(WEB, HostdevXml(NIC, ALIAS, managed=False), device(NIC).identity)


def test_a_mate_without_a_driver_is_recorded_and_left_alone() -> None:
    host = with_device(observation(), MATE, driver=None)
    assert summary(plan_assign(intent(), host)) == [("WriteRecord", ""), ("AddHostdev", str(NIC))]
    assert member_drivers(assigned(host)) == {NIC: "e1000e", MATE: None}


def test_an_unmanaged_device_without_a_driver_is_moved_to_vfio() -> None:
    host = with_device(observation(), NIC, driver=None)
    assert DetachDriver(NIC, "", device(NIC).identity) in actions_of(plan_assign(intent(managed=False), host))


@pytest.mark.parametrize("managed", [True, False])
def test_a_device_that_is_on_vfio_already_is_recorded_so(managed: bool) -> None:  # noqa: FBT001
    host = with_device(observation(), NIC, driver=VFIO_DRIVER)
    assert ("DetachDriver", str(NIC)) not in summary(plan_assign(intent(managed=managed), host))
    assert member_drivers(assigned(host, managed=managed))[NIC] == VFIO_DRIVER


def test_bridges_are_neither_recorded_nor_detached() -> None:
    host = assigned()
    assert host.devices[PORT].driver == "pcieport"
    assert host.records[UID].member(PORT) is None


def test_the_steady_state_needs_no_action_and_asks_no_check() -> None:
    host = replace(assigned(), unknown_use="cannot read mountinfo")
    assert plan_assign(intent(), host) == Plan()


def test_a_running_guest_with_the_device_is_a_steady_state() -> None:
    host = with_device(assigned(), NIC, driver=VFIO_DRIVER)
    host = with_guest(host, WEB, active=True, live=host.guests[0].config)
    assert plan_assign(intent(), host) == Plan()


def test_a_driver_bound_behind_our_back_is_taken_again_and_the_record_kept() -> None:
    before = assigned()
    host = with_device(before, MATE, driver="snd_hda_intel")
    assert summary(plan_assign(intent(), host)) == [("DetachDriver", str(MATE))]
    other = with_device(before, MATE, driver="another_driver")
    after = carry_out(actions_of(plan_assign(intent(), other)), other)
    assert after.records == before.records


def test_a_mate_that_lost_its_driver_on_the_way_is_moved_on_to_vfio() -> None:
    host = with_device(assigned(), MATE, driver=None)
    assert plan_assign(intent(), host) == Plan((DetachDriver(MATE, "", device(MATE).identity),))


def test_a_mate_that_had_no_driver_and_got_one_gets_that_one_back() -> None:
    before = assigned(with_device(observation(), MATE, driver=None))
    host = with_device(before, MATE, driver="snd_hda_intel")
    assert summary(plan_assign(intent(), host)) == [("WriteRecord", ""), ("DetachDriver", str(MATE))]
    after = carry_out(actions_of(plan_assign(intent(), host)), host)
    assert member_drivers(after)[MATE] == "snd_hda_intel"
    assert after.records[UID].sequence == 2


def test_a_new_mate_is_added_to_the_record_before_it_is_touched() -> None:
    new = device("0000:01:00.2", "igb")
    grown = replace(assigned(), devices={**assigned().devices, new.address: new})
    assert summary(plan_assign(intent(), grown)) == [("WriteRecord", ""), ("DetachDriver", str(new.address))]


def test_a_mate_that_vanished_stays_in_the_record() -> None:
    host = assigned()
    shrunk = replace(host, devices={a: d for a, d in host.devices.items() if a != MATE})
    assert plan_assign(intent(), shrunk) == Plan()
    assert shrunk.records[UID].member(MATE)


def test_a_guest_that_was_defined_again_gets_its_hostdev_again() -> None:
    host = with_guest(assigned(), WEB, config=())
    assert summary(plan_assign(intent(), host)) == [("AddHostdev", str(NIC))]


def test_an_alias_edited_away_is_still_ours_by_the_record() -> None:
    host = with_guest(assigned(), WEB, config=(Hostdev(NIC, "hostdev0", managed=True),))
    assert plan_assign(intent(), host) == Plan()


def test_a_refusal_comes_before_any_action() -> None:
    host = with_guest(observation(), DB, config=(Hostdev(MATE),))
    assert refusal_of(plan_assign(intent(), host)).reason is reasons.GROUP_IN_USE


def test_drift_is_not_mended_while_a_check_refuses() -> None:
    host = with_guest(with_device(assigned(), MATE, driver="igb"), DB, active=True, live=(Hostdev(MATE),))
    assert refusal_of(plan_assign(intent(), host)).reason is reasons.GROUP_IN_USE


@pytest.mark.parametrize(
    "change",
    [
        lambda h: with_device(h, MATE, driver=None),
        lambda h: with_guest(h, WEB, active=True),
        lambda h: with_guest(h, DB, config=(Hostdev(MATE),)),
        lambda h: replace(h, platform=replace(h.platform, vfio=False)),
        lambda h: replace(h, unknown_use="x"),
    ],
)
def test_inputs_change_with_what_matters(change: Callable[[Observation], Observation]) -> None:
    assert inputs(intent(), change(observation())) != inputs(intent(), observation())


def test_inputs_do_not_change_with_what_does_not_matter() -> None:
    host = with_guest(with_device(observation(), LONER, driver=None), DB, active=True)
    assert inputs(intent(), host) == inputs(intent(), observation())
