"""Each row breaks one thing: exactly its check refuses, and the message names device, holder and next step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from hostdev_operator.core import checks, reasons
from hostdev_operator.core.checks import CHECKS, STANDING, SUBJECTS, Case, Check, Refusal, first_refusal
from hostdev_operator.core.identity import Identity
from hostdev_operator.core.intent import ASSIGN_ALL, REQUIRE_FREE, Intent
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Observation, Platform, Pool, Role, Saved, Use
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.record import Member, Record
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.slots import Slots
from tests.core.hosts import GUESTS, assigned, guest, observation, with_device, with_guest, with_records
from tests.fakes.samples import DB, GROUP, LONER, MATE, NIC, OTHER_UID, PORT, UID, WEB, intent

SAMPLE = intent()
GOOD = observation()
OTHER = Record(
    OTHER_UID, "team", "other", LONER, DB, "db", managed=True, members=(Member(LONER, Identity(1, 2), "igb"),)
)


@dataclass(frozen=True)
class Row:
    """What is wrong, who must say so, and which words the message must have."""

    name: str
    host: Observation
    check: Check
    reason: Reason
    words: tuple[str, ...]
    intent: Intent = SAMPLE
    #: What else refuses: a record covers device and mates.
    also: tuple[Check, ...] = ()

    def __str__(self) -> str:
        return self.name


def _held_by(host: Observation, uuid: str, hostdev: Hostdev) -> Observation:
    return with_guest(host, uuid, config=(hostdev,))


def _running_with(host: Observation, uuid: str, hostdev: Hostdev) -> Observation:
    return with_guest(host, uuid, active=True, live=(hostdev,))


def _claimed(member: Member) -> Observation:
    return with_records(GOOD, {OTHER_UID: replace(OTHER, members=(*OTHER.members, member))})


_MATE_MEMBER = Member(MATE, GOOD.devices[MATE].identity, "snd_hda_intel")
_NIC_MEMBER = Member(NIC, GOOD.devices[NIC].identity, "e1000e")
OVERRIDDEN = Settings(overrides={NIC: "second NIC is up"})


def _about_to_get(address: PciAddress, **more: Any) -> Observation:
    """Another assignment of the guest has recorded and detached, and is not in the XML yet."""
    return with_guest(assigned(uid=OTHER_UID, address=address, **more), WEB, config=())


_NO_REMAPPING = Platform(iommu=True, interrupt_remapping=False, unsafe_interrupts=False, vfio=True)

ROWS = (
    Row("no guest", replace(GOOD, guests=GUESTS[1:]), checks.guest_exists, reasons.GUEST_NOT_FOUND,
        ("web", WEB, str(NIC), "define it again")),
    Row("guest without definition", with_guest(GOOD, WEB, persistent=False, active=True), checks.guest_exists,
        reasons.GUEST_TRANSIENT, ("web", str(NIC), "virsh define")),
    Row("guest of that name is another", replace(GOOD, guests=(guest("3" * 8, "web"),)), checks.guest_exists,
        reasons.GUEST_IDENTITY_CHANGED, ("web", WEB, "3" * 8, "delete the assignment")),
    Row("another mate at its address", with_device(assigned(), MATE, vendor=0x1AF4), checks.same_mates,
        reasons.IDENTITY_CHANGED, (str(MATE), "delete the assignment")),
    Row("a root port", GOOD, checks.is_endpoint, reasons.NOT_ASSIGNABLE, (str(PORT), "RootPort", "endpoint behind"),
        intent(PORT)),
    Row("a bridge", with_device(GOOD, LONER, role=Role.BRIDGE), checks.is_endpoint, reasons.NOT_ASSIGNABLE,
        (str(LONER), "Bridge"), intent(LONER)),
    Row("the IOMMU is off", replace(GOOD, platform=replace(GOOD.platform, iommu=False)), checks.iommu_is_on,
        reasons.IOMMU_DISABLED, (str(NIC), "intel_iommu=on")),
    Row("no group", with_device(GOOD, NIC, iommu_group=None), checks.iommu_is_on, reasons.IOMMU_DISABLED,
        (str(NIC), "IOMMUReady")),
    Row("no interrupt remapping", replace(GOOD, platform=_NO_REMAPPING), checks.interrupts_are_remapped,
        reasons.INTERRUPT_REMAPPING_UNAVAILABLE, (str(NIC), "spec.preparation.unsafeInterrupts")),
    Row("defined in another guest", _held_by(GOOD, DB, Hostdev(NIC)), checks.device_is_free, reasons.DEVICE_IN_USE,
        (str(NIC), "db (defined)", "virsh detach-device db")),
    Row("running in another guest", _running_with(GOOD, DB, Hostdev(NIC)), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "db (running)")),
    Row("in what another guest has saved", with_guest(GOOD, DB, saved=Saved((Hostdev(NIC),))), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "db (saved)")),
    Row("in this guest by other hands", _held_by(GOOD, WEB, Hostdev(NIC, "ua-mine")), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "web (defined)", "did not put there")),
    Row("claimed by another assignment", with_records(GOOD, {OTHER_UID: replace(OTHER, address=NIC)}),
        checks.device_is_free, reasons.DEVICE_IN_USE, (str(NIC), "team/other", "db", "delete that one first")),
    Row("claimed as another's mate", _claimed(_NIC_MEMBER), checks.device_is_free, reasons.GROUP_IN_USE,
        (str(NIC), f"group mate of {LONER}", "team/other", "db", "delete that one first")),
    Row("a PF with VFs", with_device(GOOD, NIC, num_vfs=4), checks.device_is_free, reasons.DEVICE_IN_USE,
        (str(NIC), "4 VFs", "set its VF count to 0")),
    Row("mate in another guest", _held_by(GOOD, DB, Hostdev(MATE)), checks.mates_are_free, reasons.GROUP_IN_USE,
        (str(MATE), str(NIC), f"group {GROUP}", "db (defined)", "remove it there")),
    Row("mate claimed by another assignment", _claimed(_MATE_MEMBER), checks.mates_are_free, reasons.GROUP_IN_USE,
        (str(MATE), "team/other", "db", "delete that assignment")),
    Row("mate is a PF with VFs", with_device(GOOD, MATE, num_vfs=2), checks.mates_are_free, reasons.GROUP_IN_USE,
        (str(MATE), "2 VFs", "set its VF count to 0")),
    Row("the host needs it", replace(GOOD, uses=(Use(NIC, "carries the default route over eth0"),)),
        checks.host_can_spare_it, reasons.HOST_CRITICAL, (str(NIC), "default route over eth0", "choose another")),
    Row("the host needs a mate", replace(GOOD, uses=(Use(MATE, "carries the swap space /dev/sdb"),)),
        checks.host_can_spare_it, reasons.HOST_CRITICAL, (str(MATE), f"group mate of {NIC}", "swap space")),
    Row("the guest's own disk is on it", replace(GOOD, uses=(Use(NIC, "carries the disk /dev/sdb of guest web"),)),
        checks.host_can_spare_it, reasons.HOST_CRITICAL, (str(NIC), "guest web")),
    Row("what the host needs is unknown", replace(GOOD, unknown_use="cannot read mountinfo"),
        checks.host_can_spare_it, reasons.HOST_USE_UNKNOWN, (str(NIC), "cannot read mountinfo", "agent's mounts")),
    Row("a VF that a network hands out", replace(GOOD, pools=(Pool("vfs", frozenset({NIC})),)), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "network vfs", "take it out of that network")),
    Row("a mate that a network hands out", replace(GOOD, pools=(Pool("vfs", frozenset({MATE})),)),
        checks.mates_are_free, reasons.GROUP_IN_USE, (str(MATE), str(NIC), "network vfs")),
    Row("the node is paused", replace(GOOD, settings=Settings(paused=True)), checks.not_paused, reasons.PAUSED,
        (str(NIC), "spec.paused")),
    Row("a mate with a driver, and RequireFree", GOOD, checks.mates_need_nothing, reasons.GROUP_NOT_FREE,
        (str(NIC), str(MATE), "snd_hda_intel", f"group {GROUP}", "virsh nodedev-detach"),
        intent(group_policy=REQUIRE_FREE)),
    Row("an override does not lift what a guest needs",
        replace(GOOD, uses=(Use(NIC, "carries the disk of guest db", by_guest=True),), settings=OVERRIDDEN),
        checks.host_can_spare_it, reasons.HOST_CRITICAL, (str(NIC), "guest db")),
    Row("an override of the device does not lift its mates",
        replace(GOOD, uses=(Use(MATE, "carries the swap space"),), settings=OVERRIDDEN),
        checks.host_can_spare_it, reasons.HOST_CRITICAL, (str(MATE), "swap space")),
    Row("the guest has as many as it may have", replace(
        with_guest(GOOD, WEB, config=(Hostdev(LONER),)), settings=Settings(devices_per_guest=1)),
        checks.guest_has_room, reasons.TOO_MANY_DEVICES, (str(NIC), "web has 1", "devicesPerGuest")),
    Row("the guest may not lock its memory", with_guest(GOOD, WEB, memory=65536, hard_limit=65535),
        checks.guest_has_room, reasons.MEMLOCK_EXCEEDED, (str(NIC), "65536 KiB", "65535 KiB", "memtune web")),
    Row("with an IOMMU in the guest each device locks its memory", with_guest(
        GOOD, WEB, memory=65536, hard_limit=2 * 65536 - 1, viommu=True, config=(Hostdev(LONER),)),
        checks.guest_has_room, reasons.MEMLOCK_EXCEEDED, (str(NIC), "65536 KiB", "131071 KiB", "2 devices")),
    Row("there is room for one of two", replace(GOOD, settings=Settings(devices_per_guest=1)),
        checks.guest_has_room, reasons.TOO_MANY_DEVICES, (str(NIC), "web has 0", "(2 devices)"),
        intent(group_policy=ASSIGN_ALL)),
    Row("this guest's other assignment has it", assigned(uid=OTHER_UID), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "web (defined)"), also=(checks.mates_are_free,)),
    Row("this guest's other assignment is about to get it", _about_to_get(NIC), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "as its device", "delete that one first"), also=(checks.mates_are_free,)),
    Row("this guest's other assignment gets all", _about_to_get(MATE, group_policy=ASSIGN_ALL), checks.device_is_free,
        reasons.GROUP_IN_USE, (str(NIC), f"group mate of {MATE}"), also=(checks.mates_are_free,)),
    Row("the group is reserved", assigned(uid=OTHER_UID, guest=None, address=MATE, managed=False),
        checks.device_is_free, reasons.GROUP_IN_USE, (str(NIC), "as a reservation"), also=(checks.mates_are_free,)),
    Row("a reservation of what a guest is about to get", _about_to_get(MATE), checks.device_is_free,
        reasons.GROUP_IN_USE, (str(NIC), "for guest web"), intent(guest=None, managed=False),
        also=(checks.mates_are_free,)),
    Row("the host uses a mate of what is reserved", replace(GOOD, uses=(Use(MATE, "carries the swap space"),)),
        checks.host_can_spare_it, reasons.HOST_CRITICAL, (str(MATE),), intent(guest=None, managed=False)),
    Row("a host function in the group", with_device(GOOD, PORT, role=Role.HOST_BRIDGE, driver="lpc_ich"),
        checks.group_is_viable, reasons.IOMMU_GROUP_NOT_VIABLE, (str(PORT), "lpc_ich", "another slot")),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_exactly_one_check_refuses_with_device_holder_and_next_step(row: Row) -> None:
    case = Case(row.intent, row.host.records.get(UID), row.host)
    refusing = [check for check in SUBJECTS if check(case)]
    if not refusing:  # the device is there: the other checks can be asked
        refusing = [check for check in CHECKS if check(case)]
    assert refusing == [row.check, *row.also]
    refusal = row.check(case)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is row.reason
    assert [word for word in row.words if word not in refusal.message] == []


def test_every_check_has_a_row() -> None:
    assert {row.check for row in ROWS} == {*SUBJECTS, *CHECKS}


@pytest.mark.parametrize(
    "host",
    [
        GOOD,
        assigned(),
        with_device(GOOD, NIC, driver=None),
        with_device(GOOD, NIC, driver="vfio-pci"),
        with_device(GOOD, PORT, driver=None, role=Role.HOST_BRIDGE),
        replace(GOOD, platform=replace(_NO_REMAPPING, unsafe_interrupts=True)),
        replace(GOOD, platform=replace(_NO_REMAPPING, interrupt_remapping=None)),
        replace(GOOD, uses=(Use(LONER, "carries the default route"),)),
        replace(GOOD, uses=(Use(NIC, "carries the default route"),), settings=OVERRIDDEN),
        assigned(uid=OTHER_UID, address=MATE),
        _held_by(GOOD, WEB, Hostdev(MATE)),
        replace(GOOD, pools=(Pool("vfs", frozenset({LONER})),)),
        with_guest(GOOD, WEB, active=True, slots=Slots(True, 0, 0)),
        with_records(GOOD, {OTHER_UID: OTHER}),
        _held_by(GOOD, DB, Hostdev(LONER)),
        _held_by(GOOD, WEB, Hostdev(NIC, intent().alias)),
    ],
    ids=[
        "good", "assigned", "no driver", "on vfio", "host bridge without driver", "unsafe interrupts allowed",
        "remapping cannot be told", "another device is critical",
        "overridden", "the guest has another endpoint by another assignment", "the guest has a mate by other hands",
        "another VF is handed out", "no slot, and Auto", "another group is claimed",
        "another guest has another device", "ours without a record",
    ],
)  # fmt: skip
def test_nothing_refuses_without_cause(host: Observation) -> None:
    case = Case(intent(), host.records.get(UID), host)
    assert first_refusal(case, (*SUBJECTS, *CHECKS)) is None


def test_the_first_check_in_order_gives_the_reason() -> None:
    everything = replace(
        _held_by(with_device(GOOD, NIC, num_vfs=1), DB, Hostdev(MATE)), unknown_use="x", platform=_NO_REMAPPING
    )
    case = Case(intent(), None, everything)
    order = [
        (reasons.INTERRUPT_REMAPPING_UNAVAILABLE, {"platform": GOOD.platform}),
        (reasons.DEVICE_IN_USE, {"devices": GOOD.devices}),
        (reasons.GROUP_IN_USE, {"guests": GUESTS}),
        (reasons.HOST_USE_UNKNOWN, {"unknown_use": None}),
    ]
    for reason, repair in order:
        refusal = first_refusal(case, CHECKS)
        assert refusal
        assert refusal.reason is reason
        case = replace(case, host=replace(case.host, **repair))  # type: ignore[arg-type]
    assert first_refusal(case, CHECKS) is None


# -- of a claim that stands ------------------------------------------------------------------------------------------

USING = replace(assigned(), uses=(Use(NIC, "carries the default route over eth0"),))
RUNNING = with_guest(with_device(USING, NIC, driver=VFIO_DRIVER), WEB, active=True, live=assigned().guests[0].config)


def standing(host: Observation, wanted: Intent = SAMPLE) -> Refusal | None:
    return first_refusal(Case(wanted, host.records.get(UID), host), STANDING)


def test_a_managed_device_that_the_host_uses_while_its_guest_is_off_is_told() -> None:
    refusal = standing(USING)
    assert refusal
    assert refusal.reason is reasons.HOST_USING
    assert [
        w
        for w in (str(NIC), "web does not run with", "default route", "delete the assignment")
        if w not in refusal.message
    ] == []


def test_a_mate_that_the_host_uses_although_it_is_held_is_not_the_devices_matter() -> None:
    assert standing(replace(assigned(), uses=(Use(MATE, "carries the swap space"),))) is None


@pytest.mark.parametrize(
    "host",
    [
        RUNNING,
        replace(USING, settings=OVERRIDDEN),
        with_device(USING, NIC, driver=VFIO_DRIVER),
        with_device(USING, NIC, driver=None),
        assigned(),
        assigned(guest=None, managed=False),
    ],
    ids=["the guest runs", "overridden", "on vfio", "without driver", "not used", "reserved"],
)
def test_otherwise_a_standing_claim_is_left_in_peace(host: Observation) -> None:
    assert standing(host) is None


def test_a_mate_that_gets_a_driver_ends_the_peace_of_require_free() -> None:
    free = with_device(GOOD, MATE, driver=None)
    host = assigned(free, group_policy=REQUIRE_FREE)
    wanted = intent(group_policy=REQUIRE_FREE)
    assert standing(host, wanted) is None
    refusal = standing(with_device(host, MATE, driver="snd_hda_intel"), wanted)
    assert refusal
    assert refusal.reason is reasons.GROUP_NOT_FREE


def test_the_other_assignment_of_the_guest_keeps_what_it_has_when_the_first_takes_all() -> None:
    """Both stand: the one whose hostdev is edited away gets it again, and the other one does not take it over."""
    host = assigned(assigned(), uid=OTHER_UID, address=MATE, group_policy=ASSIGN_ALL)
    edited = with_guest(host, WEB, config=tuple(h for h in host.guests[0].config if h.address != NIC))
    mine = Case(intent(), edited.records[UID], edited)
    theirs = intent(MATE, uid=OTHER_UID, group_policy=ASSIGN_ALL)
    assert first_refusal(mine, CHECKS) is None
    assert [d.address for d in mine.targets] == [NIC]
    assert [d.address for d in Case(theirs, edited.records[OTHER_UID], edited).targets] == [MATE]
