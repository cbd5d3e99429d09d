"""The checks that stand before every change, in order. Each is pure and returns a refusal or nothing.

To add one: write a function from Case to Refusal | None, put it into CHECKS where its question belongs (the first
refusal wins), give it a reason in reasons.py and a row in tests/core/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import reasons
from .intent import Intent
from .model import Guest, Observation, PciDevice, Role
from .reasons import Reason
from .record import Record


@dataclass(frozen=True)
class Refusal:
    """Why nothing is done. ``message`` names the device, its holder and the next step."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Case:
    """What the checks look at."""

    intent: Intent
    record: Record | None
    host: Observation

    @property
    def device(self) -> PciDevice:
        """The device; only to be asked after device_exists."""
        return self.host.devices[self.intent.address]

    @property
    def mates(self) -> tuple[PciDevice, ...]:
        """The other endpoints of its group."""
        return self.host.mates(self.device)


def guest_exists(case: Case) -> Refusal | None:
    """The guest of the pinned UUID must be there, with a persistent definition."""
    intent = case.intent
    guest = case.host.guest(intent.domain_uuid)
    if guest and guest.persistent:
        return None
    if guest:
        return Refusal(
            reasons.GUEST_TRANSIENT,
            f"guest {guest.name} ({guest.uuid}) is transient: it has no persistent XML that could hold"
            f" {intent.address}; define it with virsh define",
        )
    name = intent.domain_name or (case.record.domain_name if case.record else None)
    twin = next((g for g in case.host.guests if g.name == name), None)
    if twin:
        return Refusal(
            reasons.GUEST_IDENTITY_CHANGED,
            f"assignment {intent.owner} is bound to guest {name} with UUID {intent.domain_uuid}, but {name} now has"
            f" UUID {twin.uuid}: {intent.address} is not given to it; delete the assignment and make a new one",
        )
    return Refusal(
        reasons.GUEST_NOT_FOUND,
        f"guest {name or ''} with UUID {intent.domain_uuid} is not defined here any more: {intent.address} waits for"
        " it; define it again with that UUID, or delete the assignment",
    )


def device_exists(case: Case) -> Refusal | None:
    """The address must name a device of this host."""
    if case.intent.address in case.host.devices:
        return None
    return Refusal(
        reasons.DEVICE_NOT_FOUND,
        f"there is no PCI device at {case.intent.address} on this node; compare with lspci -D or the DeviceHost",
    )


def same_device(case: Case) -> Refusal | None:
    """A recorded endpoint must still be the device that was recorded."""
    for member in case.record.members if case.record else ():
        device = case.host.devices.get(member.address)
        if device and (device.vendor, device.product) != (member.vendor, member.product):
            return Refusal(
                reasons.IDENTITY_CHANGED,
                f"{device.label} is not the device [{member.vendor:04x}:{member.product:04x}] that was claimed at"
                f" {member.address}; delete the assignment and make a new one",
            )
    return None


def is_endpoint(case: Case) -> Refusal | None:
    """Only endpoints are assigned."""
    if case.device.role is Role.ENDPOINT:
        return None
    return Refusal(
        reasons.NOT_ASSIGNABLE,
        f"{case.device.label} is a {case.device.role.value}, which is never assigned; name an endpoint behind it",
    )


def iommu_is_on(case: Case) -> Refusal | None:
    """Without an IOMMU group there is no isolation."""
    if case.host.platform.iommu and case.device.iommu_group is not None:
        return None
    return Refusal(
        reasons.IOMMU_DISABLED,
        f"{case.device.label} has no IOMMU group: enable VT-d or AMD-Vi in the firmware, boot with intel_iommu=on"
        " (Intel), and look at the DeviceHost's condition IOMMUReady",
    )


def interrupts_are_remapped(case: Case) -> Refusal | None:
    """Without interrupt remapping a guest could inject interrupts into the host."""
    platform = case.host.platform
    if platform.interrupt_remapping is not False or platform.unsafe_interrupts:
        return None
    return Refusal(
        reasons.INTERRUPT_REMAPPING_UNAVAILABLE,
        f"{case.device.label} could inject interrupts: the host has no interrupt remapping. Enable it in the firmware,"
        " or, for trusted guests alone, set allow_unsafe_interrupts of vfio_iommu_type1",
    )


