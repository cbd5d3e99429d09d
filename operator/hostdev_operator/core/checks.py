"""The checks that stand before every change, in order. Each is pure and returns a refusal or nothing.

To add one: write a function from Case to Refusal | None, put it into CHECKS where its question belongs (the first
refusal wins), give it a reason in reasons.py and a row in tests/core/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import reasons
from .intent import ASSIGN_ALL, REQUIRE_FREE, Intent, is_alias_of
from .limits import too_little_lockable_memory, too_many_devices
from .model import Guest, Observation, PciDevice, Role, Use
from .pci import PciAddress
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

    @property
    def guest(self) -> Guest | None:
        """The guest; None for a reservation, and if it is not there."""
        return self.host.guest(self.intent.domain_uuid) if self.intent.domain_uuid else None

    @property
    def targets(self) -> tuple[PciDevice, ...]:
        """The endpoints that the guest gets: none for a reservation; not those that it has by another hand."""
        if self.intent.is_reservation:
            return ()
        if self.intent.group_policy != ASSIGN_ALL:
            return (self.device,)
        guest = self.guest
        theirs = {h.address for h in (guest.config if guest else ()) if not is_alias_of(h.alias, self.intent.uid)}
        theirs |= {r.address for uid, r in self.host.records.items() if uid != self.intent.uid}
        return (self.device, *(d for d in self.mates if d.address not in theirs))


def guest_exists(case: Case) -> Refusal | None:
    """The guest of the pinned UUID must be there, with a persistent definition."""
    intent = case.intent
    if intent.is_reservation:
        return None
    name = intent.domain_name or (case.record.domain_name if case.record else None)
    return missing_guest(case.host, intent.owner, intent.domain_uuid or "", name, str(intent.address))


def missing_guest(host: Observation, owner: str, uuid: str, name: str | None, thing: str) -> Refusal | None:
    """Why the guest cannot be given the thing; None if it is there and defined."""
    guest = host.guest(uuid)
    if guest:
        return (
            None
            if guest.persistent
            else Refusal(
                reasons.GUEST_TRANSIENT,
                f"guest {guest.name} ({guest.uuid}) is transient: it has no persistent XML that could hold"
                f" {thing}; define it with virsh define",
            )
        )
    twin = next((g for g in host.guests if g.name == name), None)
    if twin:
        return Refusal(
            reasons.GUEST_IDENTITY_CHANGED,
            f"assignment {owner} is bound to guest {name} with UUID {uuid}, but {name} now has"
            f" UUID {twin.uuid}: {thing} is not given to it; delete the assignment and make a new one",
        )
    return Refusal(
        reasons.GUEST_NOT_FOUND,
        f"guest {name or ''} with UUID {uuid} is not defined here any more: {thing} waits for"
        " it; define it again with that UUID, or delete the assignment",
    )


def same_mates(case: Case) -> Refusal | None:
    """A recorded mate must still be the device that was recorded; the device itself was found by its fingerprint."""
    for member in case.record.members if case.record else ():
        other = case.host.devices.get(member.address)
        if other and other.address != case.intent.address and not member.identity.same(other.identity):
            if any(member.identity.same(d.identity) for d in case.host.group_of(case.device)):
                continue  # it has only another address now
            return Refusal(
                reasons.IDENTITY_CHANGED,
                f"{other.label} {other.identity} is not the device {member.identity} that was claimed at"
                f" {member.address}; put that one back, or delete the assignment and make a new one",
            )
    return None


def not_paused(case: Case) -> Refusal | None:
    """The administrator's stop."""
    return paused(case.host, case.device.label)


def paused(host: Observation, thing: str) -> Refusal | None:
    """The same for anything that is not to be changed."""
    if not host.settings.paused:
        return None
    text = f"{thing} is not changed: the node is paused; set spec.paused of its DeviceHost to false"
    return Refusal(reasons.PAUSED, text)


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
        " or, for trusted guests alone, accept that in the DeviceHost's spec.preparation.unsafeInterrupts",
    )


