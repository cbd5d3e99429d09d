"""A cluster in memory with the controller alone; the test says what the nodes' agents report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hostdev_operator.api import API_VERSION
from hostdev_operator.ports import Body
from hostdev_operator.shell.controller import Controller
from hostdev_operator.simulation.ports import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.samples import body

AGENT = "hostdev-agent"
STATUS = "apply VFPool by hostdev-controller"


class PoolWorld:
    """The controller, and hands for all others. Cluster-scoped kinds are named by their name alone."""

    def __init__(self, cluster: FakeCluster | None = None) -> None:
        self.cluster = cluster or FakeCluster()
        self.clock = FakeClock()
        self.controller = Controller(self.cluster.port_for("hostdev-controller"), self.clock)
        self.agents = self.cluster.port_for(AGENT)

    async def settle(self, seconds: float = 1.0) -> None:
        """Until the queues are empty, and statuses that waited for their turn are written."""
        queues = (self.controller.queue, self.controller.pools.queue, self.controller.guests.queue)
        await asyncio.sleep(seconds)
        while not all(queue.idle for queue in queues):  # noqa: ASYNC110 - the clock is the test's
            await asyncio.sleep(0.01)

    # -- users and nodes ----------------------------------------------------------------------------------------

    def node(self, name: str, *, guest: tuple[str, str] | None = None, **labels: str) -> None:
        """A node with an agent; ``guest``: its guest's name and UUID."""
        self.cluster.create({"kind": "Node", "metadata": {"name": name, "labels": labels}})
        guests = [{"name": guest[0], "uuid": guest[1], "active": False, "persistent": True}] if guest else []
        host = {"apiVersion": API_VERSION, "kind": "DeviceHost", "metadata": {"name": name}}
        self.cluster.create({**host, "status": {"guests": guests}})

    def relabel(self, name: str, **labels: str) -> None:
        """Kubectl label."""
        self.cluster.annotate(name, kind="Node", labels=labels)

    def pool(self, name: str = "lan", *, selector: dict[str, str] | None = None, **spec: Any) -> None:
        """Kubectl create."""
        wire = {"pf": {"name": "ens1f0"}, "numVFs": 4, "nodeSelector": selector or {}, **spec}
        self.cluster.create({"apiVersion": API_VERSION, "kind": "VFPool", "metadata": {"name": name}, "spec": wire})

    def assign(self, name: str, **more: Any) -> None:
        """A DeviceAssignment of a VF of pool lan."""
        made = body(name, **more)
        made["spec"]["source"] = {"pool": {"name": "lan"}}
        self.cluster.create(made)

    # -- agents -------------------------------------------------------------------------------------------------

    async def report(self, name: str = "lan.n1", reason: str | None = None, **more: object) -> None:
        """What the agent writes; ready, unless a reason is given. It holds the pool from now on."""
        old = self.node_pool(name)
        ready = {
            "type": "Ready",
            "status": "False" if reason else "True",
            "reason": reason or "Ready",
            "message": "because" if reason else "",
            "observedGeneration": old["metadata"]["generation"],
            "lastTransitionTime": self.clock.now(),
        }
        counts = {"total": 4, "allocated": 1, "free": 3}
        status = {"nodeName": old["spec"]["nodeName"], "counts": counts, "conditions": [ready], **more}
        await self.agents.apply_status(old, status, AGENT)
        self.cluster.writes.pop()  # only the controller's are counted

    async def give_back(self, name: str = "lan.n1") -> None:
        """The agent's release."""
        await self.agents.clear_status(self.node_pool(name), ["nodeName", "record"])
        self.cluster.writes.pop()

    # -- what is ------------------------------------------------------------------------------------------------

    def node_pool(self, name: str = "lan.n1") -> Body:
        """The object."""
        return self.cluster.get(name, kind="NodeVFPool")

    def node_pools(self) -> list[str]:
        """Names of those that are not being deleted."""
        found = self.cluster.all("NodeVFPool")
        return sorted(b["metadata"]["name"] for b in found if "deletionTimestamp" not in b["metadata"])

    def status(self, name: str = "lan") -> Body:
        """The VFPool's."""
        status: Body = self.cluster.get(name, kind="VFPool").get("status", {})
        return status

    def ready(self, name: str = "lan") -> tuple[str, str]:
        """Status and reason of the VFPool's Ready."""
        (one,) = self.status(name)["conditions"]
        return one["status"], one["reason"]

    def accepted(self, name: str) -> tuple[str, str]:
        """The same of a DeviceAssignment's Accepted."""
        rows = self.cluster.get(name)["status"]["conditions"]
        return next((c["status"], c["reason"]) for c in rows if c["type"] == "Accepted")

    def node_of(self, name: str) -> str | None:
        """The binding of a DeviceAssignment."""
        bound: str | None = self.cluster.get(name).get("status", {}).get("nodeName")
        return bound

    def finalizers(self, name: str, kind: str = "NodeVFPool") -> list[str]:
        """Of an object."""
        found: list[str] = self.cluster.get(name, kind=kind)["metadata"].get("finalizers", [])
        return found


def by_hand(name: str, pool: str, node: str = "n1", **spec: Any) -> Body:
    """A NodeVFPool that a user creates."""
    wire = {"pf": {"name": "ens1f0"}, "numVFs": 4, "poolName": pool, "nodeName": node, **spec}
    return {"apiVersion": API_VERSION, "kind": "NodeVFPool", "metadata": {"name": name}, "spec": wire}


@asynccontextmanager
async def controlling(*nodes: str, cluster: FakeCluster | None = None) -> AsyncIterator[PoolWorld]:
    """A world whose controller works, with these nodes."""
    world = PoolWorld(cluster)
    for name in nodes:
        world.node(name)
    controller, pools = world.controller, world.controller.pools
    world.cluster.watch("DeviceAssignment", controller.assignment_seen)
    world.cluster.watch("DeviceHost", controller.host_seen)
    world.cluster.watch("VFPool", pools.pool_seen)
    world.cluster.watch("NodeVFPool", pools.node_pool_seen)
    world.cluster.watch("Guest", controller.guests.seen)
    world.cluster.watch("Node", pools.node_seen)
    world.cluster.watch("Namespace", controller.namespace_seen)
    await controller.list_all()
    queues = (controller.queue, pools.queue, controller.guests.queue)
    tasks = [asyncio.create_task(queue.run()) for queue in queues]
    world.cluster.writes.clear()
    yield world
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
