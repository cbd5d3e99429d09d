"""Controller and agent as they are shipped, on the real API server; the agent's host is a recording that lives on."""

from __future__ import annotations

import contextlib
import http
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import processes
from tests.cluster.controlplane import ControlPlane

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDINGS = REPOSITORY / "tests/recordings"
NODE = "simulated"
SYSTEM = "hostdev-system"
_SECONDS = 60.0
ASSIGNMENT = """apiVersion: hostdev.dev/v1alpha1
kind: DeviceAssignment
metadata: {name: card, namespace: default}
spec:
  domain: {name: web}
  source: {pci: {address: "0000:01:00.0"}}
"""
POOL = """apiVersion: hostdev.dev/v1alpha1
kind: VFPool
metadata: {name: lan}
spec:
  pf: {name: enp1s0f0, vfs: "2-3"}
  externallyManaged: true
---
apiVersion: hostdev.dev/v1alpha1
kind: DeviceAssignment
metadata: {name: card, namespace: default}
spec:
  domain: {name: web}
  source: {pool: {name: lan}}
"""


class Simulation:
    """Both processes, and the command that changes the host."""

    def __init__(self, plane: ControlPlane, folder: Path, environment: dict[str, str]) -> None:
        self.plane = plane
        self._folder = folder
        self._environment = environment

    def outside(self, *words: str) -> str:
        """What the command `simulation` prints."""
        command = [sys.executable, "-m", "hostdev_operator", "simulation", "--state-dir", str(self._folder), *words]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout

    def host(self) -> dict[str, Any]:
        """The simulated host, as it is and not as the status says."""
        found: dict[str, Any] = json.loads(self.outside("show"))
        return found

    def drivers(self) -> list[str]:
        """Of the card's four functions."""
        return [self.host()["devices"][f"0000:01:00.{n}"]["driver"] for n in range(4)]

    def wait(self, what: str, fits: Callable[[], bool]) -> None:
        """Until it is so."""
        deadline = time.monotonic() + _SECONDS
        while not fits():
            logs = "".join(path.read_text()[-3000:] for path in sorted(self._folder.glob("*.log")))
            assert time.monotonic() < deadline, f"{what}\n{self.status()}\n{logs}"
            time.sleep(0.1)

    def status(self, path: str = "namespaces/default/deviceassignments/card") -> dict[str, Any]:
        """The assignment's; empty if it is gone."""
        body = self.plane.read(f"/apis/hostdev.dev/v1alpha1/{path}")
        status: dict[str, Any] = (body or {}).get("status", {})
        return status

    def reason(self) -> str | None:
        """Of the condition Ready."""
        return next((c["reason"] for c in self.status().get("conditions", []) if c["type"] == "Ready"), None)

    def attached(self) -> bool:
        """Whether the running guest has it, by the status."""
        return any(c["type"] == "Attached" and c["status"] == "True" for c in self.status().get("conditions", []))


@contextlib.contextmanager
def simulating(plane: ControlPlane, folder: Path, recording: str) -> Iterator[Simulation]:
    """With the roles and tokens that they are shipped with; afterwards nothing of it was forbidden."""
    running, since = [], time.time()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "operator")}
    recorded = str(RECORDINGS / f"{recording}.tar.zst")
    agent = ["agent", "--node-name", NODE, "--simulate", recorded, "--state-dir", str(folder)]
    tokens = {
        "controller": plane.service_account_token(SYSTEM, "hostdev-controller"),
        "agent": plane.pod_bound_token(SYSTEM, "hostdev-agent", f"agent-{NODE}", NODE),
    }
    for role, words in (("controller", ["controller"]), ("agent", agent)):
        kubeconfig = plane.kubeconfig(f"simulation-{role}", tokens[role])
        with (folder / f"{role}.log").open("ab") as out:
            process: subprocess.Popen[bytes] = processes.die_with_parent(
                [sys.executable, "-m", "hostdev_operator", *words, "--probe-port", "0"],
                cwd=folder,
                env={**environment, "KUBECONFIG": str(kubeconfig)},
                stdout=out,
            )
        running.append(process)
    yield Simulation(plane, folder, environment)
    plane.kubectl("delete", "deviceassignments,vfpools", "--all", "--timeout=60s")
    for process in running:
        processes.end(process, 20)
    plane.kubectl("delete", "devicehosts", "--all")
    plane.kubectl("delete", "pod", "-n", SYSTEM, f"agent-{NODE}", "--force", "--grace-period=0")
    plane.kubectl("delete", "node", NODE)
    assert not (folder / "simulation.sock").exists()
    for role in tokens:
        written = plane.writes(since, f"system:serviceaccount:{SYSTEM}:hostdev-{role}")
        assert [one for one in written if one.code == http.HTTPStatus.FORBIDDEN] == []
        assert any(one.resource == "events" and one.code == http.HTTPStatus.CREATED for one in written)


