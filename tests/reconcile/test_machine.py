"""Anything that users, guests, libvirt and crashes may do, in any order: what must always hold, holds."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.intent import ALIAS_PREFIX
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, PciDevice, Role
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.published import record_from_status
from hostdev_operator.core.record import Record
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeGuest
from tests.fakes.samples import DB, DISK, LONER, MATE, NIC, WEB, assignment, device, small_host
from tests.reconcile.running import Crash, Engine
from tests.reconcile.test_assign import host_device

GUESTS = {WEB: "web", DB: "db"}
CALLS = [
    "save", "detach_driver", "plug_hostdev", "add_hostdev", "unplug_hostdev", "remove_hostdev", "reattach_driver",
    "drop", "guests",
]  # fmt: skip
FAILURES = [reasons.LIBVIRT_ERROR, reasons.IOMMU_GROUP_NOT_VIABLE, reasons.DETACH_BLOCKED]
ANY = {"source": {"match": {"vendor": "0x8086", "class": "0x02", "any": True}}}
OTHER_CARD = device(LONER, "ixgbe", 13, product=0x1528)

POLICIES = st.sampled_from(["DetachUnused", "AssignAll", "RequireFree"])


@dataclass
class Wish:
    """One assignment as its user sees it."""

    uid: str
    address: PciAddress
    guest: str | None
    spec: dict[str, Any] = field(default_factory=dict)
    deleting: bool = False
    generation: int = 1

    def assignment(self, **more: Any) -> Assignment:
        """As the engine takes it."""
        return assignment(
            self.address, uid=self.uid, guest=self.guest, deleting=self.deleting, generation=self.generation,
            **self.spec, **more,
        )  # fmt: skip


class Life(RuleBasedStateMachine):
    """One node over time."""

    def __init__(self) -> None:
        super().__init__()
        self.host = small_host()
        self.engine = Engine(self.host)
        self.wishes: dict[str, Wish] = {}
        self.numbers = itertools.count(1)
        self.running: Wish | None = None
        self.calls_before = 0
        self.removed: PciDevice | None = None
        self.host.hook = self.is_allowed

    def run(self, wish: Wish) -> None:
        self.running, self.calls_before = wish, len(self.host.calls)
        try:
            if self.engine.run(wish.assignment()).released:
                del self.wishes[wish.uid]
        except Crash:
            self.engine.crash_at = None
            self.engine.restart()
        finally:
            self.running = None

    def is_allowed(self, call: str) -> None:
        """Before each change, also in the middle of a run: what holds between runs, holds here as well."""
        wish, (kind, _, thing) = self.running, call.partition(" ")
        if wish is None or not thing:
            return
        self.no_group_is_split_between_host_and_guest()
        assert kind == "save" or not self.engine.settings.paused, call
        if kind == "unplug_hostdev":
            asked_for = wish.deleting and wish.spec["detach"] == "Live"
            own_plug = wish.spec["attach"] == "Live" and f"plug_hostdev {thing}" in self.host.calls[self.calls_before :]
            assert asked_for or own_plug, (call, wish)
        if kind == "reattach_driver":
            others = [r for uid, r in self.recorded().items() if uid != wish.uid]
            assert not any(r.covers(PciAddress.parse(thing)) for r in others), (call, wish)

    @initialize(first=st.sampled_from([WEB, DB, None]), second=st.sampled_from([None, WEB, DB]))
    def some_guests_run(self, first: str | None, second: str | None) -> None:
        for guest in {first, second} - {None}:
            self.host.start(str(guest))

    # -- what users do -----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.wishes) < 4)
    @rule(
        address=st.sampled_from([NIC, NIC, MATE, MATE, LONER, DISK, None]),
        guest=st.sampled_from([WEB, WEB, DB, None]),
        managed=st.booleans(),
        attach=st.sampled_from(["Auto", "Live", "NextBoot"]),
        detach=st.sampled_from(["WhenOff", "Live"]),
        policy=POLICIES,
        mates=st.sampled_from(["Auto", "Unassigned"]),
    )
    def wish(self, address: PciAddress | None, guest: str | None, policy: str, mates: str, **more: Any) -> None:
        spec = {**more, "groupPolicy": policy, "mateAddress": mates, **({} if address else ANY)}
        wish = Wish(f"{next(self.numbers):08x}-0000-4000-8000-000000000000", address or NIC, guest, spec)
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
        wish.generation += not wish.deleting
        wish.deleting = True
        self.run(wish)

    @precondition(lambda self: self.wishes)
    @rule()
    def delete_all(self) -> None:
        for wish in list(self.wishes.values()):
            wish.generation += not wish.deleting
            wish.deleting = True
            self.run(wish)

    @precondition(lambda self: self.wishes)
    @rule(data=st.data(), attach=st.sampled_from(["Auto", "Live"]), detach=st.sampled_from(["WhenOff", "Live"]))
    def edit(self, data: st.DataObject, attach: str, detach: str) -> None:
        wish = self.wishes[data.draw(st.sampled_from(sorted(self.wishes)))]
        wish.spec |= {"attach": attach, "detach": detach}
        wish.generation += 1
        self.run(wish)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:  # noqa: FBT001
        self.engine.settings = Settings(paused=paused)
        before = self.host.state()
        self.everything_is_looked_at()
        if paused and not self.engine.crash_at:
            assert self.host.state() == before

    # -- what guests do ----------------------------------------------------------------------------------------------

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

    @rule(guest=st.sampled_from([WEB, DB]), manner=st.sampled_from(["answers", "is silent", "refuses"]))
    def behave(self, guest: str, manner: str) -> None:
        if guest in self.host.guests:
            self.host.guests[guest].manner = manner

    @rule(guest=st.sampled_from([WEB, DB]), foreign=st.sampled_from([None, None, NIC, MATE, LONER]))
    def define(self, guest: str, foreign: PciAddress | None) -> None:
        self.host.define(guest, GUESTS[guest], host_device(foreign) if foreign else "")

    @rule(guest=st.sampled_from([WEB, DB]))
    def undefine(self, guest: str) -> None:
        if guest in self.host.guests and self.host.guests[guest].config:
            self.host.undefine(guest)

    @rule(guest=st.sampled_from([WEB, DB]), address=st.sampled_from([NIC, MATE, LONER]))
    def eject(self, guest: str, address: PciAddress) -> None:
        """By hand; who splits a group by hand has it split."""
        owner = self.host.guests.get(guest)
        if owner and address in live(owner) and not live(owner) & self.mates(address):
            self.host.eject(owner, address)

    # -- what the host does ------------------------------------------------------------------------------------------

    @rule(address=st.sampled_from([NIC, MATE, LONER]))
    def driver_is_bound_from_outside(self, address: PciAddress) -> None:
        there = address in self.host.devices
        if there and not any(self.host.holders(d.address) for d in self.host.group(address)):
            self.host.bind(address, self.host.native[address])

    @precondition(lambda self: self.removed is None)
    @rule()
    def card_is_pulled(self) -> None:
        self.removed = self.host.remove(LONER)

    @precondition(lambda self: self.removed is not None)
    @rule(other=st.booleans())
    def card_is_put_in(self, other: bool) -> None:  # noqa: FBT001
        self.host.insert(OTHER_CARD if other else device(LONER, "igb", 13))
        self.removed = None

    @rule(
        kind=st.sampled_from(["a call fails", "libvirt goes away in the middle", "the process ends"]),
        call=st.sampled_from(CALLS),
        reason=st.sampled_from(FAILURES),
        after=st.booleans(),
        number=st.integers(1, 8),
    )
    def trouble(self, kind: str, call: str, reason: reasons.Reason, after: bool, number: int) -> None:  # noqa: FBT001
        """And everything is looked at, so that it shows."""
        if kind == "the process ends":
            self.engine.crash_at = len(self.engine.boundaries) + number
        elif kind == "a call fails":
            self.host.fail(call, reason, after=after, times=1 + number % 2)
        else:
            self.host.fail(call, reasons.LIBVIRT_UNAVAILABLE, after=after, down=True)
        self.everything_is_looked_at()

    @rule()
    def heal(self) -> None:
        """As it should be; what is waited for is seen."""
        self.host.heal()
        self.engine.settings = Settings()
        for _ in range(2):
            self.everything_is_looked_at()

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
                self.engine.reconciler.take_up_record(wish.assignment(status=status))

    # -- what must hold ----------------------------------------------------------------------------------------------

    def mates(self, address: PciAddress) -> set[PciAddress]:
        return {d.address for d in self.host.group(address)} - {address}

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
            for address in live(guest):
                for member in self.host.group(address):
                    assert not (member.role is Role.ENDPOINT and member.on_host_driver), member.label

    @invariant()
    def no_group_is_split_between_running_guests(self) -> None:
        for address in self.host.devices:
            names = {g.name for member in self.host.group(address) for g in self.host.holders(member.address)}
            assert len(names) <= 1, (address, names)

    @invariant()
    def no_group_is_claimed_for_two(self) -> None:
        """Several assignments of one guest may share one; a reservation shares with nobody."""
        for address in self.host.devices:
            group = [d.address for d in self.host.group(address)]
            claims = {r.domain_uuid or r.uid for r in self.recorded().values() if any(map(r.covers, group))}
            assert len(claims) <= 1, (address, claims)

    @invariant()
    def what_is_off_its_driver_is_recorded_or_in_a_guest(self) -> None:
        records = [*self.recorded().values(), *self.published().values()]
        for address, there in self.host.devices.items():
            if there.driver == self.host.native[address]:
                continue
            held = any(address in guest.before for guest in self.host.guests.values())
            recorded = [m.driver for r in records if (m := r.member(address))]
            known = {self.host.native[address], None} & set(recorded)
            assert held or known, (address, there.driver, recorded)

    @invariant()
    def every_record_can_give_back_what_was_there(self) -> None:
        """No driver at all: only libvirt knew it, and the kernel chooses."""
        for record in self.recorded().values():
            for member in record.members:
                there = self.host.devices.get(member.address)
                if there and there.identity == member.identity:
                    assert member.driver in (self.host.native[member.address], None)

    @invariant()
    def what_the_host_needs_is_never_touched(self) -> None:
        assert self.host.drivers()[DISK] == "nvme"
        assert [call for call in self.host.calls if str(DISK) in call] == []

    def teardown(self) -> None:
        """In the end everything is given back."""
        self.host.heal()
        self.engine.crash_at = None
        self.engine.settings = Settings()
        self.engine.restart()  # it tries again what failed for a reason that nothing on the host shows to be over
        for guest in list(self.host.guests.values()):
            if guest.live:
                self.host.stop(guest.uuid)
        for wish in list(self.wishes.values()):
            wish.deleting = True
            self.run(wish)
        assert self.wishes == {}
        assert self.host.records == {}
        assert self.host.drivers() == {a: self.host.native[a] for a in self.host.devices}
        assert self.ours() == []

    def ours(self) -> list[Hostdev]:
        return [h for g in self.host.guests.values() for h in g.hostdevs() if (h.alias or "").startswith(ALIAS_PREFIX)]


def live(guest: FakeGuest) -> set[PciAddress]:
    """What the running guest has."""
    return {h.address for h in guest.hostdevs(live=True)}


assert VFIO_DRIVER not in ("e1000e", "igb", "ixgbe", "nvme")
TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=int(os.environ.get("HOSTDEV_EXAMPLES", "100")),  # make chaos wants more
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
