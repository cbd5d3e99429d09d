"""The agent's part of a DeviceAssignment's status, computed once, at the end, from what is there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..api.common import Condition
from ..api.deviceassignment import (
    DeviceAssignmentStatus,
    DeviceStatus,
    GuestStatus,
    IommuGroupStatus,
    MemberStatus,
)
from ..api.network import NicStatus
from . import reasons
from .actions import NicXml
from .adoption_status import group_left
from .checks import Case, Refusal, is_overridden, to_be_plugged
from .conditions import ACCEPTED, ATTACHED, CONFIGURED, GROUP_READY, PLANNED, READY, condition
from .intent import ALIAS_PREFIX, LIVE, NEXT_BOOT, Intent, Seen, Wish
from .model import Guest, Nic, Observation, PciDevice, Role, Saved
from .nic import of_vf, words
from .plan import differs, nic_of, not_held, our_hostdevs
from .published import record_status, seen_status
from .reasons import Retry
from .record import Record
from .saved_reasons import GUEST_SAVED
from .slot_checks import cannot_plug
from .source import last_seen

#: The reason of a condition that nobody worked on, since a check refused: the refusal itself is said once, by Planned.
NOT_TRIED = "NotTried"


@dataclass(frozen=True)
class Outcome:
    """How a run ended; none set means that everything stands as asked.

    ``refused``: a check said no, or something is waited for: nothing was changed. ``failed``: an action failed;
    what this run did was rolled back if ``rolled_back``; ``undo`` says why a rollback did not end. ``not_plugged``: all
    is well but that the running guest could not take the device, which ``attach: Auto`` allows.
    """

    refused: Refusal | None = None
    failed: Refusal | None = None
    rolled_back: bool = False
    not_plugged: Refusal | None = None
    undo: Refusal | None = None

    @property
    def heals_with_time(self) -> bool:
        """Whether trying again makes sense although nothing has changed."""
        cause, undo = self.trouble or self.not_plugged, self.undo
        return (cause is not None and cause.reason.retry is Retry.BACKOFF) or (
            undo is not None and undo.reason.retry in (Retry.BACKOFF, Retry.SOON)
        )

    @property
    def trouble(self) -> Refusal | None:
        """Whatever stands in the way."""
        return self.refused or self.failed


class View(ABC):
    """What the conditions are computed from, of either kind of assignment."""

    def __init__(self, wish: Wish, host: Observation, outcome: Outcome) -> None:
        self.wish = wish
        self.host = host
        self.outcome = outcome

    @property
    def guest(self) -> Guest | None:
        """The guest, if it is there."""
        return self.host.guest(self.wish.domain_uuid) if self.wish.domain_uuid else None

    @property
    def guest_name(self) -> str:
        """How messages name the guest."""
        if self.guest:
            return self.guest.name
        return (self.wish.spec.domain and self.wish.spec.domain.name) or self.wish.domain_uuid or ""

    @property
    @abstractmethod
    def name(self) -> str:
        """How messages name what the guest gets."""

    @abstractmethod
    def missing(self, *, live: bool) -> bool:
        """Whether the guest's live or persistent XML lacks something that it is to have."""

    @abstractmethod
    def pending(self) -> str | None:
        """What the running guest will have otherwise at its next boot; None if it has all of it as asked."""

    @abstractmethod
    def cannot_plug(self) -> Refusal | None:
        """Why the running guest cannot be given it now; None if nothing speaks against it."""

    @abstractmethod
    def cannot_start(self) -> Refusal | None:
        """Why the guest's next start will fail, as things are; None if nothing speaks against it."""

    @property
    def is_saved(self) -> bool:
        """Whether the guest's managed save image has it."""
        saved = self.guest.saved if self.guest else None
        return saved is not None and saved.has(self.alias, None)

    @property
    def must_be_live(self) -> bool:
        """Whether it is not ready before the running guest has it."""
        return self.wish.attach == LIVE and self.guest is not None and self.guest.active

    @property
    @abstractmethod
    def alias(self) -> str | None:
        """Of the element in the guest's XML."""


