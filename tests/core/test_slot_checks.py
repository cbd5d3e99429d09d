"""Where a guest gets a device: each row breaks one thing, and exactly its check refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from hostdev_operator.core import reasons, slot_checks
from hostdev_operator.core.actions import AddController, AddHostdev, PlugHostdev, RemoveController
from hostdev_operator.core.checks import Case, Check, Refusal
from hostdev_operator.core.intent import ASSIGN_ALL, LIVE, Intent
from hostdev_operator.core.model import Hostdev, Observation
from hostdev_operator.core.nic_checks import CHECKS, STANDING
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import differs, plan_assign
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.release import plan_release
from hostdev_operator.core.slots import Slots
from hostdev_operator.core.topology import (
    BRIDGE,
    EXPRESS_BRIDGE,
    EXPRESS_ROOT,
    LAST_BUS,
    PORT,
    ROOT,
    Bus,
    NewController,
    Place,
    Topology,
)
from hostdev_operator.core.topology_reasons import (
    GUEST_ADDRESS_IN_USE,
    GUEST_ADDRESS_UNUSABLE,
    MULTIFUNCTION_NEEDS_BOOT,
)
from tests.core.hosts import actions_of, assigned, carry_out, observation, with_device, with_guest
from tests.fakes.samples import LONER, MATE, NIC, UID, WEB, intent


def at(text: str) -> PciAddress:
    return PciAddress.parse(text)


def place(text: str, who: str = "its video", **more: Any) -> Place:
    return Place(at(text), who, **more)


ICH9 = place("0000:00:1f.0", "ICH9")
#: Root ports 1 to 3 at functions of slot 1; none is taken.
Q35 = Topology(
    (Bus(0, EXPRESS_ROOT), *(Bus(n, PORT) for n in (1, 2, 3))),
    (ICH9, *(place(f"0000:00:01.{n}", f"controller {PORT} {n + 1}", is_port=True) for n in range(3))),
    known=True,
)
NO_PORT = replace(Q35, buses=Q35.buses[:1], places=(ICH9,))
FULL_Q35 = replace(NO_PORT, places=tuple(place(f"0000:00:{slot:02x}.0") for slot in range(1, 32)))
CROWDED = replace(NO_PORT, buses=(*NO_PORT.buses, *(Bus(n, "pcie-expander-bus") for n in range(1, LAST_BUS + 1))))
I440FX = Topology((Bus(0, ROOT),), (place("0000:00:01.0", "PIIX3"),), known=True)
FULL_I440FX = replace(I440FX, places=tuple(place(f"0000:00:{slot:02x}.0") for slot in range(1, 32)))
#: A conventional bus on q35 that is full.
FULL_BUS = replace(
    Q35,
    buses=(*Q35.buses, Bus(4, EXPRESS_BRIDGE)),
    places=(*Q35.places, place("0000:01:00.0"), *(place(f"0000:04:{slot:02x}.0") for slot in range(1, 32))),
)


def host(topology: Topology = Q35, **more: Any) -> Observation:
    return with_guest(observation(), WEB, topology=topology, **more)


def running(topology: Topology = Q35, live: Topology = Q35, **more: Any) -> Observation:
    return host(topology, active=True, live_topology=live, **{"slots": live.slots(hot=True), **more})


def taken(address: str, **more: Any) -> Topology:
    return replace(Q35, places=(*Q35.places, place(address, "host device 0000:09:00.0", **more)))


CONVENTIONAL = {"express": False}
SAMPLE = intent()
TWO = (*Q35.buses, Bus(4, PORT, alias="ua-a"), Bus(5, PORT, alias="ua-b"))


@dataclass(frozen=True)
class Row:
    """What is wrong, who must say so, and which words the message must have."""

    name: str
    host: Observation
    check: Check
    reason: Reason
    words: tuple[str, ...]
    intent: Intent = SAMPLE
    checks: tuple[Check, ...] = CHECKS

    def __str__(self) -> str:
        return self.name


_SLOT, _ADDRESS = slot_checks.guest_has_a_slot, slot_checks.guest_address_can_be_had
_ROOM, _ZERO = slot_checks.topology_has_room, slot_checks.function_zero_is_there


def wants(address: str, **more: Any) -> Intent:
    return intent(guest_address=at(address), **more)


ROWS = (
    Row("the running guest has no slot", running(live=NO_PORT), _SLOT, reasons.NO_GUEST_PCI_SLOT,
        (str(NIC), "web", "attach: Auto"), intent(attach=LIVE)),
    Row("the running guest has one slot for two",
        with_guest(observation(), WEB, active=True, slots=Slots(False, 0, 1)), _SLOT, reasons.NO_GUEST_PCI_SLOT,
        (str(NIC), "2 free", "1 there"), intent(attach=LIVE, group_policy=ASSIGN_ALL)),
    Row("it says what comes at the next boot", running(NO_PORT, NO_PORT), _SLOT, reasons.NO_GUEST_PCI_SLOT,
        ("1 pcie-root-port", "next boot"), intent(attach=LIVE)),
    Row("several functions are not plugged in", running(), _SLOT, MULTIFUNCTION_NEEDS_BOOT,
        (str(NIC), "0000:02:00", "one function"), wants("0000:02:00.0", multifunction=True, attach=LIVE)),
    Row("the address is taken in the running guest alone", running(live=taken("0000:02:00.0")), _SLOT,
        GUEST_ADDRESS_IN_USE, ("the running guest", "0000:09:00.0"), wants("0000:02:00.0", attach=LIVE)),
    Row("the running guest lacks the bus", running(live=NO_PORT), _SLOT, GUEST_ADDRESS_UNUSABLE,
        ("the running guest", "no PCI bus 02"), wants("0000:02:00.0", attach=LIVE)),
    Row("the root bus takes nothing while it runs", running(), _SLOT, reasons.NO_GUEST_PCI_SLOT,
        ("bus 00",), wants("0000:00:05.0", attach=LIVE)),
    Row("Keep, and no port", host(NO_PORT), _ROOM, reasons.NO_GUEST_PCI_SLOT,
        (str(NIC), "web", "1 pcie-root-port", "topology: Keep"), intent(keeps_topology=True)),
    Row("Keep, and no bridge", with_device(host(), NIC, **CONVENTIONAL), _ROOM, reasons.NO_GUEST_PCI_SLOT,
        ("1 pcie-to-pci-bridge",), intent(keeps_topology=True)),
    Row("a full i440fx", host(FULL_I440FX), _ROOM, reasons.NO_GUEST_PCI_SLOT,
        (str(NIC), "all slots", "31 addresses")),
    Row("a full q35", host(FULL_Q35), _ROOM, reasons.NO_GUEST_PCI_SLOT, ("1 more pcie-root-port", "room for 0")),
    Row("no bus number is left", host(CROWDED), _ROOM, reasons.NO_GUEST_PCI_SLOT, ("257", "256")),
    Row("somebody is at the address", host(taken("0000:02:00.0")), _ADDRESS, GUEST_ADDRESS_IN_USE,
        (str(NIC), "0000:02:00.0 in guest web", "host device 0000:09:00.0"), wants("0000:02:00.0")),
    Row("somebody is in the slot", host(taken("0000:00:05.1")), _ADDRESS, GUEST_ADDRESS_IN_USE,
        ("0000:00:05.1", "multifunction"), wants("0000:00:05.0")),
    Row("function 0 does not share its slot", host(taken("0000:02:00.0")), _ADDRESS, GUEST_ADDRESS_IN_USE,
        ("does not share",), wants("0000:02:00.1", multifunction=True)),
    Row("the function is taken", host(replace(taken("0000:02:00.0", multifunction=True), places=(
        *taken("0000:02:00.0", multifunction=True).places, place("0000:02:00.1")))), _ADDRESS, GUEST_ADDRESS_IN_USE,
        ("its video is there",), wants("0000:02:00.1", multifunction=True)),
    Row("function 0 is not there yet", host(), _ADDRESS, GUEST_ADDRESS_UNUSABLE,
        ("function 0",), wants("0000:02:00.1", multifunction=True)),
    Row("there is no such bus", host(), _ADDRESS, GUEST_ADDRESS_UNUSABLE,
        ("no PCI bus 09", "01 (pcie-root-port)"), wants("0000:09:00.0")),
    Row("a port has one slot", host(), _ADDRESS, GUEST_ADDRESS_UNUSABLE, ("slot 00 alone",), wants("0000:02:01.0")),
    Row("slot 0 is the host bridge's", host(), _ADDRESS, GUEST_ADDRESS_UNUSABLE, ("slot 00",), wants("0000:00:00.0")),
    Row("the machine's own slot", host(), _ADDRESS, GUEST_ADDRESS_IN_USE, ("ICH9",), wants("0000:00:1f.0")),
    Row("another PCI domain", host(), _ADDRESS, GUEST_ADDRESS_UNUSABLE, ("domain 0000",), wants("0001:02:00.0")),
    Row("a bus that takes no devices", host(replace(Q35, buses=(*Q35.buses, Bus(4, "pcie-switch-upstream-port")))),
        _ADDRESS, GUEST_ADDRESS_UNUSABLE, ("takes no devices",), wants("0000:04:00.0")),
    Row("function 0 was taken away", host(config=(Hostdev(NIC, intent().alias),)), _ZERO, GUEST_ADDRESS_UNUSABLE,
        (str(NIC), "0000:02:00.1", "next boot"), wants("0000:02:00.1", multifunction=True), STANDING),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_exactly_one_check_refuses(row: Row) -> None:
    case = Case(row.intent, None, row.host)
    assert [check for check in row.checks if check(case)] == [row.check]
    refusal = row.check(case)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is row.reason
    assert [word for word in row.words if word not in refusal.message] == []


def test_every_check_has_a_row() -> None:
    assert {row.check for row in ROWS} == {*slot_checks.CHECKS, *slot_checks.STANDING}


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (host(), wants("0000:02:00.0")),
        (host(), wants("0000:00:05.0")),
        (host(), wants("0000:02:00.0", multifunction=True)),
        (host(taken("0000:02:00.0", multifunction=True)), wants("0000:02:00.1", multifunction=True)),
        (host(taken("0000:02:00.0", alias=intent().alias)), wants("0000:02:00.0")),
        (running(), wants("0000:02:00.0", attach=LIVE)),
        (running(live=NO_PORT), wants("0000:02:00.0")),
        (host(Topology()), wants("0000:02:00.0")),
        (host(Topology()), intent(keeps_topology=True)),
        (host(), intent(keeps_topology=True)),
        (host(I440FX), intent(keeps_topology=True)),
        (host(NO_PORT), intent()),
        (host(FULL_I440FX, config=(Hostdev(NIC),)), intent()),
        (host(FULL_BUS), intent()),
        (host(), intent(guest=None)),
    ],
)
def test_nothing_refuses(where: Observation, wanted: Intent) -> None:
    case = Case(wanted, None, where)
    assert [check(case) for check in (*slot_checks.CHECKS, *slot_checks.STANDING) if check(case)] == []


def test_what_libvirt_cannot_add_is_added_before_the_device_and_removed_after_it() -> None:
    """Its conventional bus is full: measured, libvirt 11.3 fails then."""
    start = with_device(host(FULL_BUS), NIC, **CONVENTIONAL)
    actions = actions_of(plan_assign(intent(), start))
    added = [a for a in actions if isinstance(a, AddController)]
    assert [a.controller for a in added] == [NewController(5, PORT), NewController(6, EXPRESS_BRIDGE)]
    assert actions.index(added[-1]) < next(n for n, a in enumerate(actions) if isinstance(a, AddHostdev))
    after = carry_out(actions, start)
    assert actions_of(plan_assign(intent(), after)) == ()
    gone = [a for a in actions_of(plan_release(UID, after)) if isinstance(a, RemoveController)]
    assert [a.controller.index for a in gone] == [6, 5]
    assert [a.alias for a in gone] == [a.alias for a in reversed(added)]


def test_spare_ports_stand_beside_that_of_the_device_and_more_are_added_when_they_are_taken() -> None:
    wanted = intent(spare_ports=4)
    start = host()
    actions = actions_of(plan_assign(wanted, start))
    assert [a.controller for a in actions if isinstance(a, AddController)] == [
        NewController(4, PORT),
        NewController(5, PORT),
    ]
    after = carry_out(actions, start)
    (guest,) = (g for g in after.guests if g.uuid == WEB)
    with_it = with_guest(after, WEB, topology=guest.topology.with_place(at("0000:01:00.0"), "ours"))
    assert actions_of(plan_assign(wanted, with_it)) == ()
    topology = guest.topology.with_place(at("0000:01:00.0"), "ours").with_place(at("0000:02:00.0"), "another")
    later = actions_of(plan_assign(wanted, with_guest(after, WEB, topology=topology)))
    assert [a.controller for a in later if isinstance(a, AddController)] == [NewController(6, PORT)]


def test_a_running_guest_gets_spare_ports_for_its_next_boot() -> None:
    actions = actions_of(plan_assign(intent(spare_ports=3), running()))
    assert [type(a) for a in actions if isinstance(a, (AddController, PlugHostdev))] == [PlugHostdev, AddController]


def test_a_multifunction_device_of_a_running_guest_is_for_its_next_boot() -> None:
    actions = actions_of(plan_assign(wants("0000:02:00.0", multifunction=True), running()))
    assert not any(isinstance(a, PlugHostdev) for a in actions)
    (added,) = (a for a in actions if isinstance(a, AddHostdev))
    assert (added.hostdev.guest_address, added.hostdev.multifunction) == (at("0000:02:00.0"), True)


def test_a_mate_gets_no_address_of_the_guest() -> None:
    actions = actions_of(plan_assign(wants("0000:02:00.0", group_policy=ASSIGN_ALL), host()))
    places = {a.hostdev.address: a.hostdev.guest_address for a in actions if isinstance(a, AddHostdev)}
    assert places == {NIC: at("0000:02:00.0"), MATE: None}


def test_a_device_that_was_moved_in_the_guest_is_put_back() -> None:
    wanted = wants("0000:02:00.0")
    after = assigned(host(), guest_address=at("0000:02:00.0"))
    assert not differs(Case(wanted, after.records[UID], after), live=False)
    moved = Hostdev(NIC, wanted.alias, managed=True, guest_address=at("0000:03:00.0"))
    there = with_guest(after, WEB, config=(moved,))
    assert differs(Case(wanted, after.records[UID], there), live=False)
    assert not differs(Case(wanted, after.records[UID], there), live=True)
    kinds = [type(a).__name__ for a in actions_of(plan_assign(wanted, there))]
    assert kinds == ["RemoveHostdev", "AddHostdev"]


@pytest.mark.parametrize(
    ("topology", "left"),
    [
        (replace(Q35, buses=TWO), [5, 4]),
        (replace(Q35, buses=(*Q35.buses, Bus(4, PORT, alias="ua-a"), Bus(5, PORT))), []),
        (replace(taken("0000:05:00.0"), buses=TWO), []),
        (replace(taken("0000:04:00.0"), buses=TWO), [5]),
        (replace(Q35, buses=(*Q35.buses, Bus(4, PORT, alias="ua-a")), places=(
            *Q35.places, place("0000:00:02.0", alias="ua-a", is_port=True), place("0000:00:02.1", is_port=True))), []),
    ],
    ids=["empty", "another comes after it", "the last is taken", "the first is taken", "function 0 of others"],
)  # fmt: skip
def test_only_the_last_and_empty_controllers_of_ours_are_removed(topology: Topology, left: list[int]) -> None:
    assert [b.index for b in topology.to_remove(frozenset({"ua-a", "ua-b"}))] == left


def test_of_a_device_that_is_there_already_nothing_is_counted() -> None:
    there = host(NO_PORT, config=(Hostdev(NIC), Hostdev(LONER)))
    assert slot_checks.growth(Case(intent(keeps_topology=True), None, there)).words == ""


def test_on_i440fx_spare_slots_are_those_of_bridges() -> None:
    growth = I440FX.growth(express=1, conventional=0, spare=30)
    assert growth.ours == (NewController(1, BRIDGE),)
    assert I440FX.growth(express=1, conventional=0, spare=29).ours == ()
