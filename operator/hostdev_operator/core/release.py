"""Plans for giving back: what is left to do so that nothing of an assignment remains on this host."""

from __future__ import annotations

from dataclasses import dataclass

from . import reasons
from .actions import (
    Action,
    DropRecord,
    DropSavedImage,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    ReturnDriver,
    UnplugHostdev,
    UnplugInterface,
    WriteRecord,
)
from .checks import Refusal
from .intent import ALIAS_PREFIX, DROP, LIVE, REQUIRE_FREE, SeenNic, Wish, is_alias_of
from .model import Guest, Hostdev, Nic, Observation, PciDevice, is_vfio
from .nic import pf_of, to_restore, vf_inputs
from .pci import PciAddress
from .plan import Plan, our_hostdevs
from .record import Member, Record
from .saved_reasons import GUEST_SAVED
from .topology import NewController


@dataclass(frozen=True)
class AdoptedNic:
    """A NIC of a pool that has no alias of ours: the guest (UUID) that has it, its network and its MAC address."""

    domain_uuid: str
    nic: SeenNic

    @classmethod
    def of(cls, wish: Wish) -> AdoptedNic | None:
        """What the assignment has adopted; None if that is no NIC of a pool."""
        return cls(wish.domain_uuid, wish.nic_seen) if wish.nic_seen and wish.domain_uuid else None

    def among(self, guest: Guest, nics: tuple[Nic, ...]) -> list[Nic]:
        """The NIC, in the guest's live or persistent XML."""
        if guest.uuid != self.domain_uuid:
            return []
        return [n for n in nics if n.network is not None and SeenNic(n.network, n.mac or "") == self.nic]


def plan_keep(uid: str, host: Observation) -> Plan | Refusal:
    """ReleasePolicy Keep: guest, drivers and settings stay as they are, and are nobody's any more."""
    record = host.records.get(uid)
    if record is None:
        return Plan()
    return _blocked(record, host) or _paused(host) or Plan((DropRecord(uid),))


def _paused(host: Observation) -> Refusal | None:
    if not host.settings.paused:
        return None
    text = "nothing is given back: the node is paused; set spec.paused of its DeviceHost to false"
    return Refusal(reasons.PAUSED, text)


@dataclass(frozen=True)
class Manner:
    """How an assignment is given back.

    ``live``: a running guest is asked to let go of it. ``drops_image``: a managed save image that has it is dropped.
    ``adopted``: a NIC of a pool has no record, and is found by our alias, in whatever guest it is; or by this.
    """

    live: bool = False
    drops_image: bool = False
    adopted: AdoptedNic | None = None

    @classmethod
    def of(cls, wish: Wish) -> Manner:
        """As spec asks for it."""
        return cls(wish.spec.detach == LIVE, wish.spec.saved_image == DROP, AdoptedNic.of(wish))


#: A guest keeps what it has, running or saved.
PATIENTLY = Manner()


def plan_release(uid: str, host: Observation, manner: Manner = PATIENTLY) -> Plan | Refusal:
    """What is left to do; a refusal says what it waits for.

    Whoever carries it out looks again after the unplugs, and after the removals from XML: a guest that was started
    meanwhile has the device.
    """
    record = host.records.get(uid)
    adopted = manner.adopted
    if refusal := _blocked(record, host) or _still_held(uid, record, host, manner):
        return refusal
    actions: list[Action] = []
    for guest in host.guests:
        nics = _pool_nics(guest, guest.live_nics, uid, record, adopted)
        actions += [UnplugInterface(guest.uuid, n.alias, n.address, None if n.alias else n.mac) for n in nics]
        actions += [
            UnplugHostdev(guest.uuid, h.address, h.alias) for h in _others(guest, guest.live, nics, uid, record)
        ]
    for guest in host.guests:
        nics = _pool_nics(guest, guest.nics, uid, record, adopted)
        actions += [RemoveInterface(guest.uuid, n.alias, None if n.alias else n.mac) for n in nics]
        held = _others(guest, guest.config, nics, uid, record)
        actions += [RemoveHostdev(guest.uuid, h.address, h.alias) for h in held]
        actions += [DropSavedImage(guest.uuid)] if _saved_with(guest, uid, record, adopted) else []
    for guest in host.guests:
        actions += _unneeded(guest, uid)
    if record:
        actions += to_restore(record, host)
        members = _to_be_returned(record, host)
        heirs = _heirs(members, record, host)
        for other, left in heirs.items():
            old = host.records[other]
            actions.append(WriteRecord(old.changed(old.address, (*old.members, *left))))
        inherited = {m for left in heirs.values() for m in left}
        actions += [
            ReturnDriver(m.address, _driver_back(m, host.devices[m.address], host), m.identity)
            for m in members
            if m not in inherited
        ]
        actions.append(DropRecord(uid))
    return (_paused(host) if actions else None) or Plan(tuple(actions))


