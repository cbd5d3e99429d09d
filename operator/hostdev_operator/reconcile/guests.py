"""One Guest on its node: observe, plan, apply, report. Nothing of the host is taken, so there is no record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ..api.guest import GuestSpec, GuestStatus
from ..core.assignment_status import Outcome
from ..core.checks import Refusal
from ..core.errors import HostError
from ..core.guest import DefineGuest, GuestWish, ShutDownGuest, StartGuest, Step, UndefineGuest, last_step, next_step
from ..core.guest_reasons import GUEST_STOPS, SHUTTING_DOWN
from ..core.guest_status import guest_status, unknown_status
from ..core.kinds import domain_lock
from ..core.model import Observation
from ..core.reasons import Retry
from ..ports import Host
from .failures import FailureMemory
from .locks import NamedLocks
from .looker import Looker

log = logging.getLogger(__name__)

#: It is defined and started; one more look sees that nothing is left.
_ROUNDS = 3
#: A guest that has run for so long is started at once when it goes off.
_LONG_RUN_SECONDS = 600.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 10.0, 300.0
#: Between two requests to shut down: what the guest did not hear while it booted, it may hear then.
_ASK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class BoundGuest:
    """A Guest of this node, as the API server has it."""

    uid: str
    name: str
    generation: int
    deleting: bool
    spec: GuestSpec
    status: GuestStatus

    def wish(self) -> GuestWish:
        """What it asks for."""
        return GuestWish(self.uid, self.name, self.generation, self.spec)


@dataclass(frozen=True)
class GuestResult:
    """What came out: the status to be written, and whether nothing is left to do for one that is being deleted.

    ``claim``: nothing was changed, since the API server does not know yet that this node has taken it up: its status
    must be written, and then the Guest be tried again.
    """

    status: GuestStatus
    claim: bool = False
    released: bool = False
    retry: Retry = Retry.ON_EVENT


class _Starts:
    """When guests were started, so that one that stops again and again is not started all the time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: dict[str, tuple[float, float]] = {}  # UID -> when, and the delay before the next one

    def begun(self, uid: str) -> None:
        """It is started now."""
        self._last[uid] = (self._monotonic(), self._next_delay(uid))

    def _next_delay(self, uid: str) -> float:
        if uid not in self._last or self._age(uid) >= _LONG_RUN_SECONDS:
            return _FIRST_DELAY_SECONDS
        return min(2 * self._last[uid][1], _LONGEST_DELAY_SECONDS)

    def _age(self, uid: str) -> float:
        return self._monotonic() - self._last[uid][0]

    def too_soon(self, uid: str) -> bool:
        """Whether it must not be started again yet."""
        return uid in self._last and self._age(uid) < self._last[uid][1]

    def forget(self, uid: str) -> None:
        """Somebody else decides: it was off because it was asked for."""
        self._last.pop(uid, None)