class _DeviceView(View):
    """``intent`` is None if it cannot be told which device is meant."""

    def __init__(self, wish: Wish, intent: Intent | None, host: Observation, outcome: Outcome) -> None:
        super().__init__(wish, host, outcome)
        self.intent = intent

    @property
    def record(self) -> Record | None:
        return self.host.records.get(self.wish.uid)

    @property
    def device(self) -> PciDevice | None:
        return self.host.devices.get(self.intent.address) if self.intent else None

    @property
    def case(self) -> Case | None:
        """What the checks look at, if the device is there."""
        return Case(self.intent, self.record, self.host) if self.intent and self.device else None

    @property
    def name(self) -> str:
        if self.intent:
            return str(self.intent.address)
        return str(self.record.address) if self.record else "the device"

    def missing(self, *, live: bool) -> bool:
        guest, case = self.guest, self.case
        if guest is None:
            return True
        if case is None:
            return not our_hostdevs(guest, guest.live if live else guest.config, self.wish.uid, self.record)
        if live:
            return bool(to_be_plugged(case))
        ours = {h.address for h in our_hostdevs(guest, guest.config, self.wish.uid, self.record)}
        return differs(case, live=False) or any(d.address not in ours for d in case.targets)

    def pending(self) -> str | None:
        case, guest = self.case, self.guest
        if case is None or guest is None or not differs(case, live=True):
            return None
        wanted = nic_of(case)
        return other_nic(guest, of_vf(guest.live_nics, case.intent), wanted, wanted.vlan) if wanted else None

    def cannot_plug(self) -> Refusal | None:
        return cannot_plug(self.case) if self.case else None

    def cannot_start(self) -> Refusal | None:
        return None

    @property
    def alias(self) -> str | None:
        record, guest = self.record, self.guest
        if not (record and record.adopted and guest):
            return ALIAS_PREFIX + self.wish.uid
        return next((h.alias for h in our_hostdevs(guest, (*guest.config, *guest.live), record.uid, record)), None)


def other_nic(guest: Guest, has: Nic | None, wanted: NicXml, vlan: int | None) -> str:
    """What a running guest's NIC is, and what it will be."""
    now = words(has.mac, has.vlan, has.profile) if has else "it as a plain device"
    return (
        f"guest {guest.name} runs with {now}; it gets {words(wanted.mac, vlan, wanted.profile)} at its next boot: shut"
        " it down and start it, or set spec.attach to Live, which interrupts its network"
    )


def assignment_status(wish: Wish, intent: Intent | None, host: Observation, outcome: Outcome) -> DeviceAssignmentStatus:
    """The status without node, guest UUID and times: those are stamped by whoever writes it."""
    view = _DeviceView(wish, intent, host, outcome)
    device, record = view.device, view.record
    seen = _seen(view)
    return DeviceAssignmentStatus(
        device=device_status(device) if device else None,
        identity=seen_status(seen) if seen else None,
        iommu_group=_group(device, host, record) if device else None,
        record=record_status(record) if record else None,
        guest=guest_status(view, _has(view, live=False), _has(view, live=True)),
        network=_network(view),
        conditions=_conditions(view),
    )


def _has(view: _DeviceView, *, live: bool) -> bool:
    guest = view.guest
    found = (guest.live if live else guest.config) if guest else ()
    return guest is not None and bool(our_hostdevs(guest, found, view.wish.uid, view.record))


def _network(view: _DeviceView) -> NicStatus | None:
    """The NIC that the guest has, or gets; absent while the guest has nothing."""
    nic = nic_of(view.case) if view.case else None
    if nic is None or not (_has(view, live=False) or _has(view, live=True)):
        return None
    return NicStatus(mac=nic.mac, vlan=nic.vlan, pending=view.pending() is not None)


def _seen(view: _DeviceView) -> Seen | None:
    """The fingerprint as it was first seen, and where the device is now."""
    device, known = view.device, last_seen(view.wish, view.record)
    if device is None:
        return known
    return Seen(device.address, known.identity if known else device.identity)


def _conditions(view: _DeviceView) -> tuple[Condition, ...]:
    parts = (_planned(view), _group_ready(view))
    if view.wish.domain_uuid is None:
        return (*parts, ready(view, parts, "Reserved", f"{view.name} is reserved: its IOMMU group is held for nobody"))
    done = f"{view.name} is assigned to guest {view.guest_name} and its IOMMU group is claimed"
    if view.wish.spec.adopt:
        done = f"{view.name} is in the XML of guest {view.guest_name} as asked, and was left as it is"
    return conditions_of_guest(view, parts, done)


