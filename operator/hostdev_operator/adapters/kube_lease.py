"""LeaseStore of ports.py: one coordination.k8s.io Lease, by a connection that nothing else waits in line for."""

from __future__ import annotations

from typing import Any

from lightkube.generic_resource import create_namespaced_resource

from ..core.lease import Lease
from ..ports import Body, ClusterError
from .kube_client import NOT_FOUND, answer, body_of, client

_Lease: Any = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")


class KubeLease:
    """The Lease of this name, whether it exists or not."""

    def __init__(self, namespace: str, name: str) -> None:
        self._client = client("hostdev-controller")
        self._namespace = namespace
        self._name = name
        self._last: Body = {}

    async def read(self) -> Lease | None:
        """As it is now."""
        try:
            return self._took(body_of(await answer(self._client.get(_Lease, self._name, namespace=self._namespace))))
        except ClusterError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def write(self, lease: Lease) -> Lease:
        """An update of the version that was read last, with what else stands in it; or a new object."""
        body = self._last if lease.version else {}
        wire = {
            **body.get("spec", {}),
            "holderIdentity": lease.holder,
            "leaseDurationSeconds": lease.seconds,
            "leaseTransitions": lease.transitions,
            "acquireTime": lease.acquired,
            "renewTime": lease.renewed,
        }
        metadata = {**body.get("metadata", {}), "name": self._name, "namespace": self._namespace}
        if lease.version:
            metadata["resourceVersion"] = lease.version
        resource = _Lease({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": wire})
        call = self._client.replace if lease.version else self._client.create
        return self._took(body_of(await answer(call(resource, namespace=self._namespace))))

    def _took(self, body: Body) -> Lease:
        self._last = body
        spec = body.get("spec") or {}
        return Lease(
            holder=spec.get("holderIdentity") or "",
            seconds=spec.get("leaseDurationSeconds") or 0,
            transitions=spec.get("leaseTransitions") or 0,
            acquired=spec.get("acquireTime") or "",
            renewed=spec.get("renewTime") or "",
            version=body["metadata"]["resourceVersion"],
        )
