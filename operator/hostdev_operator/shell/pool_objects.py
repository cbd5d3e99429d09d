"""VFPools and NodeVFPools as the controller's decisions take them."""

from __future__ import annotations

from ..api.vfpool import NodeVFPoolSpec, NodeVFPoolStatus, VFPoolSpec, VFPoolStatus
from ..core import conditions
from ..core.gone import reports
from ..core.pool_binding import NodePool, Pool
from ..ports import Body

#: What the controller keeps of a NodeVFPool: it may have a thousand VFs, and there is one for each node.
_META = (
    "name",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "ownerReferences",
)
_STATUS = ("nodeName", "counts", "conditions")


def slim(body: Body) -> Body:
    """A NodeVFPool without what only its agent and its readers need."""
    status, meta = body.get("status") or {}, body["metadata"]
    return {
        "kind": "NodeVFPool",
        "metadata": {key: meta[key] for key in _META if key in meta} | {"managedFields": reports(meta)},
        "spec": body["spec"],
        "status": {key: status[key] for key in _STATUS if key in status},
    }


def parse_pool(body: Body) -> Pool:
    """A VFPool; ValueError if it does not fit the model."""
    meta = body["metadata"]
    return Pool(
        uid=meta["uid"],
        name=meta["name"],
        generation=meta["generation"],
        spec=VFPoolSpec.model_validate(body["spec"]),
        status=VFPoolStatus.model_validate(body.get("status") or {}),
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers", ())),
    )


def parse_node_pool(body: Body) -> NodePool:
    """A NodeVFPool; what of it does not fit the model, as of another version, is left out."""
    meta = body["metadata"]
    told = body.get("status") or {}
    try:
        status = NodeVFPoolStatus.model_validate(told)
    except ValueError:
        status = NodeVFPoolStatus()
    owners = (o["uid"] for o in meta.get("ownerReferences", ()) if o["kind"] == "VFPool")
    try:
        spec = NodeVFPoolSpec.model_validate(body["spec"])
    except ValueError:
        spec = None
    return NodePool(
        uid=meta["uid"],
        name=meta["name"],
        generation=meta["generation"],
        spec=spec,
        owner=next(owners, None),
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers", ())),
        held=bool(told.get("nodeName")),  # readable or not: who has something must give it back
        ready=conditions.find(status.conditions, conditions.READY),
        counts=status.counts,
    )
