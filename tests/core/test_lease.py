"""Who may lead: the decisions, without anything around them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.core.lease import Lease, Sight, Timing, claim, look, released

T = Timing(30)
WALL = "2026-01-01T00:00:00.000000Z"
HELD = Lease("a", 30, 4, "then", "just now", "17")


def test_a_holder_stops_before_anybody_may_take_the_lease_and_has_tried_again_by_then() -> None:
    assert T.renew + 2 * T.retry < T.deadline < T.seconds - T.retry
    assert (T.renew, T.deadline, T.retry) == (10, 20, 2)


def test_a_lease_that_nobody_has_is_made_or_taken_at_once() -> None:
    assert claim(Sight(None, 5), "b", 5, WALL, T) == Lease("b", 30, 0, WALL, WALL)
    free = released(HELD, "now")
    assert free == Lease("", 1, 4, "then", "now", "17")
    assert claim(Sight(free, 5), "b", 5, WALL, T) == Lease("b", 30, 5, WALL, WALL, "17")


def test_its_holder_renews_it() -> None:
    """Who took it, when, and how often it changed hands stay; so does the version, which the API server compares."""
    assert claim(Sight(HELD, 5), "a", 1000, WALL, T) == replace(HELD, renewed=WALL)


@pytest.mark.parametrize(
    ("lease", "age", "taken"),
    [
        (HELD, 0, False),
        (HELD, 29.9, False),
        (HELD, 30, True),
        (replace(HELD, seconds=90), 89, False),  # its holder was told another duration: that one counts
        (replace(HELD, seconds=90), 90, True),
        (replace(HELD, seconds=0), 29, False),  # it does not say: then ours
        (replace(HELD, seconds=0), 30, True),
        (replace(HELD, renewed="1970-01-01T00:00:00Z"), 29, False),  # the other's clock means nothing
        (replace(HELD, renewed="2999-01-01T00:00:00Z"), 30, True),
    ],
)
def test_another_ones_is_taken_when_it_was_unchanged_for_its_duration(lease: Lease, age: float, *, taken: bool) -> None:
    wanted = claim(Sight(lease, 100), "b", 100 + age, WALL, T)
    assert wanted == (Lease("b", 30, 5, WALL, WALL, "17") if taken else None)


def test_what_has_changed_is_seen_anew() -> None:
    first = look(None, HELD, 10)
    assert first == Sight(HELD, 10)
    assert look(first, HELD, 20) == first
    labelled = replace(HELD, version="18")
    assert look(first, labelled, 20) == Sight(labelled, 10)  # somebody's label is no renewal
    renewed = replace(HELD, renewed="later", version="19")
    assert look(first, renewed, 20) == Sight(renewed, 20)


def test_one_that_was_deleted_is_waited_for_as_if_it_were_there() -> None:
    """Its holder writes until it finds out; then the Lease is made anew."""
    gone = look(look(None, HELD, 10), None, 20)
    assert claim(gone, "b", 39, WALL, T) is None
    wanted = claim(gone, "b", 40, WALL, T)
    assert wanted == Lease("b", 30, 5, WALL, WALL, "")
    assert look(None, None, 3) == Sight(None, 3)
