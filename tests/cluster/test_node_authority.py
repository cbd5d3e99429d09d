"""Agents are kept to their nodes: played with a stolen token, and with all that must go on working."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster import node_world
from tests.cluster.authority import Attempt
from tests.cluster.controlplane import ControlPlane
from tests.cluster.node_attempts import NODE_REFUSED
from tests.cluster.node_mutants import MUTANTS, POLICIES, REVEALS, Mutant
from tests.cluster.node_permitted import NODE_ALLOWED
from tests.cluster.trying import Kubeconfigs, Object, is_allowed, is_refused, tried

_SECONDS = 60.0


@pytest.fixture(scope="module")
def people(plane: ControlPlane) -> Iterator[Kubeconfigs]:
    """Everybody's kubeconfig, by name."""
    yield node_world.begin(plane)
    node_world.end(plane)


@pytest.mark.parametrize("attempt", NODE_REFUSED, ids=lambda a: f"{a.who}: {a.what}")
def test_it_is_refused_with_the_next_step(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> None:
    is_refused(plane, people, attempt)


@pytest.mark.parametrize("attempt", NODE_ALLOWED, ids=lambda a: f"{a.who}: {a.what}")
def test_it_stays_allowed(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> None:
    is_allowed(plane, people, attempt)


# -- the attempts can succeed ----------------------------------------------------------------------------------------


def apply(plane: ControlPlane, policy: Object) -> None:
    """As the administrator."""
    arguments = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    plane.kubectl(*arguments, stdin=json.dumps(policy))


def until(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt, *, works: bool) -> None:
    """A policy takes effect a moment after it was written."""
    deadline = time.monotonic() + _SECONDS
    while True:
        status, said = tried(plane, people, attempt)
        if (status == 0) == works:
            return
        assert time.monotonic() < deadline, f"{attempt.what}: {said}"
        time.sleep(0.1)


def test_every_policy_and_every_line_of_it_is_weakened() -> None:
    assert {name: len(one["spec"]["validations"]) for name, one in POLICIES.items()} == {
        name: len(attempts) for name, attempts in REVEALS.items()
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.policy}: {m.what}")
def test_a_weaker_policy_lets_an_attempt_succeed(plane: ControlPlane, people: Kubeconfigs, mutant: Mutant) -> None:
    attempt = NODE_REFUSED[mutant.attempt]
    is_refused(plane, people, attempt)
    apply(plane, mutant.weakened)
    try:
        until(plane, people, attempt, works=True)
    finally:
        apply(plane, POLICIES[mutant.policy])
    until(plane, people, attempt, works=False)
