"""Adoption (spec.adopt): what a guest's XML has already is taken over as it is, and nothing is changed.

So it must be there, and be as the assignment asks for it. Of a device a record is written, by which the hostdev is
known from then on, whatever its alias. A NIC of a pool is known by its MAC address. The XML alone is compared: what a
running guest has besides is told in Attached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from . import reasons
from .checks import Case, Refusal
from .intent import Intent, NicIntent, NicWish, is_alias_of
from .model import Guest, Hostdev, Nic, Observation
from .nic import config_now, of_vf

_DISK, _INTERFACE = "disk", "interface"
_SHOWN = 8


def device_is_as_asked(case: Case) -> Refusal | None:
    """The guest's persistent XML has the device, just as the assignment asks for it."""
    intent, guest = case.intent, case.guest
    has = adopted_hostdev(guest.config if guest else (), intent)
    if guest is None or has is None:
        return _no_hostdev(case, guest)
    if case.record is None and (owner := _owner(has.alias, intent.uid, case.host)):
        return _others(case.device.label, guest, owner)
    found = [*_hostdev_differences(intent, has, of_vf(guest.nics, intent)), *_setting_differences(case)]
    return _differs(case.device.label, guest, intent.owner, found) if found else None


def adopted_hostdev(hostdevs: Iterable[Hostdev], intent: Intent) -> Hostdev | None:
    """The device in a guest's XML; a disk of type nvme is none that an assignment could be for."""
    return next((h for h in hostdevs if h.address == intent.address and h.element != _DISK), None)


def adoptable_nics(intent: NicIntent, nics: Iterable[Nic]) -> tuple[Nic, ...]:
    """The NICs that can be meant: of the pool's network, and with the MAC address, as far as one is known."""
    mac = intent.seen.mac if intent.seen else intent.nic.mac
    network = intent.seen.network if intent.seen else intent.network
    return tuple(n for n in nics if n.network is not None and n.network == network and mac in (None, n.mac))


def nic_is_as_asked(intent: NicIntent, guest: Guest, host: Observation) -> Refusal | None:
    """The same for a NIC of a pool; which one is meant must be certain."""
    found = adoptable_nics(intent, guest.nics)
    there = [n for n in guest.nics if n.network is not None and n.network == intent.network]
    macs = ", ".join(str(n.mac) for n in there[:_SHOWN])
    if not found:
        has = f"its NICs of that network have {macs}" if there else "it has no NIC of that network"
        asked = f" with MAC address {intent.nic.mac}" if intent.nic.mac else ""
        return Refusal(
            reasons.NOTHING_TO_ADOPT,
            f"the persistent XML of guest {guest.name} has no NIC of libvirt network {intent.network}{asked}: {has}."
            " With adopt: true none is made; name the right one in spec.network.mac, or make the assignment anew"
            " without adopt",
        )
    if len(found) > 1:
        return Refusal(
            reasons.AMBIGUOUS_DEVICE,
            f"guest {guest.name} has {len(found)} NICs of libvirt network {intent.network}, with MAC addresses {macs}:"
            " say which one is to be adopted, in spec.network.mac",
        )
    nic = found[0]
    what = f"NIC {nic.mac}"
    if owner := _owner(nic.alias, intent.uid, host) or _elder(intent, guest, nic, host):
        return _others(what, guest, owner)
    differences = [*_place_differences(intent, nic), *_nic_differences(intent.nic, nic)]
    return _differs(what, guest, intent.owner, differences) if differences else None


def _owner(alias: str | None, uid: str, host: Observation) -> str | None:
    """The assignment that made it, if it is there still; one that was deleted with Keep has left its alias."""
    known = [(w.uid, w.owner) for w in host.wishes] + [(r.uid, r.owner) for r in host.records.values()]
    return next((owner for other, owner in known if other != uid and is_alias_of(alias, other)), None)


