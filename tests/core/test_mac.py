from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from hostdev_operator.core.mac import MacClaim, MacIndex, derived_mac, with_accepted_mac
from tests.fakes.samples import DB, WEB, spec

A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"


# -- derived ---------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.uuids())
def test_a_derived_address_is_unicast_locally_administered_and_none_of_libvirts_tap_devices(
    namespace: str, name: str, domain_uuid: object
) -> None:
    mac = derived_mac(namespace, name, str(domain_uuid))
    octets = [int(part, 16) for part in mac.split(":")]
    assert len(octets) == 6
    assert octets[0] & 0b11 == 0b10
    assert octets[0] != 0xFE
    assert mac == mac.lower()


def test_it_is_always_the_same_and_another_one_for_another_assignment_or_guest() -> None:
    assert derived_mac("default", "nic", WEB) == "1a:d8:c2:15:98:29"
    others = {derived_mac("default", "nic", DB), derived_mac("other", "nic", WEB), derived_mac("default", "nic2", WEB)}
    assert len(others | {derived_mac("default", "nic", WEB)}) == 4


# -- whose it is -----------------------------------------------------------------------------------------------------


def claim(name: str, *, has: str | None = None, asked: str | None = None, age: int = 0) -> MacClaim:
    return MacClaim(name, f"default/{name}", f"2026-01-01T00:00:{age:02}Z", has, asked)


def index(*claims: MacClaim) -> MacIndex:
    made = MacIndex()
    for one in claims:
        made.put(one)
    return made


def rival(made: MacIndex, uid: str) -> tuple[str, str] | None:
    found = made.rival(uid)
    return (found[0], found[1].uid) if found else None


def test_of_two_that_ask_the_older_gets_it_in_whatever_order_they_come() -> None:
    claims = [claim("old", asked=A), claim("young", asked=A, age=1)]
    for made in (index(*claims), index(*reversed(claims))):
        assert rival(made, "old") is None
        assert rival(made, "young") == (A, "old")


def test_of_the_same_second_the_uid_decides() -> None:
    made = index(claim("b", asked=A), claim("a", asked=A))
    assert (rival(made, "a"), rival(made, "b")) == (None, (A, "a"))


def test_whoever_has_it_keeps_it_from_an_older_one_that_asks_for_it() -> None:
    made = index(claim("old", has=B, asked=A), claim("young", has=A, age=1))
    assert rival(made, "young") is None
    assert rival(made, "old") == (A, "young")


def test_of_two_that_have_it_the_younger_is_told() -> None:
    made = index(claim("old", has=A), claim("young", has=A, age=1))
    assert (rival(made, "old"), rival(made, "young")) == (None, (A, "old"))


def test_other_addresses_are_no_matter_and_neither_is_one_that_is_unknown() -> None:
    made = index(claim("old", has=A, asked=B), claim("young", has=C, age=1), claim("none"))
    assert [rival(made, uid) for uid in ("old", "young", "none", "unknown")] == [None] * 4


def test_those_are_concerned_who_have_or_had_an_address_in_common() -> None:
    made = index(claim("a", has=A), claim("b", has=B), claim("c", has=C))
    assert made.put(claim("a", has=A)) == frozenset()
    assert made.put(claim("a", has=A, asked=B)) == {"b"}
    assert made.put(claim("a", has=C)) == {"b", "c"}
    assert made.remove("a") == {"c"}
    assert made.remove("a") == frozenset()
    assert made.put(claim("b")) == frozenset()
    assert rival(made, "b") is None


def test_a_thousand_assignments_are_no_thousand_questions() -> None:
    """What concerns one address is found without a look at the others."""
    made = index(*(claim(f"u{i}", has=f"52:54:00:00:{i // 256:02x}:{i % 256:02x}") for i in range(1000)))
    assert made.put(claim("new", asked="52:54:00:00:01:00")) == {"u256"}
    assert len(made._by_mac) == 1000
    for i in range(1000):
        made.remove(f"u{i}")
    made.remove("new")
    assert not made._by_mac


# -- what an assignment claims ---------------------------------------------------------------------------------------


def wanted(mac: str | None) -> DeviceAssignmentSpec:
    more: dict[str, Any] = {"network": {"mac": mac}} if mac else {}
    return DeviceAssignmentSpec.model_validate(spec(**more))


def status(*, node: str | None = "n1", mac: str | None = None, **accepted: Any) -> DeviceAssignmentStatus:
    rows = [{"type": "Accepted", "reason": "x", **accepted}] if accepted else []
    nic = {"network": {"mac": mac}} if mac else {}
    return DeviceAssignmentStatus.model_validate({"nodeName": node, "conditions": rows, **nic})


@pytest.mark.parametrize(
    ("asked", "told", "claims"),
    [
        (None, status(node=None), (None, None)),
        (A, status(node=None), (None, A)),
        (A.upper(), status(node=None), (None, A)),
        (A, status(node=None, mac=B), (None, A)),
        (A, status(), (A, None)),
        (A, status(mac=A), (A, None)),
        (A, status(mac=B), (B, A)),
        (None, status(mac=B.upper()), (B, None)),
        (None, status(), (None, None)),
    ],
)
def test_what_is_bound_has_what_its_nic_has_and_asks_for_the_rest(
    asked: str | None, told: DeviceAssignmentStatus, claims: tuple[str | None, str | None]
) -> None:
    made = MacClaim.of("u", "default/nic", "2026-01-01T00:00:00Z", wanted(asked), told)
    assert (made.has, made.asked) == claims


# -- what the agent carries out --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "mac"),
    [
        (status(mac=B, status="True", observedGeneration=3), A),
        (status(mac=B, status="True", observedGeneration=2), B),
        (status(mac=B, status="False", observedGeneration=3), B),
        (status(mac=B), A),
        (status(status="True", observedGeneration=2), A),
    ],
    ids=["accepted", "not asked yet", "refused", "bound without a controller", "there is no NIC yet"],
)
def test_a_nic_keeps_its_address_until_another_one_is_accepted(told: DeviceAssignmentStatus, mac: str) -> None:
    answer = with_accepted_mac(wanted(A), told, 3)
    assert answer.network
    assert answer.network.mac == mac
    assert answer.model_copy(update={"network": None}) == wanted(None)


def test_a_spec_that_asks_for_no_address_is_carried_out() -> None:
    told = status(mac=B, status="False", observedGeneration=1)
    assert with_accepted_mac(wanted(None), told, 3) == wanted(None)
    vlan = DeviceAssignmentSpec.model_validate(spec(network={"vlan": 5}))
    assert with_accepted_mac(vlan, told, 3) == vlan
