"""Plans for claims: what to do on this host, as a pure function of wish, record and observation.

The same functions serve the agent, a dry run and the tests. A plan without actions says that host and persistent XML
stand as asked. How a claim is given back: release.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from . import reasons
from .actions import (
    Action,
    AddController,
    AddHostdev,
    DetachDriver,
    DropSavedImage,
    HostdevXml,
    NicXml,
    PlugHostdev,
    RemoveHostdev,
    UnplugHostdev,
    WriteRecord,
)
from .adoption import device_is_as_asked
from .checks import Case, Refusal, first_refusal, to_be_plugged
from .identity import find
from .intent import ASSIGN_ALL, AUTO, LIVE, REQUIRE_FREE, Goal, Intent, Wish, is_alias_of, is_anothers
from .model import Guest, Hostdev, Observation, PciDevice, is_vfio
from .nic import before, is_as, of_vf, to_configure, vf_inputs, wanted_nic
from .nic_checks import CHECKS, STANDING, SUBJECTS
from .pci import PciAddress
from .record import Member, Record
from .slot_checks import cannot_plug, growth
from .source import devices_meant


@dataclass(frozen=True)
class Plan:
    """Ordered actions, possibly none."""

    actions: tuple[Action, ...] = ()


G = TypeVar("G", bound=Goal)


@dataclass(frozen=True)
class Decision(Generic[G]):
    """What an assignment means here, and what is to be done for it; ``intent`` is None if no device is meant."""

    intent: G | None
    answer: Plan | Refusal


def decide(wish: Wish, host: Observation) -> Decision[Intent]:
    """Find the device, and plan for it. Of two assignments that could both begin, the older one does."""
    found = devices_meant(wish, host)
    if isinstance(found, Refusal):
        return Decision(None, found)
    decisions: list[Decision[Intent]] = []
    for device in found:
        intent = wish.intent(device.address)
        answer = plan_assign(intent, host)
        if isinstance(answer, Plan) and wish.uid not in host.records:
            answer = _elder(wish, intent, host) or answer
        if isinstance(answer, Plan):
            return Decision(intent, answer)
        decisions.append(Decision(intent, answer))
    first = decisions[0]
    if not isinstance(first.answer, Refusal):
        return first
    if len(decisions) == 1:
        return first if _is_chosen(wish, host) else Decision(None, first.answer)
    text = f"{len(decisions)} devices fit, and none can be had; the first: {first.answer.message}"
    return Decision(None, replace(first.answer, message=text))


def _is_chosen(wish: Wish, host: Observation) -> bool:
    """Whether it is certain which device is meant; with ``any: true`` only what was free is chosen."""
    match = wish.spec.source.match
    return match is None or not match.any or wish.seen is not None or wish.uid in host.records


def _elder(wish: Wish, intent: Intent, host: Observation) -> Refusal | None:
    """An older assignment that is about to claim the same group for somebody else."""
    mine = {d.address for d in host.group_of(host.devices[intent.address])}
    for elder in sorted(host.wishes, key=lambda w: w.rank):
        if elder.rank >= wish.rank or elder.uid in host.records:
            continue
        decision = host.decisions.get(elder.uid)
        if not isinstance(decision, Decision):
            decision = host.decisions[elder.uid] = decide(elder, host)
        other: Intent | None = decision.intent
        if other is None or isinstance(decision.answer, Refusal) or other.address not in mine:
            continue
        if other.domain_uuid is None or other.domain_uuid != intent.domain_uuid or other.address == intent.address:
            return Refusal(
                reasons.DEVICE_IN_USE if other.address == intent.address else reasons.GROUP_IN_USE,
                f"{host.devices[intent.address].label} waits for assignment {elder.owner}, which is older and wants"
                f" {other.address} of the same IOMMU group; delete one of the two",
            )
    return None


def plan_assign(intent: Intent, host: Observation) -> Plan | Refusal:
    """What is left to do so that the guest has the device in its persistent XML and the whole group is claimed."""
    case = Case(intent, host.records.get(intent.uid), host)
    if refusal := first_refusal(case, SUBJECTS):
        return refusal
    if intent.adopt:
        return _plan_adoption(case)
    actions = _assign_actions(case)
    return first_refusal(case, CHECKS if actions else STANDING) or Plan(actions)


def _plan_adoption(case: Case) -> Plan | Refusal:
    """Nothing but the record."""
    record = _record(case)
    if refusal := device_is_as_asked(case) or first_refusal(case, STANDING if case.record else CHECKS):
        return refusal
    return Plan((WriteRecord(record),) if record != case.record else ())


def _assign_actions(case: Case) -> tuple[Action, ...]:
    """In this order: once something is plugged or written into the XML, the whole group is held."""
    intent, guest = case.intent, case.guest
    actions: list[Action] = []
    record = _record(case)
    if record != case.record:
        actions.append(WriteRecord(record))
    actions += to_configure(intent, record, case.device, case.host)
    overrides = case.host.settings.overrides
    plugged, lent = _plugged(case)
    # a device that is being removed from the host loses its driver while a guest still holds it
    in_use = {h.address for g in case.host.guests for h in g.live}
    held = not_held(case.device, case.mates, record)
    held += tuple(d for d in plugged if not lent and not is_vfio(d.driver) and d not in held)
    actions += [
        DetachDriver(d.address, d.driver or "", d.identity, d.address in overrides)
        for d in held
        if d.driver is not None or d.address not in in_use
    ]
    if guest is None:
        return tuple(actions)
    wanted = {d.address: d for d in case.targets}
    ours = our_hostdevs(guest, guest.config, intent.uid, case.record)
    stale = [h for h in ours if h.address not in wanted]  # moved, or a mate that is gone
    actions += [RemoveHostdev(guest.uuid, h.address, h.alias) for h in stale]
    for d in plugged:
        actions.append(PlugHostdev(guest.uuid, _live_xml(case, d, lent=lent), d.identity, d.address in overrides))
    changed = [h for h in ours if h.address in wanted and _is_otherwise(case, h)]
    actions += [RemoveHostdev(guest.uuid, h.address, h.alias) for h in changed]
    actions += [AddController(guest.uuid, new, intent.controller_alias(new.index)) for new in growth(case).ours]
    has = {h.address for h in ours if h not in changed}
    actions += [AddHostdev(guest.uuid, _xml(case, d), d.identity) for a, d in wanted.items() if a not in has]
    return (*actions, *_plug_anew(case, lent=lent), *image_in_the_way(intent, guest))


def image_in_the_way(goal: Goal, guest: Guest) -> tuple[DropSavedImage, ...]:
    """savedImage: Drop. An image without the device would be resumed so. The last action, since nothing undoes it."""
    in_the_way = guest.saved is not None and not guest.saved.has(goal.alias, None)
    return (DropSavedImage(guest.uuid),) if goal.drops_image and in_the_way else ()


def nic_of(case: Case) -> NicXml | None:
    """The assigned VF as the guest's NIC; None if it is to be a plain device."""
    guest = case.guest
    if guest is None:
        return None
    return wanted_nic(case.intent, of_vf(guest.nics, case.intent), of_vf(guest.live_nics, case.intent))


