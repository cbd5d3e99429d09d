"""What stands in the way of an uninstallation, and what is to be done next. docs/install.md has the order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.conditions import READY
from ..ports import Body, Cluster, ClusterError

OVERLAY = "manifests/overlays/default"
_LABELS = {"app.kubernetes.io/name": "hostdev-operator"}
_CRDS = "deviceassignments devicehosts guests nodevfpools vfpools"
_NOT_FOUND = 404


@dataclass(frozen=True)
class Installation:
    """What the cluster has. ``workloads``: the agent's DaemonSet and the controller's Deployment, if they are there.

    ``assignments``: None if the API server does not know the kind.
    """

    assignments: Sequence[Body] | None
    pools: Sequence[Body]
    hosts: Sequence[Body]
    workloads: Sequence[Body]
    guests: Sequence[Body] = ()


async def installation(cluster: Cluster) -> Installation:
    """Read it. ClusterError if the API server does not answer; of a kind that it does not know there is nothing."""
    workloads = [*await cluster.objects("DaemonSet"), *await cluster.objects("Deployment")]
    return Installation(
        await _objects(cluster, "DeviceAssignment"),
        [*(await _objects(cluster, "VFPool") or ()), *(await _objects(cluster, "NodeVFPool") or ())],
        await _objects(cluster, "DeviceHost") or [],
        [body for body in workloads if (body["metadata"].get("labels") or {}).items() >= _LABELS.items()],
        await _objects(cluster, "Guest") or (),
    )


async def _objects(cluster: Cluster, kind: str) -> list[Body] | None:
    try:
        return await cluster.objects(kind)
    except ClusterError as error:
        if error.code == _NOT_FOUND:
            return None
        raise


def told(found: Installation) -> tuple[str, bool]:
    """In words, and whether something is left that has to go first."""
    if found.assignments is None and not found.workloads:
        return "It is not installed.\n", False
    left = [*(found.assignments or ()), *found.guests, *found.pools]
    orphans = [orphan for host in found.hosts for orphan in _orphans(host)]
    lines = [*map(_line, left), *orphans]
    steps = list(_steps(found, left, orphans))
    head = "Left:" if lines else "No DeviceAssignment, no Guest, no VFPool and no orphan is left."
    return "\n".join([head, *lines, "Next:", *steps]) + "\n", bool(lines)


def _steps(found: Installation, left: Sequence[Body], orphans: Sequence[str]) -> Iterable[str]:
    missing = {"DaemonSet", "Deployment"} - {body["kind"] for body in found.workloads}
    staying = {body["kind"] for body in left if "deletionTimestamp" not in body["metadata"]}
    if (left or orphans) and missing:
        yield f"  Agent or controller is not installed, and nobody else gives anything back: kubectl apply -k {OVERLAY}"
    elif "DeviceAssignment" in staying:
        yield "  Delete the assignments: kubectl delete deviceassignments --all -A --wait=false"
        yield "  What guests have is given back; with releasePolicy: Keep, set before, it stays (docs/adoption.md)."
    elif found.assignments:
        yield "  Wait: the lines above say for what. A running guest keeps devices until it is off (detach: WhenOff)."
    elif "Guest" in staying:
        yield "  Delete the Guests: kubectl delete guests --all --wait=false"
        yield "  With deletionPolicy: Keep libvirt keeps them; Undefine undefines them (docs/guests.md)."
    elif "VFPool" in staying:
        yield "  Delete the pools: kubectl delete vfpools --all --wait=false"
    elif left:
        yield "  Wait: the lines above say for what."
    elif orphans:
        yield "  Give them back, or let them be: DeviceHost.spec.releaseOrphans (kubectl explain devicehost.spec)."
    else:
        crds = " ".join(f"{plural}.hostdev.dev" for plural in _CRDS.split())
        yield f"  kubectl annotate --overwrite crd {crds} hostdev.dev/uninstall=confirmed"
        yield f"  kubectl delete -k {OVERLAY}"


def _line(body: Body) -> str:
    meta, status = body["metadata"], body.get("status") or {}
    name = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
    node = f" on node {status['nodeName']}" if status.get("nodeName") else ""
    deleting = ", being deleted" if "deletionTimestamp" in meta else ""
    ready = next((c for c in status.get("conditions") or () if c["type"] == READY), None)
    why = f": {ready['reason']}: {ready['message']}" if ready and deleting else ""
    return f"  {body['kind']} {name}{node}{deleting}{why}"


def _orphans(host: Body) -> list[str]:
    name = host["metadata"]["name"]
    found = (host.get("status") or {}).get("orphans") or ()
    return [f"  orphan {orphan['uid']} on node {name}" for orphan in found]
