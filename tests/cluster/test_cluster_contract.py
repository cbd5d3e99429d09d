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
ASSIGNMENT, POOL, NODE_POOL = "DeviceAssignment", "VFPool", "NodeVFPool"
UUID = "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"
BOUND = ("nodeName", "record", "guest")
VERSION = "hostdev.dev/v1alpha1"


class Users(Protocol):
    """What users do, beside the port under test."""

    cluster: Cluster

    def create(self, body: Body) -> Body:
        """Kubectl create."""

    def delete(self, body: Body) -> None:
        """Kubectl delete --wait=false, whether it is there or not."""

    def label(self, body: Body, **labels: str) -> Body:
        """Kubectl label."""


class RealUsers:
    def __init__(self, plane: ControlPlane, cluster: KubeCluster) -> None:
        self.cluster: Cluster = cluster
        self._plane = plane

    def create(self, body: Body) -> Body:
        return self._json("create", "-f", "-", stdin=json.dumps(body))

    def delete(self, body: Body) -> None:
        self._plane.kubectl("delete", body["kind"], body["metadata"]["name"], "--wait=false", "--ignore-not-found")

    def label(self, body: Body, **labels: str) -> Body:
        pairs = [f"{key}={value}" for key, value in labels.items()]
        return self._json("label", body["kind"], body["metadata"]["name"], *pairs)

    def _json(self, *arguments: str, stdin: str = "") -> Body:
        answer: Body = json.loads(self._plane.kubectl(*arguments, "-o", "json", stdin=stdin).stdout)
        return answer


class FakeUsers:
    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster: Cluster = self.fake.port

    def create(self, body: Body) -> Body:
        return self.fake.create(body)

    def delete(self, body: Body) -> None:
        if self.fake.exists(body["metadata"]["name"], kind=body["kind"]):
            self.fake.delete(body["metadata"]["name"], kind=body["kind"])

    def label(self, body: Body, **labels: str) -> Body:
        self.fake.annotate(body["metadata"]["name"], kind=body["kind"], labels=labels)
        return self.fake.get(body["metadata"]["name"], kind=body["kind"])


def manifest(name: str) -> Body:
    return {
        "apiVersion": VERSION,
        "kind": ASSIGNMENT,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"domain": {"name": "g"}, "source": {"pci": {"address": "01:00.0"}}},
    }


def pool(name: str) -> Body:
    spec = {"pf": {"name": "ens1f0"}, "numVFs": 4}
    return {"apiVersion": VERSION, "kind": POOL, "metadata": {"name": name}, "spec": spec}


def node_pool(name: str, node: str, **more: object) -> Body:
    spec = {"pf": {"name": "ens1f0"}, "numVFs": 4, "poolName": name, "nodeName": node, **more}
    return {"apiVersion": VERSION, "kind": NODE_POOL, "metadata": {"name": f"{name}.{node}"}, "spec": spec}


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
    plane.kubectl("delete", "deviceassignments,devicehosts,vfpools,nodevfpools", "--all", "--wait=false")


async def test_two_writers_keep_their_own_fields_and_conditions(users: Users) -> None:
    body = users.create(manifest("two"))
    binding = {"nodeName": "n1", "domainUUID": UUID, "conditions": [condition("Accepted"), condition("Ready", "False")]}
    body = await users.cluster.apply_status(body, binding, CONTROLLER)
    body = await users.cluster.apply_status(body, {"conditions": [condition("Ready")]}, AGENT)
    bound = {"nodeName": "n1", "domainUUID": UUID, "conditions": [condition("Accepted")]}
    body = await users.cluster.apply_status(body, bound, CONTROLLER)
    assert {c["type"]: c["status"] for c in body["status"]["conditions"]} == {"Accepted": "True", "Ready": "True"}
    assert body["status"]["nodeName"] == "n1"
    assert [b["metadata"]["name"] for b in await users.cluster.objects(ASSIGNMENT, "n1")] == ["two"]
    assert await users.cluster.objects(ASSIGNMENT, "n2") == []
    users.delete(body)