def differs(case: Case, *, live: bool) -> bool:
    """Whether the guest has the assigned VF with another MAC, VLAN or profile than asked for, or not as a NIC.

    Of the persistent XML also whether a device is at another address of the guest.
    """
    guest, wanted = case.guest, nic_of(case)
    if guest is None:
        return False
    if not live and _is_elsewhere(case, guest):
        return True
    if wanted is None:
        return False
    there = any(h.address == case.intent.address for h in (guest.live if live else guest.config))
    return there and not is_as(of_vf(guest.live_nics if live else guest.nics, case.intent), wanted)


def _is_elsewhere(case: Case, guest: Guest) -> bool:
    """Whether the persistent XML has the device at another address of the guest than asked for."""
    intent, asked = case.intent, case.intent.guest_address
    return asked is not None and any(h.address == intent.address and h.guest_address != asked for h in guest.config)


def _is_otherwise(case: Case, ours: Hostdev) -> bool:
    """Whether it stands in the persistent XML otherwise than asked for."""
    if ours.managed != case.intent.managed:
        return True
    return ours.address == case.intent.address and differs(case, live=False)


def _plug_anew(case: Case, *, lent: bool) -> tuple[Action, ...]:
    """attach: Live. Libvirt cannot change a VF that a guest has: it is taken out and plugged in with what is asked for.

    Not a managed one while the guest has more of its group: unplugged, it would be the host's at once.
    """
    guest, device = case.guest, case.device
    if guest is None or case.intent.attach != LIVE or not differs(case, live=True):
        return ()
    has = next(h for h in guest.live if h.address == device.address)
    if has.managed and not lent:
        return ()
    overridden = device.address in case.host.settings.overrides
    return (
        UnplugHostdev(guest.uuid, has.address, has.alias),
        PlugHostdev(guest.uuid, _live_xml(case, device, lent=lent), device.identity, overridden),
    )