@pytest.fixture
def simulation(plane: ControlPlane, tmp_path: Path) -> Iterator[Simulation]:
    with simulating(plane, tmp_path, "gpu") as made:
        yield made


@pytest.fixture
def pooled(plane: ControlPlane, tmp_path: Path) -> Iterator[Simulation]:
    with simulating(plane, tmp_path, "sriov-bond") as made:
        yield made


def test_a_recorded_host_is_reported_assigned_from_and_given_back(simulation: Simulation) -> None:
    plane = simulation.plane
    simulation.wait("the host", lambda: bool(plane.kubectl("get", "devicehosts", "-o", "name").stdout))
    before = simulation.drivers()
    assert before == ["nouveau", "snd_hda_intel", "xhci_hcd", "nvidia-gpu"]
    plane.kubectl("apply", "-f", "-", stdin=ASSIGNMENT)
    simulation.wait("Assigned", lambda: simulation.reason() == "Assigned")
    assert simulation.status()["nodeName"] == NODE
    assert simulation.drivers()[1:] == ["vfio-pci"] * 3
    assert simulation.host()["guests"]["web"]["config"] == ["0000:01:00.0"]

    simulation.outside("start", "web")
    simulation.wait("Attached", simulation.attached)
    assert simulation.drivers() == ["vfio-pci"] * 4
    plane.kubectl("delete", "deviceassignment", "card", "--wait=false")
    simulation.wait("GuestRunning", lambda: simulation.reason() == "GuestRunning")
    assert simulation.drivers() == ["vfio-pci"] * 4  # nothing is taken from a guest that runs
    simulation.outside("stop", "web")
    simulation.wait("released", lambda: simulation.status() == {})
    assert simulation.drivers() == before
    assert simulation.host()["guests"]["web"]["config"] == []


def test_a_device_that_is_pulled_out_is_missed_at_once(simulation: Simulation) -> None:
    simulation.plane.kubectl("apply", "-f", "-", stdin=ASSIGNMENT)
    simulation.wait("Assigned", lambda: simulation.reason() == "Assigned")
    simulation.outside("remove", "0000:01:00.0")
    simulation.wait("DeviceNotFound", lambda: simulation.reason() == "DeviceNotFound")
    simulation.outside("insert", "0000:01:00.0")
    simulation.wait("Assigned", lambda: simulation.reason() == "Assigned")


def test_a_pool_comes_to_a_recorded_host_serves_a_guest_and_goes(pooled: Simulation) -> None:
    plane, part = pooled.plane, f"nodevfpools/lan.{NODE}"
    pooled.wait("the host", lambda: bool(plane.kubectl("get", "devicehosts", "-o", "name").stdout))
    plane.kubectl("apply", "-f", "-", stdin=POOL)
    pooled.wait("Assigned", lambda: pooled.reason() == "Assigned")
    assert pooled.status(part)["nodeName"] == NODE
    pooled.wait("its VFs", lambda: pooled.status("vfpools/lan").get("counts", {}).get("total") == 2)
    plane.kubectl("delete", "deviceassignment", "card", "--timeout=60s")
    plane.kubectl("delete", "vfpool", "lan", "--timeout=60s")
    assert pooled.status(part) == {}
