"""An API server in memory: as much of it as agent and controller depend on.

Resource versions grow with every change and with nothing else; server-side apply knows which manager owns which field
of status and which condition; an object with finalizers outlives its deletion; watchers with a node see what a watch
with the kind's field selector shows.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from hostdev_operator.ports import Body, Cluster, ClusterError

T = TypeVar("T")
Watcher = Callable[[str | None, Body], None]
Key = tuple[str, str, str]
_VERBS = {
    "get": (("get",), ""),
    "objects": (("list",), ""),
    "create": (("create",), ""),
    "replace": (("patch",), ""),
    "delete": (("delete",), ""),
    "apply_status": (("patch",), "/status"),
    "clear_status": (("patch",), "/status"),
    "set_finalizers": (("patch",), ""),
}
#: The namespace that is always there, allowed everything.
_DEFAULT: Body = {
    "kind": "Namespace",
    "metadata": {
        "name": "default",
        "uid": "default",
        "resourceVersion": "1",
        "generation": 1,
        "labels": {"hostdev.dev/assignments": "allowed"},
        "annotations": {"hostdev.dev/guests": "*", "hostdev.dev/pools": "*"},
    },
}
_NODE_FIELDS = {
    "DeviceAssignment": ("status", "nodeName"),
    "NodeVFPool": ("spec", "nodeName"),
    "Guest": ("spec", "nodeName"),
}


class FakeCluster:
    """The server as users and administrators have it; ``port`` is the Cluster of ports.py, ``port_for`` that of a role.

    ``writes`` lists the changes that the product asked for (events aside), ``events`` its events' reasons, ``asked``
    for each role the verbs and resources that its service account needs.
    """

    def __init__(self) -> None:
        self.asked: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self.port = self.port_for("anybody")
        self.writes: list[str] = []
        self.events: list[str] = []
        self.told: list[tuple[str, str, str]] = []  # of each event: the object's name, its reason and message
        self._objects: dict[Key, Body] = {("Namespace", "", "default"): copied(_DEFAULT)}
        self._owned: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self._watchers: list[tuple[str, str | None, Watcher]] = []
        self._version = 100
        self._made = 0
        self.new_uid: Callable[[], str] = lambda: str(uuid.uuid4())
        self._faults: dict[str, list[ClusterError]] = {}

    def port_for(self, role: str) -> Cluster:
        """The port of a role, such as hostdev-agent."""
        return _Port(self, self.asked[role])

    # -- for tests: what users and administrators do ------------------------------------------------------------

    def fail(self, call: str, code: int, times: int = 1) -> None:
        """Let the next calls of a method of the port fail, or only those about a kind: "apply_status DeviceHost"."""
        self._faults.setdefault(call, []).extend(ClusterError(code, f"injected {code}") for _ in range(times))

    def watch(self, kind: str, watcher: Watcher, node: str | None = None) -> None:
        """Tell a watcher of everything that is there and of everything to come."""
        self._watchers.append((kind, node, watcher))
        for body in self.all(kind, node):
            watcher(None, body)

    def create(self, body: Body) -> Body:
        """Kubectl create."""
        if _key(body) in self._objects:
            raise ClusterError(409, f"{body['metadata']['name']} exists already")
        new = copied(body)
        minutes, seconds = divmod(self._made, 60)
        self._made += 1
        made = f"2026-01-01T00:{minutes:02}:{seconds:02}Z"
        new["metadata"].update(uid=self.new_uid(), generation=1, creationTimestamp=made)
        return self._store(new, None)

    def get(self, name: str, namespace: str | None = None, kind: str = "DeviceAssignment") -> Body:
        """The object as it is; KeyError if it is not."""
        return copied(self._objects[_key_of(kind, name, namespace)])

    def all(self, kind: str, node: str | None = None) -> list[Body]:
        """All objects of a kind, or the node's."""
        return [copied(b) for k, b in self._objects.items() if k[0] == kind and _selected(b, node)]

    def exists(self, name: str, namespace: str | None = None, kind: str = "DeviceAssignment") -> bool:
        """Whether the object is there."""
        return _key_of(kind, name, namespace) in self._objects

    def delete(self, name: str, namespace: str | None = None, kind: str = "DeviceAssignment") -> None:
        """Kubectl delete --wait=false."""
        old = self._objects[_key_of(kind, name, namespace)]
        if not old["metadata"].get("finalizers"):
            self._remove(old)
        elif "deletionTimestamp" not in old["metadata"]:
            new = copied(old)
            new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            new["metadata"]["generation"] += 1
            self._store(new, old)

    def touch(self, name: str, namespace: str | None = None, kind: str = "DeviceAssignment") -> None:
        """A change that means nothing: an annotation."""
        self.annotate(name, namespace, kind, annotations={"touched": str(self._version)})

    def annotate(self, name: str, namespace: str | None = None, kind: str = "DeviceAssignment", **meta: object) -> None:
        """Kubectl patch of some fields of metadata."""
        old = self._objects[_key_of(kind, name, namespace)]
        new = copied(old)
        new["metadata"].update(meta)
        self._store(new, old)

    def edit(self, name: str, spec: Body, namespace: str | None = None, kind: str = "DeviceAssignment") -> None:
        """Kubectl patch of some fields of spec."""
        old = self._objects[_key_of(kind, name, namespace)]
        new = copied(old)
        new["spec"] = {**new.get("spec", {}), **spec}
        new["metadata"]["generation"] += 1
        self._store(new, old)

    # -- inside -------------------------------------------------------------------------------------------------

    def _trip(self, call: str, kind: str) -> None:
        for key in (call, f"{call} {kind}"):
            if self._faults.get(key):
                raise self._faults[key].pop(0)

    def _same(self, body: Body) -> Body:
        found = self._objects.get(_key(body))
        if found is None:
            raise ClusterError(404, "not found")
        version = body["metadata"].get("resourceVersion", found["metadata"]["resourceVersion"])
        if found["metadata"]["resourceVersion"] != version:
            raise ClusterError(409, "the object has been modified")
        return found

    def _apply(self, old: Body, status: Body, manager: str) -> Body:
        """With force: fields and conditions that the manager leaves out go, unless another manager has them."""
        uid = old["metadata"]["uid"]
        now = _fields(status)
        before = self._owned.get((uid, manager), set())
        others = set().union(*(o for (u, m), o in self._owned.items() if u == uid and m != manager))
        new = copied(old)
        merged: dict[str, Any] = new.setdefault("status", {})
        rows = {c["type"]: c for c in merged.get("conditions", [])}
        for kind, name in before - now - others:
            (rows if kind == "condition" else merged).pop(name, None)
        rows.update({c["type"]: copied(c) for c in status.get("conditions", [])})
        merged.update({k: copied(v) for k, v in status.items() if k != "conditions"})
        if rows:
            merged["conditions"] = list(rows.values())
        else:
            merged.pop("conditions", None)
        self._owned[(uid, manager)] = now
        return self._store(new, old)

    def _store(self, new: Body, old: Body | None) -> Body:
        """A write that changes nothing is none."""
        if new == old:
            return copied(new)
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._remove(new)
            return copied(new)
        self._objects[_key(new)] = new
        for kind, node, watcher in list(self._watchers):
            if kind == new["kind"]:
                was, is_now = old is not None and _selected(old, node), _selected(new, node)
                if was or is_now:
                    event = ("MODIFIED" if was else "ADDED") if is_now else "DELETED"
                    watcher(event, copied(new))
        return copied(new)

    def _remove(self, body: Body) -> None:
        self._objects.pop(_key(body), None)
        for kind, node, watcher in list(self._watchers):
            if kind == body["kind"] and _selected(body, node):
                watcher("DELETED", copied(body))