def device_is_free(case: Case) -> Refusal | None:
    """No other guest, no other assignment, and not this guest by somebody else's hand."""
    device, intent = case.device, case.intent
    for guest in case.host.holders(device.address):
        if guest.uuid == intent.domain_uuid and (case.record or _is_ours(guest, intent)):
            continue
        return Refusal(
            reasons.DEVICE_IN_USE,
            f"{device.label} is in the XML of guest {_name(guest)}, which assignment {intent.owner} did not put there;"
            f" remove it there first (virsh detach-device {guest.name} FILE --config)",
        )
    for record in _foreign_records(case):
        if record.covers(device.address):
            is_mate = record.address != device.address
            how = f"as a group mate of {record.address}" if is_mate else "as its device"
            return Refusal(
                reasons.GROUP_IN_USE if is_mate else reasons.DEVICE_IN_USE,
                f"{device.label} is claimed by assignment {record.owner} for guest {record.domain_name} ({how});"
                " a group cannot be split: delete that one first",
            )
    if device.num_vfs:
        return Refusal(
            reasons.DEVICE_IN_USE,
            f"{device.label} is a PF with {device.num_vfs} VFs that would vanish with it; set its VF count to 0 first",
        )
    return None


def mates_are_free(case: Case) -> Refusal | None:
    """A group is never split between guests."""
    for mate in case.mates:
        group = f"{mate.label}, in IOMMU group {mate.iommu_group} together with {case.device.address},"
        for guest in case.host.holders(mate.address):
            return Refusal(
                reasons.GROUP_IN_USE,
                f"{group} is in the XML of guest {_name(guest)}; a group cannot be split: remove it there first, or"
                f" give {case.device.address} to nobody else",
            )
        for record in _foreign_records(case):
            if record.covers(mate.address):
                return Refusal(
                    reasons.GROUP_IN_USE,
                    f"{group} is claimed by assignment {record.owner} for guest {record.domain_name}; a group cannot"
                    " be split: delete that assignment first",
                )
        if mate.num_vfs:
            return Refusal(
                reasons.GROUP_IN_USE,
                f"{group} is a PF with {mate.num_vfs} VFs that would vanish; set its VF count to 0 first",
            )
    return None


def host_can_spare_it(case: Case) -> Refusal | None:
    """The guard: nothing that the host needs, nor a mate of such; closed if that cannot be told."""
    if case.host.unknown_use:
        return Refusal(
            reasons.HOST_USE_UNKNOWN,
            f"whether the host needs {case.device.label} or its group cannot be told ({case.host.unknown_use}), so it"
            " is not touched; check the agent's mounts of /proc and /sys",
        )
    for device in (case.device, *case.mates):
        for use in case.host.uses:
            if use.address == device.address:
                mate = "" if device is case.device else f", a group mate of {case.device.address},"
                return Refusal(
                    reasons.HOST_CRITICAL,
                    f"{device.label}{mate} {use.what}: taking it away would harm the host; choose another device, or"
                    " move that use elsewhere first",
                )
    return None


def group_is_viable(case: Case) -> Refusal | None:
    """Host-side functions that are no bridges in VFIO's sense (LPC, host bridge) must have no driver."""
    for member in case.host.group_of(case.device):
        if member.role is Role.HOST_BRIDGE and member.on_host_driver:
            return Refusal(
                reasons.IOMMU_GROUP_NOT_VIABLE,
                f"{member.label} of IOMMU group {member.iommu_group} belongs to the host (driver {member.driver}) and"
                f" cannot be detached, so {case.device.label} cannot be assigned; put it into another slot",
            )
    return None


Check = Callable[[Case], Refusal | None]
#: These say whether there is anything to talk about.
SUBJECTS: tuple[Check, ...] = (guest_exists, device_exists, same_device)
#: These stand before the first change.
CHECKS: tuple[Check, ...] = (
    is_endpoint,
    iommu_is_on,
    interrupts_are_remapped,
    device_is_free,
    mates_are_free,
    host_can_spare_it,
    group_is_viable,
)


def first_refusal(case: Case, checks: tuple[Check, ...]) -> Refusal | None:
    """The first check that refuses."""
    return next((refusal for check in checks if (refusal := check(case))), None)


def _foreign_records(case: Case) -> list[Record]:
    return [r for uid, r in sorted(case.host.records.items()) if uid != case.intent.uid]


def _is_ours(guest: Guest, intent: Intent) -> bool:
    mine = [h for h in (*guest.config, *guest.live) if h.address == intent.address]
    return all(h.alias == intent.alias for h in mine)


def _name(guest: Guest) -> str:
    return f"{guest.name} ({'running' if guest.active else 'defined'})"
