"""When a node counts as gone for good, and when it does not: the second is what matters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.core.gone import (
    ANNOTATION,
    Evidence,
    Fate,
    confirmation,
    doubt,
    fate,
    last_report,
    missing,
    waited,
)

NOW = "2026-05-02T12:00:00Z"
DAY = 86400.0
SAID = Evidence(node=False, confirmed="2026-05-02T11:00:00Z", reported="2026-05-01T08:00:00Z")


@pytest.mark.parametrize(
    ("evidence", "grace", "is_"),
    [
        (Evidence(node=True), None, Fate.THERE),
        (Evidence(node=True, silent=9 * DAY, confirmed="2026-05-02T11:00:00Z"), DAY, Fate.THERE),
        (Evidence(node=False), None, Fate.MISSING),
        (Evidence(node=False, silent=999 * DAY), None, Fate.MISSING),
        (Evidence(node=False, silent=DAY - 1), DAY, Fate.MISSING),
        (Evidence(node=False, silent=DAY), DAY, Fate.OVERDUE),
        (SAID, None, Fate.GONE),
        (replace(SAID, reported=None), None, Fate.GONE),
        (replace(SAID, silent=DAY), DAY, Fate.GONE),
        (replace(SAID, reported="2026-05-02T11:00:00Z"), None, Fate.MISSING),  # in the same second: who knows
        (replace(SAID, reported="2026-05-02T11:30:00Z"), None, Fate.MISSING),
        (replace(SAID, reported="2026-05-02T11:30:00Z", silent=DAY), DAY, Fate.OVERDUE),
        (replace(SAID, confirmed="2026-05-02T12:00:59Z"), None, Fate.GONE),
        (replace(SAID, confirmed="2026-05-02T12:01:01Z"), None, Fate.MISSING),
        (replace(SAID, confirmed="2999-01-01T00:00:00Z"), None, Fate.MISSING),
        (replace(SAID, confirmed="2026-05-02T13:00:00+02:00"), None, Fate.GONE),
        (replace(SAID, confirmed="2026-05-02T11:00:00"), None, Fate.MISSING),  # of which zone?
        (replace(SAID, confirmed="confirmed"), None, Fate.MISSING),
        (replace(SAID, confirmed="true"), None, Fate.MISSING),
        (replace(SAID, confirmed=""), None, Fate.MISSING),
    ],
)
def test_only_a_word_that_is_newer_than_any_sign_of_life_counts(
    evidence: Evidence, grace: float | None, is_: Fate
) -> None:
    assert fate(evidence, NOW, grace) is is_


def test_why_a_word_does_not_count_is_told_with_what_to_do() -> None:
    assert doubt(SAID, NOW) is None
    refusal = missing("n1", Evidence(node=False), NOW, has_host=True)
    assert refusal.message.endswith(f"kubectl annotate --overwrite devicehost n1 {ANNOTATION}=$(date -u +%FT%TZ)")
    late = missing("n1", replace(SAID, reported="2026-05-02T11:30:00Z"), NOW, has_host=True)
    assert "has reported at 2026-05-02T11:30:00Z" in late.message
    assert "'yes'" in missing("n1", replace(SAID, confirmed="yes"), NOW, has_host=True).message
    assert (
        "of a time to come"
        in missing("n1", replace(SAID, confirmed="2999-01-01T00:00:00Z"), NOW, has_host=True).message
    )
    assert "create one" in missing("n1", Evidence(node=False), NOW, has_host=False).message


def test_the_last_report_is_the_newest_status_that_the_agent_wrote() -> None:
    def entry(manager: str, time: str, subresource: str | None = "status") -> dict[str, str]:
        return {"manager": manager, "time": time, **({"subresource": subresource} if subresource else {})}

    host = {"managedFields": [entry("hostdev-agent", "2026-05-01T08:00:00Z"), entry("kubectl", "2026-05-02T08:00:00Z")]}
    other = {"managedFields": [entry("hostdev-agent", "2026-05-01T09:00:00Z"), entry("hostdev-agent", "2027", None)]}
    assert last_report(host) == "2026-05-01T08:00:00Z"
    assert last_report(host, other) == "2026-05-01T09:00:00Z"
    assert last_report({}, {"managedFields": None}) is None
    assert confirmation({"annotations": {ANNOTATION: "x"}}) == "x"
    assert confirmation({}) is None


def test_how_long_a_deletion_waits() -> None:
    assert waited({"deletionTimestamp": "2026-05-02T11:00:00Z"}, NOW) == 3600
    assert waited({}, NOW) is None
