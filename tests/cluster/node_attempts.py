"""What somebody tries who has stolen the token of node n1's agent: each of these is refused.

``agent`` is that token; ``nameless`` is one of the same account that no pod is bound to, so it carries no node;
``newcomer`` is the agent of node n3, which has no DeviceHost yet; ``podless`` is that of n1, outside of a pod.
Objects: node_world.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hostdev_operator.core.gone import ANNOTATION
from tests.cluster.authority import FOREIGN, RBAC, SYSTEM, UUID, VERSION, Attempt, Spec, running

ON_ASSIGNMENTS, ON_HOSTS = "hostdev-node-assignments", "hostdev-node-hosts"
ON_POOLS, ON_EVENTS, ON_GUESTS = "hostdev-node-pools", "hostdev-node-events", "hostdev-node-guests"
OURS, THEIRS, FREE = "deviceassignment/ours", "deviceassignment/theirs", "deviceassignment/free"
CLEARED: Spec = {"nodeName": None, "record": None, "guest": None}
RECORD: Spec = {"sequence": 99, "address": "0000:01:00.0", "managed": True, "groupPolicy": "DetachUnused"}
_TOKEN = "your token is of node n1"
_NAMELESS = "your token names no node: take one that is bound to a pod"
_BIND = "only the controller"
_CANNOT = "cannot %s resource"
_SEEN: Spec = {"observedGeneration": 7}
_KINDS = {
    "deviceassignment": "DeviceAssignment",
    "devicehost": "DeviceHost",
    "nodevfpool": "NodeVFPool",
    "guest": "Guest",
}
_AGENT, _CONTROLLER = (f"system:serviceaccount:{SYSTEM}:hostdev-{name}" for name in ("agent", "controller"))


def condition(kind: str, status: str = "True", reason: str = "Test") -> Spec:
    time = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": time}


def applying(
    what: str, target: str, status: Spec, *words: str, by: str, who: str = "agent", manager: str = "hostdev-agent"
) -> Attempt:
    """Server-side apply of a status, as the agent does it."""
    kind, name = target.split("/")
    meta = {"name": name, **({"namespace": "default"} if kind == "deviceassignment" else {})}
    made = {"apiVersion": VERSION, "kind": _KINDS[kind], "metadata": meta, "status": status}
    arguments = ("apply", "--server-side", "--force-conflicts", "--subresource=status", f"--field-manager={manager}")
    return Attempt(what, who, (*arguments, "-f", "-"), json.dumps(made), by, words)


def merging(what: str, target: str, status: Spec, *words: str, by: str, who: str = "agent") -> Attempt:
    """A merge patch of a status, as the agent clears it."""
    return patching(what, target, {"status": status}, *words, by=by, who=who, more=("--subresource=status",))


def patching(
    what: str,
    target: str,
    change: Any,
    *words: str,
    by: str,
    who: str = "agent",
    more: tuple[str, ...] = (),
    form: str = "merge",
) -> Attempt:
    """Any other patch."""
    arguments = ("patch", *target.split("/"), f"--type={form}", "-p", json.dumps(change), *more)
    return Attempt(what, who, arguments, "", by, words)


def stripping(what: str, target: str, *words: str, by: str) -> Attempt:
    """A JSON patch that takes the whole status away."""
    removal = [{"op": "remove", "path": "/status"}]
    return patching(what, target, removal, *words, by=by, more=("--subresource=status",), form="json")


def making(
    what: str,
    kind: str,
    name: str,
    *words: str,
    by: str,
    who: str = "agent",
    spec: Spec | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Attempt:
    """Kubectl create of an object of ours."""
    meta: dict[str, Any] = {"name": name, **({"namespace": "default"} if kind == "DeviceAssignment" else {})}
    meta |= {"annotations": annotations} if annotations else {}
    made = {"apiVersion": VERSION, "kind": kind, "metadata": meta, **({} if spec is None else {"spec": spec})}
    return Attempt(what, who, ("create", "-f", "-"), json.dumps(made), by, words)


def telling(what: str, about: str, *words: str, by: str, who: str = "agent", **of: Any) -> Attempt:
    """An event; ``of`` changes what is in one of the agent of n1."""
    kind, name = about.split("/")
    ours = kind in ("DeviceAssignment", "DeviceHost", "NodeVFPool", "VFPool", "Guest")
    namespaced = {} if kind in ("DeviceHost", "NodeVFPool", "VFPool", "Guest", "Node") else {"namespace": "default"}
    made = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.1", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "hostdev.dev/hostdev-agent",
        "reportingInstance": "n1",
        "action": "Reconcile",
        "type": "Normal",
        "reason": "Assigned",
        "note": "as asked",
        "regarding": {"apiVersion": VERSION if ours else "v1", "kind": kind, "name": name, **namespaced},
        **of,
    }
    return Attempt(what, who, ("create", "-f", "-"), json.dumps(made), by, words)


def rbac(what: str, command: str, word: str, stdin: str = "") -> Attempt:
    """What the agent's role does not have."""
    return running(what, "agent", command, word, by=RBAC, stdin=stdin)