class GuestReconciler:
    """Brings libvirt to what Guests ask for. Thread-safe.

    ``waits`` says why the assignments that a Guest names keep it from being started; None if they do not.
    """

    def __init__(self, host: Host, looker: Looker, locks: NamedLocks, waits: Callable[[GuestWish], str | None]) -> None:
        self._host = host
        self._looker = looker
        self._locks = locks
        self._waits = waits
        self._failures = FailureMemory(host.clock.monotonic)
        self._starts = _Starts(host.clock.monotonic)
        self._asked: dict[str, tuple[int | None, float]] = {}  # UID -> the run that was asked to shut down, and when

    def reconcile(self, obj: BoundGuest) -> GuestResult:
        """One run."""
        if obj.status.node_name is None:
            if obj.deleting:
                return GuestResult(obj.status, released=True)
            return GuestResult(obj.status.model_copy(update={"node_name": obj.spec.node_name}), claim=True)
        wish, now = obj.wish(), self._host.clock.now()
        try:
            with self._locks.hold(frozenset({domain_lock(obj.uid)})):
                return self._run(obj, wish)
        except HostError as error:
            outcome = Outcome(failed=Refusal(error.reason, error.message))
            retry = Retry.BACKOFF if outcome.heals_with_time else Retry.ON_EVENT
            return GuestResult(unknown_status(wish, obj.status, now, outcome), retry=retry)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._failures.forget(uid)
        self._starts.forget(uid)
        self._asked.pop(uid, None)

    def _run(self, obj: BoundGuest, wish: GuestWish) -> GuestResult:
        host, fresh = self._looker.shared()
        status = obj.status
        for _ in range(_ROUNDS):
            step = self._step(obj, wish, host)
            if isinstance(step, Step) and not fresh:
                host, fresh = self._looker.fresh(), True
                step = self._step(obj, wish, host)
            if step is None or isinstance(step, Refusal):
                return self._told(obj, wish, status, host, Outcome(refused=step))
            known = self._failures.holds_back(wish.uid, self._inputs(wish, host))
            if known:
                return self._told(obj, wish, status, host, known)
            failed = self._try(wish, step, host)
            before, host = host, self._looker.fresh()
            if failed:
                self._failures.remember(wish.uid, self._inputs(wish, before), failed)
                return self._told(obj, wish, status, host, failed)
            if isinstance(step, DefineGuest):
                guest = host.guest(wish.uid)
                status = status.model_copy(update={"pending_run": guest.run if guest and guest.active else None})
        return self._told(obj, wish, status, host, Outcome())

    def _step(self, obj: BoundGuest, wish: GuestWish, host: Observation) -> Step | Refusal | None:
        """The next one; a refusal while it is too soon for it."""
        step = last_step(wish, host) if obj.deleting else next_step(wish, host, self._waits(wish))
        if not wish.spec.running:
            self._starts.forget(wish.uid)
        if isinstance(step, StartGuest) and self._starts.too_soon(wish.uid):
            text = f"guest {step.name} was off again soon after its start; it is started again after some time"
            return Refusal(GUEST_STOPS, text)
        if isinstance(step, ShutDownGuest) and self._was_asked(wish, host):
            text = f"guest {step.name} was asked to shut down and still runs; virsh destroy {step.name} would end it"
            return Refusal(SHUTTING_DOWN, f"{text}, and lose what it has not written")
        return step

    def _was_asked(self, wish: GuestWish, host: Observation) -> bool:
        guest, asked = host.guest(wish.uid), self._asked.get(wish.uid)
        if guest is None or asked is None or asked[0] != guest.run:
            return False
        return self._host.clock.monotonic() - asked[1] < _ASK_AGAIN_SECONDS

    def _try(self, wish: GuestWish, step: Step, host: Observation) -> Outcome | None:
        """How it failed."""
        log.info("guest %s: %s", wish.name, step)
        self._host.boundary(f"guest: before: {step}")
        try:
            self._perform(wish, step, host)
        except HostError as error:
            log.warning("guest %s: %s: %s", wish.name, error.reason, error.message)
            return Outcome(failed=Refusal(error.reason, error.message))
        self._host.boundary(f"guest: done: {step}")
        return None

    def _perform(self, wish: GuestWish, step: Step, host: Observation) -> None:
        hypervisor = self._host.hypervisor
        match step:
            case DefineGuest():
                hypervisor.define_guest(step)
            case StartGuest():
                hypervisor.start_guest(step)
                self._starts.begun(wish.uid)
            case ShutDownGuest():
                guest = host.guest(wish.uid)
                self._asked[wish.uid] = (guest.run if guest else None, self._host.clock.monotonic())
                hypervisor.shut_down_guest(step)
            case UndefineGuest():
                hypervisor.undefine_guest(step)

    def _inputs(self, wish: GuestWish, host: Observation) -> tuple[object, ...]:
        """What a failed step depends on."""
        return wish, host.guest(wish.uid), host.networks, host.settings

    def _told(
        self, obj: BoundGuest, wish: GuestWish, status: GuestStatus, host: Observation, outcome: Outcome
    ) -> GuestResult:
        if outcome.trouble is None:
            self._failures.forget(wish.uid)
            if obj.deleting:
                return GuestResult(obj.status, released=True)
        told = guest_status(wish, status, host, self._host.clock.now(), outcome)
        return GuestResult(told, retry=Retry.BACKOFF if outcome.heals_with_time else Retry.ON_EVENT)
