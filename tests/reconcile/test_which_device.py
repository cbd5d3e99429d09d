"""Sources, and devices that vanish, come back, move, or are others by now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core.model import VFIO_DRIVER, PciDevice
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.record import Record
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, UID, WEB, assignment, device, small_host
from tests.reconcile.running import Engine, attached, count_boundaries, message, ready, without_plan

NEW = PciAddress.parse("0000:05:00.0")


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def matching(uid: str = UID, **more: Any) -> Assignment:
    fields = more.pop("match")
    return assignment(uid=uid, source={"match": fields}, **more)


ANY = {"vendor": "0x8086", "class": "0x0200", "any": True}


def config(host: FakeHost, uuid: str = WEB) -> list[PciAddress]:
    return [h.address for h in host.guests[uuid].hostdevs()]


def move(host: FakeHost, old: PciAddress, new: PciAddress, **changes: Any) -> PciDevice:
    """As after a boot with another bus numbering: same slot, same driver, another address."""
    gone = host.remove(old)
    host.insert(replace(gone, address=new, driver=host.native.pop(old), **changes))
    return gone


# -- match -----------------------------------------------------------------------------------------------------------


def test_a_device_is_found_by_what_it_is_at_the_first_run(host: FakeHost, engine: Engine) -> None:
    result = engine.run(matching(match={"slotPath": "0000:00/02.0/00.0"}))
    assert ready(result) == ("True", "Assigned")
    assert config(host) == [LONER]
    assert result.status.identity
    assert result.status.identity.address == str(LONER)
    assert engine.run(matching(match={"slotPath": "0000:00/02.0/00.0"}, deleting=True)).released


@pytest.mark.parametrize(
    ("match", "reason", "words"),
    [
        ({"vendor": "0x1af4"}, "DeviceNotFound", ("vendor 0x1af4", "status.devices")),
        ({"class": "0x02"}, "AmbiguousDevice", (str(NIC), str(LONER), "any: true")),
    ],
)
def test_nothing_is_changed_for_none_and_for_several(
    host: FakeHost, engine: Engine, match: dict[str, Any], reason: str, words: tuple[str, ...]
) -> None:
    result = engine.run(matching(match=match))
    assert ready(result) == ("False", reason)
    assert [w for w in words if w not in message(result)] == []
    assert host.calls == []


def test_any_takes_the_first_free_one_and_keeps_it(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route over eth0")
    assert ready(engine.run(matching(match=ANY))) == ("True", "Assigned")
    assert config(host) == [LONER]
    host.uses = [u for u in host.uses if u.address != NIC]
    engine.restart()
    assert ready(engine.run(matching(match=ANY))) == ("True", "Assigned")
    assert config(host) == [LONER]


def test_two_that_take_any_get_one_each_and_the_third_is_told(host: FakeHost, engine: Engine) -> None:
    third = "0a0a0a0a-0000-4000-8000-000000000003"
    assert ready(engine.run(matching(match=ANY))) == ("True", "Assigned")
    assert ready(engine.run(matching(OTHER_UID, match=ANY, guest=DB))) == ("True", "Assigned")
    assert (config(host), config(host, DB)) == ([NIC], [LONER])
    result = engine.run(matching(third, match=ANY, guest=DB))
    assert ready(result) == ("False", "DeviceInUse")
    assert "2 devices fit, and none can be had" in message(result)


def test_who_takes_any_leaves_to_its_elder_what_that_is_about_to_take(host: FakeHost, engine: Engine) -> None:
    elder = assignment(created="2025-01-01T00:00:00Z")
    engine.wishes[elder.uid] = elder.wish()
    assert ready(engine.run(matching(OTHER_UID, match=ANY, guest=DB))) == ("True", "Assigned")
    assert (config(host, DB), ready(engine.run(elder))) == ([LONER], ("True", "Assigned"))


def test_the_group_that_was_found_is_locked_before_it_is_changed(host: FakeHost, engine: Engine) -> None:
    """A run without an address begins with no group's lock: it looks again under the right one."""
    held: list[frozenset[str]] = []
    locks = engine.reconciler._locks._locks
    hold = locks.hold
    locks.hold = lambda names: held.append(names) or hold(names)  # type: ignore[method-assign,func-returns-value]
    assert ready(engine.run(matching(match={"slotPath": "0000:00/02.0/00.0"}))) == ("True", "Assigned")
    assert held == [frozenset({"group/None", f"domain/{WEB}"}), frozenset({"group/13", f"domain/{WEB}"})]


def test_a_device_that_is_elsewhere_at_each_look_is_told(host: FakeHost, engine: Engine) -> None:
    groups = iter(range(100, 200))

    def renumber(call: str) -> None:
        if call == "devices":
            host.devices[LONER] = replace(host.devices[LONER], iommu_group=next(groups))

    host.hook = renumber
    assert ready(engine.run(matching(match={"slotPath": "0000:00/02.0/00.0"}))) == ("False", "HostChanged")
    assert host.calls == []


# -- gone and back ---------------------------------------------------------------------------------------------------


