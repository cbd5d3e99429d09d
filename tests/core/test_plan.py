from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    Action,
    AddHostdev,
    DetachDriver,
    DropRecord,
    RemoveHostdev,
    ReturnDriver,
    WriteRecord,
)
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.intent import Intent
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Observation, Role
from hostdev_operator.core.plan import Plan, inputs, plan_assign, plan_release
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.record import Member
from tests.core.hosts import (
    DEVICES,
    GUESTS,
    actions_of,
    assigned,
    carry_out,
    guest,
    observation,
    with_device,
    with_guest,
    with_records,
)
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, PORT, UID, WEB, device, intent, port

ALIAS = intent().alias


def summary(plan: object) -> list[tuple[str, str]]:
    """Each action as its kind and the address that it touches."""
    return [(type(a).__name__, str(getattr(a, "address", ""))) for a in actions_of(plan)]


def refusal_of(plan: object) -> Refusal:
    assert isinstance(plan, Refusal), plan
    return plan


def member_drivers(host: Observation) -> dict[object, str | None]:
    return {m.address: m.driver for m in host.records[UID].members}


# -- assign ----------------------------------------------------------------------------------------------------------


def test_a_managed_claim_holds_the_mates_and_leaves_the_device_to_libvirt() -> None:
    plan = plan_assign(intent(), observation())
    assert summary(plan) == [("WriteRecord", ""), ("DetachDriver", str(MATE)), ("AddHostdev", str(NIC))]
    assert member_drivers(assigned()) == {NIC: "e1000e", MATE: "snd_hda_intel"}


def test_an_unmanaged_claim_holds_the_device_as_well() -> None:
    plan = plan_assign(intent(managed=False), observation())
    kinds = [("WriteRecord", ""), ("DetachDriver", str(MATE)), ("DetachDriver", str(NIC)), ("AddHostdev", str(NIC))]
    assert summary(plan) == kinds
    added = actions_of(plan)[-1]
    assert added == AddHostdev(WEB, NIC, ALIAS, managed=False, driver=None)


def test_a_mate_without_a_driver_is_recorded_and_left_alone() -> None:
    host = with_device(observation(), MATE, driver=None)
    assert summary(plan_assign(intent(), host)) == [("WriteRecord", ""), ("AddHostdev", str(NIC))]
    assert member_drivers(assigned(host)) == {NIC: "e1000e", MATE: None}


def test_an_unmanaged_device_without_a_driver_is_moved_to_vfio() -> None:
    host = with_device(observation(), NIC, driver=None)
    assert DetachDriver(NIC, "") in actions_of(plan_assign(intent(managed=False), host))


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
    assert plan_assign(intent(), host) == Plan((DetachDriver(MATE, ""),))


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


# -- release ---------------------------------------------------------------------------------------------------------


def test_release_goes_in_reverse_order_and_forgets_last() -> None:
    plan = plan_release(UID, assigned(managed=False))
    assert actions_of(plan) == (
        RemoveHostdev(WEB, NIC, ALIAS),
        ReturnDriver(MATE, "snd_hda_intel"),
        ReturnDriver(NIC, "e1000e"),
        DropRecord(UID),
    )


def test_release_waits_for_the_running_guest_that_has_the_device() -> None:
    host = assigned()
    host = with_guest(host, WEB, active=True, live=host.guests[0].config)
    refusal = refusal_of(plan_release(UID, host))
    assert refusal.reason is reasons.GUEST_RUNNING
    assert [w for w in ("web", str(NIC), "virsh shutdown web") if w not in refusal.message] == []


def test_release_does_not_wait_for_a_running_guest_without_the_device() -> None:
    host = with_guest(assigned(), WEB, active=True)
    assert summary(plan_release(UID, host))[0] == ("RemoveHostdev", str(NIC))


