"""The node agent: what comes in (watch, libvirt, kernel) becomes keys in a queue; what comes out becomes status."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ..api import API_VERSION
from ..core.errors import HostError
from ..core.guest import GuestWish
from ..core.reasons import Retry
from ..ports import Body, Cluster, ClusterError, Host
from ..reconcile.assignment import AssignmentReconciler
from ..reconcile.context import Context
from ..reconcile.guests import GuestReconciler
from ..reconcile.host import HostReporter
from ..reconcile.locks import NamedLocks
from ..reconcile.looker import Looker
from ..reconcile.pools import PoolReconciler
from . import runner
from .assignment_work import AssignmentWork
from .guest_work import GuestWork, waiting
from .host_report import HostReport
from .pages import Pages
from .pool_work import PoolWork
from .queue import KeyedQueue
from .watched import is_ready
from .work import Calls

log = logging.getLogger(__name__)

_BURST_SECONDS = 0.1
#: How long a guest's start is waited for: what is seen meanwhile is half done, and nothing is to be told of it.
_START_SECONDS = 10.0
#: For changes that no event tells of: libvirt's XML often, since it costs little, and now and then everything.
_GLANCE_SECONDS = 4.0
_GLANCES = 7
_LIBVIRT_RETRY_SECONDS = 2.0
#: What libvirt's hook reads must not grow old (core/start_gate.py).
_GATE_SECONDS = 60.0


@dataclass(frozen=True)
class Senses:
    """How the agent notices changes on its host that no one tells it of."""

    connect: Callable[[], object]  # opens libvirt if it is closed; raises HostError
    connected: Callable[[], bool]
    starting: Callable[[], bool] = lambda: False  # whether libvirt is starting a guest; raises HostError


class Agent:
    """One node's agent. Everything here runs in the event loop; the engine runs in threads."""

    def __init__(self, node: str, host: Host, cluster: Cluster, senses: Senses) -> None:
        self._node = node
        self._cluster = cluster
        self._senses = senses
        self._gate = host.gate
        self._version = 0  # of the host, as far as it is known to have changed
        self._objects = 0  # the same of what is asked for
        self._listed = False
        self._told = False  # by the watch: anything at all
        self._heard = asyncio.Event()  # of anything on the host
        context = Context(
            settings=lambda: self.host.settings,
            wishes=lambda: self.assignments.wishes(),  # noqa: PLW0108 - made below
            pool_wishes=lambda: self.pools.wishes(),  # noqa: PLW0108
            version=lambda: self._version,
            objects=lambda: self._objects,
        )
        self._looker = Looker(host, context)
        locks = NamedLocks()
        reconciler = AssignmentReconciler(host, self._looker, locks)
        pools = PoolReconciler(host, self._looker, locks)
        calls = Calls(self._news, self.host_changed)
        self.assignments = AssignmentWork(node, host, cluster, reconciler, calls)
        self.pools = PoolWork(node, host, cluster, pools, calls)
        self.guests = GuestWork(node, host, cluster, GuestReconciler(host, self._looker, locks, self._waits), calls)
        self.queue = KeyedQueue(self._work)
        self.host = HostReport(
            node,
            cluster,
            HostReporter(host, self._looker),
            release=lambda orphan: (pools if orphan.pool else reconciler).release_orphan(orphan),
            alive=lambda: frozenset((*self.assignments.objects, *self.pools.objects)) if self._listed else None,
            idle=lambda: self.queue.idle,
            freed=self.host_changed,
        )

    # -- what comes in ------------------------------------------------------------------------------------------

    def seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on assignments."""
        self._objects += 1
        if self.assignments.objects.seen(event, body):
            self.queue.add(body["metadata"]["uid"])

    def pool_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on NodeVFPools. What a pool is, concerns assignments as well."""
        self._objects += 1
        if self.pools.objects.seen(event, body):
            self.queue.add(body["metadata"]["uid"])
            self._wake(lambda other: not is_ready(other))

    def guest_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on Guests."""
        if self.guests.objects.seen(event, body):
            self.queue.add(body["metadata"]["uid"])

    def host_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on this node's DeviceHost, which there always is: the agent itself makes it."""
        self._told = True
        if self.host.seen(event, body):
            self._objects += 1
            self.host_changed()

    def host_event(self) -> None:
        """An event of libvirt or the kernel."""
        self._heard.set()

    def host_changed(self) -> None:
        """Something happened on the host: look at everything again. Any object may be concerned."""
        self._version += 1
        self._wake(lambda _body: True)
        self.host.dirty.set()

    def _news(self, but: str) -> None:
        """What one object gave up, or could not get, may be what another one waits for."""
        self._objects += 1
        self._wake(lambda body: body["metadata"]["uid"] != but and not is_ready(body))
        self.host.dirty.set()

    def _wake(self, which: Callable[[Body], bool]) -> None:
        for body in (b for kind in self._kinds for b in kind.objects.bodies()):
            if which(body):
                self.queue.add(body["metadata"]["uid"])

    @property
    def _kinds(self) -> tuple[PoolWork, GuestWork, AssignmentWork]:
        return self.pools, self.guests, self.assignments

    def _waits(self, wish: GuestWish) -> str | None:
        return waiting(wish, self.assignments.objects)

    def unready(self) -> str | None:
        """For the readiness probe."""
        if not self._senses.connected():
            return "libvirt does not answer"
        if not self.host.reported:
            return "the DeviceHost has not been written yet"
        return None if self._told else "the API server's watch has told nothing yet"

    # -- background tasks ---------------------------------------------------------------------------------------

    async def answer_events(self) -> None:
        """One change raises several: the first is answered a moment later, those of a guest's start at its end."""
        while True:
            await self._next_burst(None)
            deadline = asyncio.get_running_loop().time() + _START_SECONDS
            while await asyncio.to_thread(self._starting):  # libvirt tells when it has started, or failed to
                try:
                    await self._next_burst(deadline)
                except TimeoutError:
                    break
            self.host_changed()

    async def _next_burst(self, deadline: float | None) -> None:
        async with asyncio.timeout_at(deadline):
            await self._heard.wait()
        await asyncio.sleep(_BURST_SECONDS)
        self._heard.clear()

    def _starting(self) -> bool:
        """What cannot be told now, the look will tell."""
        try:
            return self._senses.starting()
        except Exception:  # noqa: BLE001 - as in _glance
            return False

    async def watch_libvirt(self) -> None:
        """Keep the connection open: connecting is news, and so is losing it."""
        was, trouble = False, None
        while True:
            trouble = await asyncio.to_thread(_trouble, "connecting to libvirt", self._senses.connect, trouble)
            if was and trouble:
                log.warning("%s", trouble)
            now = self._senses.connected()
            if now != was:
                self.host_changed()
            was = now
            await asyncio.sleep(_LIBVIRT_RETRY_SECONDS)

    async def look_around(self) -> None:
        """Not everything raises an event, as virsh attach-device --config does not: now and then look for changes."""
        look = ("looking at the host", self._looker.fresh)
        trouble = await asyncio.to_thread(_trouble, *look, None)
        while True:
            for _ in range(_GLANCES):
                await asyncio.sleep(_GLANCE_SECONDS)
                if await asyncio.to_thread(self._glance):
                    self.host_changed()
            if await asyncio.to_thread(self._starting):
                continue  # its end has a look at everything
            before, trouble = trouble, await asyncio.to_thread(_trouble, *look, trouble)
            if self._looker.differed() or trouble != before:
                self.host_changed()

    async def keep_gates(self) -> None:
        """What holds guests' starts up stays so as long as this agent runs, and no longer than their assignments."""
        trouble = None
        while True:
            await asyncio.sleep(_GATE_SECONDS)
            if self._listed:
                bound = frozenset(self.assignments.objects)
                keep = functools.partial(self._gate.keep, bound)
                trouble = await asyncio.to_thread(_trouble, "telling libvirt's hook", keep, trouble)

    def _glance(self) -> bool:
        """What cannot be told now, the next look at everything will tell."""
        try:
            return not self._senses.starting() and self._looker.libvirt_differs()
        except Exception:  # noqa: BLE001 - libvirt that is away, or one strange XML
            return False

    async def list_bound(self) -> None:
        """Once, before any work: a node that lost its journal must know all claims before it makes a new one.

        Without the whole list nobody can tell, either, whether a record's assignment is gone.
        """
        await self.host.read_settings()
        for body in await runner.until_it_works("listing pools", lambda: self._list("NodeVFPool")):
            await self.pools.take_up(body)
        for body in await runner.until_it_works("listing guests", lambda: self._list("Guest")):
            await self.guests.take_up(body)
        for body in await runner.until_it_works("listing assignments", lambda: self._list("DeviceAssignment")):
            await self.assignments.take_up(body)
        self._listed = True
        self.host_changed()

    async def _list(self, kind: str) -> list[Body]:
        return await self._cluster.objects(kind, self._node)

    async def _work(self, uid: str) -> Retry:
        if not self._listed:  # list_bound wakes everything
            return Retry.ON_EVENT
        try:
            return await next((kind for kind in self._kinds if uid in kind.objects), self.assignments).work(uid)
        except ClusterError as error:
            log.warning("%s: not read: %s", uid, error)
            return Retry.BACKOFF


