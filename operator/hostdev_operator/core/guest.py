"""Plans for Guests: what is left to do so that libvirt has the guest as it is asked for, one step after the other."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.guest import GuestSpec
from . import guest_xml, reasons
from .checks import Refusal
from .guest_reasons import (
    APPROVAL_UNSUPPORTED,
    ASSIGNMENTS_NOT_READY,
    DOMAIN_XML_UNUSABLE,
    GUEST_EXISTS,
    GUEST_HAS_DEVICES,
    POOL_NEEDS_ASSIGNMENT,
)
from .guest_xml import Definition
from .intent import is_anothers
from .model import Guest, Observation
from .saved_reasons import GUEST_SAVED


@dataclass(frozen=True)
class GuestWish:
    """One Guest of this node. The domain has its UID as UUID, so whatever is lost, it is found again."""

    uid: str
    name: str
    generation: int
    spec: GuestSpec

    @property
    def domain_name(self) -> str:
        """Its name in libvirt."""
        return self.spec.name or self.name

    @property
    def definition(self) -> Definition:
        """What the domain is made from."""
        return Definition(self.uid, self.domain_name, self.spec)

    def is_defined(self, guest: Guest | None) -> bool:
        """Whether the guest's persistent XML was made from what is asked for now."""
        try:
            return guest is not None and guest.asked == guest_xml.asked(self.definition)
        except ValueError:
            return False


@dataclass(frozen=True)
class DefineGuest:
    """Define the guest, or change its persistent XML; a running one has it from its next boot on."""

    definition: Definition

    def __str__(self) -> str:
        return f"define guest {self.definition.name}"


@dataclass(frozen=True)
class StartGuest:
    """Start it; nothing to do if it runs."""

    uuid: str
    name: str

    def __str__(self) -> str:
        return f"start guest {self.name}"


@dataclass(frozen=True)
class ShutDownGuest:
    """Ask it to shut down (ACPI), without waiting for it; nothing to do if it is off, or gone."""

    uuid: str
    name: str

    def __str__(self) -> str:
        return f"ask guest {self.name} to shut down"


@dataclass(frozen=True)
class UndefineGuest:
    """Undefine it, its disks and its EFI variables aside; nothing to do if it is gone."""

    uuid: str
    name: str

    def __str__(self) -> str:
        return f"undefine guest {self.name}"


Step = DefineGuest | StartGuest | ShutDownGuest | UndefineGuest


def next_step(wish: GuestWish, host: Observation, waits: str | None) -> Step | Refusal | None:
    """None if all stands as asked. ``waits``: why the assignments keep it from being started; None if they do not."""
    step = _wanted(wish, host, waits)
    if step is None or isinstance(step, Refusal):
        return step
    return _barred(step, host) or step


def _wanted(wish: GuestWish, host: Observation, waits: str | None) -> Step | Refusal | None:
    guest, name = host.guest(wish.uid), wish.domain_name
    if refusal := _xml_unusable(wish) or _name_taken(wish, host) or _pool_named(wish, host):
        return refusal
    if guest is None or not wish.is_defined(guest):
        return DefineGuest(wish.definition)
    if wish.spec.running and not guest.active:
        if waits:
            return Refusal(ASSIGNMENTS_NOT_READY, f"guest {name} is not started: {waits}")
        return StartGuest(wish.uid, name)
    if guest.active and not wish.spec.running:
        return ShutDownGuest(wish.uid, name)
    return None


def last_step(wish: GuestWish, host: Observation) -> Step | Refusal | None:
    """Of one that is being deleted; None if nothing is left to do."""
    guest, name = host.guest(wish.uid), wish.domain_name
    if guest is None or wish.spec.deletion_policy == "Keep":
        return None
    if guest.active:
        step: Step = ShutDownGuest(wish.uid, name)
    elif guest.saved:
        text = f"guest {name} is saved: start it and shut it down, or drop what it had in memory: virsh"
        return Refusal(GUEST_SAVED, f"{text} managedsave-remove {name}")
    elif ours := _of_assignments(guest):
        return Refusal(GUEST_HAS_DEVICES, f"guest {name} is not undefined: assignments still have {ours} in its XML")
    else:
        step = UndefineGuest(wish.uid, name)
    return _barred(step, host) or step


def _barred(step: Step, host: Observation) -> Refusal | None:
    if host.settings.paused:
        text = f"nothing is changed: the node is paused; it would {step}; set spec.paused of its DeviceHost to false"
        return Refusal(reasons.PAUSED, text)
    if host.settings.manual:
        text = f"it would {step}, but spec.approval of the node's DeviceHost is Manual, and Guests have no approvals"
        return Refusal(APPROVAL_UNSUPPORTED, text)
    return None


def _xml_unusable(wish: GuestWish) -> Refusal | None:
    try:
        guest_xml.asked(wish.definition)
    except ValueError as error:
        return Refusal(DOMAIN_XML_UNUSABLE, f"spec.domainXML of guest {wish.domain_name}: {error}")
    return None


def _name_taken(wish: GuestWish, host: Observation) -> Refusal | None:
    other = next((g for g in host.guests if g.name == wish.domain_name and g.uuid != wish.uid), None)
    if other is None:
        return None
    text = f"there is a guest {other.name} already, with UUID {other.uuid}, which was not made from this object"
    return Refusal(GUEST_EXISTS, f"{text}: choose another name, or take it away (virsh undefine {other.name})")


def _pool_named(wish: GuestWish, host: Observation) -> Refusal | None:
    """A NIC of such a network would take any VF, with no assignment that says so."""
    named = guest_xml.networks(wish.definition)
    name = next((pool.name for pool in host.pools if pool.name in named), None)
    if name is None:
        return None
    text = f"network {name} of guest {wish.domain_name} hands out VFs: make a DeviceAssignment with source.pool for it"
    return Refusal(POOL_NEEDS_ASSIGNMENT, text)


def _of_assignments(guest: Guest) -> str:
    """Devices and NICs that assignments have in its persistent XML, in words."""
    devices = [str(h.address) for h in guest.config if is_anothers(h.alias)]
    nics = [f"NIC {n.mac}" for n in guest.nics if is_anothers(n.alias) and n.address is None]
    return ", ".join((*devices, *nics))