def conditions_of_guest(view: View, parts: tuple[Condition, ...], done: str) -> tuple[Condition, ...]:
    """The conditions, after those that are about the host (``parts``); ``done``: what Ready says if all is well."""
    parts = (*parts, _configured(view))
    attached = _attached(view)
    wanted = (*parts, attached) if view.must_be_live else parts
    return (*parts, attached, ready(view, wanted, "Adopted" if view.wish.spec.adopt else "Assigned", done))


def _planned(view: _DeviceView) -> Condition:
    refused = view.outcome.refused
    if refused:
        return condition(PLANNED, False, refused.reason, refused.message)
    if view.device is None:
        return condition(PLANNED, True, "ChecksPassed", "every check passed")
    host = view.host
    mine = {view.device.address, *(m.address for m in host.mates(view.device))}
    lifted = [u for u in host.uses if u.address in mine and is_overridden(u, host)]
    if lifted:
        words = "; ".join(f"{u.address} {u.what}, overridden: {host.settings.overrides[u.address]}" for u in lifted)
        return condition(PLANNED, True, "CriticalOverride", f"every other check passed; {words}")
    if not view.device.express and any(m.role is Role.BRIDGE for m in host.group_of(view.device)):
        text = (
            f"every check passed; {view.device.address} is a conventional PCI device: it shares its bus, and so its"
            " IOMMU group, with every device behind the same bridge; prefer a PCI Express device"
        )
        return condition(PLANNED, True, "ConventionalPCI", text)
    return condition(PLANNED, True, "ChecksPassed", "every check passed")


def _group_ready(view: _DeviceView) -> Condition:
    record, device, outcome = view.record, view.device, view.outcome
    if record and device:
        if view.wish.spec.adopt:
            return group_left(device, record, view.host, view.guest_name)
        mates = view.host.mates(device)
        if not not_held(device, mates, record):
            text = f"IOMMU group {device.iommu_group} is claimed: {len(mates)} mate(s) of {device.address} held"
            return condition(GROUP_READY, True, "Claimed", text)
    if outcome.refused:
        return condition(GROUP_READY, False, NOT_TRIED, "a check refused: see Planned")
    if outcome.failed:
        undone = "; everything that was done before it was undone" if outcome.rolled_back else ""
        return condition(GROUP_READY, False, outcome.failed.reason, outcome.failed.message + undone)
    return condition(GROUP_READY, False, "NotClaimed", f"the IOMMU group of {view.name} is not claimed")


def _configured(view: View) -> Condition:
    outcome = view.outcome
    if not view.missing(live=False):
        text = f"{view.name} is in the persistent XML of guest {view.guest_name}"
        return condition(CONFIGURED, True, "InPersistentXML", text)
    if outcome.refused:
        return condition(CONFIGURED, False, NOT_TRIED, "a check refused: see Planned")
    if outcome.failed:
        return condition(CONFIGURED, False, outcome.failed.reason, outcome.failed.message)
    text = f"{view.name} is not in the persistent XML of guest {view.guest_name}"
    return condition(CONFIGURED, False, "NotConfigured", text)


def _attached(view: View) -> Condition:
    guest = view.guest
    if guest is None:
        return condition(
            ATTACHED,
            False,
            "GuestNotFound",
            f"guest {view.wish.domain_uuid}, for which {view.name} is meant, is not defined here; define it again, or"
            " delete the assignment",
        )
    if not guest.active:
        return _attached_off(view, guest)
    trouble = view.outcome.not_plugged or (view.outcome.trouble if view.wish.attach == LIVE else None)
    return _attached_without(view, guest, trouble) if view.missing(live=True) else _attached_with(view, guest, trouble)


def _attached_with(view: View, guest: Guest, trouble: Refusal | None) -> Condition:
    pending = view.pending()
    if pending is None:
        return condition(ATTACHED, True, "InLiveXML", f"guest {guest.name} runs with {view.name}")
    if trouble is None:
        return condition(ATTACHED, False, reasons.NETWORK_PENDING, pending)
    return condition(ATTACHED, False, trouble.reason, f"{trouble.message}; {pending}")


