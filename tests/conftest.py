"""Two workers (pytest -n 2 --dist loadgroup): one has the long story of the system, the other everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

SYSTEM = Path(__file__).parent / "system"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a lab host; test_idle.py waits for two minutes, beside the other worker's work."""
    for item in items:
        story = SYSTEM in item.path.parents and item.path.name != "test_idle.py"
        item.add_marker(pytest.mark.xdist_group("system" if story else "others"))