def _elder(intent: NicIntent, guest: Guest, nic: Nic, host: Observation) -> str | None:
    """An older assignment that adopts the same NIC; of devices the record tells."""
    mine = next((w.rank for w in host.wishes if w.uid == intent.uid), None)
    for wish in host.wishes:
        if not wish.spec.adopt or wish.spec.source.pool is None or wish.domain_uuid != guest.uuid:
            continue
        if mine is not None and wish.rank < mine and adoptable_nics(wish.nic_intent(nic.network), guest.nics) == (nic,):
            return wish.owner
    return None


# -- what differs: what it is about, then what the host has, then what spec says ---------------------------------------

_Difference = tuple[str, object, object]


def _hostdev_differences(intent: Intent, has: Hostdev, nic: Nic | None) -> list[_Difference]:
    is_nic = has.element == _INTERFACE
    if is_nic != (intent.nic is not None):
        forms = ("<interface>", "<hostdev> (no spec.network)")
        return [("its form", *(forms if is_nic else ("<hostdev>", "<interface> (spec.network)")))]
    found: list[_Difference] = []
    if has.managed != intent.managed:
        found.append(("managed", _yes(has.managed), _yes(intent.managed)))
    if has.driver not in (None, intent.driver or "vfio"):
        found.append(("driver", has.driver, intent.driver or "vfio"))
    if intent.nic is not None and nic is not None:
        found += _nic_differences(intent.nic, nic)
    return found


def _nic_differences(asked: NicWish, nic: Nic) -> list[_Difference]:
    found: list[_Difference] = [
        ("VLAN", nic.vlan or "none", asked.vlan or "none"),
        ("profile", nic.profile or "none", asked.profile or "none"),
    ]
    if asked.mac is not None:
        found.append(("MAC address", nic.mac or "none", asked.mac))
    return [f for f in found if f[1] != f[2]]


def _place_differences(intent: NicIntent, nic: Nic) -> list[_Difference]:
    found: list[_Difference] = [
        ("network", nic.network or "none", intent.network or "none"),
        ("portgroup", nic.portgroup or "none", intent.portgroup or "none"),
    ]
    return [f for f in found if f[1] != f[2]]


def _setting_differences(case: Case) -> list[_Difference]:
    """What spec.network asks of the VF beyond MAC and VLAN."""
    if case.intent.nic is None:
        return []
    asked, now = case.intent.nic.settings, config_now(case.device, case.host)
    lacking = now.lacking(asked)
    names = (f.name for f in fields(lacking) if getattr(lacking, f.name) is not None)
    return [(f"VF setting {n.replace('_', ' ')}", getattr(now, n), getattr(asked, n)) for n in names]


def _yes(on: bool) -> str:  # noqa: FBT001
    return "yes" if on else "no"


def _differs(what: str, guest: Guest, owner: str, found: list[_Difference]) -> Refusal:
    told = "; ".join(f"{about} is {has} there and {asked} in spec" for about, has, asked in found)
    return Refusal(
        reasons.ADOPTION_DIFFERS,
        f"{what} of guest {guest.name} is not as assignment {owner} asks for it, and nothing is changed: {told}. Make"
        f" spec like the guest (in a new assignment), or the guest like spec (virsh edit {guest.name})",
    )


def _others(what: str, guest: Guest, owner: str) -> Refusal:
    return Refusal(
        reasons.DEVICE_IN_USE,
        f"{what} of guest {guest.name} is that of assignment {owner}: delete one of the two, with releasePolicy Keep",
    )


def _no_hostdev(case: Case, guest: Guest | None) -> Refusal:
    label = case.device.label
    if guest is None:
        text = f"nobody is named who has {label}: adopt takes over what a guest has (spec.domain)"
        return Refusal(reasons.NOTHING_TO_ADOPT, text)
    there = [h for h in guest.config if h.address == case.intent.address]
    running = any(h.address == case.intent.address for h in guest.live)
    how = "as a disk of type nvme, which is no hostdev" if there else "in the running guest alone" if running else ""
    return Refusal(
        reasons.NOTHING_TO_ADOPT,
        f"the persistent XML of guest {guest.name} has no hostdev {label}{f' (it is there {how})' if how else ''}. With"
        " adopt: true none is added; put it there (virsh attach-device NAME FILE --config), or make the assignment anew"
        " without adopt",
    )
