"""An API server in memory: as much of it as agent and controller depend on.

Resource versions grow with every change and with nothing else; server-side apply knows which manager owns which field
of status and which condition; an object with finalizers outlives its deletion; watchers with a node see what a watch
with the field selector status.nodeName shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hostdev_operator.api import API_VERSION
from hostdev_operator.ports import Body, ClusterError

Watcher = Callable[[str | None, Body], None]
Key = tuple[str, str, str]


class FakeCluster:
    """``writes`` lists the changes that the product asked for (events aside), ``events`` its events' reasons."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.events: list[str] = []
        self._objects: dict[Key, Body] = {}
        self._owned: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self._watchers: list[tuple[str, str | None, Watcher]] = []
        self._version = 100
        self._faults: dict[str, list[ClusterError]] = {}

    # -- for tests: what users and administrators do ------------------------------------------------------------

    def fail(self, call: str, code: int, times: int = 1) -> None:
        """Let the next calls of a method fail."""
        self._faults.setdefault(call, []).extend(ClusterError(code, f"injected {code}") for _ in range(times))

    def watch(self, kind: str, watcher: Watcher, node: str | None = None) -> None:
        """Tell a watcher of everything that is there and of everything to come."""
        self._watchers.append((kind, node, watcher))
        for key, body in self._objects.items():
            if key[0] == kind and _selected(body, node):
                watcher(None, deepcopy(body))

    def create(self, body: Body) -> Body:
        """Kubectl create."""
        new = deepcopy(body)
        new["metadata"].update(
            uid=str(uuid.uuid4()), generation=1, creationTimestamp=f"2026-01-01T00:00:{len(self._objects):02}Z"
        )
        return self._store(new, None)

    def get(self, name: str, namespace: str = "default", kind: str = "DeviceAssignment") -> Body:
        """The object as it is; KeyError if it is not."""
        return deepcopy(self._objects[(kind, namespace, name)])

    def exists(self, name: str, namespace: str = "default", kind: str = "DeviceAssignment") -> bool:
        """Whether the object is there."""
        return (kind, namespace, name) in self._objects

    def delete(self, name: str, namespace: str = "default", kind: str = "DeviceAssignment") -> None:
        """Kubectl delete --wait=false."""
        old = self._objects[(kind, namespace, name)]
        if not old["metadata"].get("finalizers"):
            self._remove(old)
            return
        new = deepcopy(old)
        new["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
        new["metadata"]["generation"] += 1
        self._store(new, old)

    def touch(self, name: str, namespace: str = "default") -> None:
        """A change that means nothing: a label."""
        old = self._objects[("DeviceAssignment", namespace, name)]
        new = deepcopy(old)
        new["metadata"].setdefault("labels", {})["touched"] = str(self._version)
        self._store(new, old)

    def edit(self, name: str, spec: Body, namespace: str = "default", kind: str = "DeviceAssignment") -> None:
        """Kubectl patch of some fields of spec."""
        old = self._objects[(kind, namespace, name)]
        new = deepcopy(old)
        new["spec"] = {**new.get("spec", {}), **spec}
        new["metadata"]["generation"] += 1
        self._store(new, old)

    # -- the port -----------------------------------------------------------------------------------------------

    async def get_assignment(self, namespace: str, name: str) -> Body | None:
        self._trip("get_assignment")
        found = self._objects.get(("DeviceAssignment", namespace, name))
        return deepcopy(found) if found else None

    async def bound_assignments(self, node: str) -> list[Body]:
        self._trip("bound_assignments")
        return [deepcopy(b) for k, b in self._objects.items() if k[0] == "DeviceAssignment" and _selected(b, node)]

    async def apply_assignment_status(self, body: Body, status: Body, manager: str) -> Body:
        self._trip("apply_assignment_status")
        old = self._same(body)
        return self._apply(old, status, manager)

    async def clear_binding(self, body: Body) -> None:
        self._trip("clear_binding")
        try:
            old = self._same(body)
        except ClusterError as error:
            if error.code == 404:
                return
            raise
        new = deepcopy(old)
        for name in ("nodeName", "record", "guest"):
            new.get("status", {}).pop(name, None)
        self.writes.append("clear_binding")
        self._store(new, old)

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        self._trip("set_finalizers")
        meta = body["metadata"]
        old = self._objects.get(("DeviceAssignment", meta["namespace"], meta["name"]))
        if old is None:
            return None
        if old["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            raise ClusterError(409, "the object has been modified")
        new = deepcopy(old)
        new["metadata"]["finalizers"] = list(finalizers)
        self.writes.append("set_finalizers")
        return self._store(new, old)

    async def hosts(self) -> list[Body]:
        self._trip("hosts")
        return [deepcopy(b) for k, b in self._objects.items() if k[0] == "DeviceHost"]

    async def host(self, node: str) -> Body | None:
        self._trip("host")
        return self.get(node, "", "DeviceHost") if self.exists(node, "", "DeviceHost") else None

    async def apply_host_status(self, node: str, status: Body) -> Body:
        self._trip("apply_host_status")
        if not self.exists(node, "", "DeviceHost"):
            self.create({"apiVersion": API_VERSION, "kind": "DeviceHost", "metadata": {"name": node}})
        return self._apply(self._objects[("DeviceHost", "", node)], status, "hostdev-agent")

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        self.events.append(reason)

    # -- inside -------------------------------------------------------------------------------------------------

    def _trip(self, call: str) -> None:
        if self._faults.get(call):
            raise self._faults[call].pop(0)

    def _same(self, body: Body) -> Body:
        meta = body["metadata"]
        found = self._objects.get((body["kind"], meta.get("namespace", ""), meta["name"]))
        if found is None:
            raise ClusterError(404, "not found")
        if found["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            raise ClusterError(409, "the object has been modified")
        return found

    def _apply(self, old: Body, status: Body, manager: str) -> Body:
        """With force: fields and conditions that the manager leaves out go, unless another manager has them."""
        uid = old["metadata"]["uid"]
        now = _fields(status)
        before = self._owned.get((uid, manager), set())
        others = set().union(*(o for (u, m), o in self._owned.items() if u == uid and m != manager))
        new = deepcopy(old)
        merged: dict[str, Any] = new.setdefault("status", {})
        rows = {c["type"]: c for c in merged.get("conditions", [])}
        for kind, name in before - now - others:
            (rows if kind == "condition" else merged).pop(name, None)
        rows.update({c["type"]: deepcopy(c) for c in status.get("conditions", [])})
        merged.update({k: deepcopy(v) for k, v in status.items() if k != "conditions"})
        if rows:
            merged["conditions"] = list(rows.values())
        else:
            merged.pop("conditions", None)
        self._owned[(uid, manager)] = now
        self.writes.append(f"apply {old['kind']} by {manager}")
        return deepcopy(old) if new == old else self._store(new, old)

    def _store(self, new: Body, old: Body | None) -> Body:
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._remove(new)
            return deepcopy(new)
        self._objects[_key(new)] = new
        for kind, node, watcher in list(self._watchers):
            was, is_now = old is not None and _selected(old, node), _selected(new, node)
            if kind == new["kind"] and (was or is_now):
                event = ("MODIFIED" if was else "ADDED") if is_now else "DELETED"
                watcher(event, deepcopy(new))
        return deepcopy(new)

    def _remove(self, body: Body) -> None:
        del self._objects[_key(body)]
        for kind, node, watcher in list(self._watchers):
            if kind == body["kind"] and _selected(body, node):
                watcher("DELETED", deepcopy(body))


def _key(body: Body) -> Key:
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


def _selected(body: Body, node: str | None) -> bool:
    return node is None or body.get("status", {}).get("nodeName") == node


def _fields(status: Body) -> set[tuple[str, str]]:
    conditions = {("condition", c["type"]) for c in status.get("conditions", [])}
    return conditions | {("field", name) for name in status if name != "conditions"}
