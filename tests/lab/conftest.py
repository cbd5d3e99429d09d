"""Fixtures of the laboratory: one host for each test module, and its logs when a test fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from image.cache import REPOSITORY
from tests.lab.host import LabHost
from tests.outcome import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGS = REPOSITORY / "build" / "lab-logs"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """One laboratory host for the whole module: a boot costs about 20 s."""
    with LabHost.boot(tmp_path_factory.mktemp("lab")) as host:
        yield host


@pytest.fixture(autouse=True)
def _logs_of_failures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect the laboratory's logs into build/lab-logs/<test>/ when a test that used it fails."""
    yield
    host = request.node.funcargs.get("lab")
    if isinstance(host, LabHost) and request.node.stash.get(FAILED, False):
        folder: Path = LOGS / re.sub(r"[^\w.-]+", "_", request.node.name)
        host.collect_logs(folder)
        print(f"the laboratory's logs: {folder}")
