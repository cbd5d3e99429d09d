"""Anything that users, guests, libvirt and crashes may do, in any order: what must always hold, holds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostdev_operator.core import reasons
from hostdev_operator.core.assignment_status import record_from_status
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.intent import ALIAS_PREFIX
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Role
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.record import Record
from tests.fakes.samples import DB, DISK, LONER, MATE, NIC, WEB, assignment, small_host
from tests.reconcile.running import Crash, Engine
from tests.reconcile.test_assign import host_device

GUESTS = {WEB: "web", DB: "db"}
CALLS = ["save", "detach_driver", "add_hostdev", "remove_hostdev", "reattach_driver", "drop", "guests"]
FAILURES = [reasons.LIBVIRT_ERROR, reasons.IOMMU_GROUP_NOT_VIABLE, reasons.DETACH_BLOCKED]


@dataclass
class Wish:
    """One assignment as its user sees it."""

    uid: str
    address: PciAddress
    guest: str
    managed: bool
    deleting: bool = False


class Life(RuleBasedStateMachine):
    """One node over time."""

    def __init__(self) -> None:
        super().__init__()
        self.host = small_host()
        self.engine = Engine(self.host)
        self.wishes: dict[str, Wish] = {}
        self.numbers = itertools.count(1)

    def run(self, wish: Wish) -> None:
        obj = assignment(wish.address, uid=wish.uid, guest=wish.guest, managed=wish.managed, deleting=wish.deleting)
        try:
            if self.engine.run(obj).released:
                del self.wishes[wish.uid]
        except Crash:
            self.engine.crash_at = None
            self.engine.restart()

    # -- what happens ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.wishes) < 4)
    @rule(address=st.sampled_from([NIC, MATE, LONER, DISK]), guest=st.sampled_from([WEB, DB]), managed=st.booleans())
    def wish(self, address: PciAddress, guest: str, managed: bool) -> None:  # noqa: FBT001
        wish = Wish(f"{next(self.numbers):08x}-0000-4000-8000-000000000000", address, guest, managed)
        self.wishes[wish.uid] = wish
        self.run(wish)

    @rule()
    def everything_is_looked_at(self) -> None:
        for wish in list(self.wishes.values()):
            self.run(wish)

    @precondition(lambda self: self.wishes)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        wish = self.wishes[data.draw(st.sampled_from(sorted(self.wishes)))]
        wish.deleting = True
        self.run(wish)

    @rule(guest=st.sampled_from([WEB, DB]))
    def start(self, guest: str) -> None:
        if guest in self.host.guests:
            try:
                self.host.start(guest)
            except HostError:
                return

    @rule(guest=st.sampled_from([WEB, DB]))
    def stop(self, guest: str) -> None:
        if guest in self.host.guests and self.host.guests[guest].live:
            self.host.stop(guest)

    @rule(guest=st.sampled_from([WEB, DB]), foreign=st.sampled_from([None, NIC, MATE, LONER]))
    def define(self, guest: str, foreign: PciAddress | None) -> None:
        self.host.define(guest, GUESTS[guest], host_device(foreign) if foreign else "")

    @rule(guest=st.sampled_from([WEB, DB]))
    def undefine(self, guest: str) -> None:
        if guest in self.host.guests and self.host.guests[guest].config:
            self.host.undefine(guest)

    @rule(address=st.sampled_from([NIC, MATE, LONER]))
    def driver_is_bound_from_outside(self, address: PciAddress) -> None:
        if not any(self.host.holders(d.address) for d in self.host.group(address)):
            self.host.bind(address, self.host.native[address])

    @rule(call=st.sampled_from(CALLS), reason=st.sampled_from(FAILURES), after=st.booleans(), times=st.integers(1, 2))
    def fail(self, call: str, reason: reasons.Reason, after: bool, times: int) -> None:  # noqa: FBT001
        self.host.fail(call, reason, after=after, times=times)

    @rule(call=st.sampled_from(CALLS), after=st.booleans())
    def libvirt_goes_away_in_the_middle(self, call: str, after: bool) -> None:  # noqa: FBT001
        self.host.fail(call, reasons.LIBVIRT_UNAVAILABLE, after=after, down=True)

    @rule()
    def heal(self) -> None:
        self.host.heal()

    @rule(ahead=st.integers(1, 8))
    def crash_soon(self, ahead: int) -> None:
        self.engine.crash_at = len(self.engine.boundaries) + ahead

    @rule()
    def restart(self) -> None:
        self.engine.restart()

    @precondition(lambda self: self.published() == self.recorded())
    @rule()
    def journal_is_lost(self) -> None:
        self.host.heal()
        self.host.records.clear()
        self.engine.restart()
        for uid, status in self.engine.statuses.items():  # all of them before the first run: who ran first would else
            if wish := self.wishes.get(uid):  # take the others' devices on vfio-pci for what was there before
                obj = assignment(wish.address, uid=uid, guest=wish.guest, managed=wish.managed, status=status)
                self.engine.reconciler.take_up_record(obj)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def recorded(self) -> dict[str, Record]:
        return {uid: Record.from_json(text) for uid, text in self.host.records.items()}

    def published(self) -> dict[str, Record]:
        return {
            uid: record_from_status(status.record, uid, "default", "nic")
            for uid, status in self.engine.statuses.items()
            if status.record
        }

    @invariant()
    def no_group_is_split_between_host_and_guest(self) -> None:
        for guest in self.host.guests.values():
            for hostdev in guest.hostdevs(live=True):
                for member in self.host.group(hostdev.address):
                    assert not (member.role is Role.ENDPOINT and member.on_host_driver), member.label

    @invariant()
    def no_group_is_split_between_assignments(self) -> None:
        owners: dict[int | None, set[str]] = {}
        for uid, record in self.recorded().items():
            for guest in self.host.guests.values():
                if any(h.alias == ALIAS_PREFIX + uid for h in guest.hostdevs()):
                    owners.setdefault(self.host.devices[record.address].iommu_group, set()).add(uid)
        assert [uids for uids in owners.values() if len(uids) > 1] == []

    @invariant()
    def what_is_off_its_driver_is_recorded_or_in_a_guest(self) -> None:
        records = [*self.recorded().values(), *self.published().values()]
        for address, device in self.host.devices.items():
            if device.driver == self.host.native[address]:
                continue
            held = any(address in guest.before for guest in self.host.guests.values())
            recorded = [m.driver for r in records if (m := r.member(address))]
            assert held or self.host.native[address] in recorded, (address, device.driver, recorded)

    @invariant()
    def every_record_can_give_back_what_was_there(self) -> None:
        for record in self.recorded().values():
            for member in record.members:
                assert member.driver in (self.host.native[member.address], VFIO_DRIVER)

    @invariant()
    def what_the_host_needs_is_never_touched(self) -> None:
        assert self.host.drivers()[DISK] == "nvme"
        assert [call for call in self.host.calls if str(DISK) in call] == []

    def teardown(self) -> None:
        """In the end everything is given back."""
        self.host.heal()
        self.engine.crash_at = None
        for guest in list(self.host.guests.values()):
            if guest.live:
                self.host.stop(guest.uuid)
        for wish in list(self.wishes.values()):
            wish.deleting = True
            self.run(wish)
        assert self.wishes == {}
        assert self.host.records == {}
        assert self.host.drivers() == self.host.native
        assert self.ours() == []

    def ours(self) -> list[Hostdev]:
        return [h for g in self.host.guests.values() for h in g.hostdevs() if (h.alias or "").startswith(ALIAS_PREFIX)]


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
