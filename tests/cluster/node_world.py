"""Two nodes, each with its agent and objects of its own: what the attempts of node_attempts.py are made on."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.cluster.authority import FINALIZER, FOREIGN, PCI, SYSTEM, UUID, VERSION, body
from tests.cluster.controlplane import ControlPlane
from tests.cluster.node_attempts import condition
from tests.cluster.trying import Kubeconfigs, Object, create

#: Whose token is bound to a pod on which node.
_AGENTS = {"agent": "n1", "newcomer": "n3"}
_BINDING = "test-node-steward"
#: kubectl reads what it patches, which the product does not.
_READERS = "test-status-readers"

#: Object -> its status before the attempts.
_STATUS: dict[str, Object] = {
    "deviceassignment/ours": {"nodeName": "n1", "domainUUID": UUID, "conditions": [condition("Accepted")]},
    "deviceassignment/theirs": {"nodeName": "n2", "domainUUID": FOREIGN, "conditions": [condition("Accepted")]},
    "deviceassignment/free": {"conditions": [condition("Accepted", "False")]},
    "devicehost/n1": {"summary": "1 guest"},
    "devicehost/n2": {"guests": [{"name": "web", "uuid": FOREIGN, "active": False, "persistent": True}]},
    "nodevfpool/lan.n1": {"nodeName": "n1"},
    "nodevfpool/lan.n2": {"nodeName": "n2"},
    "guest/web.n1": {"nodeName": "n1"},
    "guest/web.n2": {"nodeName": "n2"},
}


def _objects() -> Iterator[Object]:
    for name in ("ours", "theirs", "free"):
        made = body(name, PCI, namespace="default")
        yield {**made, "metadata": {**made["metadata"], "finalizers": [FINALIZER]}}
    spec = {"pf": {"name": "ens1"}, "numVFs": 4}
    yield {"apiVersion": VERSION, "kind": "VFPool", "metadata": {"name": "lan"}, "spec": spec}
    for node in ("n1", "n2"):
        yield {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": node}}
        meta, part = {"name": f"lan.{node}"}, {**spec, "poolName": "lan", "nodeName": node}
        yield {"apiVersion": VERSION, "kind": "NodeVFPool", "metadata": meta, "spec": part}
        guest = {"nodeName": node, "memory": "1Gi"}
        yield {"apiVersion": VERSION, "kind": "Guest", "metadata": {"name": f"web.{node}"}, "spec": guest}


def begin(plane: ControlPlane) -> Kubeconfigs:
    """Make all of it; everybody's kubeconfig, by name."""
    create(plane, *_objects())
    for target, status in _STATUS.items():
        patch = json.dumps({"status": status})
        plane.kubectl("patch", *target.split("/"), "--subresource=status", "--type=merge", "-p", patch)
    plane.ensure_service_account(SYSTEM, "steward")
    who = f"--serviceaccount={SYSTEM}:steward"
    plane.kubectl("create", "clusterrolebinding", _BINDING, "--clusterrole=hostdev-administrator", who)
    kinds = "deviceassignments/status,devicehosts/status,nodevfpools/status,guests/status,guests"
    plane.kubectl("create", "clusterrole", _READERS, "--verb=get", f"--resource={kinds}")
    everybody = f"--group=system:serviceaccounts:{SYSTEM}"
    plane.kubectl("create", "clusterrolebinding", _READERS, f"--clusterrole={_READERS}", everybody)
    tokens = {who: plane.pod_bound_token(SYSTEM, "hostdev-agent", f"agent-{n}", n) for who, n in _AGENTS.items()}
    bound = ("--bound-object-kind=Node", "--bound-object-name=n1")
    podless = plane.kubectl("create", "token", "-n", SYSTEM, "hostdev-agent", *bound).stdout.strip()
    tokens["podless"] = podless
    tokens["nameless"] = plane.service_account_token(SYSTEM, "hostdev-agent")
    tokens["controller"] = plane.service_account_token(SYSTEM, "hostdev-controller")
    tokens["steward"] = plane.service_account_token(SYSTEM, "steward")
    return {"administrator": plane.admin_kubeconfig, **{who: plane.kubeconfig(who, t) for who, t in tokens.items()}}


def end(plane: ControlPlane) -> None:
    """Leave nothing for other tests."""
    for name in ("ours", "theirs", "free"):
        plane.kubectl("patch", "deviceassignment", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    rights = (f"clusterrolebinding/{_BINDING}", f"clusterrolebinding/{_READERS}", f"clusterrole/{_READERS}")
    for target in (*_STATUS, "vfpool/lan", *rights, *(f"node/{n}" for n in _AGENTS.values())):
        plane.kubectl("delete", target)
    for node in _AGENTS.values():
        plane.kubectl("delete", "pod", "-n", SYSTEM, f"agent-{node}", "--force", "--grace-period=0")
