"""What a hostile tenant tries, and what everybody keeps: one table for the tests and for docs/security.md.

``python -m tests.cluster.authority_tables`` writes it into docs/security.md. The namespaces and people are made by the
fixture of test_authority.py:

- ``team-a`` has the label, the guests web and UUID, and the pools lan and wan/finance; ``team-b`` has the guest db.
- ``bare`` has an assignment of a time when it had the label.
- ``tenant`` has hostdev-tenant in team-a and bare, and Kubernetes' own admin and edit in team-a; ``assigner`` and
  ``approver`` have their roles in team-a; ``owner`` has all verbs on everything in team-a; ``clerk`` writes namespaces;
  ``pooler`` may do everything with VFPools but approve.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster.attempts import REFUSED
from tests.cluster.permitted import ALLOWED

SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def table() -> str:
    """Both tables in Markdown."""
    rows = ["| attempt | by | refused by |", "|---|---|---|"]
    rows += [f"| {one.what} | {one.who} | {one.by} |" for one in REFUSED]
    rows += ["", "What stays allowed:", "", "| what | to |", "|---|---|"]
    rows += [f"| {one.what} | {one.who} |" for one in ALLOWED]
    return "\n".join(rows)


BEGIN, END = "<!-- attempts: made by python -m tests.cluster.authority_tables -->\n", "<!-- end of attempts -->"


def written(text: str) -> str:
    """docs/security.md with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    SECURITY.write_text(written(SECURITY.read_text(encoding="utf-8")), encoding="utf-8")
