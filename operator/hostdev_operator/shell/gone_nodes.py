"""What the controller knows of nodes that have no Node object (core/gone.py decides)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..core.checks import Refusal
from ..core.gone import Evidence, Fate, comes_true, confirmation, fate, last_report, missing, waited
from ..ports import Body, Clock, Cluster

#: An agent that is there answers a deletion before. A cluster for tests may have agents on hosts that are no nodes.
_TELL_SECONDS = 60.0
#: Until it is looked whether a time to come has come.
_LONGEST_SECONDS = 3600.0


class GoneNodes:
    """Fed by the watches on Nodes and DeviceHosts. ``changed`` is called with a node whose fate is another one now.

    ``grace``: seconds after which what is being deleted waits no longer for a node that has no Node object; None: for
    ever. They are counted by this process alone: one that starts anew begins anew.
    """

    def __init__(self, cluster: Cluster, clock: Clock, grace: float | None, changed: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._grace = grace
        self._changed = changed
        self._nodes: set[str] = set()
        self._vanished: set[str] = set()  # whose Node object this process has seen go
        self._silent_since: dict[str, float] = {}
        self._hosts: dict[str, Evidence] = {}  # of those that have a DeviceHost; what of it is no matter of time
        self._said: set[str] = set()  # of which an administrator says something, true or not
        self._waiting: set[str] = set()  # for the grace time to end
        self._timers: dict[str, asyncio.TimerHandle] = {}  # of those of which something is said for a time to come
        self._listed = False

    # -- what comes in ------------------------------------------------------------------------------------------

    def node_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on Nodes: only whether there is one matters."""
        name = body["metadata"]["name"]
        if (event == "DELETED") != (name in self._nodes):
            return
        if event == "DELETED":
            self._nodes.discard(name)
            self._vanished.add(name)
            self._begin(name)
            self._tell(name)
            return
        self._nodes.add(name)
        self._vanished.discard(name)
        if self._silent_since.pop(name, None) is not None:  # it was missed
            self._tell(name)

    def host_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on DeviceHosts: what the administrator says, and any sign of life."""
        meta = body["metadata"]
        name, before = meta["name"], self._hosts.get(meta["name"])
        if event == "DELETED":
            self._hosts.pop(name, None)
        else:
            self._hosts[name] = Evidence(False, confirmed=confirmation(meta), reported=last_report(meta))
        after = self._hosts.get(name)
        if before == after:
            return
        (self._said.add if after and after.confirmed is not None else self._said.discard)(name)
        if before and after and before.reported != after.reported and name not in self._nodes:
            self._begin(name)
        if (before and before.confirmed is not None) or name in self._said:
            self._tell(name)
            self._wait_for_it(name)

    def nodes_listed(self) -> None:
        """From now on a Node that was not seen is missing."""
        self._listed = True

    def _wait_for_it(self, name: str) -> None:
        """What is said for a time to come counts then, without any event. The time of day may be set meanwhile."""
        left = comes_true(self._hosts.get(name, Evidence(False)), self._clock.now())
        if left is None:
            return
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(min(left + 1, _LONGEST_SECONDS), self._due, name)

    def _due(self, name: str) -> None:
        del self._timers[name]
        if comes_true(self._hosts.get(name, Evidence(False)), self._clock.now()) is None:
            self._tell(name)
        self._wait_for_it(name)

    def _begin(self, name: str) -> None:
        """A node is silent from now on."""
        self._silent_since[name] = self._clock.monotonic()
        asyncio.get_running_loop().call_later(_TELL_SECONDS + 1, self._tell, name)

    def _tell(self, name: str) -> None:
        if self._listed:
            self._changed(name)

    # -- what is known ------------------------------------------------------------------------------------------

    def fate(self, node: str, body: Body | None = None) -> Fate:
        """From memory: for what is decided anew all the time. ``body``: of an object on which the node reports."""
        return fate(self._evidence(node, body), self._clock.now(), self._grace) if self._listed else Fate.THERE

    def gone(self) -> frozenset[str]:
        """Those that an administrator says are gone for good."""
        return frozenset(name for name in self._said if self.fate(name) is Fate.GONE)

    async def lost(self, bodies: Mapping[str, Body]) -> dict[str, Fate]:
        """Those nodes that are overdue or gone. ``bodies``: of each the object that waits for it."""
        suspects = {n for n in bodies if n in self._said or (self._grace is not None and n not in self._nodes)}
        fates = {node: await self._ask(node, bodies[node]) for node in sorted(suspects)}
        return {node: found for node, found in fates.items() if found >= Fate.OVERDUE}

    async def is_left(self, node: str, body: Body, *, unanswered: bool) -> bool:
        """Whether an object waits for a node that is gone for good; if it is ``unanswered``, overdue is enough."""
        fates = await self.lost({node: body})
        return any(fate is Fate.GONE or unanswered for fate in fates.values())

    async def _ask(self, node: str, body: Body) -> Fate:
        """Before anything is taken from a node. A watch can miss that a Node went, so memory is not believed there."""
        evidence = replace(self._evidence(node, body), node=False)
        if fate(evidence, self._clock.now(), self._grace) < Fate.OVERDUE:
            if self._grace is not None and node not in self._waiting:
                self._waiting.add(node)
                left = max(self._grace - evidence.silent, 0.0)
                asyncio.get_running_loop().call_later(left + 1, self._waited, node)
            return Fate.MISSING
        for kind, seen in (("Node", self.node_seen), ("DeviceHost", self.host_seen)):
            now = await self._cluster.get(kind, node)
            seen(None if now else "DELETED", now or {"metadata": {"name": node}})
        return fate(self._evidence(node, body), self._clock.now(), self._grace) if self._listed else Fate.THERE

    def _waited(self, node: str) -> None:
        self._waiting.discard(node)
        self._tell(node)

    def complaint(self, node: str, body: Body, *, told: bool, deleting: bool) -> Refusal | None:
        """For an object that waits for a node that has no Node object; None if it has one, or it is too early to say.

        ``told``: the object says so already. A host that never was a node is no matter before a deletion hangs there.
        """
        if self.fate(node) is Fate.THERE:
            return None
        evidence = self._evidence(node, body)
        late = deleting and evidence.silent >= _TELL_SECONDS
        if not (told or late or node in self._vanished):
            return None
        return missing(node, evidence, self._clock.now(), has_host=node in self._hosts)

    def _evidence(self, node: str, body: Body | None = None) -> Evidence:
        host = self._hosts.get(node, Evidence(False))
        reports = (host.reported, last_report(body["metadata"]) if body else None)
        silent = 0.0
        if node not in self._nodes:
            if node not in self._silent_since:
                self._begin(node)
            silent = self._clock.monotonic() - self._silent_since[node]
            pending = waited(body["metadata"], self._clock.now()) if body else None
            silent = silent if pending is None else min(silent, pending)
        reported = max((r for r in reports if r), default=None)
        return replace(host, node=node in self._nodes, silent=silent, reported=reported)
