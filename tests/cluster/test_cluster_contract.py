"""One contract for the real API server (through KubeCluster) and for the fake that the fast tests run on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from hostdev_operator.adapters.kube import KubeCluster
from hostdev_operator.ports import Body, Cluster, ClusterError
from tests.cluster.controlplane import ControlPlane
from tests.fakes.cluster import FakeCluster

CRDS = Path(__file__).resolve().parents[2] / "crds"
CONTROLLER, AGENT = "hostdev-controller", "hostdev-agent"
UUID = "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"


class Users(Protocol):
    """What users do, beside the port under test."""

    cluster: Cluster

    def create(self, name: str) -> Body:
        """Kubectl create."""

    def delete(self, name: str) -> None:
        """Kubectl delete."""


class RealUsers:
    def __init__(self, plane: ControlPlane, cluster: KubeCluster) -> None:
        self.cluster: Cluster = cluster
        self._plane = plane

    def create(self, name: str) -> Body:
        text = json.dumps(manifest(name))
        created: Body = json.loads(self._plane.kubectl("create", "-o", "json", "-f", "-", stdin=text).stdout)
        return created

    def delete(self, name: str) -> None:
        self._plane.kubectl("delete", "deviceassignment", name, "--wait=false", "--ignore-not-found")


class FakeUsers:
    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster: Cluster = self.fake

    def create(self, name: str) -> Body:
        return self.fake.create(manifest(name))

    def delete(self, name: str) -> None:
        self.fake.delete(name)


def manifest(name: str) -> Body:
    return {
        "apiVersion": "hostdev.dev/v1alpha1",
        "kind": "DeviceAssignment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"domain": {"name": "g"}, "source": {"pci": {"address": "01:00.0"}}},
    }


def condition(kind: str, status: str = "True") -> Body:
    time = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": "Test", "message": "", "lastTransitionTime": time}


@pytest.fixture(params=["real", "fake"])
def users(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Users]:
    if request.param == "fake":
        yield FakeUsers()
        return
    plane: ControlPlane = request.getfixturevalue("control_plane")
    plane.kubectl("apply", "--server-side", "-k", str(CRDS))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    monkeypatch.setenv("KUBECONFIG", str(plane.admin_kubeconfig))
    yield RealUsers(plane, KubeCluster(AGENT, "test"))
    plane.kubectl("delete", "deviceassignments,devicehosts", "--all", "--wait=false")


async def test_two_writers_keep_their_own_fields_and_conditions(users: Users) -> None:
    body = users.create("two")
    binding = {"nodeName": "n1", "domainUUID": UUID, "conditions": [condition("Accepted"), condition("Ready", "False")]}
    body = await users.cluster.apply_assignment_status(body, binding, CONTROLLER)
    body = await users.cluster.apply_assignment_status(body, {"conditions": [condition("Ready")]}, AGENT)
    bound = {"nodeName": "n1", "domainUUID": UUID, "conditions": [condition("Accepted")]}
    body = await users.cluster.apply_assignment_status(body, bound, CONTROLLER)
    assert {c["type"]: c["status"] for c in body["status"]["conditions"]} == {"Accepted": "True", "Ready": "True"}
    assert body["status"]["nodeName"] == "n1"
    assert [b["metadata"]["name"] for b in await users.cluster.bound_assignments("n1")] == ["two"]
    assert await users.cluster.bound_assignments("n2") == []
    users.delete("two")


async def test_a_stale_write_is_a_conflict_and_changes_nothing(users: Users) -> None:
    old = users.create("stale")
    new = await users.cluster.apply_assignment_status(old, {"conditions": [condition("Ready")]}, AGENT)
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    for write in (
        users.cluster.apply_assignment_status(old, {"nodeName": "n1"}, CONTROLLER),
        users.cluster.clear_binding(old),
        users.cluster.set_finalizers(old, ["hostdev.dev/release"]),
    ):
        with pytest.raises(ClusterError) as refused:
            await write
        assert refused.value.code == 409
    assert await users.cluster.get_assignment("default", "stale") == new
    users.delete("stale")


async def test_a_namesake_made_anew_is_not_written_to(users: Users) -> None:
    old = users.create("again")
    users.delete("again")
    new = users.create("again")
    with pytest.raises(ClusterError) as refused:
        await users.cluster.apply_assignment_status(old, {"nodeName": "n1"}, CONTROLLER)
    assert refused.value.code in (404, 409)
    now = await users.cluster.get_assignment("default", "again")
    assert now
    assert (now["metadata"]["uid"], now.get("status")) == (new["metadata"]["uid"], None)
    users.delete("again")


async def test_what_is_gone_is_none_or_nothing_to_do(users: Users) -> None:
    gone = users.create("gone")
    users.delete("gone")
    assert await users.cluster.get_assignment("default", "gone") is None
    assert await users.cluster.set_finalizers(gone, ["hostdev.dev/release"]) is None
    await users.cluster.clear_binding(gone)
    with pytest.raises(ClusterError) as refused:
        await users.cluster.apply_assignment_status(gone, {"nodeName": "n1"}, CONTROLLER)
    assert refused.value.code in (404, 409)


async def test_finalizer_and_binding_go_their_way(users: Users) -> None:
    body = users.create("way")
    held = await users.cluster.set_finalizers(body, ["hostdev.dev/release"])
    assert held
    await users.cluster.apply_assignment_status(held, {"nodeName": "n1", "domainUUID": UUID}, CONTROLLER)
    users.delete("way")
    deleting = await users.cluster.get_assignment("default", "way")
    assert deleting
    assert "deletionTimestamp" in deleting["metadata"]
    await users.cluster.clear_binding(deleting)
    cleared = await users.cluster.get_assignment("default", "way")
    assert cleared
    assert "nodeName" not in cleared["status"]
    assert cleared["status"]["domainUUID"] == UUID
    await users.cluster.set_finalizers(cleared, [])
    assert await users.cluster.get_assignment("default", "way") is None


async def test_the_device_host_is_made_by_its_first_status(users: Users) -> None:
    assert await users.cluster.host("n1") is None
    await users.cluster.apply_host_status("n1", {"summary": "first"})
    await users.cluster.apply_host_status("n1", {"summary": "second"})
    body = await users.cluster.host("n1")
    assert body
    assert body["status"]["summary"] == "second"
    assert [b["metadata"]["name"] for b in await users.cluster.hosts()] == ["n1"]


async def test_events_are_written(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    control_plane.kubectl("apply", "--server-side", "-k", str(CRDS))
    monkeypatch.setenv("KUBECONFIG", str(control_plane.admin_kubeconfig))
    users = RealUsers(control_plane, KubeCluster(AGENT, "n1"))
    body = users.create("told")
    await users.cluster.event(body, warning=True, reason="HostCritical", message="x" * 5000)
    told = control_plane.kubectl("get", "events", "--field-selector=reason=HostCritical", "-o", "json").stdout
    (event,) = json.loads(told)["items"]
    assert (event["type"], event["involvedObject"]["name"], len(event["message"])) == ("Warning", "told", 1024)
    assert "HostCritical" in control_plane.kubectl("describe", "deviceassignment", "told").stdout
    users.delete("told")