def _trouble(what: str, work: Callable[[], object], before: str | None) -> str | None:
    """What is wrong with it; None if it works. The unforeseen is logged once, and ends no care for assignments."""
    try:
        work()
    except HostError as error:
        return error.message
    except Exception as error:  # such as one strange XML
        trouble = repr(error)
        if trouble != before:
            log.exception("%s", what)
        return trouble
    return None


async def run_agent(agent: Agent, node: str, *pages: Pages) -> None:
    """Run until kopf is told to stop (SIGTERM, SIGINT)."""
    registry = runner.registry()
    runner.watch(
        registry,
        {
            (API_VERSION, "deviceassignments"): agent.seen,
            (API_VERSION, "nodevfpools"): agent.pool_seen,
            (API_VERSION, "guests"): agent.guest_seen,
            (API_VERSION, "devicehosts"): agent.host_seen,
        },
    )
    selectors = {
        "deviceassignments": f"status.nodeName={node}",
        "nodevfpools": f"spec.nodeName={node}",
        "guests": f"spec.nodeName={node}",
        "devicehosts": f"metadata.name={node}",
    }
    await runner.run(
        registry,
        runner.settings(selectors),
        agent.list_bound,
        agent.queue.run,
        agent.answer_events,
        agent.watch_libvirt,
        agent.look_around,
        agent.keep_gates,
        agent.host.run,
        pages=pages,
    )