def device_is_free(case: Case) -> Refusal | None:
    """No other guest, no other assignment, and not this guest by somebody else's hand."""
    device, intent = case.device, case.intent
    for guest in case.host.holders(device.address):
        if guest.uuid == intent.domain_uuid and (case.record or intent.adopt or _is_ours(guest, intent)):
            continue
        return Refusal(
            reasons.DEVICE_IN_USE, f"{device.label} is in the XML of guest {_name(guest)}, {_by(guest, case)}"
        )
    for record in _foreign_records(case):
        if record.covers(device.address) and not _shared(case, record, device.address):
            is_mate = record.address != device.address
            how = f"as a group mate of {record.address}" if is_mate else "as its device"
            return Refusal(
                reasons.GROUP_IN_USE if is_mate else reasons.DEVICE_IN_USE,
                f"{device.label} is claimed by assignment {record.owner} {record.purpose} ({how});"
                " a group cannot be split: delete that one first",
            )
    if pool := _pool(case, device.address):
        return Refusal(reasons.DEVICE_IN_USE, f"{device.label} is a VF that {pool}")
    if device.num_vfs:
        return Refusal(
            reasons.DEVICE_IN_USE,
            f"{device.label} is a PF with {device.num_vfs} VFs that would vanish with it; set its VF count to 0 first"
            " (sriov_numvfs in its folder of /sys)",
        )
    return None


def _by(guest: Guest, case: Case) -> str:
    """Whose work it is that the guest has the device, and what to do about it."""
    theirs = (r for r in _foreign_records(case) if r.domain_uuid == guest.uuid and r.covers(case.device.address))
    if record := next(theirs, None):
        return f"by assignment {record.owner}: delete that one first"
    return (
        f"which assignment {case.intent.owner} did not put there; remove it there first (virsh detach-device"
        f" {guest.name} FILE --config)"
    )


def mates_are_free(case: Case) -> Refusal | None:
    """A group is never split between guests. The same guest may have other endpoints of the group as well."""
    for mate in case.mates:
        group = f"{mate.label}, in IOMMU group {mate.iommu_group} together with {case.device.address},"
        for guest in case.host.holders(mate.address):
            if guest.uuid == case.intent.domain_uuid:
                continue
            return Refusal(
                reasons.GROUP_IN_USE,
                f"{group} is in the XML of guest {_name(guest)}; a group cannot be split: remove it there first, or"
                f" give {case.device.address} to that guest as well",
            )
        for record in _foreign_records(case):
            if record.covers(mate.address) and not _shared(case, record, case.device.address):
                return Refusal(
                    reasons.GROUP_IN_USE,
                    f"{group} is claimed by assignment {record.owner} {record.purpose}; a group cannot"
                    " be split: delete that assignment first",
                )
        if pool := _pool(case, mate.address):
            return Refusal(reasons.GROUP_IN_USE, f"{group} is a VF that {pool}")
        if mate.num_vfs:
            return Refusal(
                reasons.GROUP_IN_USE,
                f"{group} is a PF with {mate.num_vfs} VFs that would vanish; set its VF count to 0 first"
                " (sriov_numvfs in its folder of /sys)",
            )
    return None


def _shared(case: Case, record: Record, address: PciAddress) -> bool:
    """Whether another assignment's claim leaves the device to this one: the same guest, and not that one's own device.

    One that claims the group anew takes nothing that the other one has given to the guest, either.
    """
    if record.domain_uuid is None or record.domain_uuid != case.intent.domain_uuid:
        return False
    return address != record.address if case.record else address not in record.targets


def _pool(case: Case, address: PciAddress) -> str | None:
    for pool in case.host.pools:
        if address in pool.addresses:
            return (
                f"libvirt network {pool.name} hands out; take it out of that network first, or give the guest an"
                " interface of the network"
            )
    return None