def _plugged(case: Case) -> tuple[tuple[PciDevice, ...], bool]:
    """What the running guest gets at once, and whether libvirt may move it between the drivers (managed).

    Not if the guest has more of the group: libvirt gives a managed device to the host as soon as it is unplugged, and
    when plugging it fails, which would split the group. Then we hold it.
    """
    wants = case.intent.attach == LIVE or (case.intent.attach == AUTO and cannot_plug(case) is None)
    plugged = to_be_plugged(case) if wants else ()
    mates = {m.address for m in case.mates}
    live = case.guest.live if case.guest else ()
    return plugged, len(case.targets) == 1 and not any(h.address in mates for h in live)


def _xml(case: Case, device: PciDevice) -> HostdevXml:
    """As it stands in the persistent XML."""
    intent = case.intent
    assigned = device.address == intent.address
    place, nic = intent.guest_address if assigned else None, nic_of(case) if assigned else None
    if nic is not None and place is not None:
        nic = replace(nic, guest_address=place, multifunction=intent.multifunction)
    return HostdevXml(
        device.address,
        intent.alias_of(device.address),
        intent.managed,
        intent.driver,
        unassigned=intent.unassigned_mates and not assigned,
        nic=nic,
        guest_address=place,
        multifunction=place is not None and intent.multifunction,
    )


def _live_xml(case: Case, device: PciDevice, *, lent: bool) -> HostdevXml:
    """As the running guest gets it; a NIC that it had comes back to the place where it was."""
    xml = _xml(case, device)
    if xml.nic is not None and xml.guest_address is None and case.guest is not None:
        has = of_vf(case.guest.live_nics, case.intent)
        xml = replace(xml, nic=replace(xml.nic, guest_address=has.guest_address if has else None))
    return xml if lent else replace(xml, managed=False)


def not_held(device: PciDevice, mates: tuple[PciDevice, ...], record: Record) -> tuple[PciDevice, ...]:
    """The endpoints that a claim must still move to vfio-pci.

    A mate that never had a driver is left alone, unless an unmanaged guest gets it: it does not hinder VFIO. One that
    lost its driver, as when libvirtd was killed between unbinding and binding, is not: nothing keeps the host from
    taking it again.
    """
    given = record.group_policy == ASSIGN_ALL and not record.managed

    def needs_vfio(mate: PciDevice) -> bool:
        member = record.member(mate.address)
        return mate.driver is None and (given or (member is not None and member.driver is not None))

    if record.group_policy == REQUIRE_FREE:
        mates = ()
    loose = [m for m in mates if m.on_host_driver or needs_vfio(m)]
    if not record.managed and not is_vfio(device.driver):
        loose.append(device)
    return tuple(loose)


