"""The control plane that all cluster tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that uses the control plane, so that ``-m "not cluster"`` never builds it."""
    for item in items:
        if "control_plane" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run one control plane for the session; the first one on a machine builds its programs for minutes."""
    # Its writer keeps the real terminal, so that a long build is seen in spite of pytest's output capture.
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    programs = binaries.ensure(reporter.write_line if reporter else print)
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane"), programs) as plane:
        yield plane


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with what is shipped for it, and the namespace default allowed everything."""
    control_plane.allow("default")
    base = Path(__file__).resolve().parents[2] / "manifests" / "base"
    control_plane.kubectl("apply", "--server-side", "-k", str(base))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return control_plane
