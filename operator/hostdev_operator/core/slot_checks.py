"""The checks of where a guest gets a device: a slot that fits, the address that was asked for, what may be added."""

from __future__ import annotations

from . import reasons
from .checks import Case, Check, Refusal, to_be_plugged
from .intent import LIVE, is_alias_of
from .model import PciDevice
from .pci import PciAddress
from .topology import Growth, Place, Topology
from .topology_reasons import GUEST_ADDRESS_IN_USE, GUEST_ADDRESS_UNUSABLE, MULTIFUNCTION_NEEDS_BOOT


def growth(case: Case) -> Growth:
    """What the persistent XML needs beside the devices that it does not have yet."""
    guest, intent = case.guest, case.intent
    if guest is None or intent.adopt:
        return Growth()
    has = {h.address for h in guest.config}
    new = [d for d in _seen(case, case.targets) if d.address not in has]
    topology = guest.topology
    if intent.guest_address is not None:
        topology = topology.with_place(intent.guest_address, intent.thing)
        new = [d for d in new if d.address != intent.address]
    express = sum(d.express for d in new)
    return topology.growth(express=express, conventional=len(new) - express, spare=intent.spare_ports)


def _seen(case: Case, devices: tuple[PciDevice, ...]) -> list[PciDevice]:
    """Unassigned mates need no slot."""
    hidden = case.intent.unassigned_mates
    return [d for d in devices if d.address == case.intent.address or not hidden]


def topology_has_room(case: Case) -> Refusal | None:
    """The persistent XML. With topology: Keep nothing is added to it, neither by us nor by libvirt."""
    guest, needed = case.guest, growth(case)
    if guest is None:
        return None
    what = f"{case.device.label} finds no slot in guest {guest.name}"
    if needed.full:
        text = f"{what}: {needed.full}; take a device away from it, or move one to a bridge by hand (virsh edit)"
        return Refusal(reasons.NO_GUEST_PCI_SLOT, text)
    if case.intent.keeps_topology and needed.words:
        text = (
            f"{what}, and topology: Keep adds none: {needed.words} needed; add it (virsh edit), or set topology: Auto"
        )
        return Refusal(reasons.NO_GUEST_PCI_SLOT, text)
    return None


def guest_address_can_be_had(case: Case) -> Refusal | None:
    """Of the persistent XML: asked before anything is detached."""
    guest, address = case.guest, case.intent.guest_address
    if guest is None or address is None:
        return None
    return _no_place(case, address, guest.topology, f"guest {guest.name}")


def _no_place(case: Case, address: PciAddress, topology: Topology, who: str) -> Refusal | None:
    if not topology.known:
        return None
    what = f"{case.device.label} cannot be at {address} in {who}"
    if why := topology.not_offered(address):
        return Refusal(GUEST_ADDRESS_UNUSABLE, f"{what}: {why}")
    mine = frozenset(p.alias for p in topology.places if p.alias and is_alias_of(p.alias, case.intent.uid))
    others, shared = topology.without(mine), case.intent.multifunction
    if there := others.occupant(address, shared=shared):
        return Refusal(GUEST_ADDRESS_IN_USE, f"{what}: {_in_the_way(there, address, shared=shared)}")
    if address.function and not others.has_function_zero(address):
        return Refusal(
            GUEST_ADDRESS_UNUSABLE,
            f"{what}: nothing is at function 0 of that slot, so the guest would not see it; make the assignment with"
            " function 0 first",
        )
    return None


def _in_the_way(there: Place, address: PciAddress, *, shared: bool) -> str:
    if there.address == address:
        return f"{there.who} is there; choose another guestAddress"
    if shared:
        return f"{there.who} is at {there.address} and does not share its slot (multifunction='on')"
    return f"{there.who} is in the same slot, at {there.address}; choose another one, or set multifunction on both"


def function_zero_is_there(case: Case) -> Refusal | None:
    """Of a claim that stands: whoever has function 0 may have been taken away since."""
    guest, address = case.guest, case.intent.guest_address
    if guest is None or address is None or not address.function or not guest.topology.known:
        return None
    if guest.topology.has_function_zero(address):
        return None
    return Refusal(
        GUEST_ADDRESS_UNUSABLE,
        f"{case.device.label} is at {address} in guest {guest.name}, and function 0 of that slot is gone from its"
        " persistent XML: its next boot does not see the device; put it back, or delete this assignment",
    )


def guest_has_a_slot(case: Case) -> Refusal | None:
    """attach: Live. Hot plug adds no controllers, so nothing is detached for a guest that cannot take the device."""
    guest, refusal = case.guest, cannot_plug(case)
    if case.intent.attach != LIVE or refusal is None or guest is None:
        return None
    text = f"{case.device.label} cannot be plugged into running guest {guest.name}: {refusal.message}"
    return Refusal(refusal.reason, f"{text}; use attach: Auto or NextBoot")


def cannot_plug(case: Case) -> Refusal | None:
    """Why the running guest cannot be given the rest now; None if it can, has it, or does not run."""
    guest, intent = case.guest, case.intent
    rest = to_be_plugged(case)
    if guest is None or not rest:
        return None
    seen, address = _seen(case, rest), intent.guest_address
    if address is not None and any(d.address == intent.address for d in rest):
        if intent.multifunction:
            text = f"it shares slot {str(address)[:-2]}, and hot plug takes a slot with one function alone"
            return Refusal(MULTIFUNCTION_NEEDS_BOOT, text)
        live = guest.live_topology
        if refusal := _no_place(case, address, live, "the running guest"):
            return refusal
        if live.known and not live.is_hot(address):
            return Refusal(reasons.NO_GUEST_PCI_SLOT, f"bus {address.bus:02x} takes no devices while the guest runs")
        seen = [d for d in seen if d.address != intent.address]
    express = sum(d.express for d in seen)
    lack = guest.slots.lack(express=express, conventional=len(seen) - express)
    return Refusal(reasons.NO_GUEST_PCI_SLOT, f"{lack}{_at_next_boot(case)}") if lack else None


def _at_next_boot(case: Case) -> str:
    words = growth(case).words
    return f"; its persistent XML gets {words} for the next boot" if words and not case.intent.keeps_topology else ""


#: These stand before the first change.
CHECKS: tuple[Check, ...] = (guest_address_can_be_had, topology_has_room, guest_has_a_slot)
#: These are asked of a claim that stands.
STANDING: tuple[Check, ...] = (topology_has_room, function_zero_is_there)
