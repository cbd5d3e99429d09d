"""Agent and controller as processes that can be killed, and their way to the API server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from hostdev_operator.adapters.journal import Journal
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.ports import Body, Cluster, ClusterError, Host
from hostdev_operator.shell.agent import Agent, Senses
from hostdev_operator.shell.controller import Controller
from hostdev_operator.simulation.ports import FakeDevices, FakeHypervisor
from hostdev_operator.simulation.preparation import FakePreparation
from hostdev_operator.simulation.start_gate import FakeGate
from tests.chaos.parts import NO_BUSY_LOOP, Killed, has_run_away
from tests.fakes.samples import NODE

if TYPE_CHECKING:
    from tests.chaos.world import World


class Process:
    """The agent or the controller from its start to its end."""

    def __init__(self, world: World, role: str) -> None:
        self.world = world
        self.dead = False
        self.deaf = False
        self._role = role
        self._watches: list[tuple[str, str | None, Callable[[str | None, Body], object], Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> Cluster:
        """The API server as this process has it."""
        return cast("Cluster", Api(self, self.world.cluster.port_for(f"hostdev-{self._role}")))

    def check(self) -> None:
        """A dead process does nothing."""
        if self.dead:
            raise Killed

    def begin(self, *work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Its tasks."""
        self._tasks += [asyncio.get_running_loop().create_task(self._life(w)) for w in work]

    async def _life(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the end of the process, or of the campaign
            if not self.dead and has_run_away(error):
                self.world.violate(NO_BUSY_LOOP, f"{self._role}: {self.world.host.calls[-3:]}")
            elif not self.dead:
                self.world.violate("no task ends by itself", f"{self._role}: {error!r}")
            self.end()

    def watch(self, kind: str, node: str | None, take: Callable[[str | None, Body], object]) -> None:
        """What kopf does: all that is there, then all that happens; nothing while the API server is away."""

        def hear(event: str | None, body: Body) -> None:
            if not (self.dead or self.deaf or self.world.api_away):
                asyncio.get_running_loop().call_soon(lambda: None if self.dead else take(event, body))

        self._watches.append((kind, node, take, hear))
        self.world.cluster.watch(kind, hear, node)

    def list_again(self) -> None:
        """The API server is back: what vanished meanwhile is not told."""
        for kind, node, _, hear in self._watches:
            for body in self.world.cluster.all(kind, node):
                hear(None, body)

    def end(self) -> None:
        """SIGKILL."""
        self.dead = True
        for task in self._tasks:
            task.cancel()
        ours = [hear for _, _, _, hear in self._watches]
        watchers = self.world.cluster._watchers
        watchers[:] = [w for w in watchers if w[2] not in ours]


class Api:
    """A role's way to the API server, which may be away, refuse, or do as asked and not say so."""

    def __init__(self, process: Process, port: Cluster) -> None:
        self._process = process
        self._port = port

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._port, name)
        world = self._process.world

        async def call(*arguments: Any, **named: Any) -> Any:
            self._process.check()
            if world.api_away:
                if name == "event":
                    return None
                raise ClusterError(0, "connection refused")
            fault = world.refusals.pop(0) if world.refusals and name not in ("get", "objects", "event") else None
            if fault:
                world.hits[f"API {fault[0]}{' after the write' if fault[1] else ''}"] += 1
            if fault and not fault[1]:
                raise ClusterError(fault[0], "injected")
            answer = await method(*arguments, **named)
            if fault:
                raise ClusterError(fault[0], "injected: it was written all the same")
            return answer

        return call


class AgentProcess(Process):
    """HostError if another agent has the state directory, or it cannot be used."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "agent")
        self.journal = Journal(world.disk.path)
        self.journal.open()
        self.lost = False
        made = Host(
            FakeHypervisor(world.host),
            FakeDevices(world.host),
            self.journal.assignments,
            self.journal.pools,
            self.journal.approvals,
            FakePreparation(world.host),
            FakeGate(world.host),
            world.clock,
            self._boundary,
        )
        self.agent = Agent(NODE, made, self.port, Senses(self._connect, lambda: not self.lost))
        for owner, name in (
            (self.agent.assignments._reconciler, "reconcile"),
            (self.agent.assignments._reconciler, "release_orphan"),
            (self.agent.assignments._reconciler, "take_up_record"),
            (self.agent.pools._reconciler, "reconcile"),
            (self.agent.pools._reconciler, "release_orphan"),
            (self.agent.pools._reconciler, "take_up_record"),
        ):
            setattr(owner, name, self._observed(getattr(owner, name)))
        for name in ("save", "drop"):
            setattr(self.journal.assignments, name, self._told(name, getattr(self.journal.assignments, name)))

    def _observed(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(obj: Any) -> Any:
            self.check()
            self.world.loop.turn()
            if self.world.current is not None:
                return work(obj)
            self.world.begin_run(obj)
            try:
                return work(obj)
            finally:
                self.world.current = None

        return run

    def _told(self, name: str, work: Callable[[Any], None]) -> Callable[[Any], None]:
        def run(what: Any) -> None:
            self.world.journal(name, what)
            work(what)

        return run

    def _connect(self) -> object:
        if self.world.host.down:
            self.lost = True
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket")
        self.lost = False
        return self

    def _boundary(self, name: str) -> None:
        self.check()
        self.world.boundary(name)

    def start(self) -> None:
        """As __main__ and run_agent do."""
        agent = self.agent
        self.begin(self._first, agent.queue.run, agent.watch_libvirt, agent.look_around, agent.host.run)

    async def _first(self) -> None:
        await self.agent.list_bound()
        self.watch("DeviceAssignment", NODE, self.agent.seen)
        self.watch("NodeVFPool", NODE, self.agent.pool_seen)
        self.watch("DeviceHost", None, self.agent.host_seen)

    def end(self) -> None:
        if not self.dead:
            super().end()
            with suppress(OSError):
                os.close(self.journal._lock or -1)
            self.world.agent_ended(self)
        super().end()


class ControllerProcess(Process):
    """The controller."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "controller")
        self.controller = Controller(self.port, world.clock)

    def start(self) -> None:
        """As run_controller does."""
        self.begin(self._first, self.controller.queue.run, self.controller.pools.queue.run)

    async def _first(self) -> None:
        await self.controller.list_all()
        pools = self.controller.pools
        self.watch("DeviceAssignment", None, self.controller.assignment_seen)
        self.watch("DeviceHost", None, self.controller.host_seen)
        self.watch("VFPool", None, pools.pool_seen)
        self.watch("NodeVFPool", None, pools.node_pool_seen)
        self.watch("Node", None, pools.node_seen)
        self.watch("Namespace", None, self.controller.namespace_seen)
