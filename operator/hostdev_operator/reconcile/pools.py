"""One VF pool on its node: observe, plan, apply, report."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ..api.plan import PlanStatus
from ..api.vfpool import NodeVFPoolSpec, NodeVFPoolStatus
from ..core import conditions, reasons
from ..core.assignment_status import Outcome
from ..core.checks import Refusal
from ..core.drift import pool_standing, pool_stood, stood
from ..core.errors import HostError
from ..core.kinds import network_lock, pf_lock
from ..core.model import Observation
from ..core.orphans import Orphan
from ..core.pci import PciAddress
from ..core.planned import step_in_words
from ..core.pool import PoolWish
from ..core.pool_actions import MAKES_NETWORK, ConfigureVf
from ..core.pool_plan import PoolPlan
from ..core.pool_published import pool_record_from_status
from ..core.pool_release import plan_pool_release
from ..core.pool_source import pf_meant
from ..core.pool_status import old_pool_status_but, pool_status
from ..core.pool_use import users
from ..core.reasons import Retry
from ..ports import Host
from .approvals import Approvals, PlannedStep
from .corrections import Corrections, corrected
from .failures import FailureMemory
from .locks import NamedLocks
from .looker import Looker
from .pool_apply import apply_pool

log = logging.getLogger(__name__)

#: A pool takes three steps at most; one more look sees that nothing is left.
_ROUNDS = 4
#: The PF and the VF's index.
_Vf = tuple[PciAddress, int]
_LOOKS = 3


@dataclass(frozen=True)
class NodePool:
    """A NodeVFPool of this node, as the API server has it."""

    uid: str
    name: str
    created: str
    generation: int
    deleting: bool
    spec: NodeVFPoolSpec
    status: NodeVFPoolStatus

    def wish(self) -> PoolWish:
        """What it asks for."""
        return PoolWish(self.uid, self.spec.pool_name, self.created, self.generation, self.spec)


@dataclass
class _Run:
    """What one run tells beside its end: the plan that it began with, and what it puts right of a drift."""

    shown: PlanStatus | None = None
    corrects: str | None = None
    done_again: bool = False

    def told(self, result: PoolResult) -> PoolResult:
        """With the plan in status; None leaves what status shows."""
        status = result.status.model_copy(update={"plan": self.shown}) if self.shown else result.status
        return replace(result, status=status, corrected=corrected(self.corrects))


@dataclass(frozen=True)
class PoolResult:
    """What came out: the status to be written, and whether everything is given back.

    ``claim``: nothing was changed, since the API server does not know yet that this node has the pool: its status must
    be written, and then the pool be tried again. ``retry`` says when to try again where nothing on the host will tell.
    """

    status: NodeVFPoolStatus
    claim: bool = False
    released: bool = False
    retry: Retry = Retry.ON_EVENT
    corrected: str | None = None


def _claim(obj: NodePool) -> PoolResult:
    return PoolResult(obj.status.model_copy(update={"node_name": obj.spec.node_name}), claim=True)


def _begins(wish: PoolWish, answer: PoolPlan | Refusal, host: Observation) -> bool:
    """Whether the API server must know first that this node has the pool.

    With a record it has it already, though an API server that was restored does not know.
    """
    return wish.uid in host.pool_records or (not isinstance(answer, Refusal) and bool(answer))


@dataclass(frozen=True)
class _Whose:
    """For whom something is done: a pool, or one that is gone."""

    uid: str
    name: str
    generation: int = 0

    @classmethod
    def of(cls, wish: PoolWish) -> _Whose:
        """A pool that is there."""
        return cls(wish.uid, wish.name, wish.generation)


def _configured(actions: PoolPlan) -> frozenset[_Vf]:
    return frozenset((a.pf, a.index) for a in actions if isinstance(a, ConfigureVf))


def _restless(name: str) -> Refusal:
    text = f"somebody else changes what pool {name} has done, again and again"
    return Refusal(reasons.HOST_CHANGED, text)


def _names(network: str, pf: PciAddress | None, host: Observation) -> frozenset[str]:
    """What must be locked: the PF, and the networks of all pools that share it."""
    sharing = {record.network_name for record in host.pool_records.values() if record.pf == pf}
    names = (network_lock(name) for name in (network, *sharing))
    return frozenset((*names, *((pf_lock(pf),) if pf else ())))


class PoolReconciler:
    """Brings the host to what pools ask for. Thread-safe.

    What a failed run did is not rolled back, as it is for an assignment: VFs without their network hurt nobody, and the
    next run goes on from there. The record says how all of it is given back.
    """

    def __init__(self, host: Host, looker: Looker, locks: NamedLocks) -> None:
        self._host = host
        self._looker = looker
        self._locks = locks
        self._failures = FailureMemory(host.clock.monotonic)
        self._approvals = Approvals(host.approvals)
        self._corrections = Corrections(host.clock.monotonic)
        #: Per pool, which VFs have got their settings, and nobody has had since, as far as was seen.
        self._settings: dict[str, frozenset[_Vf]] = {}
        self._released: set[str] = set()

    def reconcile(self, obj: NodePool) -> PoolResult:
        """One run for one pool. Never raises HostError: what went wrong is in the result."""
        if obj.deleting and obj.uid in self._released:
            return PoolResult(NodeVFPoolStatus(), released=True)
        wish = obj.wish()
        try:
            self.take_up_record(obj)
            if self._claims(obj, wish):
                return _claim(obj)
            for number in range(_LOOKS):
                # an old look will do for a start: the one under the locks tells whether they are the right ones
                names = self._lock_names(wish, self._looker.shared()[0] if number else self._looker.latest())
                with self._locks.hold(names):
                    result = self._release(obj, wish, names) if obj.deleting else self._ensure(obj, wish, names)
                if result:
                    return result
        except HostError as error:
            return self._result(obj, wish, None, Outcome(failed=Refusal(error.reason, error.message)))
        moving = Refusal(reasons.HOST_CHANGED, f"the PF of pool {wish.name} is another one at each look")
        return self._result(obj, wish, None, Outcome(failed=moving))

    def _claims(self, obj: NodePool, wish: PoolWish) -> bool:
        """Before all else, from an old look, which will do: nothing is changed before the next run."""
        if obj.status.node_name is not None or obj.deleting:
            return False
        known = self._looker.latest()
        return _begins(wish, self._approvals.plan_pool(wish, obj.status, known).answer, known)

    def release_orphan(self, orphan: Orphan) -> Refusal | None:
        """Give back what a pool has left that is gone from the API; a refusal says what it waits for."""
        record = orphan.pool
        assert record  # noqa: S101 - who asks has looked
        try:
            with self._locks.hold(_names(record.network_name, record.pf, self._looker.latest())):
                return self._give_back(_Whose(orphan.uid, record.name))
        except HostError as error:
            return Refusal(error.reason, error.message)

    def _give_back(self, whose: _Whose) -> Refusal | None:
        host = self._looker.fresh()
        for _ in range(_ROUNDS):
            answer = plan_pool_release(whose.uid, host)
            if isinstance(answer, Refusal):
                return answer
            if not answer:
                self.forget(whose.uid)
                return None
            host, outcome = self._carry_out(whose, host, answer, "pool orphan")
            if outcome:
                return outcome.trouble
        return _restless(whose.name)

    def forget(self, uid: str) -> None:
        """The pool is gone: remember nothing of it."""
        self._failures.forget(uid)
        self._approvals.forget(uid)
        self._corrections.forget(uid)
        self._settings.pop(uid, None)
        self._released.discard(uid)

    def take_up_record(self, obj: NodePool) -> None:
        """A node that lost its state directory, or has an older copy, takes the published one; may raise HostError."""
        copy = obj.status.record
        own = self._host.pool_records.load().get(obj.uid)
        if copy is None or obj.uid in self._released or (own is not None and own.sequence >= copy.sequence):
            return
        log.warning("pool %s: taking the record from its status: the journal has none", obj.spec.pool_name)
        try:
            record = pool_record_from_status(copy, obj.uid, obj.spec.pool_name)
        except ValueError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"pool {obj.spec.pool_name} is not in the journal, and its status.record is malformed: {error}",
            ) from error
        self._host.pool_records.save(record)

    # -- locks ----------------------------------------------------------------------------------------------------

    def _lock_names(self, wish: PoolWish, host: Observation) -> frozenset[str]:
        """Nobody gets a VF of the PF, or a NIC of a network that hands them out, while they are changed."""
        return _names(wish.network_name, self._pf(wish, host), host)

    def _pf(self, wish: PoolWish, host: Observation) -> PciAddress | None:
        record = host.pool_records.get(wish.uid)
        found = pf_meant(wish, host)
        if isinstance(found, Refusal):
            return record.pf if record else None
        return found.address

    # -- the pool as asked ----------------------------------------------------------------------------------------

    def _ensure(self, obj: NodePool, wish: PoolWish, locked: frozenset[str]) -> PoolResult | None:
        """None if other locks are needed."""
        run = _Run()
        result = self._steps(obj, wish, locked, run)
        return run.told(result) if result else None

    def _steps(self, obj: NodePool, wish: PoolWish, locked: frozenset[str], run: _Run) -> PoolResult | None:
        host, fresh = self._looker.shared()
        for _ in range(_ROUNDS):
            planned = self._approvals.plan_pool(wish, obj.status, host)
            if not fresh and planned.begins:
                host, fresh = self._looker.fresh(), True
                planned = self._approvals.plan_pool(wish, obj.status, host)
            if not self._lock_names(wish, host) <= locked:
                return None
            verdict, again = planned.verdict, self._is_again(obj, wish, host, planned)
            answer = self._brake(wish, host, planned, run, again=again) or planned.answer
            if obj.status.node_name is None and _begins(wish, answer, host):
                return _claim(obj)
            if isinstance(answer, Refusal):
                run.shown = verdict.plan if verdict else run.shown
                return self._result(obj, wish, host, Outcome(refused=answer))
            if verdict is None:
                self._failures.forget(obj.uid)
                self._approvals.nothing_left(obj.uid)
                return self._result(obj, wish, host, Outcome(), settled=True)
            words = step_in_words(wish, host, answer)
            self._approvals.begin(verdict)
            run.shown = run.shown or verdict.plan  # the whole of it, not what is left after a step
            host, outcome = self._carry_out(_Whose.of(wish), host, answer, "pool")
            if outcome:
                return self._result(obj, wish, host, outcome)
            self._approvals.done(obj.uid, words)
            self._settings[obj.uid] = self._settings.get(obj.uid, frozenset()) | _configured(answer)
            if (verdict.corrects or again) and not run.done_again:
                self._corrections.note(obj.uid)
                run.done_again = True
            if verdict.corrects:
                run.corrects = run.corrects or words.in_short
        return self._result(obj, wish, host, Outcome(failed=_restless(wish.name)))

    def _is_again(self, obj: NodePool, wish: PoolWish, host: Observation, planned: PlannedStep) -> bool:
        """Whether settings are lost of a VF that nobody has had since we made them: then another hand has done it."""
        kept = self._settings.get(wish.uid, frozenset())
        kept -= {(pf, vf.vf_index) for pf in {pf for pf, _ in kept} for vf in host.vfs(pf) if users(vf, host)}
        self._settings[wish.uid] = kept
        if isinstance(planned.answer, Refusal) or not stood(obj.status.settled, pool_standing(wish, host)):
            return False
        return bool(_configured(planned.answer) & kept)

    def _brake(
        self, wish: PoolWish, host: Observation, planned: PlannedStep, run: _Run, *, again: bool
    ) -> Refusal | None:
        """Why what has drifted, or was done before, is not put right now."""
        corrects = planned.verdict is not None and planned.verdict.corrects
        if not (corrects or again) or run.done_again or isinstance(planned.answer, Refusal):
            return None
        what = step_in_words(wish, host, planned.answer).in_short
        return self._corrections.brake(wish.uid, f"pool {wish.name}", what, by_policy=corrects)

    def _carry_out(
        self, whose: _Whose, host: Observation, actions: PoolPlan, phase: str
    ) -> tuple[Observation, Outcome | None]:
        """One step, and a look at the host after it. An outcome if it failed, or has failed before just like this."""
        inputs = (phase, whose.generation, actions)
        known = self._failures.holds_back(whose.uid, inputs)
        if known:
            return host, known
        try:
            apply_pool(actions, self._host, whose.name, phase)
        except HostError as error:
            log.warning("pool %s: %s: %s", whose.name, error.reason, error.message)
            if error.reason is reasons.LIBVIRT_UNAVAILABLE:
                raise
            outcome = Outcome(failed=Refusal(error.reason, error.message))
            if error.reason is reasons.HOST_CHANGED:  # tried again soon, on what is there then
                return self._looker.fresh(), outcome
            # what was tried, not what is left: if that differs, it is worth a try of its own
            self._failures.remember(whose.uid, inputs, outcome)
            return self._looker.fresh(), outcome
        self._host.boundary(f"{phase}: done")
        if all(isinstance(action, MAKES_NETWORK) for action in actions):
            return self._looker.after_networks(host), None
        return self._looker.fresh(), None

    # -- release --------------------------------------------------------------------------------------------------

    def _release(self, obj: NodePool, wish: PoolWish, locked: frozenset[str]) -> PoolResult | None:
        host = self._looker.fresh()
        for _ in range(_ROUNDS):
            if not self._lock_names(wish, host) <= locked:
                return None
            answer = plan_pool_release(obj.uid, host, keep=obj.spec.release_policy == "Keep")
            if isinstance(answer, Refusal):
                return self._result(obj, wish, host, Outcome(refused=answer))
            if not answer:
                self._approvals.forget(obj.uid)
                self._released.add(obj.uid)
                return PoolResult(NodeVFPoolStatus(), released=True)
            host, outcome = self._carry_out(_Whose.of(wish), host, answer, "pool release")
            if outcome:
                return self._result(obj, wish, host, outcome)
        return self._result(obj, wish, host, Outcome(failed=_restless(wish.name)))

    # -- report ---------------------------------------------------------------------------------------------------

    def _result(
        self,
        obj: NodePool,
        wish: PoolWish,
        host: Observation | None,
        outcome: Outcome,
        *,
        settled: bool = False,
    ) -> PoolResult:
        """The status from what is there; where nothing could be observed, the old one with Ready=False.

        ``settled``: nothing is left to do.
        """
        status = pool_status(wish, host, outcome) if host else old_pool_status_but(obj.status, outcome)
        stamped = conditions.stamp(status.conditions, obj.status.conditions, self._host.clock.now(), obj.generation)
        known = obj.status.settled
        if host:
            stands = pool_standing(wish, host)
            known = stands if settled else pool_stood(known, stands)
        status = status.model_copy(
            update={
                "conditions": stamped,
                "observed_generation": obj.generation,
                "node_name": obj.status.node_name,
                "plan": obj.status.plan,
                "settled": known,
            }
        )
        trouble = outcome.trouble
        by_reason = trouble.reason.retry if trouble else Retry.ON_EVENT
        return PoolResult(status, retry=Retry.BACKOFF if outcome.heals_with_time else by_reason)
