"""Cluster of ports.py on lightkube: server-side apply on the status subresource, nothing else of metadata but the one
finalizer that the controller owns.
"""  # noqa: D205

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import httpx2
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.types import PatchType

from ..api import API_VERSION, GROUP, VERSION
from ..ports import Body, ClusterError

log = logging.getLogger(__name__)
T = TypeVar("T")

_NOT_FOUND = 404
#: The API server itself closes connections that are idle for 90 s.
_KEPT_SECONDS = 60.0
_NOTE_LIMIT = 1024
# lightkube makes these classes at run time, so a type checker knows nothing of them.
_Assignment: Any = create_namespaced_resource(GROUP, VERSION, "DeviceAssignment", "deviceassignments")
_Host: Any = create_global_resource(GROUP, VERSION, "DeviceHost", "devicehosts")
_Event: Any = create_namespaced_resource("events.k8s.io", "v1", "Event", "events")


def _transport(config: SingleConfig) -> httpx2.AsyncHTTPTransport:
    """As lightkube makes it, but for connections that outlive a pause: a TLS handshake costs more than a request."""
    verify = verify_cluster(config.cluster, config.user or User(), config.abs_file)
    return httpx2.AsyncHTTPTransport(verify=verify, limits=httpx2.Limits(keepalive_expiry=_KEPT_SECONDS))


class KubeCluster:
    """Talks to the API server that KUBECONFIG or the pod's service account names.

    ``component`` is who reports events (hostdev-agent, hostdev-controller), ``instance`` which one of them.
    """

    def __init__(self, component: str, instance: str) -> None:
        config = KubeConfig.from_env().get()
        if config is None:
            raise ClusterError(0, "neither KUBECONFIG nor a pod's service account names an API server")
        self._client = AsyncClient(config, transport=_transport(config))
        self._component = component
        self._instance = instance

    async def get_assignment(self, namespace: str, name: str) -> Body | None:
        """One object."""
        try:
            return _body(await _answer(self._client.get(_Assignment, name, namespace=namespace)))
        except ClusterError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    async def bound_assignments(self, node: str) -> list[Body]:
        """Selected by the server (selectableFields)."""

        async def collect() -> list[Body]:
            found = self._client.list(_Assignment, namespace="*", fields={"status.nodeName": node})
            return [_body(item) async for item in found]

        return await _answer(collect())

    async def apply_assignment_status(self, body: Body, status: Body, manager: str) -> Body:
        """The resource version in the manifest makes it a conflict if anything has changed since.

        A UID alone would not do: the API server does not compare it on the status subresource.
        """
        meta = body["metadata"]
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "DeviceAssignment",
            "metadata": {k: meta[k] for k in ("name", "namespace", "resourceVersion")},
            "status": status,
        }
        return _body(
            await _answer(
                self._client.patch(
                    _Assignment.Status,
                    meta["name"],
                    manifest,
                    namespace=meta["namespace"],
                    patch_type=PatchType.APPLY,
                    field_manager=manager,
                    force=True,
                )
            )
        )

    async def clear_binding(self, body: Body) -> None:
        """A merge patch: apply cannot remove what another manager (the controller) set."""
        meta = body["metadata"]
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "status": {"nodeName": None, "record": None, "guest": None},
        }
        try:
            await _answer(
                self._client.patch(
                    _Assignment.Status,
                    meta["name"],
                    patch,
                    namespace=meta["namespace"],
                    patch_type=PatchType.MERGE,
                )
            )
        except ClusterError as error:
            if error.code != _NOT_FOUND:
                raise

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        """Guarded by the resource version: a change that came between is a ClusterError with code 409."""
        meta = body["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}}
        try:
            return _body(
                await _answer(
                    self._client.patch(
                        _Assignment,
                        meta["name"],
                        patch,
                        namespace=meta["namespace"],
                        patch_type=PatchType.MERGE,
                    )
                )
            )
        except ClusterError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    async def hosts(self) -> list[Body]:
        """All of them."""

        async def collect() -> list[Body]:
            return [_body(item) async for item in self._client.list(_Host)]

        return await _answer(collect())

    async def host(self, node: str) -> Body | None:
        """One of them."""
        try:
            return _body(await _answer(self._client.get(_Host, node)))
        except ClusterError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    async def apply_host_status(self, node: str, status: Body) -> Body:
        """Tries the status first: the object is missing only once in a node's life."""
        manifest = {"apiVersion": API_VERSION, "kind": "DeviceHost", "metadata": {"name": node}}

        async def apply() -> Body:
            answer = self._client.patch(
                _Host.Status,
                node,
                {**manifest, "status": status},
                patch_type=PatchType.APPLY,
                field_manager=self._component,
                force=True,
            )
            return _body(await _answer(answer))

        try:
            return await apply()
        except ClusterError as error:
            if error.code != _NOT_FOUND:
                raise
        await _answer(self._client.create(_Host(manifest)))
        return await apply()

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        """An events.k8s.io/v1 Event in the object's namespace."""
        meta = body["metadata"]
        namespace = meta["namespace"]
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
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": "DeviceAssignment",
                "name": meta["name"],
                "namespace": namespace,
                "uid": meta["uid"],
            },
        }
        try:
            await _answer(cast("Any", self._client).create(_Event(event), namespace=namespace))
        except ClusterError as error:
            log.warning("event %s for %s was not written: %s", reason, meta["name"], error)


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except ApiError as error:
        raise ClusterError(int(error.response.status_code), str(error)) from error
    except httpx2.HTTPStatusError as error:
        raise ClusterError(int(error.response.status_code), str(error)) from error
    except httpx2.HTTPError as error:
        raise ClusterError(0, f"the API server does not answer: {error!r}") from error


def _body(resource: object) -> Body:
    """Lightkube's generic resources are dicts."""
    return dict(cast("Body", resource))