def _attached_without(view: View, guest: Guest, trouble: Refusal | None) -> Condition:
    later = f"guest {guest.name} runs without {view.name}; it gets it at its next boot: shut it down and start it"
    if trouble:
        soon = trouble.reason.retry is Retry.BACKOFF
        return condition(ATTACHED, False, trouble.reason, trouble.message if soon else f"{trouble.message}; {later}")
    lack = view.cannot_plug() if view.wish.attach != NEXT_BOOT else None
    if lack:
        return condition(ATTACHED, False, lack.reason, f"{later}; it cannot be plugged in: {lack.message}")
    return condition(ATTACHED, False, "PendingGuestRestart", later)


def _attached_off(view: View, guest: Guest) -> Condition:
    if view.missing(live=False):
        return condition(ATTACHED, False, "GuestShutOff", f"guest {guest.name} is shut off")
    fails = view.cannot_start()
    if fails:
        text = f"guest {guest.name} is shut off, and its next start will fail: {fails.message}"
        return condition(ATTACHED, False, fails.reason, text)
    if guest.saved and not view.is_saved:
        return condition(ATTACHED, False, GUEST_SAVED, _resumed_without(view, guest, guest.saved))
    saved = "saved with it" if guest.saved else "shut off"
    text = f"guest {guest.name} is {saved}; it gets {view.name} at its next start"
    return condition(ATTACHED, False, "GuestShutOff", text)


def _resumed_without(view: View, guest: Guest, saved: Saved) -> str:
    what = f"as it was, without {view.name}" if saved.known else f"as it was; whether with {view.name} cannot be read"
    then = " plugged in, if it can be," if view.wish.attach != NEXT_BOOT else ""
    return (
        f"guest {guest.name} is saved: its next start resumes it {what}, which is{then} else there when it is shut down"
        f" and started again; or drop what it had in memory: spec.savedImage: Drop, or virsh managedsave-remove"
        f" {guest.name}"
    )


def ready(view: View, wanted: tuple[Condition, ...], reason: str, done: str) -> Condition:
    """Whether host and guest stand as asked; else the first thing that is in the way."""
    trouble = view.outcome.trouble
    if trouble:
        return condition(READY, False, trouble.reason, trouble.message)
    missing = next((c for c in wanted if c.status != "True"), None)
    if missing:
        return condition(READY, False, missing.reason, missing.message)
    return condition(READY, True, reason, done)


def device_status(device: PciDevice) -> DeviceStatus:
    """The device as it is."""
    return DeviceStatus(
        address=str(device.address),
        name=device.address.libvirt_name,
        vendor_id=f"0x{device.vendor:04x}",
        product_id=f"0x{device.product:04x}",
        driver=device.driver,
    )


def _group(device: PciDevice, host: Observation, record: Record | None) -> IommuGroupStatus | None:
    if device.iommu_group is None:
        return None
    targets = record.targets if record else {device.address}

    def role(member: PciDevice) -> str:
        if member.role is not Role.ENDPOINT:
            return "Bridge"
        return "Device" if member.address == device.address or member.address in targets else "Mate"

    members = [{"address": str(m.address), "role": role(m), "driver": m.driver} for m in host.group_of(device)]
    return IommuGroupStatus(number=device.iommu_group, members=tuple(MemberStatus.model_validate(m) for m in members))


def guest_status(view: View, persistent: bool, live: bool) -> GuestStatus | None:  # noqa: FBT001
    """The guest's side; ``persistent`` and ``live``: which XML has what is ours."""
    guest = view.guest
    if guest is None:
        return None
    return GuestStatus(name=guest.name, active=guest.active, alias=view.alias, persistent=persistent, live=live)


def old_status_but(old: DeviceAssignmentStatus, outcome: Outcome) -> DeviceAssignmentStatus:
    """The status where nothing could be observed: what was known, with the trouble in Ready."""
    trouble = outcome.trouble
    ours: tuple[Condition, ...] = tuple(c for c in old.conditions if c.type not in (ACCEPTED, READY))
    if trouble:
        ours = (*ours, condition(READY, False, trouble.reason, trouble.message))
    return DeviceAssignmentStatus(
        device=old.device,
        identity=old.identity,
        iommu_group=old.iommu_group,
        record=old.record,
        guest=old.guest,
        network=old.network,
        conditions=ours,
    )
