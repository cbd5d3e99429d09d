from __future__ import annotations

from hostdev_operator.core.conditions import MESSAGE_LIMIT, changed, condition, find, stamp

OLD = stamp([condition("Ready", False, "Waiting", "a"), condition("Planned", True, "Fine", "")], (), "T1", 1)


def test_a_condition_gets_the_time_of_its_first_sight() -> None:
    assert [(c.last_transition_time, c.observed_generation) for c in OLD] == [("T1", 1), ("T1", 1)]


def test_the_time_moves_with_the_status_and_with_nothing_else() -> None:
    reworded = stamp([condition("Ready", False, "Other", "b")], OLD, "T2", 2)
    assert [(c.last_transition_time, c.reason, c.observed_generation) for c in reworded] == [("T1", "Other", 2)]
    turned = stamp([condition("Ready", True, "Done", "")], OLD, "T2", 2)
    assert turned[0].last_transition_time == "T2"


def test_unknown_is_a_status_of_its_own() -> None:
    assert condition("Ready", None, "CannotTell", "").status == "Unknown"


def test_a_message_is_cut_to_what_the_schema_takes() -> None:
    assert len(condition("Ready", True, "x", "m" * 10_000).message) == MESSAGE_LIMIT


def test_changed_names_new_statuses_and_reasons_but_not_new_words() -> None:
    same = condition("Planned", True, "Fine", "other words")
    other = condition("Ready", False, "Other", "a")
    assert changed((same, other), OLD) == (other,)
    assert changed((same,), ()) == (same,)


def test_find_takes_the_type() -> None:
    assert find(OLD, "Planned") == OLD[1]
    assert find(OLD, "Nothing") is None
