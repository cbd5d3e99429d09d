"""A cluster in memory with the controller and the agent of one fake host: no kopf, no network, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.ports import Body
from hostdev_operator.shell.agent import Agent, Senses
from hostdev_operator.shell.controller import Controller
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports
from tests.fakes.cluster import FakeCluster
from tests.fakes.samples import NODE, small_host


@dataclass
class World:
    """Everything, running."""

    host: FakeHost = field(default_factory=small_host)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        senses = Senses(self._connect, lambda: not self.host.down)
        self.agent = Agent(NODE, ports(self.host, self.clock), self.cluster.port_for("hostdev-agent"), senses)
        self.controller = Controller(self.cluster.port_for("hostdev-controller"), self.clock)

    def _connect(self) -> object:
        if self.host.down:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket")
        return self

    async def settle(self) -> None:
        """Until all queues are empty."""
        queues = (self.agent.queue, self.controller.queue, self.controller.pools.queue, self.controller.guests.queue)
        for _ in range(3):
            await asyncio.sleep(0.01)
            while not all(queue.idle for queue in queues):  # noqa: ASYNC110 - the clock is the test's
                await asyncio.sleep(0.01)

    async def report(self) -> None:
        """The agent's report of its host, as its background task writes it."""
        await self.agent.host.report()

    def administrate(self, **spec: object) -> None:
        """Kubectl patch devicehost."""
        self.cluster.edit(NODE, spec, "", "DeviceHost")

    def host_status(self) -> Body:
        """What the DeviceHost shows."""
        status: Body = self.cluster.get(NODE, "", "DeviceHost")["status"]
        return status

    def ready(self, name: str = "nic", kind: str = "Ready") -> tuple[str, str]:
        """Status and reason of a condition."""
        rows = self.cluster.get(name)["status"].get("conditions", [])
        return next((c["status"], c["reason"]) for c in rows if c["type"] == kind)

    def node(self, name: str = "nic") -> str | None:
        """The binding."""
        status: Body = self.cluster.get(name).get("status", {})
        return status.get("nodeName")


@asynccontextmanager
async def running(*, agent: bool = True, controller: bool = True, report: bool = True) -> AsyncIterator[World]:
    """A world whose roles work; the node is reported already."""
    world = World()
    tasks = []
    if report:
        await world.report()
    if controller:
        world.cluster.watch("DeviceAssignment", world.controller.assignment_seen)
        world.cluster.watch("DeviceHost", world.controller.host_seen)
        world.cluster.watch("VFPool", world.controller.pools.pool_seen)
        world.cluster.watch("NodeVFPool", world.controller.pools.node_pool_seen)
        world.cluster.watch("Guest", world.controller.guests.seen)
        world.cluster.watch("Node", world.controller.pools.node_seen)
        world.cluster.watch("Namespace", world.controller.namespace_seen)
        await world.controller.list_all()
        tasks.append(asyncio.create_task(world.controller.queue.run()))
        tasks.append(asyncio.create_task(world.controller.pools.queue.run()))
        tasks.append(asyncio.create_task(world.controller.guests.queue.run()))
    if agent:
        world.cluster.watch("DeviceAssignment", world.agent.seen, NODE)
        world.cluster.watch("DeviceHost", world.agent.host_seen)
        world.cluster.watch("Guest", world.agent.guest_seen, NODE)
        await world.agent.list_bound()
        tasks.append(asyncio.create_task(world.agent.queue.run()))
    world.cluster.writes.clear()
    yield world
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
