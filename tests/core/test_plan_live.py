"""Plans for hot plug, group policies, reservations and devices that moved."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import AddHostdev, DetachDriver, HostdevXml, PlugHostdev, WriteRecord
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Observation
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, inputs, is_half_done, plan_assign
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.slots import Slots
from tests.core.hosts import actions_of, assigned, carry_out, observation, of, with_device, with_guest, with_records
from tests.core.plans import ALIAS, member_drivers, refusal_of, summary
from tests.fakes.samples import LONER, MATE, NIC, OTHER_UID, UID, WEB, device, intent

RUNNING = with_guest(observation(), WEB, active=True)
FULL = with_guest(RUNNING, WEB, slots=Slots(conventional=0))
MATE_ALIAS = f"{ALIAS}-0000-01-00-1"
NEW = PciAddress.parse("0000:05:00.0")


# -- hot plug --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach", ["Auto", "Live"])
def test_a_running_guest_is_plugged_once_the_group_is_held_and_before_it_is_for_good(attach: str) -> None:
    assert summary(plan_assign(intent(attach=attach), RUNNING)) == [
        ("WriteRecord", ""),
        ("DetachDriver", str(MATE)),
        ("PlugHostdev", str(NIC)),
        ("AddHostdev", str(NIC)),
    ]


@pytest.mark.parametrize(
    ("wanted", "host"),
    [({"attach": "NextBoot"}, RUNNING), ({}, FULL), ({"attach": "Live"}, observation())],
    ids=["NextBoot", "Auto without a slot", "Live for a guest that is off"],
)
def test_otherwise_it_gets_it_at_its_next_boot(wanted: dict[str, Any], host: Observation) -> None:
    assert summary(plan_assign(intent(**wanted), host)) == [
        ("WriteRecord", ""),
        ("DetachDriver", str(MATE)),
        ("AddHostdev", str(NIC)),
    ]


def test_live_without_a_slot_is_refused_before_anything() -> None:
    assert refusal_of(plan_assign(intent(attach="Live"), FULL)).reason is reasons.NO_GUEST_PCI_SLOT


def test_slots_that_cannot_be_counted_are_tried() -> None:
    host = with_guest(RUNNING, WEB, slots=Slots(known=False))
    assert ("PlugHostdev", str(NIC)) in summary(plan_assign(intent(attach="Live"), host))


@pytest.mark.parametrize(("express", "plugged"), [(True, False), (False, True)])
def test_an_express_device_needs_an_express_slot_in_a_guest_that_has_such(express: bool, plugged: bool) -> None:  # noqa: FBT001
    host = with_device(with_guest(RUNNING, WEB, slots=Slots(True, 0, 1)), NIC, express=express)
    assert (("PlugHostdev", str(NIC)) in summary(plan_assign(intent(), host))) is plugged


def test_what_was_edited_out_of_the_xml_alone_is_put_in_again_without_a_plug() -> None:
    host = with_guest(assigned(RUNNING, attach="Auto"), WEB, config=())
    assert summary(plan_assign(intent(), host)) == [("AddHostdev", str(NIC))]


def test_what_was_ejected_alone_is_plugged_again() -> None:
    host = with_guest(assigned(RUNNING, attach="Auto"), WEB, live=())
    assert summary(plan_assign(intent(), host)) == [("PlugHostdev", str(NIC))]


def test_the_override_goes_along() -> None:
    host = replace(RUNNING, settings=Settings(overrides=MappingProxyType({NIC: "x"})))
    actions = actions_of(plan_assign(intent(managed=False), host))
    overridden = {a: a.overridden for a in actions if isinstance(a, (DetachDriver, PlugHostdev))}
    assert [(getattr(a, "address", NIC), o) for a, o in overridden.items()] == [(MATE, False), (NIC, True), (NIC, True)]


# -- group policies --------------------------------------------------------------------------------------------------


def test_assign_all_gives_every_endpoint_with_an_alias_of_its_own() -> None:
    actions = actions_of(plan_assign(intent(group_policy="AssignAll"), RUNNING))
    kinds = ["WriteRecord", *["DetachDriver"] * 2, *["PlugHostdev"] * 2, *["AddHostdev"] * 2]
    assert [type(a).__name__ for a in actions] == kinds
    xml = [a.hostdev for a in actions if isinstance(a, (PlugHostdev, AddHostdev))]
    held = [HostdevXml(NIC, ALIAS, managed=False), HostdevXml(MATE, MATE_ALIAS, managed=False)]
    lent = [HostdevXml(NIC, ALIAS, managed=True), HostdevXml(MATE, MATE_ALIAS, managed=True)]
    assert xml == [*held, *lent]  # libvirt must not give one to the host while the guest has the other


def test_a_second_device_of_a_group_is_held_when_it_is_plugged() -> None:
    host = with_guest(RUNNING, WEB, live=(Hostdev(MATE, "hostdev0", managed=True),))
    host = with_device(host, MATE, driver=VFIO_DRIVER)
    actions = actions_of(plan_assign(intent(), host))
    assert [type(a).__name__ for a in actions] == ["WriteRecord", "DetachDriver", "PlugHostdev", "AddHostdev"]
    assert [a.hostdev.managed for a in actions if isinstance(a, (PlugHostdev, AddHostdev))] == [False, True]


def test_unassigned_mates_are_hidden_and_need_no_slot() -> None:
    wanted = intent(group_policy="AssignAll", unassigned_mates=True, attach="Live")
    host = with_guest(RUNNING, WEB, slots=Slots(conventional=1))
    xml = [a.hostdev for a in actions_of(plan_assign(wanted, host)) if isinstance(a, PlugHostdev)]
    assert [(x.address, x.unassigned) for x in xml] == [(NIC, False), (MATE, True)]


def test_an_unmanaged_guest_that_gets_all_needs_all_on_vfio() -> None:
    host = with_device(observation(), MATE, driver=None)
    plan = plan_assign(intent(group_policy="AssignAll", managed=False), host)
    assert ("DetachDriver", str(MATE)) in summary(plan)


def test_assign_all_takes_out_a_mate_that_is_gone() -> None:
    host = assigned(group_policy="AssignAll")
    host = replace(host, devices=MappingProxyType({a: d for a, d in host.devices.items() if a != MATE}))
    assert summary(plan_assign(intent(group_policy="AssignAll"), host)) == [("RemoveHostdev", str(MATE))]


def test_require_free_detaches_nothing_but_its_own() -> None:
    wanted = intent(group_policy="RequireFree", managed=False)
    assert refusal_of(plan_assign(wanted, observation())).reason is reasons.GROUP_NOT_FREE
    for driver in (None, VFIO_DRIVER):
        free = with_device(observation(), MATE, driver=driver)
        assert [k for k in summary(plan_assign(wanted, free)) if k[0] == "DetachDriver"] == [("DetachDriver", str(NIC))]


def test_a_reservation_detaches_all_and_gives_to_nobody() -> None:
    plan = plan_assign(intent(guest=None, managed=False), observation())
    assert summary(plan) == [("WriteRecord", ""), ("DetachDriver", str(MATE)), ("DetachDriver", str(NIC))]


# -- several assignments of one guest --------------------------------------------------------------------------------


def test_the_second_of_a_guest_records_what_was_before_the_first() -> None:
    host = assigned(managed=False)
    both = assigned(host, address=MATE, uid=OTHER_UID, managed=False)
    assert member_drivers(both, OTHER_UID) == {MATE: "snd_hda_intel", NIC: "e1000e"}
    assert plan_assign(intent(managed=False), both) == Plan()


def test_a_driver_that_libvirt_alone_knows_is_not_recorded_as_vfio() -> None:
    lent = with_device(RUNNING, MATE, driver=VFIO_DRIVER)
    lent = with_guest(lent, WEB, live=(Hostdev(MATE, "hostdev0", managed=True),), config=(Hostdev(MATE, None, True),))
    assert member_drivers(assigned(lent)) == {NIC: "e1000e", MATE: None}
    held = with_guest(lent, WEB, live=(Hostdev(MATE, "hostdev0", managed=False),))
    assert member_drivers(assigned(held)) == {NIC: "e1000e", MATE: VFIO_DRIVER}


# -- moved -----------------------------------------------------------------------------------------------------------


def moved(host: Observation, *pairs: tuple[PciAddress, PciAddress], driver: str | None = "e1000e") -> Observation:
    """The host after a boot with other bus numbers: drivers bound, nothing on vfio."""
    devices = dict(host.devices)
    for old, new in pairs:
        devices[new] = replace(devices.pop(old), address=new, driver=driver)
    return replace(host, devices=MappingProxyType(devices))


def test_a_device_that_moved_is_put_in_at_its_new_address_and_out_at_the_old() -> None:
    host = moved(assigned(managed=False), (NIC, NEW))
    actions = actions_of(plan_assign(intent(NEW, managed=False), host))
    assert summary(Plan(actions)) == [
        ("WriteRecord", ""),
        ("DetachDriver", str(NEW)),
        ("RemoveHostdev", str(NIC)),
        ("AddHostdev", str(NEW)),
    ]
    record = actions[0]
    assert isinstance(record, WriteRecord)
    assert (record.record.address, record.record.sequence) == (NEW, 2)
    assert {m.address: m.driver for m in record.record.members} == {NEW: "e1000e", MATE: "snd_hda_intel"}


def test_the_old_drivers_are_kept_even_if_it_came_up_without() -> None:
    host = moved(assigned(managed=False), (NIC, NEW), driver=None)
    after = carry_out(actions_of(plan_assign(intent(NEW, managed=False), host)), host)
    assert member_drivers(after) == {NEW: "e1000e", MATE: "snd_hda_intel"}
    assert plan_assign(intent(NEW, managed=False), after) == Plan()


def test_two_that_changed_places_keep_their_own_drivers() -> None:
    host = assigned(managed=False)
    devices = dict(host.devices)
    devices[NIC], devices[MATE] = replace(devices[MATE], address=NIC), replace(devices[NIC], address=MATE)
    swapped = replace(host, devices=MappingProxyType(devices))
    after = carry_out(actions_of(plan_assign(intent(MATE, managed=False), swapped)), swapped)
    assert member_drivers(after) == {MATE: "e1000e", NIC: "snd_hda_intel"}
    assert [h.address for h in of(after, WEB).config] == [MATE]


# -- half done -------------------------------------------------------------------------------------------------------


def test_a_claim_of_which_the_guest_has_nothing_is_half_done() -> None:
    done = assigned(RUNNING, attach="Auto")
    assert not is_half_done(intent(), observation())
    assert not is_half_done(intent(), done)
    assert not is_half_done(intent(), with_guest(done, WEB, live=()))
    assert not is_half_done(intent(), with_guest(done, WEB, config=()))
    assert is_half_done(intent(), with_guest(done, WEB, config=(), live=()))
    assert not is_half_done(intent(), replace(done, guests=()))
    paused = replace(with_guest(done, WEB, config=(), live=()), settings=Settings(paused=True))
    assert not is_half_done(intent(), paused)


def test_what_this_run_has_plugged_does_not_count_and_what_an_earlier_one_has_does() -> None:
    done = with_guest(assigned(RUNNING, attach="Auto", group_policy="AssignAll"), WEB, config=())
    wanted = intent(group_policy="AssignAll")
    assert is_half_done(wanted, done, frozenset({NIC, MATE}))
    assert not is_half_done(wanted, done, frozenset({MATE}))


def test_what_the_guest_has_by_another_assignment_does_not_count() -> None:
    host = assigned(assigned(uid=OTHER_UID, address=MATE), group_policy="AssignAll")
    other = tuple(h for h in of(host, WEB).config if h.address == MATE)
    assert is_half_done(intent(group_policy="AssignAll"), with_guest(host, WEB, config=other))


def test_a_reservation_is_half_done_until_all_is_held() -> None:
    wanted = intent(guest=None, managed=False)
    done = assigned(guest=None, managed=False)
    assert not is_half_done(wanted, done)
    assert is_half_done(wanted, with_device(done, MATE, driver="snd_hda_intel"))
    assert not is_half_done(wanted, replace(done, devices=MappingProxyType({})))


def test_inputs_change_with_spec_and_settings_and_the_guests_run() -> None:
    was = inputs(intent(), RUNNING)
    assert inputs(replace(intent(), generation=2), RUNNING) != was
    assert inputs(intent(), replace(RUNNING, settings=Settings(paused=True))) != was
    assert inputs(intent(), with_guest(RUNNING, WEB, run=7)) != was
    assert inputs(intent(), with_guest(RUNNING, WEB, slots=Slots())) != was
    assert inputs(intent(), with_records(RUNNING, assigned(uid=OTHER_UID, address=LONER).records)) == was
    assert UID not in RUNNING.records
    assert device(NIC) == RUNNING.devices[NIC]


def test_a_device_that_lost_its_driver_while_a_guest_holds_it_is_not_touched() -> None:
    host = assigned(managed=False)
    held = (Hostdev(NIC, intent().alias), Hostdev(MATE, "ua-other"))
    host = with_guest(host, WEB, active=True, live=held)
    host = with_device(with_device(host, NIC, driver=None), MATE, driver=None)
    assert [a for a in actions_of(plan_assign(intent(managed=False), host)) if isinstance(a, DetachDriver)] == []
