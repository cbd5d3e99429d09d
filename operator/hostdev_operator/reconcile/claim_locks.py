"""What must not be changed by anybody else while one assignment is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..core.intent import Goal, Wish, address_of
from ..core.kinds import domain_lock, group_lock, kind_of, network_lock, pf_lock
from ..core.model import Observation
from ..core.nic_plan import made_network
from ..core.orphans import Orphan
from ..core.pci import PciAddress
from ..core.source import last_seen
from ..ports import Host
from .locks import NamedLocks


class ElsewhereError(Exception):
    """What the assignment means is not what is locked: to be tried again, with the right locks."""


class ClaimLocks:
    """Locks for assignments. They are taken before the look at the host, by where the device was last.

    Only the look tells what is meant; if that is not locked, ``must_hold`` remembers it for the next try.
    """

    def __init__(self, host: Host, locks: NamedLocks) -> None:
        self._host = host
        self._locks = locks
        self._found: dict[str, frozenset[str]] = {}
        self._held: dict[str, frozenset[str]] = {}

    @contextmanager
    def hold(self, wish: Wish) -> Iterator[None]:
        """Around one try. HostError if the journal cannot be read."""
        names = self._found.pop(wish.uid, None) or self._guess(wish)
        names = self._held[wish.uid] = names | {domain_lock(wish.domain_uuid)}
        with self._locks.hold(names):
            yield

    @contextmanager
    def hold_for(self, orphan: Orphan) -> Iterator[None]:
        """Around the release of what has no assignment."""
        names = frozenset(domain_lock(guest.uuid) for guest in orphan.guests)
        record = orphan.record
        if record:
            names |= self._of_device(record.address, with_pf=record.vf is not None) | {domain_lock(record.domain_uuid)}
        with self._locks.hold(names):
            yield

    def must_hold(self, wish: Wish, goal: Goal, host: Observation) -> None:
        """ElsewhereError if what is about to be changed is not locked."""
        names = kind_of(wish).locks(goal, host)
        if not names <= self._held[wish.uid]:
            self._found[wish.uid] = names
            raise ElsewhereError

    def forget(self, uid: str) -> None:
        """The assignment is gone."""
        self._found.pop(uid, None)
        self._held.pop(uid, None)

    def _guess(self, wish: Wish) -> frozenset[str]:
        source = wish.spec.source
        if source.pool:
            known = made_network(source.pool.name, self._host.pool_records.load())
            return frozenset({network_lock(known or source.pool.name)})
        record = self._host.records.load().get(wish.uid)
        seen = last_seen(wish, record)
        address = seen.address if seen else None
        if address is None and source.pci:
            with suppress(ValueError):
                address = address_of(source.pci)
        return self._of_device(address, with_pf=wish.spec.network is not None or bool(record and record.vf))

    def _of_device(self, address: PciAddress | None, *, with_pf: bool) -> frozenset[str]:
        names = {group_lock(self._host.devices.iommu_group(address) if address else None)}
        device = self._host.devices.device(address) if address and with_pf else None
        return frozenset(names | ({pf_lock(device.physfn)} if device and device.physfn else set()))
