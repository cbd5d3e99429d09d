"""The policies of admission-nodes.yaml, each weakened in one place: an attempt that is refused must succeed then."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.node_attempts import NODE_REFUSED, ON_ASSIGNMENTS, ON_EVENTS, ON_GUESTS, ON_HOSTS, ON_POOLS
from tests.cluster.trying import Object

_FILE = Path(__file__).resolve().parents[2] / "manifests" / "base" / "admission-nodes.yaml"
POLICIES: dict[str, Object] = {
    one["metadata"]["name"]: one
    for one in yaml.safe_load_all(_FILE.read_text(encoding="utf-8"))
    if one["kind"] == "ValidatingAdmissionPolicy"
}


@dataclass(frozen=True)
class Mutant:
    """One policy, what is weakened in its spec, and the attempt that shows it, by its place in NODE_REFUSED."""

    policy: str
    what: str
    weakened: Object
    attempt: int


def _index(what: str, by: str, who: str) -> int:
    """Some attempts have the same words."""
    (found,) = (n for n, one in enumerate(NODE_REFUSED) if (one.what, one.by, one.who) == (what, by, who))
    return found


def _mutant(policy: str, what: str, change: Callable[[Any], None], attempt: str, who: str = "agent") -> Mutant:
    made = copy.deepcopy(POLICIES[policy])
    change(made["spec"])
    assert made != POLICIES[policy], what
    return Mutant(policy, what, made, _index(attempt, policy, who))


def _without(part: str, place: int) -> Callable[[Any], None]:
    def change(spec: Any) -> None:
        del (spec["matchConstraints"] if part == "resourceRules" else spec)[part][place]

    return change


def _instead(place: int, old: str, new: str) -> Callable[[Any], None]:
    def change(spec: Any) -> None:
        rule = spec["validations"][place]
        assert rule["expression"].count(old) == 1, old
        rule["expression"] = rule["expression"].replace(old, new)

    return change


def _spared(condition: str, old: str, new: str) -> Callable[[Any], None]:
    def change(spec: Any) -> None:
        (found,) = (one for one in spec["matchConditions"] if one["name"] == condition)
        assert found["expression"].count(old) == 1, old
        found["expression"] = found["expression"].replace(old, new)

    return change


def _for_nobody(spec: Any) -> None:
    spec["matchConditions"].append({"name": "never", "expression": "false"})


#: By policy, what shows that a validation is missing, in order.
REVEALS: dict[str, tuple[str, ...]] = {
    ON_ASSIGNMENTS: (
        "give up the binding of another node",
        "hand an own assignment to another node",
        "turn an own one to another guest",
        "say for the controller that it is refused",
    ),
    ON_HOSTS: (
        "report on another node's host",
        "make the own one with the guard lifted",
        "make the own one with the node said to be gone",
    ),
    ON_POOLS: ("say that another node has given it back", "say that another node has the own pool"),
    ON_GUESTS: (
        "as the controller, have a guest run what it likes",
        "say that another node has ended it",
        "say that another node has the own guest",
    ),
    ON_EVENTS: (
        "report as another node's agent",
        "about a pod",
        "about another node's host",
        "about another node's pool",
    ),
}


def _missing() -> Iterator[Mutant]:
    for policy, attempts in REVEALS.items():
        for place, attempt in enumerate(attempts):
            yield _mutant(policy, f"without validation {place}", _without("validations", place), attempt, _who(attempt))
        yield _mutant(policy, "for nobody", _for_nobody, attempts[0], _who(attempts[0]))


def _who(attempt: str) -> str:
    others = {"make the own one": "newcomer", "as the controller": "controller"}
    return next((who for words, who in others.items() if attempt.startswith(words)), "agent")


MUTANTS: tuple[Mutant, ...] = (
    *_missing(),
    *(
        _mutant(
            policy,
            f"{condition}: {new} instead of {old}",
            _spared(condition, old, new),
            REVEALS[policy][0],
            _who(REVEALS[policy][0]),
        )
        for policy, condition, old, new in (
            (ON_ASSIGNMENTS, "operator", "'patch'", "'update'"),
            (ON_ASSIGNMENTS, "no-controller", "'bind-assignments'", "'list'"),
            (ON_HOSTS, "no-administrator", "'update'", "'create'"),
            (ON_POOLS, "no-administrator", "'update'", "'list'"),
            (ON_GUESTS, "no-administrator", "'update'", "'list'"),
            (ON_EVENTS, "agent", "[^:]+", "default"),
        )
    ),
    _mutant(
        ON_ASSIGNMENTS,
        "a token without a node is of all that is not bound",
        _instead(0, "variables.node != '' && ", ""),
        "with it, report on an assignment that is not bound",
        "nameless",
    ),
    _mutant(
        ON_ASSIGNMENTS,
        "what is not bound is anybody's",
        _instead(0, "variables.bound == variables.node", "variables.bound in ['', variables.node]"),
        "bind an assignment to the own node",
    ),
    _mutant(
        ON_ASSIGNMENTS,
        "the new binding instead of the old one",
        _instead(0, "variables.bound == variables.node", "object.?status.?nodeName.orValue('') == variables.node"),
        "take an assignment over from another node",
    ),
    _mutant(
        ON_ASSIGNMENTS,
        "only changes of a node that is named",
        _instead(
            0, "variables.bound == variables.node", "object.?status.?nodeName.orValue('') in ['', variables.node]"
        ),
        "give up the binding of another node",
    ),
    _mutant(
        ON_ASSIGNMENTS,
        "an empty node is as good as none",
        _instead(1, "orValue(variables.node) == variables.node", "orValue('') in ['', variables.node]"),
        "leave an own one with a node of no name",
    ),
    _mutant(
        ON_ASSIGNMENTS,
        "a guest can be forgotten",
        _instead(
            2,
            "object.?status.?domainUUID == oldObject.?status.?domainUUID",
            "!object.?status.?domainUUID.hasValue() || object.?status.?domainUUID == oldObject.?status.?domainUUID",
        ),
        "forget which guest is meant",
    ),
    _mutant(ON_HOSTS, "not as they are made", _without("resourceRules", 0), "make the DeviceHost of another node"),
    _mutant(ON_HOSTS, "not their status", _without("resourceRules", 1), "report on another node's host"),
    _mutant(
        ON_EVENTS,
        "in anybody's name",
        _instead(0, "object.?reportingController.orValue('') == 'hostdev.dev/hostdev-agent'", "true"),
        "as a kubelet",
    ),
    _mutant(
        ON_EVENTS,
        "any API group",
        _instead(1, "object.?regarding.?apiVersion.orValue('').startsWith('hostdev.dev/')", "true"),
        "about another one's kind of the same name",
    ),
    _mutant(
        ON_EVENTS,
        "nodes whose names end alike",
        _instead(
            3,
            "variables.name.substring(variables.name.indexOf('.') + 1) == variables.node",
            "variables.name.endsWith('.' + variables.node)",
        ),
        "about that of a node whose name ends alike",
    ),
)
