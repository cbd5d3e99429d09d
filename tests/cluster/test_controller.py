"""The controller as it is shipped: its program, its role, the real API server. The test plays the agent of node n1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostdev_operator.adapters.kube import KubeCluster
from hostdev_operator.ports import Body, Cluster
from tests.cluster import processes
from tests.cluster.controlplane import ControlPlane

OPERATOR = Path(__file__).resolve().parents[2] / "operator"
AGENT = "hostdev-agent"
VERSION = "hostdev.dev/v1alpha1"
UUID = "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"
_SECONDS = 60.0


class Running:
    """The controller's process, and the API server beside it."""

    def __init__(self, plane: ControlPlane, cluster: Cluster, agent: Cluster, log: Path) -> None:
        self.plane = plane
        self.cluster = cluster
        self.agent = agent
        self._log = log

    async def until(self, kind: str, name: str, fits: Callable[[Body | None], bool]) -> Body | None:
        """The object when it is as it should be."""
        deadline = time.monotonic() + _SECONDS
        while not fits(body := await self.cluster.get(kind, name, "default")):
            assert time.monotonic() < deadline, f"{kind} {name} is {body}\n{self._log.read_text()[-3000:]}"
            time.sleep(0.05)  # noqa: ASYNC251 - nothing else runs here
        return body

    async def node_pool(self, name: str) -> Body:
        body = await self.until("NodeVFPool", name, lambda b: b is not None)
        assert body
        return body

    async def report(self, body: Body) -> None:
        """What the node's agent writes when the pool is ready."""
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": body["metadata"]["generation"],
        }
        counts = {"total": 4, "allocated": 0, "free": 4}
        status = {"nodeName": body["spec"]["nodeName"], "counts": counts, "conditions": [ready]}
        by = self.agent if body["spec"]["nodeName"] == "n1" else self.cluster  # the agent's token is of n1
        await by.apply_status(body, status, AGENT)


@pytest.fixture
def running(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    token = plane.service_account_token("hostdev-system", "hostdev-controller")
    kubeconfig = plane.kubeconfig("controller", token)
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(OPERATOR)}
    log = tmp_path / "controller.log"
    with log.open("ab") as out:
        process: subprocess.Popen[bytes] = processes.die_with_parent(
            [sys.executable, "-m", "hostdev_operator", "controller", "--probe-port", "0"],
            cwd=tmp_path,
            env=environment,
            stdout=out,
        )
    bound = plane.pod_bound_token("hostdev-system", AGENT, "agent-n1", "n1")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig("agent", bound)))
    agent = KubeCluster(AGENT, "n1")
    monkeypatch.setenv("KUBECONFIG", str(plane.admin_kubeconfig))
    yield Running(plane, KubeCluster("test", "test"), agent, log)
    processes.end(process, 20)
    for kind in ("deviceassignments", "vfpools", "nodevfpools"):
        for name in plane.kubectl("get", kind, "-o", "name").stdout.split():
            plane.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
        plane.kubectl("delete", kind, "--all")
    plane.kubectl("delete", "devicehosts,nodes", "--all")
    plane.kubectl("delete", "pod", "-n", "hostdev-system", "agent-n1", "--force", "--grace-period=0")
    assert "Forbidden" not in log.read_text()


def pool() -> Body:
    spec = {"pf": {"name": "ens1f0"}, "numVFs": 4, "nodeSelector": {"rack": "r1"}}
    return {"apiVersion": VERSION, "kind": "VFPool", "metadata": {"name": "lan"}, "spec": spec}


def assignment(name: str, mac: str) -> Body:
    spec = {"domain": {"name": "web"}, "source": {"pool": {"name": "lan"}}, "network": {"mac": mac}}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": VERSION, "kind": "DeviceAssignment", "metadata": metadata, "spec": spec}


def reason(body: Body | None, kind: str) -> str | None:
    rows = (body or {}).get("status", {}).get("conditions", [])
    return next((c["reason"] for c in rows if c["type"] == kind), None)


async def test_a_namespace_is_asked_again_before_the_binding(running: Running) -> None:
    """The policies let it in; the label went before there was a guest to bind it to."""
    await running.cluster.create(assignment("early", "52:54:00:00:00:0b"))
    await running.until("DeviceAssignment", "early", lambda b: reason(b, "Accepted") == "PoolNotFound")
    running.plane.kubectl("label", "namespace", "default", "hostdev.dev/assignments-")
    try:
        await running.until("DeviceAssignment", "early", lambda b: reason(b, "Accepted") == "NamespaceNotAllowed")
    finally:
        running.plane.allow("default")
    await running.until("DeviceAssignment", "early", lambda b: reason(b, "Accepted") == "PoolNotFound")


async def test_a_pool_comes_to_its_node_serves_an_assignment_and_goes(running: Running) -> None:
    cluster = running.cluster
    agent = running.agent
    await agent.create({"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": "n1"}})
    host = {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": "n1"}}
    guest = {"name": "web", "uuid": UUID, "active": False, "persistent": True}
    await agent.apply_status(host, {"guests": [guest]}, AGENT)
    await cluster.create(assignment("first", "52:54:00:00:00:0a"))
    await running.until("DeviceAssignment", "first", lambda b: reason(b, "Accepted") == "PoolNotFound")
    await cluster.create(pool())
    await running.until("VFPool", "lan", lambda b: reason(b, "Ready") == "NoNodes")
    running.plane.kubectl("label", "node", "n1", "rack=r1")
    await running.report(await running.node_pool("lan.n1"))
    body = await running.until("VFPool", "lan", lambda b: reason(b, "Ready") == "AllNodesReady")
    assert body
    assert body["status"]["counts"] == {"total": 4, "allocated": 0, "free": 4}
    columns = running.plane.kubectl("get", "vfpool", "lan", "--no-headers").stdout.split()
    assert columns[:7] == ["lan", "1", "1", "4", "0", "4", "True"]
    await running.until("DeviceAssignment", "first", lambda b: reason(b, "Accepted") == "Bound")
    await cluster.create(assignment("second", "52:54:00:00:00:0A"))
    await running.until("DeviceAssignment", "second", lambda b: reason(b, "Accepted") == "MACInUse")

    approved = "0123456789abcdef0123456789abcdef"
    patch = json.dumps({"spec": {"approvedPlans": {"n1": approved, "n2": "f" * 32}}})
    running.plane.kubectl("patch", "vfpool", "lan", "--type=merge", "-p", patch)
    await running.until("NodeVFPool", "lan.n1", lambda b: b is not None and b["spec"].get("approvedPlan") == approved)
    corrected = (await running.node_pool("lan.n1"))["metadata"]["generation"] + 2
    patch = '{"spec":{"linkUp":true,"bindHostDriver":true}}'
    running.plane.kubectl("patch", "nodevfpool", "lan.n1", "--type=merge", "-p", patch)
    await running.until(
        "NodeVFPool",
        "lan.n1",
        lambda b: b is not None and b["metadata"]["generation"] == corrected and not b["spec"].get("linkUp"),
    )

    running.plane.kubectl("label", "node", "n1", "rack-")
    held = await running.until("NodeVFPool", "lan.n1", lambda b: b is not None and "deletionTimestamp" in b["metadata"])
    assert held
    await agent.clear_status(held, ["nodeName"])
    await running.until("NodeVFPool", "lan.n1", lambda b: b is None)
    running.plane.kubectl("delete", "vfpool", "lan", "--wait=false")
    await running.until("VFPool", "lan", lambda b: b is None)