def mates_need_nothing(case: Case) -> Refusal | None:
    """RequireFree: no mate is taken from the host."""
    if case.intent.group_policy != REQUIRE_FREE:
        return None
    bound = [m for m in case.mates if m.on_host_driver]
    if not bound:
        return None
    names = ", ".join(f"{m.label} (driver {m.driver})" for m in bound)
    return Refusal(
        reasons.GROUP_NOT_FREE,
        f"{case.device.label} shares IOMMU group {case.device.iommu_group} with {names}: groupPolicy RequireFree takes"
        " nothing from the host; unbind them (virsh nodedev-detach), or use DetachUnused or AssignAll",
    )


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
            if use.address == device.address and not is_overridden(use, case.host):
                mate = "" if device is case.device else f", a group mate of {case.device.address},"
                return Refusal(
                    reasons.HOST_CRITICAL,
                    f"{device.label}{mate} {use.what}: taking it away would harm the host; choose another device, or"
                    " move that use elsewhere first",
                )
    return None


def is_overridden(use: Use, host: Observation) -> bool:
    """Whether the administrator allows to take the device all the same (DeviceHost spec.criticalOverrides)."""
    return use.address in host.settings.overrides and not use.by_guest


def host_does_not_use_it(case: Case) -> Refusal | None:
    """Of a claim that stands: a managed device is the host's while its guest is off, and may come to be needed."""
    guest = case.guest
    live = {h.address for h in guest.live} if guest else set()
    idle = [d for d in case.targets if guest and d.on_host_driver and d.address not in live]
    for device in idle:
        for use in case.host.uses:
            if use.address == device.address and not is_overridden(use, case.host):
                return Refusal(
                    reasons.HOST_USING,
                    f"guest {guest.name if guest else ''} does not run with {device.label}, which {use.what} now: the"
                    " guest's next start takes it away from the host; move that use elsewhere, or delete the"
                    " assignment",
                )
    return None


def guest_has_room(case: Case) -> Refusal | None:
    """The limits of the guest. A VF's NIC is counted by its device."""
    guest = case.guest
    if guest is None:
        return None
    new = sum(all(h.address != d.address for h in guest.config) for d in case.targets)
    return no_room(guest, new, case.device.label, case.host)


def no_room(guest: Guest, new: int, thing: str, host: Observation) -> Refusal | None:
    """Why the guest cannot have so many more devices, by its limits."""
    if why := too_many_devices(guest, new, thing, host):
        return Refusal(reasons.TOO_MANY_DEVICES, why)
    why = too_little_lockable_memory(guest, new, thing)
    return Refusal(reasons.MEMLOCK_EXCEEDED, why) if why else None


def to_be_plugged(case: Case) -> tuple[PciDevice, ...]:
    """What the running guest does not have yet."""
    guest = case.guest
    if guest is None or not guest.active:
        return ()
    return tuple(d for d in case.targets if all(h.address != d.address for h in guest.live))


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
SUBJECTS: tuple[Check, ...] = (guest_exists, same_mates)
#: These stand before the first change.
CHECKS: tuple[Check, ...] = (
    not_paused,
    is_endpoint,
    iommu_is_on,
    interrupts_are_remapped,
    device_is_free,
    mates_are_free,
    mates_need_nothing,
    host_can_spare_it,
    group_is_viable,
    guest_has_room,
)
#: These are asked of a claim that stands.
STANDING: tuple[Check, ...] = (mates_need_nothing, host_does_not_use_it)


def first_refusal(case: Case, checks: tuple[Check, ...]) -> Refusal | None:
    """The first check that refuses."""
    return next((refusal for check in checks if (refusal := check(case))), None)


def _foreign_records(case: Case) -> list[Record]:
    return [r for uid, r in sorted(case.host.records.items()) if uid != case.intent.uid]


def _is_ours(guest: Guest, intent: Intent) -> bool:
    mine = [h for h in guest.hostdevs if h.address == intent.address]
    return all(h.alias == intent.alias for h in mine)


def _name(guest: Guest) -> str:
    return f"{guest.name} ({'running' if guest.active else 'saved' if guest.saved else 'defined'})"