async def test_a_stale_write_is_a_conflict_and_changes_nothing(users: Users) -> None:
    for made in (manifest("stale"), node_pool("stale", "n1")):
        old = users.create(made)
        new = await users.cluster.apply_status(old, {"conditions": [condition("Ready")]}, AGENT)
        assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
        for write in (
            users.cluster.apply_status(old, {"nodeName": "n1"}, CONTROLLER),
            users.cluster.clear_status(old, BOUND),
            users.cluster.set_finalizers(old, ["hostdev.dev/release"]),
            users.cluster.replace({**old, "spec": {**old["spec"], "nodeName": "n2"}}),
            users.cluster.delete(old),
        ):
            with pytest.raises(ClusterError) as refused:
                await write
            assert refused.value.code == 409
        where = new["metadata"]
        assert await users.cluster.get(new["kind"], where["name"], where.get("namespace")) == new
        users.delete(new)


async def test_a_namesake_made_anew_is_not_written_to(users: Users) -> None:
    old = users.create(manifest("again"))
    users.delete(old)
    new = users.create(manifest("again"))
    for write in (users.cluster.apply_status(old, {"nodeName": "n1"}, CONTROLLER), users.cluster.delete(old)):
        with pytest.raises(ClusterError) as refused:
            await write
        assert refused.value.code in (404, 409)
    now = await users.cluster.get(ASSIGNMENT, "again", "default")
    assert now
    assert (now["metadata"]["uid"], now.get("status")) == (new["metadata"]["uid"], None)
    assert "deletionTimestamp" not in now["metadata"]
    users.delete(new)


async def test_what_is_gone_is_none_or_nothing_to_do(users: Users) -> None:
    for made in (manifest("gone"), node_pool("gone", "n1")):
        gone = users.create(made)
        users.delete(gone)
        where = gone["metadata"]
        assert await users.cluster.get(gone["kind"], where["name"], where.get("namespace")) is None
        assert await users.cluster.set_finalizers(gone, ["hostdev.dev/release"]) is None
        await users.cluster.clear_status(gone, BOUND)
        await users.cluster.delete(gone)
        for write in (users.cluster.apply_status(gone, {"nodeName": "n1"}, CONTROLLER), users.cluster.replace(gone)):
            with pytest.raises(ClusterError) as refused:
                await write
            assert refused.value.code in (404, 409)


async def test_finalizer_and_binding_go_their_way(users: Users) -> None:
    body = users.create(manifest("way"))
    held = await users.cluster.set_finalizers(body, ["hostdev.dev/release"])
    assert held
    await users.cluster.apply_status(held, {"nodeName": "n1", "domainUUID": UUID}, CONTROLLER)
    users.delete(held)
    deleting = await users.cluster.get(ASSIGNMENT, "way", "default")
    assert deleting
    assert "deletionTimestamp" in deleting["metadata"]
    await users.cluster.clear_status(deleting, BOUND)
    cleared = await users.cluster.get(ASSIGNMENT, "way", "default")
    assert cleared
    assert "nodeName" not in cleared["status"]
    assert cleared["status"]["domainUUID"] == UUID
    await users.cluster.set_finalizers(cleared, [])
    assert await users.cluster.get(ASSIGNMENT, "way", "default") is None


