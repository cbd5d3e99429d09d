"""The control plane of tests/cluster, whose kubectl renders what is tested here."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import control_plane

__all__ = ["control_plane"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As tests/cluster does it."""
    for item in items:
        if "control_plane" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")
