"""Of several wishes: the older one goes first, and who takes any device takes the next one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.model import Observation
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, decide
from hostdev_operator.core.settings import Settings
from tests.core.hosts import actions_of, assigned, carry_out, observation
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, UID, WEB, device, wish

ANY = {"match": {"class": "0x02", "any": True}}
HOST = observation()


def younger(address: PciAddress | None = NIC, **more: Any) -> Wish:
    return wish(address, **{"uid": OTHER_UID, "guest": DB, "created": "2026-01-01T00:00:09Z", **more})


def among(*wishes: Wish, host: Observation = HOST) -> Observation:
    return replace(host, wishes=wishes)


def chosen(wanted: Wish, host: Observation) -> PciAddress:
    decision = decide(wanted, host)
    assert isinstance(decision.answer, Plan), decision.answer
    assert decision.intent
    return decision.intent.address


def waits_for(wanted: Wish, host: Observation) -> Refusal:
    answer = decide(wanted, host).answer
    assert isinstance(answer, Refusal), answer
    return answer


@pytest.mark.parametrize(("mine", "reason"), [(NIC, reasons.DEVICE_IN_USE), (MATE, reasons.GROUP_IN_USE)])
def test_the_younger_waits_and_is_told_for_whom(mine: PciAddress, reason: reasons.Reason) -> None:
    elder = wish()
    host = among(younger(mine), elder)
    refusal = waits_for(younger(mine), host)
    assert refusal.reason is reason
    assert [w for w in ("default/nic", "older", str(mine), str(NIC)) if w not in refusal.message] == []
    assert chosen(elder, host) == NIC


def test_of_the_same_second_the_uid_decides() -> None:
    host = among(wish(), younger(created=wish().created))
    assert chosen(wish(), host) == NIC
    assert waits_for(younger(created=wish().created), host)


@pytest.mark.parametrize(
    "elder",
    [
        wish(LONER),
        wish(guest="33333333-3333-4333-8333-333333333333"),
        wish(groupPolicy="RequireFree"),
        wish("0000:7f:00.0"),  # type: ignore[arg-type]
        wish(MATE, guest=DB),
    ],
    ids=["another group", "its guest is not there", "its policy refuses it", "its device is not there", "same guest"],
)
def test_the_younger_goes_where_the_elder_takes_nothing_from_it(elder: Wish) -> None:
    assert chosen(younger(), among(elder, younger())) == NIC


def test_two_for_the_same_device_of_one_guest_are_still_two() -> None:
    assert waits_for(younger(guest=WEB), among(wish(), younger(guest=WEB))).reason is reasons.DEVICE_IN_USE


def test_a_reservation_shares_with_nobody() -> None:
    elder = wish(MATE, guest=None)
    assert waits_for(younger(guest=None), among(elder)).reason is reasons.GROUP_IN_USE
    assert waits_for(younger(), among(elder)).reason is reasons.GROUP_IN_USE


def test_what_is_recorded_already_waits_for_nobody() -> None:
    host = assigned(uid=OTHER_UID, guest=DB)
    assert chosen(younger(), among(wish(), younger(), host=host)) == NIC
    assert waits_for(wish(), among(wish(), younger(), host=host)).reason is reasons.DEVICE_IN_USE


def test_an_elder_that_has_its_device_is_a_matter_of_the_checks() -> None:
    host = assigned()
    assert "claimed by" not in waits_for(younger(), among(wish(), host=host)).message
    assert waits_for(younger(MATE), among(wish(), host=host)).reason is reasons.GROUP_IN_USE


def test_nobody_waits_for_an_elder_on_a_paused_node() -> None:
    host = replace(among(wish()), settings=Settings(paused=True))
    assert waits_for(younger(), host).reason is reasons.PAUSED


def test_any_takes_the_next_one_if_an_elder_takes_the_first() -> None:
    host = among(wish(), younger(source=ANY))
    assert chosen(younger(source=ANY), host) == LONER
    two = observation([device(NIC), device(LONER, "igb", 13)])
    assert chosen(younger(source=ANY), among(wish(), host=two)) == LONER
    assert chosen(younger(source=ANY), among(wish(LONER), host=two)) == NIC


def test_any_that_finds_none_names_the_first_refusal() -> None:
    two = observation([device(NIC), device(LONER, "igb", 13)])
    host = among(wish(), wish(LONER, uid="0a0a0a0a-0000-4000-8000-00000000000a"), host=two)
    refusal = waits_for(younger(source=ANY), host)
    assert [w for w in ("2 devices fit, and none can be had", str(NIC), "older") if w not in refusal.message] == []


def test_elders_that_take_any_take_one_each() -> None:
    """Four for three devices: in order of age each gets the next, and the last is told."""
    host = observation([device(f"0000:{bus:02x}:00.0", "igb", bus) for bus in (1, 2, 3)])
    wishes = [
        wish(uid=f"{n:08x}-0000-4000-8000-000000000000", source=ANY, guest=DB if n % 2 else WEB) for n in range(4)
    ]
    everything = among(*wishes, host=host)
    assert [chosen(w, everything).bus for w in wishes[:3]] == [1, 2, 3]
    assert waits_for(wishes[3], everything).reason is reasons.DEVICE_IN_USE
    for wanted in reversed(wishes[:3]):  # carried out in the other order, it is the same
        host = carry_out(actions_of(decide(wanted, among(*wishes, host=host)).answer), host)
    assert {w.uid: host.records[w.uid].address.bus for w in wishes[:3]} == {
        w.uid: n + 1 for n, w in enumerate(wishes[:3])
    }


def test_forty_wishes_for_forty_devices_are_decided_at_once() -> None:
    host = observation([device(f"0000:{bus:02x}:00.0", "igb", bus) for bus in range(1, 41)])
    wishes = [wish(uid=f"{n:08x}-0000-4000-8000-000000000000", source=ANY) for n in range(40)]
    start = time.monotonic()
    everything = among(*wishes, host=host)
    assert chosen(wishes[-1], everything).bus in range(1, 41)
    assert time.monotonic() - start < 20.0
    assert len(everything.decisions) == 39


def test_forty_wishes_for_one_group_are_decided_at_once() -> None:
    wishes = [
        wish(NIC if n % 2 else MATE, uid=f"{n:08x}-0000-4000-8000-000000000000", guest=DB if n % 2 else WEB)
        for n in range(40)
    ]
    start = time.monotonic()
    host = among(*wishes)
    assert waits_for(wishes[-1], host).reason in (reasons.GROUP_IN_USE, reasons.DEVICE_IN_USE)
    assert time.monotonic() - start < 20.0
    assert chosen(wishes[0], host) == MATE
    assert UID not in host.decisions
