from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostdev_operator.core import catalogue
from hostdev_operator.core.conditions import ACCEPTED, ATTACHED, CONFIGURED, GROUP_READY, PLANNED, READY
from hostdev_operator.core.reasons import CATALOGUE, TOPICS, Reason

DOCS = Path(__file__).resolve().parents[2] / "docs"

CONDITIONS = catalogue.conditions()
TROUBLESHOOTING = catalogue.troubleshooting()
ROWS = list(CATALOGUE.values())


def anchors(page: str) -> list[str]:
    """What GitHub makes of headings: lower case, no punctuation, hyphens for spaces."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return [re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles]


def entry(reason: Reason) -> str:
    found = re.search(rf"^### {reason.name}\n(.*?)(?=^##|\Z)", TROUBLESHOOTING, re.MULTILINE | re.DOTALL)
    assert found, reason
    return found.group(1)


@pytest.mark.parametrize("reason", ROWS, ids=str)
def test_each_reason_has_an_entry_that_says_everything(reason: Reason) -> None:
    text = entry(reason)
    for part in (reason.meaning, reason.remedy, reason.retry, *(f"`{word}`" for word in reason.words)):
        assert part in text
    assert ("Said by" in text) == bool(reason.words)


def test_entries_stand_under_their_topic_in_the_order_of_the_catalogue() -> None:
    headings = re.findall(r"^##+ (.+)$", TROUBLESHOOTING, re.MULTILINE)
    wanted = [name for topic in TOPICS for name in (topic, *(r.name for r in ROWS if r.topic == topic))]
    assert headings[-len(wanted) :] == wanted


@pytest.mark.parametrize("page", [CONDITIONS, TROUBLESHOOTING], ids=["conditions", "troubleshooting"])
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert targets
    for target in targets:
        file, _, anchor = target.partition("#")
        assert file in ("", "troubleshooting.md", "controller.md")
        assert file == "" or (DOCS / file).is_file()
        assert not anchor or anchor in anchors(TROUBLESHOOTING)


def test_anchors_are_unique() -> None:
    found = anchors(TROUBLESHOOTING)
    assert len(found) == len(set(found))


def test_the_table_of_conditions_links_each_reason_once() -> None:
    table = CONDITIONS.split("## Catalogue")[1]
    assert sorted(re.findall(r"^\| \[(\w+)\]", table, re.MULTILINE)) == sorted(r.name for r in ROWS)
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}


def test_all_conditions_of_an_assignment_are_explained() -> None:
    for name in (ACCEPTED, PLANNED, GROUP_READY, CONFIGURED, ATTACHED, READY):
        assert re.search(rf"^\| {name} \|", CONDITIONS, re.MULTILINE)


def test_code_spans_are_closed_in_every_paragraph() -> None:
    for page in (CONDITIONS, TROUBLESHOOTING):
        for paragraph in page.split("\n\n"):
            assert paragraph.count("`") % 2 == 0, paragraph