def test_release_waits_for_a_mate_that_another_guest_holds_live() -> None:
    host = with_guest(assigned(), DB, active=True, live=(Hostdev(MATE),))
    refusal = refusal_of(plan_release(UID, host))
    assert refusal.reason is reasons.GROUP_IN_USE
    assert [w for w in ("db", str(MATE), "virsh shutdown db") if w not in refusal.message] == []


def test_release_finds_its_hostdev_when_the_alias_was_edited_away() -> None:
    host = with_guest(assigned(), WEB, config=(Hostdev(LONER, "x"), Hostdev(NIC, "hostdev0")))
    assert actions_of(plan_release(UID, host))[0] == RemoveHostdev(WEB, NIC, "hostdev0")
    live = with_guest(host, WEB, active=True, live=(Hostdev(NIC, "hostdev0"),))
    assert refusal_of(plan_release(UID, live)).reason is reasons.GUEST_RUNNING


def test_release_finds_its_hostdev_in_a_guest_of_another_uuid_by_the_alias() -> None:
    host = replace(assigned(), guests=(guest("3" * 8, "copy", config=(Hostdev(NIC, ALIAS),)),))
    assert actions_of(plan_release(UID, host))[0] == RemoveHostdev("3" * 8, NIC, ALIAS)


def test_release_without_the_guest_gives_the_drivers_back() -> None:
    host = replace(assigned(), guests=GUESTS[1:])
    assert summary(plan_release(UID, host)) == [("ReturnDriver", str(MATE)), ("DropRecord", "")]


def test_release_leaves_on_vfio_what_was_there_before() -> None:
    host = assigned(with_device(observation(), MATE, driver=VFIO_DRIVER))
    assert summary(plan_release(UID, host)) == [("RemoveHostdev", str(NIC)), ("DropRecord", "")]


def test_release_takes_from_vfio_what_had_no_driver() -> None:
    host = assigned(with_device(observation(), NIC, driver=None), managed=False)
    assert ReturnDriver(NIC, None) in actions_of(plan_release(UID, host))


def test_release_of_what_never_was_does_nothing() -> None:
    assert plan_release(UID, observation()) == Plan()


def test_release_binds_again_what_lost_its_driver_on_the_way_back() -> None:
    """A reattach that ended without a driver (BindFailed) must not count as given back at the next look."""
    host = with_device(assigned(), MATE, driver=None)
    assert ReturnDriver(MATE, "snd_hda_intel") in actions_of(plan_release(UID, host))


def test_release_leaves_alone_another_device_at_a_recorded_address() -> None:
    host = with_device(assigned(), MATE, vendor=0x1AF4, driver=VFIO_DRIVER)
    assert summary(plan_release(UID, host)) == [("RemoveHostdev", str(NIC)), ("DropRecord", "")]


def test_a_release_done_twice_takes_nothing_from_the_next_owner() -> None:
    """The record comes back from the status if the binding could not be cleared; by then the group is another's."""
    old = assigned().records[UID]
    for guest_uuid in (WEB, DB):
        host = assigned(uid=OTHER_UID, guest=guest_uuid, managed=False)
        again = with_records(host, {**host.records, UID: old})
        assert actions_of(plan_release(UID, again)) == (DropRecord(UID),)
        config = next(g.config for g in again.guests if g.uuid == guest_uuid)
        running = with_guest(again, guest_uuid, active=True, live=config)
        assert actions_of(plan_release(UID, running)) == (DropRecord(UID),)


# -- inputs ----------------------------------------------------------------------------------------------------------


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


# -- any host --------------------------------------------------------------------------------------------------------

DRIVERS = st.sampled_from(["e1000e", "nvme", "snd_hda_intel", VFIO_DRIVER, None])


