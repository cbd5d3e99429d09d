"""One kind cluster for all tests of this folder, and the installation in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import GUESTS, Installation
from tests.e2e.kind.cluster import SYSTEM, Kind
from tests.e2e.kind.recorded import REPOSITORY, write_overlay
from tests.e2e.kind.running import running
from tests.outcome import FAILED

LOGS = REPOSITORY / "build/kind"


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """The cluster, with nothing installed but the image on its nodes."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with running(reporter.write_line if reporter else print) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The development overlay, with a host of its own for each node."""
    folder = tmp_path_factory.mktemp("overlay") / "tests"
    write_overlay(folder, GUESTS)
    return folder


@pytest.fixture(scope="session")
def installed(kind: Kind, overlay: Path) -> Installation:
    """Installed for all tests that do not install by themselves."""
    made = Installation(kind, overlay)
    made.install()
    return made


@pytest.fixture
def installation(installed: Installation) -> Iterator[Installation]:
    """Where nothing is assigned; afterwards neither."""
    before = {node: installed.host(node) for node in GUESTS}
    yield installed
    installed.clean()
    assert {node: installed.host(node) for node in GUESTS} == before


@pytest.fixture(autouse=True)
def logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the pods have said stays in build/kind after a failure."""
    cluster: Kind | None = request.getfixturevalue("kind") if "kind" in request.fixturenames else None
    yield
    if cluster and request.node.stash.get(FAILED, False):
        LOGS.mkdir(parents=True, exist_ok=True)
        text = [cluster.kubectl("get", "pods,nodes,events", "-A", "-o", "wide", check=False).stdout]
        for component in ("agent", "controller"):
            words = ("-n", SYSTEM, "logs", "-l", f"app.kubernetes.io/component={component}", "--prefix", "--tail=400")
            text.append(cluster.kubectl(*words, check=False).stdout)
        (LOGS / f"{request.node.name.replace('/', '-')}.log").write_text("\n".join(text))
