"""The controller's part for VFPools: a NodeVFPool for each node that has the pool, and its status, the sum of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..api.vfpool import POOL_FINALIZER, VFPoolStatus
from ..core import conditions
from ..core.conditions import READY
from ..core.gone import Fate
from ..core.pool_aggregate import PENDING, aggregate
from ..core.pool_binding import Correct, LetGo, Make, NodePool, Nodes, Pool, Remove, Step, steps
from ..core.reasons import NODE_GONE, Retry
from ..ports import Body, Clock, Cluster, ClusterError
from . import runner
from .gone_nodes import GoneNodes
from .objects import ObjectCache
from .pool_objects import parse_node_pool, parse_pool, slim
from .queue import KeyedQueue

log = logging.getLogger(__name__)

FIELD_MANAGER = "hostdev-controller"
#: Between two writes of a pool's status: a pool that comes up on a thousand nodes is not written a thousand times.
STATUS_SECONDS = 0.25
#: While a pool ends, between two readings of its NodeVFPools, at least.
_READ_AGAIN_SECONDS = 60.0
#: What the API server says of one object alone; after any other error the rest of the work would fail as well.
_OF_THE_OBJECT = (404, 409, 422)


class PoolController:
    """Keys of the queue are names of VFPools, also of those that are no more. Runs in the event loop.

    ``moved`` is called when a pool has come to a node, or left one. ``fates`` is told of nodes and hosts here.
    """

    def __init__(self, cluster: Cluster, clock: Clock, moved: Callable[[], None], fates: GoneNodes) -> None:
        self._cluster = cluster
        self._clock = clock
        self._moved = moved
        self._fates = fates
        self._pools = ObjectCache(parse_pool)
        self._node_pools = ObjectCache(parse_node_pool)
        self._uids: dict[str, str] = {}  # of VFPools by name
        self._members: defaultdict[str, set[str]] = defaultdict(set)  # UIDs of the NodeVFPools that name a VFPool
        self._agents: set[str] = set()
        self._labels: dict[str, dict[str, str]] = {}
        self._written: dict[str, float] = {}  # when a pool's status was written last, by the event loop's clock
        self._read: dict[str, float] = {}  # when the NodeVFPools of a pool that ends were read last
        self._due: set[str] = set()  # pools whose status waits for its turn
        self._listed = False
        self.homes: dict[str, frozenset[str]] = {}  # core.binding.PoolNodes
        self.queue = KeyedQueue(self._work)

    # -- what comes in ------------------------------------------------------------------------------------------

    def pool_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on VFPools."""
        name, uid = body["metadata"]["name"], body["metadata"]["uid"]
        if event == "DELETED":
            self._forget_pool(name, uid)
        elif self._pools.put(body):
            self._uids[name] = uid
            self._changed(name)

    def node_pool_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on NodeVFPools; of what agents report, only what is summed up is news."""
        uid, name = body["metadata"]["uid"], body["spec"]["poolName"]
        if event == "DELETED":
            self._forget_node_pool(name, uid)
            return
        known, now = self._node_pools.get(uid), slim(body)
        before = self._node_pools.parsed(known) if known is not None else None
        if self._node_pools.put(now):
            self._members[name].add(uid)
            after = self._node_pools.parsed(now)
            if before is not None and before.without_report() == after.without_report() and name in self._due:
                return  # it is summed up when the status has its turn
            if after != before:
                self._changed(name)

    def host_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on DeviceHosts: only which there are matters."""
        name = body["metadata"]["name"]
        self._fates.host_seen(event, body)
        if (name in self._agents) == (event == "DELETED"):
            self._agents.symmetric_difference_update({name})
            self.wake_all()

    def node_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on Nodes: only labels matter, and of a pool only whether it selects the node."""
        name = body["metadata"]["name"]
        self._fates.node_seen(event, body)
        labels = None if event == "DELETED" else dict(body["metadata"].get("labels") or {})
        if labels == self._labels.get(name):
            return
        before = self._node(name)
        if labels is None:
            del self._labels[name]
        else:
            self._labels[name] = labels
        after = self._node(name)
        for pool in self._all_pools():
            selector = pool.spec.node_selector
            if before.selects(selector, name) != after.selects(selector, name):
                self.queue.add(pool.name)

    async def list_all(self) -> None:
        """Once, before anything is done: a NodeVFPool or a node that is not known yet would be taken for missing."""
        seers = {"Node": self.node_seen, "VFPool": self.pool_seen, "NodeVFPool": self.node_pool_seen}
        for kind, seen in seers.items():
            for body in await runner.listed(self._cluster, kind):
                seen(None, body)
        self._listed = True
        self._fates.nodes_listed()
        self.wake_all()

    def _nodes(self, name: str) -> Nodes:
        """The nodes, as the pool is to see them: that its own agent reported since makes void that it is gone."""
        bodies = self._by_node(name)
        gone = frozenset(n for n in self._fates.gone() if self._fates.fate(n, bodies.get(n)) is Fate.GONE)
        return Nodes(frozenset(self._agents) - gone, dict(self._labels), gone)

    def _by_node(self, name: str) -> dict[str, Body]:
        """Of each node that has the pool its NodeVFPool."""
        there = {found.spec.node_name: found.uid for found in self._existing(name) if found.spec is not None}
        return {node: body for node, uid in there.items() if (body := self._node_pools.get(uid)) is not None}

    async def _lost(self, name: str) -> Nodes:
        """The nodes, those of the pool that are lost asked for once more."""
        fates = await self._fates.lost(self._by_node(name))
        return replace(self._nodes(name), overdue=frozenset(n for n, fate in fates.items() if fate is Fate.OVERDUE))

    def _node(self, name: str) -> Nodes:
        """The same of one node."""
        labels = {name: self._labels[name]} if name in self._labels else {}
        return Nodes(frozenset(self._agents & {name}), labels)

    def _all_pools(self) -> Iterable[Pool]:
        for name in list(self._uids):
            with contextlib.suppress(ValueError):  # told when it is worked on
                if (pool := self._pool(name)) is not None:
                    yield pool

    def _pool(self, name: str) -> Pool | None:
        """None if there is none. ValueError if it cannot be read: then nothing is known of what it wants."""
        body = self._pools.get(self._uids.get(name, ""))
        return self._pools.parsed(body) if body is not None else None

    def _existing(self, name: str) -> list[NodePool]:
        bodies = (self._node_pools.get(uid) for uid in sorted(self._members.get(name, ())))
        return [self._node_pools.parsed(body) for body in bodies if body is not None]

    def wake_all(self) -> None:
        """Look at every pool again."""
        for name in {*self._uids, *self._members}:
            self.queue.add(name)

    def _changed(self, name: str) -> None:
        """A pool, or one of its NodeVFPools, is not as it was."""
        self.queue.add(name)
        try:
            pool = self._pool(name)
        except ValueError:  # told when it is worked on
            return
        home = None
        if pool is not None and not pool.deleting:
            home = frozenset(n.spec.node_name for n in self._existing(name) if n.spec is not None and not n.deleting)
        if home == self.homes.get(name):
            return
        if home is None:
            del self.homes[name]
        else:
            self.homes[name] = home
        self._moved()

    def _forget_pool(self, name: str, uid: str) -> None:
        self._pools.remove(uid)
        if self._uids.get(name) == uid:  # not if it was made anew meanwhile
            del self._uids[name]
            self._written.pop(name, None)
            self._changed(name)

    def _forget_node_pool(self, name: str, uid: str) -> None:
        self._node_pools.remove(uid)
        self._members[name].discard(uid)
        if not self._members[name]:
            del self._members[name]
            self._read.pop(name, None)
        self._changed(name)

    # -- one pool -----------------------------------------------------------------------------------------------

    async def _work(self, name: str) -> Retry:
        if not self._listed:  # list_all wakes everything
            return Retry.ON_EVENT
        try:
            return await self._reconcile(name)
        except ClusterError as error:  # 409: an older version; the watch brings the newer one
            log.log(logging.DEBUG if error.code in _OF_THE_OBJECT else logging.WARNING, "pool %s: %s", name, error)
            return Retry.BACKOFF

    async def _reconcile(self, name: str) -> Retry:
        pool = self._pool(name)
        ends = pool is None or pool.deleting
        if ends:
            await self._read_again(name)
        if pool is not None and not pool.deleting and POOL_FINALIZER not in pool.finalizers:
            await self._set_finalizers(pool, (*pool.finalizers, POOL_FINALIZER))
        nodes = await self._lost(name)
        failed = await self._carry_out(name, steps(self._pool(name), self._existing(name), nodes))
        await self._end_or_report(name)
        if failed is not None:
            raise failed
        return Retry.BACKOFF if ends and name in self._members else Retry.ON_EVENT

    async def _read_again(self, name: str) -> None:
        """A watch that was away for long does not tell of what went meanwhile; an end must not wait for that."""
        loop = asyncio.get_running_loop()
        if name not in self._members or loop.time() < self._read.setdefault(name, loop.time()) + _READ_AGAIN_SECONDS:
            return
        self._read[name] = loop.time()
        there = {body["metadata"]["uid"] for body in await self._cluster.objects("NodeVFPool")}
        for uid in self._members.get(name, set()) - there:
            self._forget_node_pool(name, uid)

    async def _carry_out(self, name: str, todo: Iterable[Step]) -> ClusterError | None:
        """All steps, one by one; a node where it fails does not keep the others from theirs. The first failure."""
        failed = None
        for step in todo:
            try:
                await self._do(name, step)
            except ClusterError as error:
                failed = failed or error
                if error.code not in _OF_THE_OBJECT:
                    break
        return failed

    async def _do(self, name: str, step: Step) -> None:
        if isinstance(step, Make):
            self.node_pool_seen(None, await self._cluster.create(step.manifest))
            return
        body = self._node_pools.get(step.uid)
        if body is None:  # the watch has told of its end meanwhile
            return
        if isinstance(step, Correct):
            self.node_pool_seen(None, await self._cluster.replace(_as_manifest(body, step)))
        elif isinstance(step, Remove):
            await self._cluster.delete(body)
        elif isinstance(step, LetGo):
            updated = await self._cluster.set_finalizers(body, list(step.finalizers))
            await self._tell_of_loss(name, body)
            if updated is None or not step.finalizers:
                self._forget_node_pool(name, step.uid)
            else:
                self.node_pool_seen(None, updated)

    async def _tell_of_loss(self, name: str, node_pool: Body) -> None:
        """Of a NodeVFPool that goes without having been given back."""
        node = (node_pool.get("status") or {}).get("nodeName")
        if node:
            pool = self._pools.get(self._uids.get(name, ""))
            text = f"node {node} is gone: VFs, network and settings of pool {name} were not given back to it"
            await self._cluster.event(pool or node_pool, warning=True, reason=NODE_GONE.name, message=text)

    async def _set_finalizers(self, pool: Pool, finalizers: Iterable[str]) -> None:
        body = self._pools.get(pool.uid)
        updated = await self._cluster.set_finalizers(body, list(finalizers)) if body is not None else None
        if updated is not None and updated["metadata"].get("finalizers"):
            self.pool_seen(None, updated)
        else:
            self._forget_pool(pool.name, pool.uid)

    async def _end_or_report(self, name: str) -> None:
        pool = self._pool(name)
        if pool is None:
            return
        if not pool.deleting or name in self._members:
            await self._report(pool)
        elif POOL_FINALIZER in pool.finalizers:
            await self._set_finalizers(pool, (f for f in pool.finalizers if f != POOL_FINALIZER))

    async def _report(self, pool: Pool) -> None:
        """Write the status if it says something new, and not more often than each STATUS_SECONDS."""
        body = self._pools.get(pool.uid)
        existing = self._existing(pool.name)
        new = aggregate(pool, existing, replace(self._nodes(pool.name), missing=self._missing(pool, existing)))
        stamped = conditions.stamp(new.conditions, pool.status.conditions, self._clock.now(), pool.generation)
        new = new.model_copy(update={"conditions": stamped})
        if body is None or new == pool.status:
            return
        loop = asyncio.get_running_loop()
        wait = self._written.get(pool.name, -STATUS_SECONDS) + STATUS_SECONDS - loop.time()
        if wait > 0:
            if pool.name not in self._due:
                self._due.add(pool.name)
                loop.call_later(wait, self._turn, pool.name)
            return
        self._written[pool.name] = loop.time()
        self._pools.put(await self._cluster.apply_status(body, new.wire(), FIELD_MANAGER))
        await self._tell(body, pool.status, new)

    def _missing(self, pool: Pool, existing: Iterable[NodePool]) -> dict[str, str]:
        """What is to be said of its nodes that have no Node object any more."""
        told = any(c.reason == NODE_GONE.name for c in pool.status.conditions)
        found = {}
        for one in existing:
            body = self._node_pools.get(one.uid)
            if one.spec is not None and body is not None and one.held:
                node = one.spec.node_name
                refusal = self._fates.complaint(node, body, told=told, deleting=one.deleting)
                found.update({node: refusal.message} if refusal else {})
        return found

    def _turn(self, name: str) -> None:
        self._due.discard(name)
        self.queue.add(name)

    async def _tell(self, body: Body, old: VFPoolStatus, new: VFPoolStatus) -> None:
        for changed in conditions.changed(new.conditions, old.conditions):
            if changed.type == READY:
                warning = changed.status != "True" and changed.reason != PENDING
                await self._cluster.event(body, warning=warning, reason=changed.reason, message=changed.message)


def _as_manifest(body: Body, step: Correct) -> Body:
    """The object as it shall be; finalizers of others stay."""
    wanted = step.manifest["metadata"]
    others = [f for f in body["metadata"].get("finalizers", []) if f != POOL_FINALIZER]
    metadata = {**body["metadata"], **wanted, "finalizers": [*others, *wanted["finalizers"]]}
    return {**body, "metadata": metadata, "spec": step.manifest["spec"]}