@st.composite
def hosts(draw: st.DrawFn) -> Observation:
    devices = []
    for group in range(1, draw(st.integers(1, 3)) + 1):
        if draw(st.booleans()):
            devices.append(port(f"0000:00:{group:02x}.0", group))
        for function in range(draw(st.integers(1, 4))):
            devices.append(device(f"0000:{group:02x}:00.{function}", draw(DRIVERS), group))  # noqa: PERF401
    return observation(devices)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Observation, Intent]:
    host = draw(hosts())
    endpoints = [a for a, d in host.devices.items() if d.role is Role.ENDPOINT]
    wanted = intent(
        draw(st.sampled_from(endpoints)), guest=draw(st.sampled_from([WEB, DB])), managed=draw(st.booleans())
    )
    return host, wanted


def drivers(host: Observation) -> dict[str, str | None]:
    return {str(a): d.driver for a, d in host.devices.items()}


@given(wishes())
def test_whatever_was_assigned_is_given_back_exactly(wish: tuple[Observation, Intent]) -> None:
    host, wanted = wish
    actions = actions_of(plan_assign(wanted, host))
    after = carry_out(actions, host)
    back = carry_out(actions_of(plan_release(UID, after)), after)
    assert drivers(back) == drivers(host)
    assert back == host


@given(wishes())
def test_planning_again_after_applying_gives_no_actions(wish: tuple[Observation, Intent]) -> None:
    host, wanted = wish
    after = carry_out(actions_of(plan_assign(wanted, host)), host)
    assert plan_assign(wanted, after) == Plan()
    gone = carry_out(actions_of(plan_release(UID, after)), after)
    assert plan_release(UID, gone) == Plan()


@given(wishes())
def test_the_order_of_every_plan_is_safe(wish: tuple[Observation, Intent]) -> None:
    host, wanted = wish
    actions = actions_of(plan_assign(wanted, host))
    assert isinstance(actions[0], WriteRecord)
    assert sum(isinstance(a, WriteRecord) for a in actions) == 1
    for number, action in enumerate(actions):
        now = carry_out(actions[:number], host)
        if isinstance(action, DetachDriver):
            assert now.devices[action.address].role is Role.ENDPOINT
            recorded = now.records[UID].member(action.address)
            assert recorded == Member(action.address, 0x8086, 0x10D3, action.driver or None)
        if isinstance(action, AddHostdev):
            claimed = now.devices[action.address]
            assert [m for m in now.mates(claimed) if m.on_host_driver] == []
            assert action.managed or claimed.driver == VFIO_DRIVER
    after = carry_out(actions, host)
    back = actions_of(plan_release(UID, after))
    assert isinstance(back[-1], DropRecord)
    assert [a for a in back if isinstance(a, DropRecord)] == [back[-1]]
    assert isinstance(back[0], RemoveHostdev)


@given(wishes(), st.data())
def test_from_any_point_on_the_way_the_host_can_be_given_back(
    wish: tuple[Observation, Intent], data: st.DataObject
) -> None:
    host, wanted = wish
    actions = actions_of(plan_assign(wanted, host))
    half = carry_out(actions[: data.draw(st.integers(0, len(actions)))], host)
    back = carry_out(actions_of(plan_release(UID, half)), half)
    assert back == host


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (DetachDriver(NIC, "e1000e"), ("detach", str(NIC), "e1000e", VFIO_DRIVER)),
        (ReturnDriver(NIC, None), (str(NIC), "had no driver")),
        (AddHostdev(WEB, NIC, ALIAS, managed=True, driver=None), (str(NIC), WEB)),
        (RemoveHostdev(WEB, NIC, None), (str(NIC), WEB)),
        (DropRecord(UID), (UID,)),
    ],
)
def test_actions_say_what_they_do(action: Action, words: tuple[str, ...]) -> None:
    assert [w for w in words if w not in str(action)] == []


def test_the_device_alone_in_its_group_has_no_mates() -> None:
    assert summary(plan_assign(intent(LONER), observation(DEVICES))) == [
        ("WriteRecord", ""),
        ("AddHostdev", str(LONER)),
    ]


def test_a_refusal_carries_a_row_of_the_catalogue() -> None:
    refusal = refusal_of(plan_assign(intent(), replace(observation(), guests=())))
    assert isinstance(refusal.reason, Reason)