_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "x", "namespace": SYSTEM},
    "spec": {"serviceAccountName": "hostdev-agent", "nodeName": "n2", "containers": [{"name": "x", "image": "x"}]},
}
_OLD_EVENT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "x", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"},
}

NODE_REFUSED: tuple[Attempt, ...] = (
    # -- assignments of other nodes
    applying("report on an assignment of another node", THEIRS, _SEEN, "bound to node n2", _TOKEN, by=ON_ASSIGNMENTS),
    applying("forge its record of what was before", THEIRS, {"record": RECORD}, _TOKEN, by=ON_ASSIGNMENTS),
    applying(
        "as the controller's field manager",
        THEIRS,
        {"conditions": [condition("Ready")]},
        _TOKEN,
        by=ON_ASSIGNMENTS,
        manager="hostdev-controller",
    ),
    merging("by merge patch", THEIRS, _SEEN, _TOKEN, by=ON_ASSIGNMENTS),
    merging("give up the binding of another node", THEIRS, CLEARED, "whose agent alone", by=ON_ASSIGNMENTS),
    stripping("take its whole status away", THEIRS, "bound to node n2", by=ON_ASSIGNMENTS),
    merging("take an assignment over from another node", THEIRS, {"nodeName": "n1"}, _TOKEN, by=ON_ASSIGNMENTS),
    # -- binding
    applying("bind an assignment to the own node", FREE, {"nodeName": "n1"}, "to no node", _BIND, by=ON_ASSIGNMENTS),
    applying(
        "with the guest that is meant",
        FREE,
        {"nodeName": "n1", "domainUUID": UUID, "conditions": [condition("Accepted")]},
        _BIND,
        by=ON_ASSIGNMENTS,
        manager="hostdev-controller",
    ),
    merging("bind an assignment to another node", FREE, {"nodeName": "n2"}, _BIND, by=ON_ASSIGNMENTS),
    merging("pin the guest of an assignment that is not bound", FREE, {"domainUUID": UUID}, _BIND, by=ON_ASSIGNMENTS),
    merging("report on an assignment that is not bound", FREE, _SEEN, "bound to no node", by=ON_ASSIGNMENTS),
    applying("hand an own assignment to another node", OURS, {"nodeName": "n2"}, "may clear", by=ON_ASSIGNMENTS),
    merging("by merge patch, together with a release", OURS, {**CLEARED, "nodeName": "n2"}, _BIND, by=ON_ASSIGNMENTS),
    merging("leave an own one with a node of no name", OURS, {"nodeName": ""}, "may clear", by=ON_ASSIGNMENTS),
    applying("turn an own one to another guest", OURS, {"domainUUID": FOREIGN}, "domainUUID", by=ON_ASSIGNMENTS),
    merging("forget which guest is meant", OURS, {"domainUUID": None}, "domainUUID", by=ON_ASSIGNMENTS),
    merging("while giving it up", OURS, {**CLEARED, "domainUUID": FOREIGN}, "domainUUID", by=ON_ASSIGNMENTS),
    applying(
        "say for the controller that it is refused",
        OURS,
        {"conditions": [condition("Accepted", "False")]},
        "the condition Accepted",
        by=ON_ASSIGNMENTS,
    ),
    merging("take the controller's condition away", OURS, {"conditions": []}, "Accepted", by=ON_ASSIGNMENTS),
    stripping("take the whole status of an own one away", OURS, "is written by the controller", by=ON_ASSIGNMENTS),
    *(
        merging(what, target, _SEEN, _NAMELESS, by=ON_ASSIGNMENTS, who="nameless")
        for what, target in (
            ("with a token that names no node, report", OURS),
            ("with it, report on an assignment that is not bound", FREE),
        )
    ),
    rbac(
        "replace a status",
        "replace --subresource=status -f -",
        _CANNOT % "update",
        stdin=applying("", OURS, _SEEN, by="").stdin,
    ),
    rbac(
        "change what is asked for",
        'patch deviceassignment ours --type=merge -p {"spec":{"detach":"Live"}}',
        _CANNOT % "patch",
    ),
    rbac(
        "take the finalizer away",
        'patch deviceassignment ours --type=merge -p {"metadata":{"finalizers":null}}',
        _CANNOT % "patch",
    ),
    rbac("delete an assignment", "delete deviceassignment ours", _CANNOT % "delete"),
    making(
        "make an assignment", "DeviceAssignment", "x", _CANNOT % "create", by=RBAC, spec={"domain": {"name": "web"}}
    ),
    # -- hosts
    applying("report on another node's host", "devicehost/n2", {"summary": "x"}, "n2 is", _TOKEN, by=ON_HOSTS),
    merging("take its guests away by merge patch", "devicehost/n2", {"guests": None}, _TOKEN, by=ON_HOSTS),
    applying(
        "with a token that names no node", "devicehost/n1", {"summary": "x"}, _NAMELESS, by=ON_HOSTS, who="nameless"
    ),
    applying(
        "with a token that is bound to a Node", "devicehost/n2", {"summary": "x"}, _TOKEN, by=ON_HOSTS, who="podless"
    ),
    making("make the DeviceHost of another node", "DeviceHost", "n3", _TOKEN, by=ON_HOSTS),
    making("with a token that names no node", "DeviceHost", "n3", _NAMELESS, by=ON_HOSTS, who="nameless"),
    making(
        "make the own one with the guard lifted",
        "DeviceHost",
        "n3",
        "spec, which is for administrators",
        by=ON_HOSTS,
        who="newcomer",
        spec={"criticalOverrides": [{"device": "0000:01:00.0", "reason": "x"}]},
    ),
    making(
        "make the own one with the node said to be gone",
        "DeviceHost",
        "n3",
        "said by administrators",
        by=ON_HOSTS,
        who="newcomer",
        annotations={ANNOTATION: "2026-01-01T00:00:00Z"},
    ),
    rbac(
        "lift the guard of the own node",
        'patch devicehost n1 --type=merge -p {"spec":{"paused":false}}',
        _CANNOT % "patch",
    ),
    rbac("delete a DeviceHost", "delete devicehost n2", _CANNOT % "delete"),
    # -- pools
    applying("report on another node's pool", "nodevfpool/lan.n2", _SEEN, "node n2 alone", _TOKEN, by=ON_POOLS),
    merging("say that another node has given it back", "nodevfpool/lan.n2", CLEARED, _TOKEN, by=ON_POOLS),
    applying("say that the own node has it", "nodevfpool/lan.n2", {"nodeName": "n1"}, _TOKEN, by=ON_POOLS),
    applying("say that another node has the own pool", "nodevfpool/lan.n1", {"nodeName": "n2"}, "n1", by=ON_POOLS),
    applying("with a token that names no node", "nodevfpool/lan.n1", _SEEN, _NAMELESS, by=ON_POOLS, who="nameless"),
    rbac("change a pool's part", 'patch nodevfpool lan.n1 --type=merge -p {"spec":{"numVFs":7}}', _CANNOT % "patch"),
    rbac("delete a pool's part", "delete nodevfpool lan.n2", _CANNOT % "delete"),
    rbac("delete a pool", "delete vfpool lan", _CANNOT % "delete"),
    # -- guests
    applying("report on another node's guest", "guest/web.n2", _SEEN, "node n2 alone", _TOKEN, by=ON_GUESTS),
    merging("say that another node has ended it", "guest/web.n2", {"nodeName": None}, _TOKEN, by=ON_GUESTS),
    applying("say that another node has the own guest", "guest/web.n1", {"nodeName": "n2"}, "n1", by=ON_GUESTS),
    applying("with a token that names no node", "guest/web.n1", _SEEN, _NAMELESS, by=ON_GUESTS, who="nameless"),
    patching(
        "as the controller, have a guest run what it likes",
        "guest/web.n1",
        {"spec": {"domainXML": "<domain/>"}},
        "who may update guests",
        by=ON_GUESTS,
        who="controller",
    ),
    rbac("change a guest", 'patch guest web.n1 --type=merge -p {"spec":{"vcpus":7}}', _CANNOT % "patch"),
    rbac("delete a guest", "delete guest web.n2", _CANNOT % "delete"),
    making("make a guest", "Guest", "x", _CANNOT % "create", by=RBAC, spec={"nodeName": "n1", "memory": "1Gi"}),
    # -- events
    telling("report as another node's agent", "DeviceAssignment/ours", by=ON_EVENTS, reportingInstance="n2"),
    telling("as the controller", "DeviceAssignment/ours", by=ON_EVENTS, reportingController="hostdev.dev/x"),
    telling("as a kubelet", "DeviceAssignment/ours", _TOKEN, by=ON_EVENTS, reportingController="kubelet"),
    telling("about a pod", "Pod/x", "Event about Pod x", "of hostdev.dev alone", by=ON_EVENTS),
    telling(
        "about another one's kind of the same name",
        "DeviceHost/n1",
        "of hostdev.dev alone",
        by=ON_EVENTS,
        regarding={"apiVersion": "example.org/v1", "kind": "DeviceHost", "name": "n1"},
    ),
    telling("about a whole pool", "VFPool/lan", "Event about VFPool lan", by=ON_EVENTS),
    telling("about another node's host", "DeviceHost/n2", _TOKEN, by=ON_EVENTS),
    telling("about another node's pool", "NodeVFPool/lan.n2", _TOKEN, by=ON_EVENTS),
    telling("about that of a node whose name ends alike", "NodeVFPool/lan.x.n1", _TOKEN, by=ON_EVENTS),
    telling("with a token that names no node", "DeviceAssignment/ours", _NAMELESS, by=ON_EVENTS, who="nameless"),
    rbac("through the older API of events", "create -f -", _CANNOT % "create", stdin=json.dumps(_OLD_EVENT)),
    rbac("write to an event", "annotate event -n default there x=y", _CANNOT % "get"),
    # -- rights
    rbac("get a token of the agents", f"create token -n {SYSTEM} hostdev-agent", _CANNOT % "create"),
    rbac("get the controller's", f"create token -n {SYSTEM} hostdev-controller", _CANNOT % "create"),
    rbac("make a pod on another node", "create -f -", _CANNOT % "create", stdin=json.dumps(_POD)),
    rbac("act as the controller", f"get deviceassignments --as={_CONTROLLER}", "cannot impersonate"),
    rbac(
        "act as another node's agent",
        f"get deviceassignments --as={_AGENT} --as-user-extra=authentication.kubernetes.io/node-name=n2",
        "cannot impersonate",
    ),
    rbac(
        "give itself a role",
        f"create clusterrolebinding x --clusterrole=cluster-admin --user={_AGENT}",
        _CANNOT % "create",
    ),
    rbac("take the policy away", "delete validatingadmissionpolicy hostdev-node-assignments", _CANNOT % "delete"),
    rbac(
        "take its binding away", "delete validatingadmissionpolicybinding hostdev-node-assignments", _CANNOT % "delete"
    ),
    rbac("read secrets", "get secrets -A", _CANNOT % "list"),
    rbac("read pods", "get pods -A", _CANNOT % "list"),
    rbac("read nodes", "get nodes", _CANNOT % "list"),
)
