"""What a namespace may have, as the controller reads it; tests/cluster/test_authority.py asks the policies the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec
from hostdev_operator.core import reasons
from hostdev_operator.core.authority import Grant, not_allowed
from tests.cluster.attempts import REFUSED
from tests.cluster.authority import ALLOWANCES, ASSIGNMENTS, Attempt
from tests.cluster.permitted import ALLOWED
from tests.fakes.samples import WEB, spec

LABEL = {"hostdev.dev/assignments": "allowed"}


def grant(guests: str | None = "*", pools: str | None = "*", labels: dict[str, str] | None = LABEL) -> Grant:
    notes = {"hostdev.dev/guests": guests, "hostdev.dev/pools": pools}
    return Grant.of({"labels": labels, "annotations": {k: v for k, v in notes.items() if v is not None} or None})


def wanted(**changes: Any) -> DeviceAssignmentSpec:
    return DeviceAssignmentSpec.model_validate({**spec(), **changes})


def pool(portgroup: str | None = None, **network: object) -> dict[str, object]:
    source = {"pool": {"name": "lan", **({"portgroup": portgroup} if portgroup else {})}}
    return {"source": source, "network": network} if network else {"source": source}


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (grant(), {}),
        (grant("web"), {}),
        (grant(" db ,web,"), {}),
        (grant(WEB), {"domain": {"uuid": WEB}}),
        (grant(None), {"domain": None, "nodeName": "n1"}),
        (grant(pools=None), {}),
        (grant(pools="lan"), pool()),
        (grant(pools="lan"), pool("a", vlan=4)),
        (grant(pools="lan/a"), pool("a")),
        (grant(pools="lan/a"), pool("a", mac="52:54:00:00:00:01")),
    ],
)
def test_what_a_namespace_may_have(given: Grant, changes: dict[str, Any]) -> None:
    assert not_allowed("team-a", given, wanted(**changes)) is None


LABELLING = "kubectl label --overwrite namespace team-a hostdev.dev/assignments=allowed"
NOTE = "kubectl annotate --overwrite namespace team-a hostdev.dev/"


@pytest.mark.parametrize(
    ("given", "changes", "words"),
    [
        (grant(labels=None), {}, ("may not have DeviceAssignments", LABELLING)),
        (grant(labels={"hostdev.dev/assignments": "Allowed"}), {}, (LABELLING,)),
        (grant(None), {}, ("guest 'web'", f"{NOTE}guests=web")),
        (grant("db, 'x"), {}, (f"{NOTE}guests='db,'\"'\"'x,web'",)),
        (grant("web"), {"domain": {"uuid": WEB}}, (f"{NOTE}guests=web,{WEB}",)),
        (grant(""), {"domain": {"name": ","}}, (f"{NOTE}guests=GUEST",)),
        (grant("web,*2"), {"domain": {"name": "web,*2"}}, (f"{NOTE}guests='web,*2,GUEST'",)),
        (grant("web"), {"domain": {"name": "*"}}, (f"{NOTE}guests=web,GUEST",)),
        (grant("web"), {"domain": {"name": "web\n$(x)"}}, (f"{NOTE}guests=web,GUEST", "'web\\n$(x)'")),
        (grant(pools=None), pool(), ("pool lan", f"{NOTE}pools=lan")),
        (grant(pools="wan"), pool("a"), (f"{NOTE}pools=wan,lan/a",)),
        (grant(pools="lan/a"), pool(), (f"{NOTE}pools=lan/a,lan",)),
        (grant(pools="lan/a"), pool("b"), (f"{NOTE}pools=lan/a,lan/b",)),
        (grant(pools="lan/a"), pool("a", vlan=4), (f"{NOTE}pools=lan/a,lan",)),
        (grant(pools="lan/a"), pool("a", virtualPort={"profileID": "x"}), (f"{NOTE}pools=lan/a,lan",)),
    ],
)
def test_what_it_may_not_have_and_who_can_change_that(
    given: Grant, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    refusal = not_allowed("team-a", given, wanted(**changes))
    assert refusal
    assert refusal.reason is reasons.NAMESPACE_NOT_ALLOWED
    assert [word for word in words if word not in refusal.message] == []
    assert "\n" not in refusal.message


def made(attempts: tuple[Attempt, ...]) -> list[tuple[str, dict[str, Any]]]:
    """The assignments that are created by them."""
    bodies = [(one, json.loads(one.stdin)) for one in attempts if one.arguments[0] == "create" and one.stdin]
    return [(one.by, body) for one, body in bodies if body["kind"] == "DeviceAssignment" and "-f" in one.arguments]


def test_the_policies_and_the_controller_say_the_same() -> None:
    """Of what is created: only which user may name a device is not the controller's to know."""
    labelled = {name: {"labels": LABEL, "annotations": notes} for name, notes in ALLOWANCES.items()}
    labelled["bare"]["labels"] = {}
    seen = set()
    for by, body in made((*REFUSED, *ALLOWED)):
        namespace = body["metadata"]["namespace"]
        asked = DeviceAssignmentSpec.model_validate(body["spec"])
        refusal = not_allowed(namespace, Grant.of(labelled[namespace]), asked)
        names_a_device = asked.source.pool is None
        if by in (ASSIGNMENTS, "") and not names_a_device:
            assert (refusal is not None) == (by == ASSIGNMENTS), body
            seen.add(by)
    assert seen == {ASSIGNMENTS, ""}
