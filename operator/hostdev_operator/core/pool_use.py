"""Who uses the VFs of a PF, and which of them a guest could get."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .model import Guest, Observation, PciDevice, is_vfio
from .network import Network
from .pci import PciAddress

_SHOWN = 8


@dataclass(frozen=True)
class User:
    """Somebody who has a VF: ``who`` is a name such as 'guest web', ``how`` the rest of the sentence.

    ``guest`` is set if it is one; ``claims``: it is known to need this very VF, so nobody else may get it.
    """

    who: str
    how: str
    guest: Guest | None = None
    claims: bool = True

    def __str__(self) -> str:
        return f"{self.who} {self.how}"


def users(vf: PciDevice, host: Observation) -> tuple[User, ...]:
    """Everybody who has the VF, guests first; empty if it is free."""
    found = [_guest(g, vf.address) for g in host.holders(vf.address)]
    for record in host.claims(vf.address):
        kind = "assignment" if record.domain_uuid else "reservation"
        found.append(User(f"{kind} {record.owner}", "has claimed it"))
    uses = host.uses_of(vf.address)
    found += [User("a guest" if u.by_guest else "the host", f"needs it: it {u.what}") for u in uses]
    if not found and is_vfio(vf.driver):
        how = f"may use it: it is bound to {vf.driver} (virsh nodedev-reattach {vf.address.libvirt_name} frees it)"
        found.append(User("somebody", how, claims=False))
    return tuple(found)


def _guest(guest: Guest, address: PciAddress) -> User:
    live = any(h.address == address for h in guest.live)
    saved = guest.saved is not None and guest.saved.has(None, address)
    how = "runs with it" if live else "is saved with it" if saved else "has it in its persistent XML"
    return User(f"guest {guest.name}", how, guest)


def has_from(guest: Guest, address: PciAddress, network: Network) -> bool:
    """Whether a running guest has got the VF from the started network.

    That is a NIC (a <hostdev> is never from a network) with a VF that the network hands out, and that the guest's
    persistent XML does not name.
    """
    return (
        network.running is not None
        and address in network.running.addresses
        and any(nic.address == address for nic in guest.live_nics)
        and all(h.address != address for h in guest.config)
    )


def guests_on(network: Network, host: Observation) -> tuple[Guest, ...]:
    """The running guests whose VF may be from the started network, since their persistent XML does not name it.

    Stopped under them, it would forget that they have it, and hand it out again.
    """
    addresses = network.running.addresses if network.running else ()
    there = {g.uuid for a in addresses for g in host.holders(a) if all(h.address != a for h in g.config)}
    return tuple(g for g in host.guests if g.uuid in there)


def on_network(network: Network, host: Observation) -> tuple[str, ...]:
    """In words, whom it would hurt if the network was stopped; empty if nobody."""
    guests = tuple(f"guest {g.name}" for g in guests_on(network, host))
    if network.connections > len(guests) and network.active:
        named = {g.name for g in host.guests if g.active and any(n.network == network.name for n in g.nics)}
        return tuple(f"guest {name}" for name in sorted(named)) or (f"{network.connections} NICs of running guests",)
    return guests


def defined_with(name: str, host: Observation) -> tuple[Guest, ...]:
    """The guests whose persistent XML has a NIC of the network."""
    return tuple(g for g in host.guests if any(nic.network == name for nic in g.nics))


def addresses_of(network: Network, host: Observation) -> frozenset[PciAddress]:
    """The VFs that it hands out."""
    return next((pool.addresses for pool in host.pools if pool.name == network.name), network.addresses)


def free(network: Network, host: Observation) -> tuple[PciAddress, ...]:
    """The VFs that a guest of the network could get now, in order of address: those that nobody has."""
    found = (host.devices.get(address) for address in sorted(addresses_of(network, host)))
    return tuple(vf.address for vf in found if vf is not None and not users(vf, host))


def taken(vfs: Iterable[PciDevice], host: Observation) -> tuple[str, ...]:
    """In words, each VF that somebody has, and who has it."""
    found = ((vf, users(vf, host)) for vf in vfs)
    return tuple(f"VF {vf.vf_index} ({vf.address}): {'; '.join(map(str, who))}" for vf, who in found if who)


def listed(words: Iterable[str]) -> str:
    """The first few of them, for a message."""
    all_words = tuple(dict.fromkeys(words))
    more = f" and {len(all_words) - _SHOWN} more" if len(all_words) > _SHOWN else ""
    return ", ".join(all_words[:_SHOWN]) + more