def test_a_device_that_is_pulled_is_told_and_given_again_when_it_is_back(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(LONER))
    host.start(WEB)
    engine.run(assignment(LONER))
    card = host.remove(LONER)
    result = engine.run(assignment(LONER))
    assert (ready(result), attached(result)[0]) == (("False", "DeviceNotFound"), "False")
    assert LONER not in host.devices
    host.insert(replace(card, driver="igb"))
    result = engine.run(assignment(LONER))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("True", "InLiveXML"))
    host.stop(WEB)
    assert engine.run(assignment(LONER, deleting=True)).released
    assert (host.drivers()[LONER], config(host)) == ("igb", [])


def test_another_card_in_its_place_is_never_touched(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(LONER, managed=False))
    host.remove(LONER)
    host.insert(device(LONER, "ixgbe", 13, product=0x1528))
    host.calls.clear()
    result = engine.run(assignment(LONER, managed=False))
    assert ready(result) == ("False", "IdentityChanged")
    assert (host.calls, host.drivers()[LONER]) == ([f"remove_hostdev {LONER}"], "ixgbe")  # only out of the XML
    assert engine.run(assignment(LONER, managed=False, deleting=True)).released
    assert (host.drivers()[LONER], config(host), host.records) == ("ixgbe", [], {})


def test_another_card_on_vfio_is_not_given_back_for_the_old_one(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(LONER, managed=False))
    host.remove(LONER)
    host.insert(device(LONER, VFIO_DRIVER, 13, product=0x1528))
    assert engine.run(assignment(LONER, managed=False, deleting=True)).released
    assert host.drivers()[LONER] == VFIO_DRIVER


def test_another_card_that_appears_between_look_and_act_is_not_touched(host: FakeHost, engine: Engine) -> None:
    def swap(call: str) -> None:
        if call.startswith("save"):
            host.hook = lambda _call: None
            host.devices[LONER] = device(LONER, "ixgbe", 13, product=0x1528)
            host.native[LONER] = "ixgbe"

    host.hook = swap
    assert ready(engine.run(assignment(LONER, managed=False))) == ("False", "IdentityChanged")
    assert host.drivers()[LONER] == "ixgbe"
    assert config(host) == []