def _unneeded(guest: Guest, uid: str) -> list[RemoveController]:
    """The PCI controllers that were added for the assignment, once its devices are out of them."""
    ours = frozenset(b.alias for b in guest.topology.buses if b.alias and is_alias_of(b.alias, uid))
    devices = (p.alias for p in guest.topology.places if p.alias and is_alias_of(p.alias, uid) and p.alias not in ours)
    left = guest.topology.without(frozenset(devices))
    return [RemoveController(guest.uuid, NewController(b.index, b.model), b.alias or "") for b in left.to_remove(ours)]


def _pool_nics(
    guest: Guest, nics: tuple[Nic, ...], uid: str, record: Record | None, adopted: AdoptedNic | None
) -> list[Nic]:
    """Those with our alias that no record knows. What the VF of a running guest's NIC is, libvirt alone decides."""
    ours = {n.alias: n for n in nics if n.alias == ALIAS_PREFIX + uid}
    found = [n for n in ours.values() if record is None or n.address is None or not record.covers(n.address)]
    return found + (adopted.among(guest, nics) if adopted else [])


def _others(
    guest: Guest, hostdevs: tuple[Hostdev, ...], nics: list[Nic], uid: str, record: Record | None
) -> list[Hostdev]:
    """Our hostdevs, those aside that are NICs of pools."""
    names = {n.alias for n in nics}
    return [h for h in our_hostdevs(guest, hostdevs, uid, record) if h.alias not in names]


def _to_be_returned(record: Record, host: Observation) -> list[Member]:
    """In reverse order. With RequireFree a mate that had no driver was never touched, whatever it has now."""
    free = record.group_policy == REQUIRE_FREE
    touched = (m for m in reversed(record.members) if m.address == record.address or m.driver is not None or not free)
    return [m for m in touched if not _is_libvirts(m, record) and _is_to_be_returned(m, record.uid, host)]


def _is_libvirts(member: Member, record: Record) -> bool:
    """A managed device that was adopted while its guest ran: libvirt alone knows what it had, and gives that back."""
    return record.adopted and record.managed and member.address == record.address and member.driver is None


def _is_to_be_returned(member: Member, uid: str, host: Observation) -> bool:
    """Whether the recorded device itself lacks its driver; one that another assignment has claimed since is not ours.

    A device without any driver counts as well: giving it back was begun, and ended in BindFailed or a crash.
    """
    device = host.devices.get(member.address)
    if device is None or not member.identity.same(device.identity):
        return False
    return (
        not device.on_host_driver
        and device.driver != _driver_back(member, device, host)
        and not _claimed_by_other(device.address, uid, host)
    )


def _driver_back(member: Member, device: PciDevice, host: Observation) -> str | None:
    """What the host binds when it gets the device back.

    The kernel binds no driver to a VF whose PF has sriov_drivers_autoprobe 0 by now, as a pool's has that came later.
    One that was on vfio-pci before stays there.
    """
    pf = pf_of(device, host)
    unbound = pf is not None and pf.autoprobe is False and not is_vfio(member.driver)
    return None if unbound else member.driver


def _claimed_by_other(address: PciAddress, uid: str, host: Observation) -> bool:
    return any(record.covers(address) for other, record in host.records.items() if other != uid)


def _blocked(record: Record | None, host: Observation) -> Refusal | None:
    for address in sorted(host.blocked):
        if record and record.covers(address):
            return Refusal(
                reasons.DETACH_BLOCKED,
                f"a change of {address} has not returned: nothing is given back before it ends; look for"
                " what holds the device (dmesg, ps for processes in state D)",
            )
    return None


def _heirs(members: list[Member], record: Record, host: Observation) -> dict[str, tuple[Member, ...]]:
    """UID of another assignment of the group -> the endpoints that it has not recorded yet.

    Given back now, they would split its group: they are left to it, together with the knowledge of their drivers.
    """
    left: dict[str, tuple[Member, ...]] = {}
    for member in members:
        group = host.group_of(host.devices[member.address])
        for uid, other in sorted(host.records.items()):
            if uid != record.uid and any(other.covers(d.address) for d in group):
                left[uid] = (*left.get(uid, ()), member)
                break
    return left


def _still_held(uid: str, record: Record | None, host: Observation, manner: Manner) -> Refusal | None:
    claimed = _claimed(record, host)
    for guest in host.guests:
        ours = our_hostdevs(guest, guest.live, uid, record)
        for hostdev in ours:
            if not manner.live:
                return Refusal(
                    reasons.GUEST_RUNNING,
                    f"guest {guest.name} runs and holds {hostdev.address}: it is given back when the guest is shut off"
                    f" (virsh shutdown {guest.name}); or set spec.detach to Live",
                )
            if refusal := _would_split(hostdev, guest, host):
                return refusal
        if not manner.drops_image and (things := _saved_with(guest, uid, record, manner.adopted)):
            return _is_saved(guest, things)
        if not manner.live and _pool_nics(guest, guest.live_nics, uid, record, manner.adopted):
            return Refusal(
                reasons.GUEST_RUNNING,
                f"guest {guest.name} runs with a NIC of the assignment: it is taken out when the guest is shut off"
                f" (virsh shutdown {guest.name}); or set spec.detach to Live",
            )
        for hostdev in guest.live:
            mine = hostdev in ours or _claimed_by_other(hostdev.address, uid, host)
            if hostdev.address in claimed and not mine:
                return Refusal(
                    reasons.GROUP_IN_USE,
                    f"guest {guest.name} runs and holds {hostdev.address} of the claimed IOMMU group: the group is"
                    f" given back when the guest is shut off (virsh shutdown {guest.name})",
                )
    return None


