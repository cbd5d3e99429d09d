"""One assignment on its node: observe, plan, apply, report."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ..api.deviceassignment import DeviceAssignmentStatus
from ..api.plan import PlanStatus
from ..core import conditions, reasons
from ..core.actions import PLUGS, PlugInterface, plugged
from ..core.approval import Verdict
from ..core.assignment_status import Outcome, old_status_but
from ..core.checks import Refusal
from ..core.drift import stood
from ..core.errors import HostError
from ..core.intent import AUTO, LIVE, Goal, Wish
from ..core.kinds import kind_of
from ..core.model import Observation
from ..core.moves import has_left, moved
from ..core.orphans import Orphan
from ..core.plan import Decision, Plan
from ..core.planned import in_words
from ..core.published import record_from_status
from ..core.reasons import Retry
from ..core.release import Manner, release_inputs
from ..ports import Host
from .apply import apply
from .approvals import Approvals, Planned
from .bound import Assignment, Result
from .claim_locks import ClaimLocks, ElsewhereError
from .corrections import Corrections, corrected
from .failures import FailureMemory
from .locks import NamedLocks
from .looker import Looker
from .orphans import OrphanReleaser
from .release import UNANSWERED, Releaser, as_rejected, asks_the_guest, log_plan, plan_of_release
from .start_gate import GuestStarts

log = logging.getLogger(__name__)

_LOOKS = 3
#: A guest that is defined anew, as tools do to change its XML, is away for a moment and has not moved.
GONE_SECONDS = 10.0


@dataclass(frozen=True)
class _Attempt:
    """A plan that is carried out, and the look that it was made from; ``again`` as in Planned."""

    intent: Goal
    before: Observation
    plan: Plan
    verdict: Verdict
    again: bool

    @property
    def corrects(self) -> bool:
        """Whether it puts right what has drifted."""
        return self.verdict.corrects


class AssignmentReconciler:
    """Brings the host to what assignments ask for. Thread-safe.

    It remembers failed runs, and what was released until the caller says that it is known (``forget``): until then
    the published copy of the record still says that there is something to give back. ``locks`` are shared with whoever
    else changes this host.
    """

    def __init__(self, host: Host, looker: Looker, locks: NamedLocks | None = None) -> None:
        self._host = host
        self._looker = looker
        self._releaser = Releaser(host, looker.after)
        self._orphans = OrphanReleaser(looker, self._releaser, host.clock.monotonic)
        self._locks = ClaimLocks(host, locks or NamedLocks())
        self._failures = FailureMemory(host.clock.monotonic)
        self._starts = GuestStarts(host)
        self._released: set[str] = set()
        self._approvals = Approvals(host.approvals)
        self._corrections = Corrections(host.clock.monotonic)
        self._withdrawn: set[str] = set()  # whose part of a guest's XML we have taken out, until it stands again
        self._gone: dict[str, float] = {}  # when a guest was found gone, by the monotonic clock

    def reconcile(self, obj: Assignment) -> Result:
        """One run for one assignment. Never raises HostError: what went wrong is in the result."""
        if obj.deleting and obj.uid in self._released:
            return Result(DeviceAssignmentStatus(), released=True)
        return self._starts.judge(obj, self._run(obj))

    def _run(self, obj: Assignment) -> Result:
        try:
            wish = obj.wish_for_release() if obj.deleting else obj.wish()
        except ValueError as error:
            return self._result(obj, None, None, Outcome(refused=Refusal(reasons.INVALID_SOURCE, str(error))))
        for _ in range(_LOOKS):
            try:
                with self._locks.hold(wish):
                    self.take_up_record(obj)
                    self._starts.take_up(obj)
                    return self._release(obj, wish) if obj.deleting else self._assign(obj, wish)
            except ElsewhereError:
                continue
            except HostError as error:
                return self._result(obj, wish, None, Outcome(failed=Refusal(error.reason, error.message)))
        changed = Refusal(reasons.HOST_CHANGED, f"the device of {wish.owner} is somewhere else at each look")
        return self._result(obj, wish, None, Outcome(failed=changed))

    def forget(self, uid: str) -> None:
        """The assignment is gone: remember nothing of it."""
        self._failures.forget(uid)
        self._approvals.forget(uid)
        self._corrections.forget(uid)
        self._released.discard(uid)
        self._gone.pop(uid, None)
        self._withdrawn.discard(uid)
        self._locks.forget(uid)

    def release_orphan(self, orphan: Orphan) -> Refusal | None:
        """Give back what has no assignment any more; a refusal says what it waits for."""
        with self._locks.hold_for(orphan):
            return self._orphans.release(orphan)

    def take_up_record(self, obj: Assignment) -> None:
        """A node that lost its state directory, or has an older copy, takes the published one; may raise HostError."""
        copy = obj.status.record
        if copy is None:
            return
        own = self._host.records.load().get(obj.uid)
        if own is None or own.sequence < copy.sequence:
            log.warning("%s/%s: taking the record from its status: the journal has none", obj.namespace, obj.name)
            try:
                record = record_from_status(copy, obj.uid, obj.namespace, obj.name)
            except ValueError as error:
                raise HostError(
                    reasons.STATE_DIRECTORY_FAILED,
                    f"{obj.namespace}/{obj.name} is not in the journal, and its status.record is malformed: {error}",
                ) from error
            self._host.records.save(record)

    # -- assign ---------------------------------------------------------------------------------------------------

    def _assign(self, obj: Assignment, wish: Wish) -> Result:
        kind = kind_of(wish)
        host, fresh = self._looker.shared()
        planned, stale = self._plan(obj, wish, host), kind.withdrawal(wish, host)
        if not fresh and (stale.actions or _changes_something(obj, wish, planned, host)):
            host = self._looker.fresh()
            planned, stale = self._plan(obj, wish, host), kind.withdrawal(wish, host)
        if stale.actions:
            host = self._withdraw(wish, host, stale)
            planned = self._plan(obj, wish, host)
        decision = planned.decision
        if has_left(wish, host):
            return self._leave(obj, wish, decision, host)
        self._gone.pop(obj.uid, None)
        intent, answer = decision.intent, decision.answer
        if intent is None or isinstance(answer, Refusal):
            assert isinstance(answer, Refusal)  # noqa: S101 - there is no plan without a device
            return self._refuse(obj, wish, decision, host)
        if planned.verdict is None:
            self._failures.forget(obj.uid)
            self._approvals.nothing_left(obj.uid)
            return self._result(obj, wish, (intent, host), Outcome(), settled=True)
        shown = planned.verdict.plan
        if planned.verdict.waits:
            return _with_plan(self._result(obj, wish, (intent, host), Outcome(refused=planned.verdict.waits)), shown)
        return self._begin(obj, wish, _Attempt(intent, host, answer, planned.verdict, planned.again))

    def _begin(self, obj: Assignment, wish: Wish, attempt: _Attempt) -> Result:
        """Carry the plan out, unless that has failed just so before, or puts right the same again without a pause."""
        intent, host, verdict = attempt.intent, attempt.before, attempt.verdict
        self._locks.must_hold(wish, intent, host)
        known = self._failures.holds_back(obj.uid, kind_of(wish).inputs(intent, host))
        if known:
            return self._result(obj, wish, (intent, host), known)
        if attempt.again:
            what = in_words(attempt.plan, intent, host).in_short
            brake = self._corrections.brake(obj.uid, wish.owner, what, by_policy=attempt.corrects)
            if brake:
                return _with_plan(self._result(obj, wish, (intent, host), Outcome(refused=brake)), verdict.plan)
        self._approvals.begin(verdict)
        return _with_plan(self._carry_out(obj, wish, attempt), verdict.plan)

    def _plan(self, obj: Assignment, wish: Wish, host: Observation) -> Planned:
        status = obj.status
        if obj.uid in self._withdrawn:  # by us: whether that could be written or not, it is no drift
            status = status.model_copy(update={"settled": None})
        return self._approvals.plan(wish, status.node_name or "", status, host)

    def _refuse(self, obj: Assignment, wish: Wish, decision: Decision[Goal], host: Observation) -> Result:
        """A claim that was begun and may not be finished is given back as a whole; one that stands, or stood, stays."""
        kind, intent, refusal = kind_of(wish), decision.intent, decision.answer
        assert isinstance(refusal, Refusal)  # noqa: S101 - that is why we are here
        outcome = Outcome(refused=refusal)
        begun = _is_begun(obj, wish, intent, host)
        if intent is None or not begun or self._failures.holds_back(obj.uid, kind.inputs(intent, host)):
            return self._result(obj, wish, (intent, host), outcome)
        self._locks.must_hold(wish, intent, host)
        failure, undo = self._roll_back(wish, host, refusal, live=False)
        host = self._looker.fresh()
        outcome = Outcome(refused=failure, rolled_back=obj.uid not in host.records, undo=undo)
        if not outcome.rolled_back:
            self._failures.remember(obj.uid, kind.inputs(intent, host), outcome)
        return self._result(obj, wish, (intent, host), outcome)

    def _leave(self, obj: Assignment, wish: Wish, decision: Decision[Goal], host: Observation) -> Result:
        """The guest is not here: once that has lasted, another node may have it."""
        now = self._host.clock.monotonic()
        since = self._gone.setdefault(obj.uid, now)
        if now - since >= GONE_SECONDS and has_left(wish, self._looker.fresh()):
            log.info("%s: its guest is gone from this node, and nothing of it is left here", wish.owner)
            self._gone.pop(obj.uid, None)
            self._approvals.forget(obj.uid)
            return Result(DeviceAssignmentStatus(), left=True)
        refused = decision.answer if isinstance(decision.answer, Refusal) else None
        return self._result(obj, wish, (decision.intent, host), Outcome(refused=refused), Retry.SOON)

    def _withdraw(self, wish: Wish, host: Observation, plan: Plan) -> Observation:
        """What the guest's XML says means something else by now: its next start must not take that."""
        log_plan(wish.owner, "withdraw", plan)
        self._starts.begin(wish)
        self._withdrawn.add(wish.uid)
        apply(plan, self._host, "withdraw")
        return self._looker.after(host, plan.actions)

    def _carry_out(self, obj: Assignment, wish: Wish, attempt: _Attempt) -> Result:
        kind, intent, host, plan = kind_of(wish), attempt.intent, attempt.before, attempt.plan
        log_plan(wish.owner, "assign", plan)
        self._starts.begin(wish)
        may_fail = PLUGS if intent.attach == AUTO else ()
        try:
            not_plugged = apply(plan, self._host, "assign", may_fail)
        except HostError as error:
            log.warning("%s: %s: %s", wish.owner, error.reason, error.message)
            return self._after_failure(obj, wish, attempt, Refusal(error.reason, error.message))
        self._host.boundary("assign: done")
        self._failures.forget(obj.uid)
        failure = Refusal(not_plugged.reason, not_plugged.message) if not_plugged else None
        done = Plan(tuple(a for a in plan.actions if not (failure and isinstance(a, PLUGS))))
        words = in_words(done, intent, host)
        self._approvals.done(obj.uid, words)
        host = self._look_after(plan, host, failure)
        if failure:
            self._failures.remember(obj.uid, kind.inputs(intent, host), Outcome(not_plugged=failure))
        again = kind.decide(wish, host)
        refused = again.answer if isinstance(again.answer, Refusal) else None
        outcome = Outcome(refused=refused, not_plugged=failure)
        settled = outcome == Outcome() and again.answer == Plan()
        result = self._result(obj, wish, (again.intent, host), outcome, settled=settled)
        if attempt.again and words.keys:
            self._corrections.note(obj.uid)
        return replace(result, corrected=corrected(words.in_short)) if attempt.corrects and words.keys else result

    def _look_after(self, plan: Plan, host: Observation, failure: Refusal | None) -> Observation:
        """Which VF of a pool libvirt has taken, only a look at everything tells."""
        whole = failure is not None or any(isinstance(a, PlugInterface) for a in plan.actions)
        return self._looker.fresh() if whole else self._looker.after(host, plan.actions)

    def _after_failure(self, obj: Assignment, wish: Wish, attempt: _Attempt, failure: Refusal) -> Result:
        """Roll back once, as a whole group, unless it is still under way, libvirt is away, or the guest has it.

        What was plugged in to put something right stays plugged: nothing is taken from a running guest for that.
        """
        if failure.reason in (reasons.LIBVIRT_UNAVAILABLE, reasons.HOST_CHANGED):
            return self._result(obj, wish, None, Outcome(failed=failure))
        kind, intent = kind_of(wish), attempt.intent
        host = self._looker.fresh()
        rolled_back, undo = False, None
        all_or_nothing = intent.attach == LIVE and not attempt.corrects
        done = plugged(attempt.plan.actions) if all_or_nothing else frozenset()
        if failure.reason is not reasons.DETACH_BLOCKED and kind.is_half_done(intent, host, done):
            failure, undo = self._roll_back(wish, host, failure, live=bool(done))
            host = self._looker.fresh()
            rolled_back = obj.uid not in host.records
        outcome = Outcome(failed=failure, rolled_back=rolled_back, undo=undo)
        # What was tried, not what is there now: what has changed meanwhile is worth a try of its own. What is still
        # under way, or could not be undone, is held back as it is.
        tried = host if undo or host.blocked else attempt.before
        self._failures.remember(obj.uid, kind.inputs(intent, tried), outcome)
        return self._result(obj, wish, (intent, host), outcome)

    def _roll_back(self, wish: Wish, host: Observation, why: Refusal, *, live: bool) -> tuple[Refusal, Refusal | None]:
        """Undo what was begun; the same refusal, or one that tells that undoing failed as well, and why it did."""
        try:
            waits = self._releaser.undo(wish.uid, wish.owner, host, "rollback", Manner(live=live))
        except HostError as error:
            log.warning("%s: rollback: %s: %s", wish.owner, error.reason, error.message)
            waits = Refusal(error.reason, error.message)
        if waits is None:
            self._approvals.rolled_back(wish.uid)
            return why, None
        return replace(why, message=f"{why.message}; and rolling back failed: {waits.reason}: {waits.message}"), waits

    # -- release --------------------------------------------------------------------------------------------------

    def _release(self, obj: Assignment, wish: Wish) -> Result:
        host, fresh = self._looker.for_release()
        known = self._failures.holds_back(obj.uid, release_inputs(wish, host))
        if known:
            return self._result(obj, wish, (None, host), as_rejected(known, wish, host))
        plan = plan_of_release(wish, host)
        if not fresh and isinstance(plan, Plan):
            host = self._looker.fresh_for_release()
            plan = plan_of_release(wish, host)
        if isinstance(plan, Refusal):  # it waits: nothing was changed, so this look is good for the report
            return self._result(obj, wish, (None, host), Outcome(refused=plan))
        try:
            waits = self._give_up(wish, host, plan)
        except HostError as error:
            log.warning("%s: %s: %s", wish.owner, error.reason, error.message)
            return self._after_failed_release(obj, wish, Refusal(error.reason, error.message))
        if waits:
            return self._result(obj, wish, (None, self._looker.fresh()), Outcome(refused=waits))
        self._approvals.forget(obj.uid)
        self._released.add(obj.uid)
        return Result(DeviceAssignmentStatus(), released=True)

    def _give_up(self, wish: Wish, host: Observation, plan: Plan) -> Refusal | None:
        if wish.keeps:
            self._releaser.carry_out(plan, wish.owner, "release")
            return None
        return self._releaser.undo(wish.uid, wish.owner, host, "release", Manner.of(wish))

    def _after_failed_release(self, obj: Assignment, wish: Wish, failure: Refusal) -> Result:
        outcome = Outcome(failed=failure)
        if failure.reason in (reasons.LIBVIRT_UNAVAILABLE, reasons.HOST_CHANGED):
            return self._result(obj, wish, None, outcome)
        host = self._looker.fresh()
        plan = plan_of_release(wish, host)
        if failure.reason in UNANSWERED and not asks_the_guest(plan):  # it has just let go
            return self._result(obj, wish, (None, host), outcome, Retry.SOON)
        self._failures.remember(obj.uid, release_inputs(wish, host), outcome)
        return self._result(obj, wish, (None, host), outcome)

    # -- report ---------------------------------------------------------------------------------------------------

    def _result(
        self,
        obj: Assignment,
        wish: Wish | None,
        seen: tuple[Goal | None, Observation] | None,
        outcome: Outcome,
        retry: Retry | None = None,
        *,
        settled: bool = False,
    ) -> Result:
        """The status from what is there; where nothing could be observed, the old one with Ready=False.

        ``settled``: nothing is left to do.
        """
        status = kind_of(wish).status(wish, *seen, outcome) if wish and seen else old_status_but(obj.status, outcome)
        stamped = conditions.stamp(status.conditions, obj.status.conditions, self._host.clock.now(), obj.generation)
        known = obj.status.settled
        if wish and seen:
            stands = kind_of(wish).standing(seen[0], wish.spec, seen[1]) if seen[0] else None
            known = stands if settled or stands is None else known
            if settled:
                self._withdrawn.discard(obj.uid)
        more = {"conditions": stamped, "observed_generation": obj.generation, "plan": obj.status.plan, "settled": known}
        status = status.model_copy(update=more)
        trouble = outcome.trouble or outcome.not_plugged
        by_reason = trouble.reason.retry if trouble else Retry.ON_EVENT
        by_outcome = Retry.BACKOFF if outcome.heals_with_time else by_reason
        return Result(status, retry=retry or by_outcome, moved=moved(obj.status, status))


def _with_plan(result: Result, plan: PlanStatus) -> Result:
    return replace(result, status=result.status.model_copy(update={"plan": plan}))


def _changes_something(obj: Assignment, wish: Wish, planned: Planned, host: Observation) -> bool:
    """Whether it leads to an action: for that a look that others have shared is too old."""
    decision = planned.decision
    if isinstance(decision.answer, Plan):
        return planned.verdict is not None and not planned.waits
    return _is_begun(obj, wish, decision.intent, host)


def _is_begun(obj: Assignment, wish: Wish, intent: Goal | None, host: Observation) -> bool:
    """Whether a claim was begun and the guest has nothing of it yet: not if it has lost that by another hand."""
    kind = kind_of(wish)
    if intent is None or not kind.is_half_done(intent, host, frozenset()):
        return False
    return not stood(obj.status.settled, kind.standing(intent, wish.spec, host))