def test_a_mate_that_vanishes_is_taken_out_of_the_guest_and_put_in_again(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll"}
    engine.run(assignment(**wanted))
    card = host.remove(MATE)
    assert ready(engine.run(assignment(**wanted))) == ("True", "Assigned")
    assert config(host) == [NIC]
    host.insert(replace(card, driver="snd_hda_intel"))
    assert ready(engine.run(assignment(**wanted))) == ("True", "Assigned")
    assert sorted(config(host)) == [NIC, MATE]
    assert engine.run(assignment(**wanted, deleting=True)).released
    assert host.state() == before


# -- moved -----------------------------------------------------------------------------------------------------------


def test_a_device_that_moved_is_followed(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(LONER, managed=False))
    move(host, LONER, NEW)
    host.calls.clear()
    result = engine.run(assignment(LONER, managed=False))
    assert ready(result) == ("True", "Assigned")
    assert result.moved == f"the device that was at {LONER} is at {NEW} now, by its fingerprint; it is followed"
    calls = [f"save {UID}", f"detach_driver {NEW}", f"remove_hostdev {LONER}", f"add_hostdev {NEW}"]
    assert (host.calls, config(host)) == (calls, [NEW])
    record = Record.from_json(host.records[UID])
    assert [(m.address, m.driver) for m in record.members] == [(NEW, "igb")]
    assert result.status.identity
    assert result.status.identity.address == str(NEW)
    assert engine.run(assignment(LONER, managed=False)).moved is None
    assert engine.run(assignment(LONER, managed=False, deleting=True)).released
    assert (host.drivers()[NEW], config(host)) == ("igb", [])


def test_a_device_that_moved_before_its_first_run_is_followed_by_the_published_fingerprint(
    host: FakeHost, engine: Engine
) -> None:
    """Refused at first, so that there is no record."""
    host.use(LONER, "carries the default route over eth0")
    assert ready(engine.run(assignment(LONER))) == ("False", "HostCritical")
    host.uses.pop()
    move(host, LONER, NEW)
    assert ready(engine.run(assignment(LONER))) == ("True", "Assigned")
    assert config(host) == [NEW]


def test_who_took_its_old_address_is_not_mistaken_for_it(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(LONER, managed=False))
    move(host, LONER, NEW)
    host.insert(device(LONER, "ixgbe", 15, product=0x1528))
    assert ready(engine.run(assignment(LONER, managed=False))) == ("True", "Assigned")
    assert (config(host), host.drivers()[LONER]) == ([NEW], "ixgbe")


def test_it_may_be_any_of_two_after_a_move(host: FakeHost, engine: Engine) -> None:
    for address in (LONER,):
        host.devices[address] = replace(host.devices[address], serial="S1")
    engine.run(assignment(LONER))
    move(host, LONER, NEW, slot_path="0000:00/05.0/00.0")
    host.insert(replace(host.devices[NEW], address=PciAddress.parse("0000:06:00.0"), slot_path="0000:00/06.0/00.0"))
    result = engine.run(assignment(LONER))
    assert ready(result) == ("False", "AmbiguousDevice")
    assert [w for w in (str(NEW), "0000:06:00.0") if w not in message(result)] == []
    assert engine.run(assignment(LONER, deleting=True)).released


def test_a_mate_that_moved_is_given_back_where_it_is(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    new = PciAddress.parse("0000:05:00.1")
    move(host, MATE, new)
    assert ready(engine.run(assignment())) == ("True", "Assigned")
    assert host.drivers()[new] == VFIO_DRIVER
    assert engine.run(assignment(deleting=True)).released
    assert host.drivers()[new] == "snd_hda_intel"


MOVED: dict[str, Any] = {"groupPolicy": "AssignAll", "managed": False}


def moved() -> tuple[Engine, Assignment]:
    """Both functions of the card have other addresses by now."""
    host = small_host()
    engine = Engine(host)
    engine.run(assignment(**MOVED))
    for function, old in enumerate((NIC, MATE)):
        move(host, old, PciAddress.parse(f"0000:05:00.{function}"))
    host.calls.clear()
    engine.boundaries.clear()
    return engine, assignment(**MOVED)


def test_there_is_a_boundary_around_every_change() -> None:
    assert count_boundaries(moved) == 8  # record, two drivers, two hostdevs out and two in, done


@pytest.mark.parametrize("boundary", range(1, 9))
def test_a_crash_at_any_point_of_following_leads_to_the_same_end(boundary: int) -> None:
    undisturbed, obj = moved()
    expected = undisturbed.run(obj)
    crashed, _ = moved()
    crashed.crash_at = boundary
    result = crashed.run_through_crashes(obj)
    assert without_plan(result) == without_plan(expected)
    assert crashed.host.state() == undisturbed.host.state()
    assert [str(a) for a in config(crashed.host)] == ["0000:05:00.0", "0000:05:00.1"]
    assert crashed.run(assignment(**MOVED, deleting=True)).released
    assert crashed.host.drivers() == {a: crashed.host.native[a] for a in crashed.host.devices}


def test_the_guest_does_not_start_with_the_card_that_was_put_in_its_devices_place() -> None:
    host = small_host()
    engine = Engine(host)
    engine.run(assignment(LONER))
    mine = host.devices[LONER]
    other = replace(mine, subsystem_device=0xBEEF)
    host.insert(other)
    assert ready(engine.run(assignment(LONER))) == ("False", "IdentityChanged")
    assert host.guests[WEB].hostdevs() == ()
    assert UID in host.records
    calls = len(host.calls)
    engine.run(assignment(LONER))
    assert len(host.calls) == calls
    host.insert(mine)
    assert ready(engine.run(assignment(LONER))) == ("True", "Assigned")
    assert [h.address for h in host.guests[WEB].hostdevs()] == [LONER]


def test_a_card_that_is_exchanged_during_a_release_is_left_alone() -> None:
    host = small_host()
    engine = Engine(host)
    engine.run(assignment(managed=False))
    native = host.devices[MATE]

    def exchange(call: str) -> None:
        if call.startswith("remove_hostdev"):
            host.devices[MATE] = replace(native, subsystem_device=0xBEEF, driver="vfio-pci")

    host.hook = exchange
    assert engine.run(assignment(managed=False, deleting=True)).released
    assert host.drivers()[MATE] == "vfio-pci"
    assert [call for call in host.calls if call == f"reattach_driver {MATE}"] == []


@pytest.mark.parametrize("trouble", ["refused", "fails"])
def test_a_moved_device_that_cannot_be_followed_leaves_nothing_that_takes_the_card_in_its_old_place(
    trouble: str,
) -> None:
    host = small_host()
    mine = replace(host.devices[LONER], serial="S1", serial_source="VPD")
    host.insert(mine)
    engine = Engine(host)
    engine.run(assignment(LONER, managed=trouble == "refused"))
    elsewhere = PciAddress.parse("0000:05:00.0")
    host.devices.pop(LONER)
    host.insert(replace(mine, address=elsewhere, slot_path="0000:00/05.0/00.0", iommu_group=15))
    host.insert(device(LONER, "ixgbe", 13, product=0x1528))
    if trouble == "refused":
        host.use(elsewhere, "carries the default route over eth0")
    else:
        host.refused_by_vfio.add(elsewhere)
    for _ in range(2):
        engine.run(assignment(LONER, managed=trouble == "refused"))
    assert LONER not in [h.address for h in host.guests[WEB].hostdevs()]
    assert host.drivers()[LONER] == "ixgbe"


def test_any_chooses_what_is_free_and_nothing_before() -> None:
    host = small_host()
    host.use(LONER, "carries the default route over eth0")
    engine = Engine(host)
    wanted = assignment(None, source={"match": {"slotPath": host.devices[LONER].slot_path, "any": True}})
    result = engine.run(wanted)
    assert (ready(result)[1], result.status.identity) == ("HostCritical", None)
    host.uses.clear()
    assert ready(engine.run(wanted)) == ("True", "Assigned")
