"""What goes to the API server; how it answers is in tests/cluster/test_cluster_contract.py."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from hostdev_operator.adapters import kube, kube_client
from hostdev_operator.ports import Body, ClusterError

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
}
NODE_POOL: Body = {"kind": "NodeVFPool", "metadata": {"name": "lan.n1", "uid": "u-1", "resourceVersion": "7"}}


class Server:
    """Answers each request with one code, and keeps what it was asked."""

    def __init__(self, code: int) -> None:
        self._code = code
        self.asked: list[tuple[str, str, Body]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append((request.method, request.url.path, json.loads(request.content or "{}")))
        answer = {"kind": "Status", "apiVersion": "v1", "code": self._code, "message": "the precondition failed"}
        return httpx2.Response(self._code, json=answer, request=request)


def cluster(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> kube.KubeCluster:
    (folder / "config").write_text(json.dumps(CONFIG))
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    monkeypatch.setattr(kube_client, "_transport", lambda _config: httpx2.MockTransport(server))
    return kube.KubeCluster("hostdev-controller", "test")


async def test_a_deletion_is_of_this_very_version_and_the_server_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(200)
    await cluster(server, tmp_path, monkeypatch).delete(NODE_POOL)
    ((method, path, options),) = server.asked
    assert (method, path) == ("DELETE", "/apis/hostdev.dev/v1alpha1/nodevfpools/lan.n1")
    assert options == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u-1", "resourceVersion": "7"},
    }


async def test_what_is_gone_is_deleted_and_what_has_changed_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster(Server(404), tmp_path, monkeypatch).delete(NODE_POOL)
    with pytest.raises(ClusterError) as refused:
        await cluster(Server(409), tmp_path, monkeypatch).delete(NODE_POOL)
    assert (refused.value.code, str(refused.value)) == (409, "the precondition failed")