async def test_a_status_without_a_version_is_for_any_and_for_none_if_there_is_no_object(users: Users) -> None:
    host = {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": "n1"}}
    with pytest.raises(ClusterError) as refused:
        await users.cluster.apply_status(host, {"summary": "first"}, AGENT)
    assert refused.value.code == 404
    await users.cluster.create(host)
    await users.cluster.apply_status(host, {"summary": "first"}, AGENT)
    await users.cluster.apply_status(host, {"summary": "second"}, AGENT)
    body = await users.cluster.get("DeviceHost", "n1")
    assert body
    assert body["status"]["summary"] == "second"
    assert [b["metadata"]["name"] for b in await users.cluster.objects("DeviceHost")] == ["n1"]
    with pytest.raises(ClusterError) as refused:
        await users.cluster.create(host)
    assert refused.value.code == 409


async def test_a_node_pool_is_made_corrected_and_deleted_and_found_by_its_node(users: Users) -> None:
    owner = users.create(pool("lan"))
    reference = {"apiVersion": VERSION, "kind": POOL, "name": "lan", "uid": owner["metadata"]["uid"]}
    wanted = node_pool("lan", "n1")
    wanted["metadata"] |= {"finalizers": ["hostdev.dev/pool"], "ownerReferences": [reference]}
    made = await users.cluster.create(wanted)
    users.create(node_pool("lan", "n2"))
    assert [b["metadata"]["name"] for b in await users.cluster.objects(NODE_POOL, "n1")] == ["lan.n1"]
    assert sorted(b["metadata"]["name"] for b in await users.cluster.objects(NODE_POOL)) == ["lan.n1", "lan.n2"]
    made = await users.cluster.apply_status(made, {"nodeName": "n1"}, AGENT)
    edited = await users.cluster.replace({**made, "spec": {**made["spec"], "linkUp": True, "network": {"vlan": 5}}})
    assert edited["spec"]["network"]["vlan"] == 5
    corrected = await users.cluster.replace({**edited, "spec": wanted["spec"], "status": {"nodeName": "n3"}})
    assert "vlan" not in corrected["spec"].get("network", {})
    assert not corrected["spec"].get("linkUp")
    assert corrected["metadata"]["generation"] == made["metadata"]["generation"] + 2
    assert corrected["metadata"]["ownerReferences"] == [reference]
    assert corrected["status"]["nodeName"] == "n1"
    await users.cluster.delete(corrected)
    deleting = await users.cluster.get(NODE_POOL, "lan.n1")
    assert deleting
    assert "deletionTimestamp" in deleting["metadata"]
    await users.cluster.set_finalizers(deleting, [])
    assert await users.cluster.get(NODE_POOL, "lan.n1") is None


async def test_what_changes_nothing_is_no_new_version(users: Users) -> None:
    made = await users.cluster.create(node_pool("same", "n1"))
    status = {"nodeName": "n1", "conditions": [condition("Ready")]}
    first = await users.cluster.apply_status(made, status, AGENT)
    assert await users.cluster.apply_status(first, status, AGENT) == first
    assert await users.cluster.replace(first) == first


async def test_nodes_are_listed_with_their_labels(users: Users) -> None:
    node = users.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "labelled"}})
    users.label(node, rack="r1")
    (listed,) = [n for n in await users.cluster.objects("Node") if n["metadata"]["name"] == "labelled"]
    assert listed["kind"] == "Node"
    assert listed["metadata"]["labels"]["rack"] == "r1"
    users.delete(node)


async def test_events_are_written(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    control_plane.kubectl("apply", "--server-side", "-k", str(CRDS))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.admin_kubeconfig))
    users = RealUsers(control_plane, KubeCluster(AGENT, "n1"))
    for made, reason in ((manifest("told"), "HostCritical"), (pool("told"), "NoNodes")):
        body = users.create(made)
        await users.cluster.event(body, warning=True, reason=reason, message="x" * 5000)
        which = f"--field-selector=involvedObject.uid={body['metadata']['uid']},reason={reason}"
        told = control_plane.kubectl("get", "events", which, "-o", "json").stdout
        (event,) = json.loads(told)["items"]
        assert (event["type"], event["involvedObject"]["name"], len(event["message"])) == ("Warning", "told", 1024)
        assert (event["involvedObject"]["kind"], event["metadata"]["namespace"]) == (body["kind"], "default")
        assert reason in control_plane.kubectl("describe", body["kind"], "told").stdout
        users.delete(body)
