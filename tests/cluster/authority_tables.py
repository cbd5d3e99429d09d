"""What hostile tenants and stolen agents try, and what everybody keeps: tables for the tests and for docs/security.md.

``python -m tests.cluster.authority_tables`` writes them into docs/security.md. Namespaces and people are made by the
fixture of test_authority.py:

- ``team-a`` has the label, the guests web and UUID, and the pools lan and wan/finance; ``team-b`` has the guest db.
- ``bare`` has an assignment of a time when it had the label.
- ``tenant`` has hostdev-tenant in team-a and bare, and Kubernetes' own admin and edit in team-a; ``assigner`` and
  ``approver`` have their roles in team-a; ``owner`` has all verbs on everything in team-a; ``clerk`` writes namespaces;
  ``pooler`` may do everything with VFPools but approve.

What is there when agents are played says node_world.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.cluster.attempts import REFUSED
from tests.cluster.authority import Attempt
from tests.cluster.node_attempts import NODE_REFUSED
from tests.cluster.node_permitted import NODE_ALLOWED
from tests.cluster.permitted import ALLOWED

SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def table(refused: Iterable[Attempt], allowed: Iterable[Attempt]) -> str:
    """Two tables in Markdown."""
    rows = ["| attempt | by | refused by |", "|---|---|---|"]
    rows += [f"| {one.what} | {one.who} | {one.by} |" for one in refused]
    rows += ["", "What stays allowed:", "", "| what | to |", "|---|---|"]
    rows += [f"| {one.what} | {one.who} |" for one in allowed]
    return "\n".join(rows)


_MADE = "made by python -m tests.cluster.authority_tables"
#: What stands before and behind a pair of tables, and the tables.
PLACES = (
    (f"<!-- attempts: {_MADE} -->\n", "<!-- end of attempts -->", table(REFUSED, ALLOWED)),
    (f"<!-- node attempts: {_MADE} -->\n", "<!-- end of node attempts -->", table(NODE_REFUSED, NODE_ALLOWED)),
)


def written(text: str) -> str:
    """docs/security.md with the tables as they are now."""
    for begin, end, made in PLACES:
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{made}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    SECURITY.write_text(written(SECURITY.read_text(encoding="utf-8")), encoding="utf-8")