def _record(case: Case) -> Record:
    """The record as it must stand before anything is changed.

    A driver that was recorded once stays; an endpoint that had none and has one now gets that one back. Of what is
    adopted neither mates nor settings of a VF are changed.
    """
    intent, old = case.intent, case.record
    members = tuple(_member(d, case) for d in (case.device, *(() if intent.adopt else case.mates)))
    vf = (old.vf if old else None) if intent.adopt else before(intent, old, case.device, case.host)
    if old is None:
        return Record(
            uid=intent.uid,
            namespace=intent.namespace,
            name=intent.name,
            address=intent.address,
            domain_uuid=intent.domain_uuid,
            domain_name=case.guest.name if case.guest else intent.domain_name,
            managed=intent.managed,
            group_policy=intent.group_policy,
            members=members,
            vf=vf,
            adopted=intent.adopt,
        )
    # what is gone, or in another group by now, and has not merely another address
    rest = tuple(m for m in old.members if not any(m.identity.same(n.identity) for n in members))
    merged = (*members, *(m for m in rest if all(m.address != n.address for n in members)))
    unchanged = old.address == intent.address and set(merged) == set(old.members) and vf == old.vf
    return old if unchanged else replace(old.changed(intent.address, merged), vf=vf)


def _member(device: PciDevice, case: Case) -> Member:
    """By fingerprint: it may have another address than before."""
    known = find(device.identity, case.record.members) if case.record else ()
    recorded = next((m for m in known if m.address == device.address), None) or next(iter(known), None)
    if recorded is None:
        driver = _driver_before_others(device, case)
        return Member(device.address, device.identity, driver)
    moved = recorded if recorded.address == device.address else replace(recorded, address=device.address)
    if moved.driver is not None or not device.on_host_driver:
        return moved
    return replace(moved, driver=device.driver)


def _driver_before_others(device: PciDevice, case: Case) -> str | None:
    """What it had before another assignment of the same guest claimed the group, else what it has."""
    for _, record in sorted(case.host.records.items()):
        member = record.member(device.address)
        if member and member.identity.same(device.identity):
            return member.driver
    lent = (h.managed and h.address == device.address for guest in case.host.guests for h in guest.live)
    if is_vfio(device.driver) and any(lent):
        return None  # libvirt alone knows which driver it had before the guest ran; the kernel will choose
    return device.driver


def is_half_done(intent: Intent, host: Observation, plugged: frozenset[PciAddress] = frozenset()) -> bool:
    """Whether a claim was begun and the guest has got nothing of it: what a refusal undoes, for it may last.

    ``plugged``: what this very run has plugged into the running guest does not count.
    """
    record = host.records.get(intent.uid)
    if record is None or host.settings.paused or intent.adopt:
        return False
    if intent.domain_uuid is None:
        device = host.devices.get(intent.address)
        return device is not None and bool(not_held(device, host.mates(device), record))
    guest = host.guest(intent.domain_uuid)
    if guest is None:
        return False
    has = (*guest.config, *(h for h in guest.live if h.address not in plugged))
    return not our_hostdevs(guest, has, intent.uid, record)


def our_hostdevs(guest: Guest, hostdevs: tuple[Hostdev, ...], uid: str, record: Record | None) -> tuple[Hostdev, ...]:
    """The assignment's own hostdevs in a guest: by alias, or by the record if the device's alias was edited away.

    A mate without our alias is somebody else's: he may have given it to the same guest by hand. An adopted one may have
    the alias of an assignment that was deleted and has left it.
    """

    def is_ours(hostdev: Hostdev) -> bool:
        if is_alias_of(hostdev.alias, uid):
            return True
        if record is None or guest.uuid != record.domain_uuid or hostdev.address != record.address:
            return False
        return record.adopted or not is_anothers(hostdev.alias)

    return tuple(h for h in hostdevs if is_ours(h))


def inputs(intent: Intent, host: Observation) -> tuple[object, ...]:
    """Everything that an assignment's fate depends on; a failed one is not tried again while this is equal."""
    device = host.devices.get(intent.address)
    group = host.group_of(device) if device else ()
    addresses = {d.address for d in group}
    return (
        intent,
        group,
        host.guest(intent.domain_uuid) if intent.domain_uuid else None,
        host.platform,
        host.settings,
        tuple(g for g in host.guests if any(g.uses(a) for a in addresses)),
        tuple(u for u in host.uses if u.address in addresses),
        host.unknown_use,
        host.blocked & addresses,
        vf_inputs(intent.address, host) if intent.nic else (),
    )
