"""Objects from files, as kubectl apply takes them, put together with those that the cluster has."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import yaml

from ..api import API_VERSION
from ..api.devicehost import DeviceHostSpec
from ..api.vfpool import VFPoolSpec
from ..core.pool_binding import Pool, node_pool_name, spec_for
from ..core.settings import Settings
from ..ports import Body, Cluster
from ..reconcile.preview import Objects
from .objects import parse
from .pool_work import parse_pool

_KINDS = ("DeviceAssignment", "VFPool", "NodeVFPool", "DeviceHost")
#: Of what does not exist yet: younger than everything that does.
_NEW = "9999-12-31T23:59:59Z"


def read(texts: Iterable[str]) -> list[Body]:
    """All objects of this API in YAML or JSON texts, lists taken apart; others are left out.

    ValueError if a text is not YAML, or there is none.
    """
    found: list[Body] = []
    for text in texts:
        try:
            for document in yaml.safe_load_all(text):
                found += _objects(document)
        except yaml.YAMLError as error:
            raise ValueError(f"not YAML: {error}") from error
    if not found:
        raise ValueError(f"no object of {API_VERSION} ({', '.join(_KINDS)})")
    return found


def _objects(document: Any) -> list[Body]:
    if not isinstance(document, dict):
        return []
    if isinstance(document.get("items"), list):
        return [body for item in document["items"] for body in _objects(item)]
    if document.get("apiVersion") != API_VERSION or document.get("kind") not in _KINDS:
        return []
    if not isinstance(document.get("metadata"), dict) or not document["metadata"].get("name"):
        raise ValueError(f"a {document['kind']} has no metadata.name")
    return [document]


async def known_to(cluster: Cluster, node: str) -> list[Body]:
    """What the cluster has of the node: its DeviceHost, assignments and pools. ClusterError if it does not answer."""
    host = await cluster.get("DeviceHost", node)
    bodies = [*await cluster.objects("DeviceAssignment", node), *await cluster.objects("NodeVFPool", node)]
    return [*bodies, {"kind": "DeviceHost", **host}] if host else bodies


async def asked_in(cluster: Cluster, asked: Iterable[Body]) -> list[Body]:
    """Assignments of the files that the cluster has, bound to whatever node."""
    found = [
        await cluster.get(body["kind"], body["metadata"]["name"], body["metadata"].get("namespace", "default"))
        for body in asked
        if body["kind"] == "DeviceAssignment"
    ]
    return [{"kind": "DeviceAssignment", **body} for body in found if body]


def objects(asked: Iterable[Body], known: Iterable[Body], node: str) -> Objects:
    """What is to be planned on the node. ValueError if an object does not fit its model."""
    there = {_key(body): body for body in known}
    wanted = {_key(body): body for body in (_for_node(body, node) for body in asked)}
    merged = {key: _merged(body, there.get(key)) for key, body in wanted.items()}
    everything = {**there, **merged}
    hosts = [body for (kind, _, name), body in everything.items() if kind == "DeviceHost" and name == node]
    spec = hosts[0].get("spec") if hosts else None
    return Objects(
        assignments=tuple(parse(body) for (kind, *_), body in everything.items() if kind == "DeviceAssignment"),
        pools=tuple(parse_pool(body) for (kind, *_), body in everything.items() if kind == "NodeVFPool"),
        asked=frozenset(body["metadata"]["uid"] for body in merged.values()),
        settings=Settings.of(DeviceHostSpec.model_validate(spec) if spec else None),
    )


def _key(body: Body) -> tuple[str, str, str]:
    kind, meta = body["kind"], body["metadata"]
    return kind, meta.get("namespace", "default") if kind == "DeviceAssignment" else "", meta["name"]


def _for_node(body: Body, node: str) -> Body:
    """A VFPool as what it asks of the node, as the controller does it."""
    if body["kind"] != "VFPool":
        return body
    name = body["metadata"]["name"]
    pool = Pool(uid="", name=name, generation=0, spec=VFPoolSpec.model_validate(body.get("spec") or {}))
    metadata = {"name": node_pool_name(name, node)}
    return {"kind": "NodeVFPool", "metadata": metadata, "spec": spec_for(pool, node).wire()}


def _merged(body: Body, known: Body | None) -> Body:
    """The file's spec, as an apply would leave it: who approved is often another one than who wrote the rest."""
    key = _key(body)
    namespace = {"namespace": key[1]} if key[1] else {}
    new = {"uid": f"new-{sha256('/'.join(key).encode()).hexdigest()[:16]}", "creationTimestamp": _NEW, "generation": 0}
    spec = dict(body.get("spec") or {})
    if known and "approvedPlan" in known.get("spec", {}):
        spec.setdefault("approvedPlan", known["spec"]["approvedPlan"])
    meta = known["metadata"] if known else {**new, "name": key[2], **namespace}
    return {"kind": key[0], "metadata": meta, "spec": spec, "status": known.get("status") or {} if known else {}}
