"""Cluster of ports.py on lightkube: server-side apply on the status subresource, and of the rest of an object only what
the controller owns: finalizers, and NodeVFPools as a whole.
"""  # noqa: D205

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.types import PatchType

from ..api import API_VERSION, GROUP, VERSION
from ..ports import Body, ClusterError
from .kube_client import NOT_FOUND, answer, body_of, client

log = logging.getLogger(__name__)

_NOTE_LIMIT = 1024
_ALL_NAMESPACES = "*"
#: Where events about objects without a namespace go (the API server takes no other for them).
_EVENT_NAMESPACE = "default"
# lightkube makes these classes at run time, so a type checker knows nothing of them.
_KINDS: dict[str, Any] = {
    "DeviceAssignment": create_namespaced_resource(GROUP, VERSION, "DeviceAssignment", "deviceassignments"),
    "DeviceHost": create_global_resource(GROUP, VERSION, "DeviceHost", "devicehosts"),
    "VFPool": create_global_resource(GROUP, VERSION, "VFPool", "vfpools"),
    "NodeVFPool": create_global_resource(GROUP, VERSION, "NodeVFPool", "nodevfpools"),
    "Guest": create_global_resource(GROUP, VERSION, "Guest", "guests"),
    "Node": create_global_resource("", "v1", "Node", "nodes"),
    "Namespace": create_global_resource("", "v1", "Namespace", "namespaces"),
    "DaemonSet": create_namespaced_resource("apps", "v1", "DaemonSet", "daemonsets"),
    "Deployment": create_namespaced_resource("apps", "v1", "Deployment", "deployments"),
}
_NAMESPACED = frozenset({"DeviceAssignment", "DaemonSet", "Deployment"})
#: What replace writes of metadata.
_REPLACED = ("finalizers", "ownerReferences")
_NODE_FIELDS = {"DeviceAssignment": "status.nodeName", "NodeVFPool": "spec.nodeName", "Guest": "spec.nodeName"}
_Event: Any = create_namespaced_resource("events.k8s.io", "v1", "Event", "events")


class KubeCluster:
    """Talks to the API server that KUBECONFIG or the pod's service account names.

    ``component`` is who writes and reports events (hostdev-agent, hostdev-controller), ``instance`` which one of them.
    """

    def __init__(self, component: str, instance: str) -> None:
        self._client = client(component)
        self._component = component
        self._instance = instance

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Body | None:
        """One object."""
        try:
            return body_of(await answer(self._client.get(_KINDS[kind], name, **_where(kind, namespace))))
        except ClusterError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def objects(self, kind: str, node: str | None = None) -> list[Body]:
        """Those of a node are selected by the server (selectableFields)."""
        fields = {_NODE_FIELDS[kind]: node} if node is not None else None

        async def collect() -> list[Body]:
            found = self._client.list(_KINDS[kind], fields=fields, **_where(kind, _ALL_NAMESPACES))
            return [{"kind": kind, **body_of(item)} async for item in found]  # of Nodes the server leaves it out

        return await answer(collect())

    async def create(self, body: Body) -> Body:
        """As it is."""
        kind = body["kind"]
        resource = _KINDS[kind](body)
        return body_of(await answer(self._client.create(resource, **_where(kind, body["metadata"].get("namespace")))))

    async def replace(self, body: Body) -> Body:
        """A JSON patch of whole fields: what others have added to spec goes, which server-side apply would leave.

        The resource version in it is compared with the object's, as that of an update is.
        """
        meta = body["metadata"]
        metadata = {f"metadata/{name}": meta.get(name) for name in ("resourceVersion", *_REPLACED)}
        values = {**metadata, "spec": body["spec"]}
        patch = [{"op": "add", "path": f"/{path}", "value": value} for path, value in values.items()]
        call = self._client.patch(
            _KINDS[body["kind"]], meta["name"], patch, patch_type=PatchType.JSON, **_where_is(body)
        )
        return body_of(await answer(call))

    async def delete(self, body: Body) -> None:
        """With preconditions, which the server compares in the same transaction."""
        try:
            await answer(self._delete(body))
        except ClusterError as error:
            if error.code != NOT_FOUND:
                raise

    async def _delete(self, body: Body) -> None:
        """Lightkube's own delete sends no DeleteOptions: this is what it does, with them."""
        meta = body["metadata"]
        http = self._client._client  # noqa: SLF001 - the part of lightkube that makes requests
        request = http.prepare_request("delete", _KINDS[body["kind"]], name=meta["name"], **_where_is(body))
        preconditions = {name: meta[name] for name in ("uid", "resourceVersion")}
        request.data = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        http.handle_response("delete", await http.send(http.build_adapter_request(request)), request)

    async def apply_status(self, body: Body, status: Body, manager: str) -> Body:
        """The resource version in the manifest makes it a conflict if anything has changed since.

        A UID alone would not do: the API server does not compare it on the status subresource.
        """
        meta = body["metadata"]
        manifest = {
            "apiVersion": API_VERSION,
            "kind": body["kind"],
            "metadata": {k: meta[k] for k in ("name", "namespace", "resourceVersion") if k in meta},
            "status": status,
        }
        return body_of(
            await answer(
                self._client.patch(
                    _KINDS[body["kind"]].Status,
                    meta["name"],
                    manifest,
                    patch_type=PatchType.APPLY,
                    field_manager=manager,
                    force=True,
                    **_where_is(body),
                )
            )
        )

    async def clear_status(self, body: Body, fields: Iterable[str]) -> None:
        """A merge patch: apply cannot remove what another manager (the controller) set."""
        await self._merge(_KINDS[body["kind"]].Status, body, {}, {"status": dict.fromkeys(fields)})

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        """Guarded by the resource version: a change that came between is a ClusterError with code 409."""
        return await self._merge(_KINDS[body["kind"]], body, {"finalizers": finalizers}, {})

    async def _merge(self, resource: Any, body: Body, metadata: Body, rest: Body) -> Body | None:
        """A merge patch of this very version; None if the object is gone."""
        meta = body["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], **metadata}, **rest}
        call = self._client.patch(resource, meta["name"], patch, patch_type=PatchType.MERGE, **_where_is(body))
        try:
            return body_of(await answer(call))
        except ClusterError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        """An events.k8s.io/v1 Event in the object's namespace."""
        meta = body["metadata"]
        regarding = {"apiVersion": API_VERSION, "kind": body["kind"], "name": meta["name"], "uid": meta["uid"]}
        if "namespace" in meta:
            regarding["namespace"] = meta["namespace"]
        namespace = meta.get("namespace", _EVENT_NAMESPACE)
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name'][:200]}.{time.time_ns():x}", "namespace": namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{GROUP}/{self._component}",
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "note": message[:_NOTE_LIMIT],
            "regarding": regarding,
        }
        try:
            await answer(self._client.create(_Event(event), namespace=namespace))
        except ClusterError as error:
            log.warning("event %s for %s was not written: %s", reason, meta["name"], error)


def _where(kind: str, namespace: str | None) -> dict[str, str | None]:
    """The namespace for lightkube, which takes none for kinds that have none."""
    return {"namespace": namespace} if kind in _NAMESPACED else {}


def _where_is(body: Body) -> dict[str, str | None]:
    return _where(body["kind"], body["metadata"].get("namespace"))
