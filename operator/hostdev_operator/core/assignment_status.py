"""The agent's part of a DeviceAssignment's status, computed once, at the end, from what is there."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.common import Condition
from ..api.deviceassignment import (
    DeviceAssignmentStatus,
    DeviceStatus,
    GuestStatus,
    IommuGroupStatus,
    MemberStatus,
    RecordMember,
    RecordStatus,
)
from .checks import Refusal
from .conditions import ATTACHED, CONFIGURED, GROUP_READY, PLANNED, READY, condition
from .intent import Intent
from .model import Guest, Observation, PciDevice, Role
from .pci import PciAddress
from .plan import not_held, our_hostdev
from .record import Member, Record

#: The reason of a condition that nobody worked on, since a check refused: the refusal itself is said once, by Planned.
NOT_TRIED = "NotTried"


@dataclass(frozen=True)
class Outcome:
    """How a run ended. At most one is set; none means that everything stands as asked.

    ``refused``: a check said no, or something is waited for: nothing was changed. ``failed``: an action failed;
    what this run did was rolled back if ``rolled_back``.
    """

    refused: Refusal | None = None
    failed: Refusal | None = None
    rolled_back: bool = False

    @property
    def trouble(self) -> Refusal | None:
        """Whatever stands in the way."""
        return self.refused or self.failed


def assignment_status(intent: Intent, host: Observation, outcome: Outcome) -> DeviceAssignmentStatus:
    """The status without node, guest UUID and times: those are stamped by whoever writes it."""
    record = host.records.get(intent.uid)
    device = host.devices.get(intent.address)
    guest = host.guest(intent.domain_uuid)
    return DeviceAssignmentStatus(
        device=_device(device) if device else None,
        iommu_group=_group(device, host) if device else None,
        record=record_status(record) if record else None,
        guest=_guest(intent, guest, record) if guest else None,
        conditions=_conditions(intent, host, outcome),
    )


def _conditions(intent: Intent, host: Observation, outcome: Outcome) -> tuple[Condition, ...]:
    record = host.records.get(intent.uid)
    guest = host.guest(intent.domain_uuid)
    parts = (
        _planned(outcome),
        _group_ready(intent, record, host, outcome),
        _configured(intent, guest, record, outcome),
    )
    return (*parts, _attached(intent, guest, record), _ready(intent, guest, parts, outcome))


def _planned(outcome: Outcome) -> Condition:
    if outcome.refused:
        return condition(PLANNED, False, outcome.refused.reason, outcome.refused.message)
    return condition(PLANNED, True, "ChecksPassed", "every check passed")


def _group_ready(intent: Intent, record: Record | None, host: Observation, outcome: Outcome) -> Condition:
    device = host.devices.get(intent.address)
    if record and device:
        mates = host.mates(device)
        if not not_held(device, mates, record):
            return condition(
                GROUP_READY,
                True,
                "Claimed",
                f"IOMMU group {device.iommu_group} is claimed: {len(mates)} mate(s) of {device.address} held",
            )
    if outcome.refused:
        return condition(GROUP_READY, False, NOT_TRIED, "a check refused: see Planned")
    if outcome.failed:
        undone = " Everything that was done before it was undone." if outcome.rolled_back else ""
        return condition(GROUP_READY, False, outcome.failed.reason, outcome.failed.message + undone)
    return condition(GROUP_READY, False, "NotClaimed", f"the IOMMU group of {intent.address} is not claimed")


def _configured(intent: Intent, guest: Guest | None, record: Record | None, outcome: Outcome) -> Condition:
    if guest and our_hostdev(guest, guest.config, intent.uid, record):
        return condition(
            CONFIGURED,
            True,
            "InPersistentXML",
            f"{intent.address} is in the persistent XML of guest {guest.name}",
        )
    if outcome.refused:
        return condition(CONFIGURED, False, NOT_TRIED, "a check refused: see Planned")
    if outcome.failed:
        return condition(CONFIGURED, False, outcome.failed.reason, outcome.failed.message)
    name = guest.name if guest else intent.domain_name or intent.domain_uuid
    return condition(
        CONFIGURED, False, "NotConfigured", f"{intent.address} is not in the persistent XML of guest {name}"
    )


def _attached(intent: Intent, guest: Guest | None, record: Record | None) -> Condition:
    if guest is None:
        return condition(ATTACHED, False, "GuestNotFound", f"guest {intent.domain_uuid} is not defined here")
    if not guest.active:
        return condition(ATTACHED, False, "GuestShutOff", f"guest {guest.name} is shut off")
    if our_hostdev(guest, guest.live, intent.uid, record):
        return condition(ATTACHED, True, "InLiveXML", f"guest {guest.name} runs with {intent.address}")
    return condition(
        ATTACHED,
        False,
        "PendingGuestRestart",
        f"guest {guest.name} runs without {intent.address}; it gets it at its next boot: shut it down and start it",
    )


def _ready(intent: Intent, guest: Guest | None, parts: tuple[Condition, ...], outcome: Outcome) -> Condition:
    if outcome.trouble:
        return condition(READY, False, outcome.trouble.reason, outcome.trouble.message)
    missing = next((c for c in parts if c.status != "True"), None)
    if missing:
        return condition(READY, False, missing.reason, missing.message)
    name = guest.name if guest else intent.domain_uuid
    return condition(
        READY,
        True,
        "Assigned",
        f"{intent.address} is assigned to guest {name} and its IOMMU group is claimed",
    )


def _hex(number: int) -> str:
    return f"0x{number:04x}"


def _device(device: PciDevice) -> DeviceStatus:
    return DeviceStatus(
        address=str(device.address),
        name=device.address.libvirt_name,
        vendor_id=_hex(device.vendor),
        product_id=_hex(device.product),
        driver=device.driver,
    )


def _group(device: PciDevice, host: Observation) -> IommuGroupStatus | None:
    if device.iommu_group is None:
        return None

    def role(member: PciDevice) -> str:
        if member.role is not Role.ENDPOINT:
            return "Bridge"
        return "Device" if member.address == device.address else "Mate"

    members = [{"address": str(m.address), "role": role(m), "driver": m.driver} for m in host.group_of(device)]
    return IommuGroupStatus(number=device.iommu_group, members=tuple(MemberStatus.model_validate(m) for m in members))


def _guest(intent: Intent, guest: Guest, record: Record | None) -> GuestStatus:
    config = our_hostdev(guest, guest.config, intent.uid, record)
    live = our_hostdev(guest, guest.live, intent.uid, record)
    return GuestStatus(
        name=guest.name,
        active=guest.active,
        alias=intent.alias,
        persistent=config is not None,
        live=live is not None,
    )


def record_status(record: Record) -> RecordStatus:
    """The record's published copy."""
    return RecordStatus(
        sequence=record.sequence,
        address=str(record.address),
        domain_uuid=record.domain_uuid,
        domain_name=record.domain_name,
        managed=record.managed,
        members=tuple(
            RecordMember(address=str(m.address), vendor_id=_hex(m.vendor), product_id=_hex(m.product), driver=m.driver)
            for m in record.members
        ),
    )


def record_from_status(copy: RecordStatus, uid: str, namespace: str, name: str) -> Record:
    """The record from its published copy, for a node that lost its state directory; ValueError if it is malformed."""
    return Record(
        uid=uid,
        namespace=namespace,
        name=name,
        address=PciAddress.parse(copy.address),
        domain_uuid=copy.domain_uuid,
        domain_name=copy.domain_name,
        managed=copy.managed,
        members=tuple(
            Member(PciAddress.parse(m.address), int(m.vendor_id, 16), int(m.product_id, 16), m.driver)
            for m in copy.members
        ),
        sequence=copy.sequence,
    )
