"""Orphans: what assignments and pools have left on this host that are gone from the API without a release."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .intent import ALIAS_PREFIX
from .model import Guest, Nic, Observation
from .pci import PciAddress
from .pool import PoolRecord
from .record import Record

# Kubernetes' UIDs are RFC 4122 UUIDs. Anybody may write an alias: what is none of ours must not get into the status.
_NIC_ALIAS = re.compile(re.escape(ALIAS_PREFIX) + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True)
class Orphan:
    """A record, of an assignment or of a pool; or NICs of a pool, which have none.

    Their alias in the XML of ``guests`` tells whose they were.
    """

    uid: str
    record: Record | None = None
    guests: tuple[Guest, ...] = ()
    pool: PoolRecord | None = None

    @property
    def owner(self) -> str:
        """How messages name it: the assignment as namespace/name, if that is known."""
        known = self.record or self.pool
        return known.owner if known else f"assignment {self.uid}"

    @property
    def guest(self) -> str | None:
        """The name of the guest that has it, or shall have it; None for a reservation."""
        if self.record:
            return self.record.domain_name
        return self.guests[0].name if self.guests else None

    @property
    def address(self) -> PciAddress | None:
        """The device that is claimed, the pool's PF, or the VF that the running guest has."""
        if self.record:
            return self.record.address
        if self.pool:
            return self.pool.pf
        nics = (nic for guest in self.guests for nic in (*guest.live_nics, *guest.nics) if _uid(nic) == self.uid)
        return next((nic.address for nic in nics if nic.address), None)


def recorded_orphans(host: Observation, alive: frozenset[str]) -> tuple[Orphan, ...]:
    """Records of assignments and pools that are not ``alive`` on this node."""
    records = (Orphan(uid, record) for uid, record in sorted(host.records.items()) if uid not in alive)
    pools = (Orphan(uid, pool=record) for uid, record in sorted(host.pool_records.items()) if uid not in alive)
    return (*records, *pools)


def foreign_nics(host: Observation, alive: frozenset[str]) -> tuple[Orphan, ...]:
    """NICs with our alias that no record and no assignment of this node knows.

    They are orphans only if no other node has the assignment: guests move, and are copied, with their aliases.
    """
    found: dict[str, list[Guest]] = {}
    for guest in sorted(host.guests, key=lambda g: g.name):
        for uid in {_uid(nic) for nic in (*guest.nics, *guest.live_nics)}:
            if uid is not None and uid not in alive and uid not in host.records:
                found.setdefault(uid, []).append(guest)
    return tuple(Orphan(uid, guests=tuple(guests)) for uid, guests in sorted(found.items()))


def _uid(nic: Nic) -> str | None:
    match = _NIC_ALIAS.fullmatch(nic.alias or "")
    return match[1] if match else None
