"""The control plane of tests/cluster."""

from __future__ import annotations

from tests.cluster.conftest import control_plane, plane
from tests.manifests.conftest import pytest_collection_modifyitems

__all__ = ["control_plane", "plane", "pytest_collection_modifyitems"]
