"""The docker of the tests leaves the machine as it was, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kind import parts
from tests.e2e.kind.cluster import plain
from tests.e2e.kind.dockerd import Dockerd
from tests.e2e.kind.recorded import REPOSITORY

pytestmark = pytest.mark.skipif(plain(), reason="none is started")
_CHILD = """
import sys, time
from pathlib import Path
from tests.e2e.kind.dockerd import Dockerd
with Dockerd(Path(sys.argv[1])) as docker:
    print(docker.inside()[1], flush=True)
    time.sleep(600)
"""


def _links() -> list[str]:
    shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return [line.split(": ")[1] for line in shown.splitlines()]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of a short name: containerd's sockets are below it, and their paths have a limit."""
    parts.machine_packages()
    made = Path(tempfile.mkdtemp(prefix="hostdev-kind-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_its_networks_are_not_the_machines_and_nothing_is_left(folder: Path) -> None:
    links, forwards = _links(), Path("/proc/sys/net/ipv4/ip_forward").read_text()
    with Dockerd(folder) as docker:
        words = ["docker", "network", "create", "--driver", "bridge", "tests"]
        subprocess.run(words, env=docker.environment(), check=True, capture_output=True)
        inside = subprocess.run([*docker.inside(), "ip", "-o", "link"], capture_output=True, text=True, check=True)
        assert "br-" in inside.stdout
        assert _links() == links
    assert not folder.exists()
    assert (_links(), Path("/proc/sys/net/ipv4/ip_forward").read_text()) == (links, forwards)


def test_it_ends_with_whoever_started_it(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'operator'}"}
    command = [sys.executable, "-c", _CHILD, str(folder)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        first = Path(child.stdout.readline().strip().removeprefix("--net=")).parents[1]
        assert first.exists()
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while first.exists():
        assert time.monotonic() < deadline, f"{first} is still there"
        time.sleep(0.1)
