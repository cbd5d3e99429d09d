"""Plans: what to do on this host, as a pure function of intent, record and observation.

The same functions serve the agent, a dry run and the tests. A plan without actions says that host and persistent XML
stand as asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import reasons
from .actions import Action, AddHostdev, DetachDriver, DropRecord, RemoveHostdev, ReturnDriver, WriteRecord
from .checks import CHECKS, SUBJECTS, Case, Refusal, first_refusal
from .intent import ALIAS_PREFIX, Intent
from .model import Guest, Hostdev, Observation, PciDevice, is_vfio
from .pci import PciAddress
from .record import Member, Record


@dataclass(frozen=True)
class Plan:
    """Ordered actions, possibly none."""

    actions: tuple[Action, ...] = ()


def plan_assign(intent: Intent, host: Observation) -> Plan | Refusal:
    """What is left to do so that the guest has the device in its persistent XML and the whole group is claimed."""
    case = Case(intent, host.records.get(intent.uid), host)
    if refusal := first_refusal(case, SUBJECTS):
        return refusal
    actions = _assign_actions(case)
    if not actions:
        return Plan()
    return first_refusal(case, CHECKS) or Plan(actions)


def _assign_actions(case: Case) -> tuple[Action, ...]:
    intent, device = case.intent, case.device
    actions: list[Action] = []
    record = _record(case)
    if record != case.record:
        actions.append(WriteRecord(record))
    actions += [DetachDriver(d.address, d.driver or "") for d in not_held(device, case.mates, record)]
    guest = case.host.guest(intent.domain_uuid)
    if guest and not our_hostdev(guest, guest.config, intent.uid, record):
        actions.append(AddHostdev(intent.domain_uuid, intent.address, intent.alias, intent.managed, intent.driver))
    return tuple(actions)


def not_held(device: PciDevice, mates: tuple[PciDevice, ...], record: Record) -> tuple[PciDevice, ...]:
    """The endpoints that a claim must still move to vfio-pci.

    A mate that never had a driver is left alone: it does not hinder VFIO. One that lost its driver, as when libvirtd
    was killed between unbinding and binding, is not: nothing keeps the host from taking it again.
    """

    def had_driver(mate: PciDevice) -> bool:
        member = record.member(mate.address)
        return member is not None and member.driver is not None

    loose = [m for m in mates if m.on_host_driver or (m.driver is None and had_driver(m))]
    if not record.managed and not is_vfio(device.driver):
        loose.append(device)
    return tuple(loose)


def _record(case: Case) -> Record:
    """The record as it must stand before anything is changed.

    A driver that was recorded once stays; an endpoint that had none and has one now gets that one back.
    """
    intent, old = case.intent, case.record
    guest = case.host.guest(intent.domain_uuid)
    members = tuple(_member(d, old.member(d.address) if old else None) for d in (case.device, *case.mates))
    if old is None:
        return Record(
            uid=intent.uid,
            namespace=intent.namespace,
            name=intent.name,
            address=intent.address,
            domain_uuid=intent.domain_uuid,
            domain_name=guest.name if guest else intent.domain_name or "",
            managed=intent.managed,
            members=members,
        )
    known = {m.address for m in members}
    merged = (*members, *(m for m in old.members if m.address not in known))  # gone, or in another group by now
    return old if set(merged) == set(old.members) else old.with_members(merged)


def _member(device: PciDevice, recorded: Member | None) -> Member:
    if recorded and (recorded.driver is not None or not device.on_host_driver):
        return recorded
    if recorded:
        return replace(recorded, driver=device.driver)
    return Member(device.address, device.vendor, device.product, device.driver)


def plan_release(uid: str, host: Observation) -> Plan | Refusal:
    """What is left to do so that nothing of the assignment remains; a refusal says what it waits for.

    Whoever carries it out looks again after the removals from XML: a guest that was started meanwhile has the device.
    """
    record = host.records.get(uid)
    if refusal := _still_held(uid, record, host):
        return refusal
    actions: list[Action] = []
    for guest in host.guests:
        mine = our_hostdev(guest, guest.config, uid, record)
        if mine:
            actions.append(RemoveHostdev(guest.uuid, mine.address, mine.alias))
    if record:
        back = [m for m in reversed(record.members) if _is_to_be_returned(m, uid, host)]
        actions += [ReturnDriver(m.address, m.driver) for m in back]
        actions.append(DropRecord(uid))
    return Plan(tuple(actions))


def _is_to_be_returned(member: Member, uid: str, host: Observation) -> bool:
    """Whether the recorded device itself lacks its driver; one that another assignment has claimed since is not ours.

    A device without any driver counts as well: giving it back was begun, and ended in BindFailed or a crash.
    """
    device = host.devices.get(member.address)
    if device is None or (device.vendor, device.product) != (member.vendor, member.product):
        return False
    return (
        not device.on_host_driver
        and device.driver != member.driver
        and not _claimed_by_other(device.address, uid, host)
    )


def _claimed_by_other(address: PciAddress, uid: str, host: Observation) -> bool:
    return any(record.covers(address) for other, record in host.records.items() if other != uid)


def _still_held(uid: str, record: Record | None, host: Observation) -> Refusal | None:
    for address in sorted(host.blocked):
        if record and record.covers(address):
            return Refusal(
                reasons.DETACH_BLOCKED,
                f"a change of the driver of {address} has not returned: nothing is given back before it ends; look for"
                " what holds the device (dmesg, ps for processes in state D)",
            )
    for guest in host.guests:
        live = our_hostdev(guest, guest.live, uid, record)
        if live:
            return Refusal(
                reasons.GUEST_RUNNING,
                f"guest {guest.name} runs and holds {live.address}: it is given back when the guest is shut off"
                f" (virsh shutdown {guest.name})",
            )
        for hostdev in guest.live:
            if record and record.covers(hostdev.address) and not _claimed_by_other(hostdev.address, uid, host):
                return Refusal(
                    reasons.GROUP_IN_USE,
                    f"guest {guest.name} runs and holds {hostdev.address} of the claimed IOMMU group: the group is"
                    f" given back when the guest is shut off (virsh shutdown {guest.name})",
                )
    return None


def is_half_done(intent: Intent, host: Observation) -> bool:
    """Whether a claim was begun and the guest has not got the device: what a refusal undoes, for it may last."""
    guest = host.guest(intent.domain_uuid)
    return intent.uid in host.records and guest is not None and not guest.uses(intent.address)


def our_hostdev(guest: Guest, hostdevs: tuple[Hostdev, ...], uid: str, record: Record | None) -> Hostdev | None:
    """The assignment's own hostdev in a guest: by its alias, or by the record if the alias was edited away."""
    for hostdev in hostdevs:
        if hostdev.alias == ALIAS_PREFIX + uid:
            return hostdev
    if record and guest.uuid == record.domain_uuid:
        return next((h for h in hostdevs if h.address == record.address and not _is_anothers(h)), None)
    return None


def _is_anothers(hostdev: Hostdev) -> bool:
    """Whether it has an assignment's alias; asked after one's own."""
    return hostdev.alias is not None and hostdev.alias.startswith(ALIAS_PREFIX)


def inputs(intent: Intent, host: Observation) -> tuple[object, ...]:
    """Everything that an assignment's fate depends on; a failed one is not tried again while this is equal."""
    device = host.devices.get(intent.address)
    group = host.group_of(device) if device else ()
    addresses = {d.address for d in group}
    return (
        intent,
        group,
        host.guest(intent.domain_uuid),
        host.platform,
        tuple(g for g in host.guests if any(g.uses(a) for a in addresses)),
        tuple(u for u in host.uses if u.address in addresses),
        host.unknown_use,
        host.blocked & addresses,
    )
