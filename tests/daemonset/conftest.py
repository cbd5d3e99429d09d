"""One boot of a lab host for the whole folder: it joins a control plane, and the operator is installed there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemonset.installed import Installed, cluster
from tests.system.conftest import drivers, save_logs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this folder needs both parts."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("lab")
            item.add_marker("cluster")


@pytest.fixture(scope="module")
def joined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The node has joined; nothing is installed."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with cluster(tmp_path_factory.mktemp("daemonset"), reporter.write_line if reporter else print) as made:
        yield made


@pytest.fixture(autouse=True)
def _logs_of_failures(joined: Installed, request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what explains a failure into build/system-logs/<test>/."""
    yield
    if not joined.lab.lost:
        save_logs(joined, request.node)


@pytest.fixture
def installed(joined: Installed) -> Iterator[Installed]:
    """Installed as the README says; afterwards the host's devices are with the drivers that they had."""
    if joined.lab.lost:
        warnings.warn(f"started anew, since it was lost: {joined.lab.lost}", stacklevel=1)
        joined.revive()
    joined.install()
    before = drivers(joined.lab)
    yield joined
    if not joined.lab.lost:
        joined.clean()
        assert drivers(joined.lab) == before
