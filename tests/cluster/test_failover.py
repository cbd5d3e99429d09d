"""Two replicas of the controller as it is shipped, on the real API server, and what becomes of them.

Each has a token that is bound to a pod of its own, so the audit log tells who wrote what.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostdev_operator.adapters.kube import KubeCluster
from tests.cluster import processes
from tests.cluster.audit import AuditEntry
from tests.cluster.controlplane import ControlPlane

OPERATOR = Path(__file__).resolve().parents[2] / "operator"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/hostdev-system/leases/hostdev-controller"
VERSION = "hostdev.dev/v1alpha1"
UUID = "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"
LEASE_SECONDS = 9
_SECONDS = 120.0
_COLUMNS = '{.metadata.name},{.metadata.resourceVersion},{.status.nodeName}{"\\n"}'


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Replica:
    """One process; its log goes on over its restarts."""

    pod: str
    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def ready(self) -> bool:
        """By its probe."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def says(self, text: str) -> bool:
        return text in self.log.read_text()


class Replicas:
    """The two, and the API server beside them."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self._folder = folder
        self._began = time.time()
        self.all: list[Replica] = []
        self._watched = folder / "watched"
        self._watcher: subprocess.Popen[bytes] | None = None

    def start(self, pod: str) -> Replica:
        token = self.plane.pod_bound_token("hostdev-system", "hostdev-controller", pod, f"node-of-{pod}")
        kubeconfig = self.plane.kubeconfig(pod, token)
        log, port = self._folder / f"{pod}-{len(self.all)}.log", free_port()
        words = ["controller", "--probe-port", str(port), "--lease-seconds", str(LEASE_SECONDS)]
        with log.open("ab") as out:
            process: subprocess.Popen[bytes] = processes.die_with_parent(
                [sys.executable, "-m", "hostdev_operator", *words],
                cwd=self._folder,
                env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(OPERATOR)},
                stdout=out,
            )
        self.all.append(Replica(pod, process, log, port))
        self.until("its Lease is seen", lambda: self.all[-1].ready() or self.holder() in self.all[-1].log.read_text())
        return self.all[-1]

    def until(self, what: str, fits: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not fits():
            logs = "\n".join(f"{r.log.name}: {r.log.read_text()[-2000:]}" for r in self.all)
            assert time.monotonic() < deadline, f"{what}\n{logs}"
            time.sleep(0.05)

    def lease(self) -> dict[str, Any]:
        """Its spec."""
        spec: dict[str, Any] = (self.plane.read(LEASE) or {}).get("spec", {})
        return spec

    def holder(self) -> str:
        return self.lease().get("holderIdentity") or "nobody"

    def leads(self, replica: Replica) -> bool:
        return replica.says(f"leading as {self.holder()}")

    def wait_for(self, replica: Replica) -> None:
        self.until(f"{replica.pod} leads", lambda: self.leads(replica))

    def writes(self, pod: str | None = None, since: float | None = None) -> list[AuditEntry]:
        """Of these replicas, but for the Lease. The audit log has those of other tests too, and of the same names."""
        found = self.plane.writes(self._began if since is None else since)
        return [w for w in found if w.pod and w.resource != "leases" and pod in (None, w.pod)]

    def all_bound(self, names: list[str]) -> bool:
        listed = self.plane.read(f"/apis/{VERSION}/namespaces/default/deviceassignments") or {}
        bound = {b["metadata"]["name"] for b in listed["items"] if b.get("status", {}).get("nodeName") == "n1"}
        return bound >= set(names)

    def bindings(self, names: list[str], *, answered: bool = True) -> dict[str, list[str]]:
        """Assignment -> the pods that have written its status. Of whom is killed, the last request has no answer."""
        found = [w for w in self.writes() if (w.resource, w.subresource) == ("deviceassignments", "status")]
        codes = range(200, 300) if answered else (*range(400), *range(500, 600))
        return {name: [w.pod for w in found if w.name == name and w.code in codes] for name in names}

    def all_bound_once(self, names: list[str]) -> set[str]:
        """Wait for the bindings, and for the audit log, which is a moment behind; the pods that made them.

        That each was bound once is seen in the versions of the object itself: one whose request had no answer when it
        was killed may have written or not.
        """
        self.until("all bound", lambda: self.all_bound(names))
        self.until("all watched", lambda: all(self._versions(names).values()))
        self.until("all in the audit log", lambda: all(self.bindings(names, answered=False).values()))
        assert {name: found for name, found in self._versions(names).items() if len(found) != 1} == {}
        found = self.bindings(names)
        assert {name: pods for name, pods in found.items() if len(pods) > 1} == {}
        return {pod for pods in found.values() for pod in pods}

    def watch(self) -> None:
        """Note each version of each assignment from now on."""
        words = ["get", "deviceassignments", "-w", "-o", f"jsonpath={_COLUMNS}"]
        with self._watched.open("ab") as out:
            self._watcher = processes.die_with_parent(
                [str(self.plane._programs / "kubectl"), *words],
                cwd=self._folder,
                env={**os.environ, "KUBECONFIG": str(self.plane.admin_kubeconfig)},
                stdout=out,
            )

    def stop(self) -> None:
        """End all that was started."""
        if self._watcher:
            processes.end(self._watcher, 30)
        for replica in self.all:
            if replica.process.poll() is None:
                replica.process.send_signal(signal.SIGCONT)
                processes.end(replica.process, 30)

    def _versions(self, names: list[str]) -> dict[str, set[str]]:
        """Assignment -> the versions in which it was bound."""
        rows = [line.split(",") for line in self._watched.read_text().splitlines() if line.count(",") == 2]
        return {name: {version for who, version, node in rows if who == name and node == "n1"} for name in names}


@pytest.fixture
def replicas(plane: ControlPlane, tmp_path: Path) -> Iterator[Replicas]:
    made = Replicas(plane, tmp_path)
    yield made
    made.stop()
    if left := plane.kubectl("get", "deviceassignments", "-o", "name").stdout.split():
        plane.kubectl("patch", *left, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    plane.kubectl("delete", "deviceassignments", "--all")
    plane.kubectl("delete", "devicehosts,nodes", "--all")
    plane.kubectl("delete", "pods", "-n", "hostdev-system", "--all", "--force", "--grace-period=0")
    plane.kubectl("delete", "lease", "-n", "hostdev-system", "--all")
    assert not [r.log.name for r in made.all if "Forbidden" in r.log.read_text()]


@pytest.fixture
def users(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> KubeCluster:
    monkeypatch.setenv("KUBECONFIG", str(plane.admin_kubeconfig))
    return KubeCluster("hostdev-agent", "test")


async def host(users: KubeCluster) -> None:
    """A node with a guest, as its agent reports it."""
    body = {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": "n1"}}
    await users.create(body)
    guest = {"name": "web", "uuid": UUID, "active": False, "persistent": True}
    await users.apply_status(body, {"guests": [guest]}, "hostdev-agent")


async def assign(users: KubeCluster, prefix: str, count: int) -> list[str]:
    names = [f"{prefix}-{number}" for number in range(count)]
    for name in names:
        spec = {"domain": {"name": "web"}, "source": {"match": {"vendor": "0x8086"}}}
        metadata = {"name": name, "namespace": "default"}
        await users.create({"apiVersion": VERSION, "kind": "DeviceAssignment", "metadata": metadata, "spec": spec})
    return names


async def test_one_works_the_other_takes_over_and_nothing_is_bound_twice(
    replicas: Replicas, users: KubeCluster
) -> None:
    await host(users)
    replicas.watch()
    one = replicas.start("controller-a")
    replicas.wait_for(one)
    transitions = replicas.lease()["leaseTransitions"]
    other = replicas.start("controller-b")
    replicas.until("both are ready", lambda: one.ready() and other.ready())
    names = await assign(users, "calm", 5)
    assert replicas.all_bound_once(names) == {"controller-a"}
    assert replicas.writes("controller-b") == []

    # killed in the middle of its work
    names = await assign(users, "kill", 30)
    replicas.until("it has begun", lambda: any(replicas.bindings(names).values()))
    one.process.kill()
    one.process.wait(30)
    names += await assign(users, "late", 5)  # it may have been quick
    assert replicas.all_bound_once(names) == {"controller-a", "controller-b"}
    assert replicas.leads(other)
    assert replicas.lease()["leaseTransitions"] == transitions + 1

    # told to end: the next one need not wait
    third = replicas.start("controller-a")
    other.process.terminate()
    assert other.process.wait(60) == 0
    assert other.says("the Lease is given up")
    replicas.wait_for(third)
    names = await assign(users, "term", 5)
    assert replicas.all_bound_once(names) == {"controller-a"}


async def test_a_leader_that_was_suspended_writes_nothing_afterwards(replicas: Replicas, users: KubeCluster) -> None:
    await host(users)
    replicas.watch()
    one = replicas.start("controller-a")
    replicas.wait_for(one)
    other = replicas.start("controller-b")
    names = await assign(users, "stop", 30)
    replicas.until("it has begun", lambda: any(replicas.bindings(names).values()))
    one.process.send_signal(signal.SIGSTOP)  # with work in its queue, and news in its sockets
    stopped = time.time()
    late = await assign(users, "late", 5)
    assert replicas.all_bound_once(late) == {"controller-b"}
    assert replicas.leads(other)
    assert time.time() - stopped > LEASE_SECONDS / 2
    went_on = time.time()
    one.process.send_signal(signal.SIGCONT)
    assert one.process.wait(60) == 1
    assert one.says("the Lease is lost")
    assert replicas.writes("controller-a", went_on) == []
    assert replicas.all_bound_once([*names, *late]) == {"controller-a", "controller-b"}
    assert replicas.leads(other)


async def test_without_the_api_server_the_leader_ends_and_the_other_one_waits(replicas: Replicas) -> None:
    one = replicas.start("controller-a")
    replicas.wait_for(one)
    other = replicas.start("controller-b")
    replicas.plane.stop_apiserver()
    try:
        assert one.process.wait(120) == 1
        assert other.process.poll() is None
        replicas.until("it is not ready", lambda: not other.ready())
    finally:
        replicas.plane.start_apiserver()
    replicas.wait_for(other)
    replicas.until("it is ready", other.ready)
    # one that waits ends at once as well, though kopf does not heed signals for it yet
    third = replicas.start("controller-c")
    third.process.terminate()
    assert third.process.wait(60) == 0
    assert replicas.leads(other)
