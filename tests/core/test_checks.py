"""Each row breaks one thing: exactly its check refuses, and the message names device, holder and next step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from hostdev_operator.core import checks, reasons
from hostdev_operator.core.checks import CHECKS, SUBJECTS, Case, Check, Refusal, first_refusal
from hostdev_operator.core.intent import Intent
from hostdev_operator.core.model import Hostdev, Observation, Platform, Role, Use
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.record import Member, Record
from tests.core.hosts import GUESTS, assigned, guest, observation, with_device, with_guest, with_records
from tests.fakes.samples import DB, GROUP, LONER, MATE, NIC, OTHER_UID, PORT, UID, WEB, device, intent

SAMPLE = intent()
GOOD = observation()
OTHER = Record(OTHER_UID, "team", "other", LONER, DB, "db", managed=True, members=(Member(LONER, 1, 2, "igb"),))


@dataclass(frozen=True)
class Row:
    """What is wrong, who must say so, and which words the message must have."""

    name: str
    host: Observation
    check: Check
    reason: Reason
    words: tuple[str, ...]
    intent: Intent = SAMPLE

    def __str__(self) -> str:
        return self.name


def _held_by(host: Observation, uuid: str, hostdev: Hostdev) -> Observation:
    return with_guest(host, uuid, config=(hostdev,))


def _running_with(host: Observation, uuid: str, hostdev: Hostdev) -> Observation:
    return with_guest(host, uuid, active=True, live=(hostdev,))


def _claimed(member: Member) -> Observation:
    return with_records(GOOD, {OTHER_UID: replace(OTHER, members=(*OTHER.members, member))})


_MATE_MEMBER = Member(MATE, 0x8086, 0x10D3, "snd_hda_intel")
_NIC_MEMBER = Member(NIC, 0x8086, 0x10D3, "e1000e")
_NO_REMAPPING = Platform(iommu=True, interrupt_remapping=False, unsafe_interrupts=False, vfio=True)

ROWS = (
    Row("no guest", replace(GOOD, guests=GUESTS[1:]), checks.guest_exists, reasons.GUEST_NOT_FOUND,
        ("web", WEB, str(NIC), "define it again")),
    Row("guest without definition", with_guest(GOOD, WEB, persistent=False, active=True), checks.guest_exists,
        reasons.GUEST_TRANSIENT, ("web", str(NIC), "virsh define")),
    Row("guest of that name is another", replace(GOOD, guests=(guest("3" * 8, "web"),)), checks.guest_exists,
        reasons.GUEST_IDENTITY_CHANGED, ("web", WEB, "3" * 8, "delete the assignment")),
    Row("no device", observation([device(LONER, "igb", 13)]), checks.device_exists, reasons.DEVICE_NOT_FOUND,
        (str(NIC), "lspci -D")),
    Row("another device at the address", with_device(assigned(), NIC, product=0xBEEF), checks.same_device,
        reasons.IDENTITY_CHANGED, (str(NIC), "8086:beef", "8086:10d3", "delete the assignment")),
    Row("another mate at its address", with_device(assigned(), MATE, vendor=0x1AF4), checks.same_device,
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
        reasons.INTERRUPT_REMAPPING_UNAVAILABLE, (str(NIC), "allow_unsafe_interrupts")),
    Row("defined in another guest", _held_by(GOOD, DB, Hostdev(NIC)), checks.device_is_free, reasons.DEVICE_IN_USE,
        (str(NIC), "db (defined)", "virsh detach-device db")),
    Row("running in another guest", _running_with(GOOD, DB, Hostdev(NIC)), checks.device_is_free,
        reasons.DEVICE_IN_USE, (str(NIC), "db (running)")),
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
    Row("mate in this very guest", _held_by(GOOD, WEB, Hostdev(MATE)), checks.mates_are_free, reasons.GROUP_IN_USE,
        (str(MATE), "web (defined)")),
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
    Row("a host function in the group", with_device(GOOD, PORT, role=Role.HOST_BRIDGE, driver="lpc_ich"),
        checks.group_is_viable, reasons.IOMMU_GROUP_NOT_VIABLE, (str(PORT), "lpc_ich", "another slot")),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_exactly_one_check_refuses_with_device_holder_and_next_step(row: Row) -> None:
    case = Case(row.intent, row.host.records.get(UID), row.host)
    refusing = [check for check in SUBJECTS if check(case)]
    if not refusing:  # the device is there: the other checks can be asked
        refusing = [check for check in CHECKS if check(case)]
    assert refusing == [row.check]
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
        with_records(GOOD, {OTHER_UID: OTHER}),
        _held_by(GOOD, DB, Hostdev(LONER)),
        _held_by(GOOD, WEB, Hostdev(NIC, intent().alias)),
    ],
    ids=[
        "good", "assigned", "no driver", "on vfio", "host bridge without driver", "unsafe interrupts allowed",
        "remapping cannot be told", "another device is critical", "another group is claimed",
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
