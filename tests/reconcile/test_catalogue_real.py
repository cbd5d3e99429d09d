"""Which rows of the failure catalogue a test of the whole system makes happen for real, and which none can."""

from __future__ import annotations

import re
from pathlib import Path

import hostdev_operator.core.catalogue  # noqa: F401 - all rows
from hostdev_operator.core.reasons import CATALOGUE

SYSTEM = Path(__file__).parents[1] / "system"
#: Rows that stay with the scenarios of test_catalogue.py, and why.
INJECTED_ONLY = {
    "NodeGone": "the controller's alone: tests/cluster/test_gone_nodes.py, on the real API server",
    "BootFramebufferInUse": "the lab's firmware draws no picture, and QEMU warns of such memory without failing",
}
POOLS = "VFs, pools and networks"


def test_rows_of_assignments_happen_for_real() -> None:
    """A system test names a reason as a string of its own only to wait for it."""
    tests = "".join(path.read_text() for path in sorted(SYSTEM.glob("test_*.py")))
    named = set(re.findall(r'"([A-Z]\w+)"', tests))
    rows = {name for name, row in CATALOGUE.items() if row.topic != POOLS}
    assert rows - named == INJECTED_ONLY.keys()