def _saved_with(guest: Guest, uid: str, record: Record | None, adopted: AdoptedNic | None) -> list[str]:
    """What of the assignment is in the guest's managed save image, in words."""
    saved = guest.saved
    if saved is None:
        return []
    devices = [str(h.address) for h in our_hostdevs(guest, saved.hostdevs, uid, record)]
    return devices or ["a NIC of the assignment"] * bool(_pool_nics(guest, saved.nics, uid, record, adopted))


def _is_saved(guest: Guest, things: list[str]) -> Refusal:
    return Refusal(
        GUEST_SAVED,
        f"guest {guest.name} is saved with {', '.join(things)}: its next start would resume it so, whatever its XML"
        f" says; start it and shut it down, or drop what it had in memory: spec.savedImage: Drop, or virsh"
        f" managedsave-remove {guest.name}",
    )


def _claimed(record: Record | None, host: Observation) -> frozenset[PciAddress]:
    """What the record holds, and whatever is in those groups by now."""
    members = {m.address: m for m in record.members} if record else {}
    there = [d for a, m in members.items() if (d := host.devices.get(a)) and m.identity.same(d.identity)]
    own = {record.address} if record else set()
    return frozenset(members) | own | {mate.address for d in there for mate in host.group_of(d)}


def _would_split(hostdev: Hostdev, guest: Guest, host: Observation) -> Refusal | None:
    """Libvirt gives a managed device to the host once it is unplugged: not while the guest has one of its group."""
    device = host.devices.get(hostdev.address)
    if device is None or not hostdev.managed:
        return None
    pf = pf_of(device, host)
    if pf is not None and pf.autoprobe is False:
        return None  # no driver of the host is bound to it
    mates = {m.address for m in host.mates(device)}
    other = next((h for h in guest.live if h.address in mates), None)
    if other is None:
        return None
    return Refusal(
        reasons.GROUP_IN_USE,
        f"{device.label} is not unplugged while running guest {guest.name} holds {other.address} of the same IOMMU"
        f" group: it is managed, so libvirt would give it to the host at once; shut the guest off (virsh shutdown"
        f" {guest.name}). Only an assignment made with managed: false can be unplugged one device after the other",
    )


def withdrawal(uid: str, host: Observation) -> Plan:
    """Our hostdevs in persistent XML whose address holds another device now: the guest's next start would take it.

    That is so as well if the record knows nothing of the address any more, since the device was followed elsewhere.
    """
    record = host.records.get(uid)
    if record is None or host.settings.paused:
        return Plan()
    actions: list[Action] = []
    for guest in host.guests:
        for hostdev in our_hostdevs(guest, guest.config, uid, record):
            member, device = record.member(hostdev.address), host.devices.get(hostdev.address)
            if device and not (member and member.identity.same(device.identity)):
                actions.append(RemoveHostdev(guest.uuid, hostdev.address, hostdev.alias))
    return Plan(tuple(actions))


def release_inputs(wish: Wish, host: Observation) -> tuple[object, ...]:
    """Everything that a release depends on; a failed one is not tried again while this is equal."""
    record = host.records.get(wish.uid)
    addresses = {m.address for m in record.members} if record else set()
    return (
        "release",
        wish.generation,
        record,
        tuple(host.devices.get(a) for a in sorted(addresses)),
        tuple(g for g in host.guests if _concerns(g, wish, record) or any(g.uses(a) for a in addresses)),
        host.blocked & addresses,
        host.settings.paused,
        vf_inputs(record.address, host) if record and record.vf else (),
    )


def _concerns(guest: Guest, wish: Wish, record: Record | None) -> bool:
    saved = guest.saved.nics if guest.saved else ()
    nics = _pool_nics(guest, (*guest.nics, *saved, *guest.live_nics), wish.uid, record, AdoptedNic.of(wish))
    return bool(nics or our_hostdevs(guest, guest.hostdevs, wish.uid, record))


def refused_unplug(guest: str, device: object) -> str:
    """What is said of a guest that has refused, whether we still waited for its answer or not."""
    return (
        f"guest {guest} refuses to let go of {device}; end its use in the guest and change spec.detach to ask again, or"
        f" shut the guest off (virsh shutdown {guest})"
    )


def rejected(wish: Wish, host: Observation) -> str | None:
    """The guest that has refused to let go of a device of the assignment."""
    record = host.records.get(wish.uid)
    for guest in host.guests:
        if any((guest.uuid, h.alias) in host.rejections for h in our_hostdevs(guest, guest.live, wish.uid, record)):
            return guest.name
    return None
