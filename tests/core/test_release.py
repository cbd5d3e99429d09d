"""Plans for giving back."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import DropRecord, RemoveHostdev, ReturnDriver
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Observation
from hostdev_operator.core.plan import Plan, plan_assign
from hostdev_operator.core.release import Manner, plan_release, rejected, release_inputs
from hostdev_operator.core.settings import Settings
from tests.core.hosts import (
    GUESTS,
    IDENTITIES,
    actions_of,
    assigned,
    carry_out,
    guest,
    observation,
    of,
    with_device,
    with_guest,
    with_records,
)
from tests.core.plans import ALIAS, member_drivers, refusal_of, summary
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, UID, WEB, device, intent, wish


def test_release_goes_in_reverse_order_and_forgets_last() -> None:
    plan = plan_release(UID, assigned(managed=False))
    assert actions_of(plan) == (
        RemoveHostdev(WEB, NIC, ALIAS),
        ReturnDriver(MATE, "snd_hda_intel", IDENTITIES[MATE]),
        ReturnDriver(NIC, "e1000e", IDENTITIES[NIC]),
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
    assert ReturnDriver(NIC, None, IDENTITIES[NIC]) in actions_of(plan_release(UID, host))


def test_release_of_what_never_was_does_nothing() -> None:
    assert plan_release(UID, observation()) == Plan()


def test_release_binds_again_what_lost_its_driver_on_the_way_back() -> None:
    """A reattach that ended without a driver (BindFailed) must not count as given back at the next look."""
    host = with_device(assigned(), MATE, driver=None)
    assert ReturnDriver(MATE, "snd_hda_intel", IDENTITIES[MATE]) in actions_of(plan_release(UID, host))


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


# -- hot unplug ------------------------------------------------------------------------------------------------------


def running_with_all(**wanted: Any) -> Observation:
    host = with_guest(observation(), WEB, active=True)
    return assigned(host, **{"attach": "Live", "group_policy": "AssignAll", "managed": False, **wanted})


def test_a_live_release_unplugs_removes_returns_and_drops_in_this_order() -> None:
    assert summary(plan_release(UID, running_with_all(), Manner(live=True))) == [
        ("UnplugHostdev", str(NIC)),
        ("UnplugHostdev", str(MATE)),
        ("RemoveHostdev", str(NIC)),
        ("RemoveHostdev", str(MATE)),
        ("ReturnDriver", str(MATE)),
        ("ReturnDriver", str(NIC)),
        ("DropRecord", ""),
    ]


def test_without_being_asked_nothing_is_unplugged() -> None:
    assert refusal_of(plan_release(UID, running_with_all())).reason is reasons.GUEST_RUNNING


def test_a_managed_device_is_not_unplugged_while_the_guest_has_another_of_its_group() -> None:
    started_with_it = running_with_all(managed=True)
    lent = tuple(replace(h, managed=True) for h in of(started_with_it, WEB).live)
    refusal = refusal_of(plan_release(UID, with_guest(started_with_it, WEB, live=lent), Manner(live=True)))
    assert refusal.reason is reasons.GROUP_IN_USE
    assert [w for w in ("web", str(NIC), str(MATE), "managed: false") if w not in refusal.message] == []
    alone = running_with_all(managed=True, group_policy="DetachUnused")
    assert summary(plan_release(UID, alone, Manner(live=True)))[0] == ("UnplugHostdev", str(NIC))
    by_hand = with_guest(alone, WEB, live=(*of(alone, WEB).live, Hostdev(MATE, "hostdev0", managed=True)))
    assert refusal_of(plan_release(UID, by_hand, Manner(live=True))).reason is reasons.GROUP_IN_USE


def test_the_other_assignment_keeps_what_it_has_and_the_group_is_held() -> None:
    host = assigned(running_with_all(group_policy="DetachUnused"), uid=OTHER_UID, address=MATE, attach="Live",
                    managed=False)  # fmt: skip
    for uid, address in ((UID, NIC), (OTHER_UID, MATE)):
        plan = plan_release(uid, host, Manner(live=True))
        assert summary(plan) == [("UnplugHostdev", str(address)), ("RemoveHostdev", str(address)), ("DropRecord", "")]


@pytest.mark.parametrize("first", [UID, OTHER_UID])
def test_the_last_assignment_of_a_group_gives_back_the_original_drivers(first: str) -> None:
    start = observation()
    both = assigned(assigned(start, managed=False), uid=OTHER_UID, address=MATE, managed=False)
    one = carry_out(actions_of(plan_release(first, both)), both)
    assert [one.devices[a].driver for a in (NIC, MATE)] == [VFIO_DRIVER, VFIO_DRIVER]
    last = UID if first == OTHER_UID else OTHER_UID
    assert carry_out(actions_of(plan_release(last, one)), one) == start


def test_an_endpoint_that_the_heir_has_not_recorded_is_left_to_it() -> None:
    both = assigned(assigned(managed=False), uid=OTHER_UID, address=MATE, managed=False)
    new = device("0000:01:00.2", "igb")
    grown = replace(both, devices=MappingProxyType({**both.devices, new.address: new}))
    mine = carry_out(actions_of(plan_assign(intent(managed=False), grown)), grown)
    assert mine.devices[new.address].driver == VFIO_DRIVER
    after = carry_out(actions_of(plan_release(UID, mine)), mine)
    assert after.devices[new.address].driver == VFIO_DRIVER
    assert member_drivers(after, OTHER_UID)[new.address] == "igb"
    gone = carry_out(actions_of(plan_release(OTHER_UID, after)), after)
    assert gone.devices[new.address].driver == "igb"


def test_a_new_endpoint_of_the_group_that_a_guest_has_makes_the_release_wait() -> None:
    new = device("0000:01:00.2", VFIO_DRIVER)
    host = assigned(managed=False)
    host = replace(host, devices=MappingProxyType({**host.devices, new.address: new}))
    host = with_guest(host, WEB, active=True, live=(Hostdev(new.address, "hostdev0"),))
    refusal = refusal_of(plan_release(UID, host))
    assert refusal.reason is reasons.GROUP_IN_USE
    assert str(new.address) in refusal.message


def test_a_release_waits_while_paused_unless_there_is_nothing_to_do() -> None:
    paused = Settings(paused=True)
    assert refusal_of(plan_release(UID, replace(assigned(), settings=paused))).reason is reasons.PAUSED
    assert plan_release(UID, replace(observation(), settings=paused)) == Plan()


def test_a_release_waits_for_a_call_that_has_not_returned() -> None:
    refusal = refusal_of(plan_release(UID, replace(assigned(), blocked=frozenset({MATE}))))
    assert refusal.reason is reasons.DETACH_BLOCKED
    assert isinstance(plan_release(UID, replace(assigned(), blocked=frozenset({LONER}))), Plan)


def test_require_free_gives_back_its_own_and_what_another_held_for_it() -> None:
    free = with_device(observation(), MATE, driver=None)
    host = assigned(free, managed=False, group_policy="RequireFree")
    by_hand = with_device(host, MATE, driver=VFIO_DRIVER)
    kinds = [("RemoveHostdev", str(NIC)), ("ReturnDriver", str(NIC)), ("DropRecord", "")]
    assert summary(plan_release(UID, by_hand)) == kinds
    held = assigned(assigned(uid=OTHER_UID, address=MATE, managed=False), managed=False, group_policy="RequireFree")
    alone = carry_out(actions_of(plan_release(OTHER_UID, held)), held)
    assert ReturnDriver(MATE, "snd_hda_intel", IDENTITIES[MATE]) in actions_of(plan_release(UID, alone))


def test_the_refusal_of_a_guest_is_found_by_the_alias() -> None:
    host = running_with_all()
    assert rejected(wish(), host) is None
    assert rejected(wish(), replace(host, rejections=frozenset({(WEB, f"{ALIAS}-0000-01-00-1")}))) == "web"
    assert rejected(wish(), replace(host, rejections=frozenset({(DB, ALIAS), (WEB, "ua-x")}))) is None


def test_release_inputs_change_with_what_matters() -> None:
    host = running_with_all()
    was = release_inputs(wish(), host)
    for other in (
        with_guest(host, WEB, run=9),
        with_guest(host, WEB, live=()),
        with_device(host, MATE, driver=None),
        replace(host, blocked=frozenset({NIC})),
        replace(host, settings=Settings(paused=True)),
    ):
        assert release_inputs(wish(), other) != was
    assert release_inputs(wish(generation=2), host) != was
    assert release_inputs(wish(), with_guest(with_device(host, LONER, driver=None), DB, active=True)) == was
