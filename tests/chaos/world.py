"""One node and its cluster: the product's own agent, controller and journal on made-up parts, in made-up time.

Everything happens in one thread, in an order that the seed decides: the event loop's clock goes where the next timer is
(tests/shell/loop.py), and what the agent does in threads is done in place. A process that is killed stops between two
instructions: nothing that it had begun goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from hostdev_operator.adapters.journal import BOOT_FILE
from hostdev_operator.api import API_VERSION
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from tests.chaos.disk import Disk
from tests.chaos.parts import HANG_SECONDS, ChaosHost, ChaosLoop, Clock, Killed
from tests.chaos.processes import AgentProcess, ControllerProcess
from tests.fakes.cluster import FakeCluster
from tests.fakes.samples import NODE

_RESTART_SECONDS = 5.0
_BOOT_SECONDS = 20.0


class _Errors(logging.Handler):
    """What the product logs as unforeseen."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._world.violate("nothing unforeseen happens", f"{record.getMessage()}: {record.exc_info[1]!r}")


class World:
    """All of it. ``violations`` are what invariants found, ``hits`` the faults that struck, by kind."""

    def __init__(self, loop: ChaosLoop, host: ChaosHost, disk: Disk, seed: str) -> None:
        self.loop, self.host, self.disk = loop, host, disk
        self.chance = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.cluster = FakeCluster()
        self.clock = Clock(loop)
        self.violations: list[tuple[str, str]] = []
        self.hits: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self.calls = 0
        self.changes = 0
        self.api_away = False
        self.refusals: list[tuple[int, bool]] = []
        self.current: Any = None
        self.phase = ""
        self.kill_at: int | None = None
        self.power_cut_at: int | None = None
        self.asked_for: set[str] = set()  # UIDs whose deletion, or release as an orphan, somebody asked for
        self.on_run: Callable[[Any], None] = lambda _obj: None
        self.on_boundary: Callable[[str], None] = lambda _name: None
        self.on_call: Callable[[str], None] = lambda _call: None
        self.on_journal: Callable[[str, Any], None] = lambda _name, _what: None
        self.vf_set_by_hand: Callable[[int], None] = lambda _index: None
        self.meddled = False  # something was changed by hand, or etcd knows less than the host
        self.snapshot: Any = None
        self.restored: frozenset[str] | None = None  # UIDs that a restored etcd had
        self.agent: AgentProcess | None = None
        self.controller: ControllerProcess | None = None
        self.ended = False
        self.stale = False  # agent and controller remember more than a restored etcd
        self._numbers = 0
        self._restart: asyncio.TimerHandle | None = None
        self.cluster.new_uid = self.host.networks.new_uuid = self._uid
        host.hook, host.changed, host.struck = self._call, self._changed, self._struck
        self._errors = _Errors(self)
        logging.getLogger("hostdev_operator").addHandler(self._errors)

    def _uid(self) -> str:
        self._numbers += 1
        return f"{self.chance.getrandbits(32):08x}-0000-4000-8000-{self._numbers:012x}"

    def violate(self, invariant: str, text: str) -> None:
        """An invariant does not hold. It is kept, not raised: the product would catch it."""
        self.violations.append((invariant, text))

    # -- processes ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A node with its agent, and the controller."""
        self.cluster.create({"kind": "Node", "metadata": {"name": NODE, "labels": {}}})
        self.cluster.create({"apiVersion": API_VERSION, "kind": "DeviceHost", "metadata": {"name": NODE}})
        self.start_controller()
        self.start_agent()
        self.take_snapshot()

    def start_agent(self) -> None:
        """Again and again, as a kubelet does, if it cannot start."""
        self._restart = None
        if self.ended or (self.agent and not self.agent.dead):
            return
        try:
            self.agent = AgentProcess(self)
        except HostError:
            self._restart_in(_RESTART_SECONDS)
            return
        self.agent.start()

    def start_controller(self) -> None:
        """The old one ends."""
        if self.controller:
            self.controller.end()
        self.controller = ControllerProcess(self)
        self.controller.start()

    def agent_ended(self, process: AgentProcess) -> None:
        """By a signal or a crash; calls that hang are the new process's no more."""
        self.current = None
        self.host.blocked.clear()
        self.host.blocked_pfs.clear()
        if process is self.agent and not self.ended:
            self._restart_in(_RESTART_SECONDS)

    def _restart_in(self, seconds: float) -> None:
        if self._restart:
            self._restart.cancel()
        self._restart = self.loop.call_later(seconds, self.start_agent)

    def power_cut(self) -> None:
        """Of the whole node."""
        if self.agent:
            self.agent.end()
        self.disk.power_cut(self.chance)
        boot_file = self.disk.path / BOOT_FILE
        self.host.boot_file = boot_file.read_text() if boot_file.exists() else ""
        self.host.reboot()
        self._restart_in(_BOOT_SECONDS)

    def end(self) -> None:
        """Of the run."""
        self.ended = True
        logging.getLogger("hostdev_operator").removeHandler(self._errors)
        for process in (self.agent, self.controller):
            if process:
                process.end()

    def later(self, seconds: float, what: Callable[[World], object]) -> None:
        """Something that ends by itself; all is well again at any time before (operations.heal)."""
        self.loop.call_later(seconds, lambda: None if self.ended else what(self))

    # -- the cluster ------------------------------------------------------------------------------------------------

    def api_returns(self) -> None:
        """Watches are made anew."""
        if not self.api_away:
            return
        self.api_away = False
        for process in (self.agent, self.controller):
            if process and not process.dead:
                process.list_again()

    def take_snapshot(self) -> None:
        """Etcdctl snapshot save."""
        self.snapshot = deepcopy((self.cluster._objects, self.cluster._owned, self.cluster._version))

    def restore_snapshot(self) -> None:
        """Etcdctl snapshot restore: newer objects were never there. Who watches is told what is there."""
        objects, owned, version = deepcopy(self.snapshot)
        self.cluster._objects, self.cluster._owned, self.cluster._version = objects, owned, version
        self.restored = frozenset(body["metadata"]["uid"] for body in objects.values())
        self.api_away = True
        self.api_returns()

    # -- what the product does ----------------------------------------------------------------------------------------

    def begin_run(self, obj: Any) -> None:
        """The engine begins a run for an object, or for an orphan's record."""
        self.current, self.phase = obj, ""
        self.on_run(obj)

    def boundary(self, name: str) -> None:
        """A point where a crash would leave something half done."""
        self.phase = name.partition(":")[0]
        self.on_boundary(name)
        for attribute in ("kill_at", "power_cut_at"):
            left = getattr(self, attribute)
            if left is not None:
                setattr(self, attribute, left - 1 if left > 1 else None)
                if left <= 1:
                    self._strike(attribute)

    def _strike(self, what: str) -> None:
        assert self.agent
        self.hits["agent killed at a boundary" if what == "kill_at" else "power cut at a boundary"] += 1
        if what == "kill_at":
            self.agent.end()
        else:
            self.power_cut()
        raise Killed

    def _call(self, call: str) -> None:
        self.calls += 1
        if " " in call:
            self.changes += 1
            self.on_call(call)

    def journal(self, name: str, what: Any) -> None:
        """A record is about to be saved or dropped."""
        self.on_journal(name, what)

    def _changed(self, _call: str) -> None:
        self.news()

    def _struck(self, error: HostError) -> None:
        self.hits[f"host: {error.reason}"] += 1
        if error.reason in (reasons.DETACH_BLOCKED, reasons.REATTACH_BLOCKED):
            self.loop.now += HANG_SECONDS
        if error.reason is reasons.LIBVIRT_UNAVAILABLE and self.agent:
            self.agent.lost = True

    def news(self) -> None:
        """An event of libvirt or the kernel."""
        self.loop.call_soon(self._tell)

    def _tell(self) -> None:
        if self.agent and not self.agent.dead:
            self.agent.agent.host_changed()
