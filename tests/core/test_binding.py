from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec
from hostdev_operator.api.devicehost import DeviceHostStatus, GuestEntry
from hostdev_operator.core import reasons
from hostdev_operator.core.binding import Binding, PoolNodes, bind
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.reasons import Reason
from tests.fakes.samples import DB, WEB, spec


def host(*guests: tuple[str, str]) -> DeviceHostStatus:
    entries = (GuestEntry(name=name, uuid=uuid, active=False, persistent=True) for name, uuid in guests)
    return DeviceHostStatus(guests=tuple(entries))


HOSTS = {"n1": host(("web", WEB)), "n2": host(("db", DB))}


def wanted(**changes: Any) -> DeviceAssignmentSpec:
    return DeviceAssignmentSpec.model_validate({**spec(), **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"domain": {"uuid": WEB}}, {"nodeName": "n1"}], ids=["by name", "by UUID", "on its node"]
)
def test_the_node_that_has_the_guest_is_found_and_its_uuid_pinned(changes: dict[str, Any]) -> None:
    assert bind(wanted(**changes), HOSTS) == Binding("n1", WEB, "web")


TWICE = {"n1": host(("web", WEB)), "n2": host(("web", DB))}


@pytest.mark.parametrize(
    ("changes", "hosts", "reason", "words"),
    [
        ({"source": {}}, HOSTS, reasons.INVALID_SOURCE, ("source.pci",)),
        ({"source": {"pci": {"address": "1:2:3"}}}, HOSTS, reasons.INVALID_SOURCE, ("1:2:3",)),
        ({"source": {"pci": {"bus": 1}}}, HOSTS, reasons.INVALID_SOURCE, ("slot",)),
        ({"nodeName": "n9"}, HOSTS, reasons.NODE_NOT_FOUND, ("n9", "kubectl get devicehosts")),
        ({"nodeName": "n2"}, HOSTS, reasons.GUEST_NOT_FOUND, ("web", "node n2", "virsh define")),
        ({"domain": {"name": "x"}}, HOSTS, reasons.GUEST_NOT_FOUND, ("'x'", "any node")),
        ({"domain": {"uuid": "3" * 8 + WEB[8:]}}, HOSTS, reasons.GUEST_NOT_FOUND, ("UUID 33333333",)),
        ({}, {}, reasons.GUEST_NOT_FOUND, ("any node",)),
        ({}, TWICE, reasons.GUEST_AMBIGUOUS, ("n1", "n2", WEB, DB, "spec.nodeName")),
    ],
)
def test_what_cannot_be_bound_is_refused_with_the_next_step(
    changes: dict[str, Any], hosts: dict[str, DeviceHostStatus], reason: Reason, words: tuple[str, ...]
) -> None:
    answer = bind(wanted(**changes), hosts)
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert [w for w in words if w not in answer.message] == []


def test_a_node_name_settles_an_ambiguity() -> None:
    assert bind(wanted(nodeName="n2"), TWICE) == Binding("n2", DB, "web")


# -- the guest of a binding that was given up ------------------------------------------------------------------------

MOVED = {"n1": host(), "n2": host(("renamed", WEB), ("db", DB))}
TWO = {"n1": host(("web", WEB)), "n2": host(("web", WEB))}


def test_a_guest_that_was_bound_before_is_found_by_its_uuid() -> None:
    assert bind(wanted(), MOVED, pinned=WEB) == Binding("n2", WEB, "renamed")
    assert bind(wanted(), TWICE, pinned=DB) == Binding("n2", DB, "web")


@pytest.mark.parametrize(
    ("hosts", "reason", "words"),
    [
        ({"n1": host(("db", DB))}, reasons.GUEST_NOT_FOUND, (WEB, "any node", "virsh define")),
        ({"n1": host(("web", DB))}, reasons.GUEST_IDENTITY_CHANGED, (WEB, DB, "web on node n1", "delete")),
        (TWO, reasons.GUEST_AMBIGUOUS, (WEB, "n1, n2", "virsh undefine")),
    ],
)
def test_no_other_guest_is_taken_for_it(
    hosts: dict[str, DeviceHostStatus], reason: Reason, words: tuple[str, ...]
) -> None:
    answer = bind(wanted(), hosts, pinned=WEB)
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert [w for w in words if w not in answer.message] == []


# -- pools -----------------------------------------------------------------------------------------------------------

POOL = {"source": {"pool": {"name": "lan"}}}


def test_a_guest_that_wants_a_pool_is_bound_where_it_is() -> None:
    assert bind(wanted(**POOL), HOSTS, {"lan": frozenset({"n1", "n2"})}) == Binding("n1", WEB, "web")


@pytest.mark.parametrize(
    ("changes", "pools", "reason", "words"),
    [
        ({}, {}, reasons.POOL_NOT_FOUND, ("'lan'", "kubectl get vfpools")),
        ({}, {"wan": frozenset({"n1"})}, reasons.POOL_NOT_FOUND, ("'lan'",)),
        ({}, {"lan": frozenset({"n2"})}, reasons.POOL_NOT_FOUND, ("node n1", "guest web", "lan", "on n2")),
        ({}, {"lan": frozenset[str]()}, reasons.POOL_NOT_FOUND, ("node n1", "on no node", "nodeSelector")),
        ({}, {"lan": frozenset("abcdefg")}, reasons.POOL_NOT_FOUND, ("on a, b, c, d, e and others",)),
        ({"domain": {"name": "x"}}, {"lan": frozenset({"n1"})}, reasons.GUEST_NOT_FOUND, ("'x'",)),
        ({"domain": None, "nodeName": "n1"}, {"lan": frozenset({"n1"})}, reasons.INVALID_SOURCE, ("spec.domain",)),
    ],
)
def test_a_pool_that_is_not_where_the_guest_is_is_told(
    changes: dict[str, Any], pools: PoolNodes, reason: Reason, words: tuple[str, ...]
) -> None:
    answer = bind(wanted(**POOL, **changes), HOSTS, pools)
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert [w for w in words if w not in answer.message] == []