class _Port:
    """The port on the store."""

    def __init__(self, server: FakeCluster, asked: set[tuple[str, str]]) -> None:
        self._server = server
        self._asked = asked

    def _call(self, method: str, kind: str) -> None:
        """What the method asks of RBAC, as in adapters/kube.py; and its fault, if one was injected."""
        verbs, subresource = _VERBS[method]
        self._asked |= {(verb, kind.lower() + "s" + subresource) for verb in verbs}
        self._server._trip(method, kind)

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Body | None:
        self._call("get", kind)
        return self._server.get(name, namespace, kind) if self._server.exists(name, namespace, kind) else None

    async def objects(self, kind: str, node: str | None = None) -> list[Body]:
        self._call("objects", kind)
        return self._server.all(kind, node)

    async def create(self, body: Body) -> Body:
        self._call("create", body["kind"])
        self._server.writes.append(f"create {body['kind']}")
        return self._server.create(body)

    async def replace(self, body: Body) -> Body:
        self._call("replace", body["kind"])
        old = self._server._same(body)
        new = copied(old)
        new["spec"] = copied(body["spec"])
        for name in ("finalizers", "ownerReferences"):
            new["metadata"].pop(name, None)
            if body["metadata"].get(name):
                new["metadata"][name] = copied(body["metadata"][name])
        if new["spec"] != old["spec"]:
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self._server.writes.append(f"replace {old['kind']}")
        return self._server._store(new, old)

    async def delete(self, body: Body) -> None:
        self._call("delete", body["kind"])
        if self._server.exists(body["metadata"]["name"], body["metadata"].get("namespace"), body["kind"]):
            self._server._same(body)
            self._server.writes.append(f"delete {body['kind']}")
            self._server.delete(body["metadata"]["name"], body["metadata"].get("namespace"), body["kind"])

    async def apply_status(self, body: Body, status: Body, manager: str) -> Body:
        self._call("apply_status", body["kind"])
        old = self._server._same(body)
        self._server.writes.append(f"apply {old['kind']} by {manager}")
        return self._server._apply(old, status, manager)

    async def clear_status(self, body: Body, fields: Iterable[str]) -> None:
        self._call("clear_status", body["kind"])
        if _key(body) not in self._server._objects:
            return
        old = self._server._same(body)
        new = copied(old)
        for name in fields:
            new.get("status", {}).pop(name, None)
        self._server.writes.append("clear_status")
        self._server._store(new, old)

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        self._call("set_finalizers", body["kind"])
        if _key(body) not in self._server._objects:
            return None
        old = self._server._same(body)
        new = copied(old)
        new["metadata"]["finalizers"] = list(finalizers)
        self._server.writes.append("set_finalizers")
        return self._server._store(new, old)

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        self._asked.add(("create", "events"))
        self._server.events.append(reason)
        self._server.told.append((body["metadata"]["name"], reason, message))


def copied(value: T) -> T:
    """A copy of plain JSON; copy.deepcopy takes several times as long."""
    return cast("T", _copied(value))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


def _key(body: Body) -> Key:
    return _key_of(body["kind"], body["metadata"]["name"], body["metadata"].get("namespace"))


def _key_of(kind: str, name: str, namespace: str | None) -> Key:
    return kind, (namespace or "default") if kind == "DeviceAssignment" else "", name


def _selected(body: Body, node: str | None) -> bool:
    if node is None:
        return True
    where, field = _NODE_FIELDS[body["kind"]]
    return bool(body.get(where, {}).get(field) == node)


def _fields(status: Body) -> set[tuple[str, str]]:
    conditions = {("condition", c["type"]) for c in status.get("conditions", [])}
    return conditions | {("field", name) for name in status if name != "conditions"}
