"""Keeps in the journal what was approved, so that it is carried out to its end and never a second time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ..api.deviceassignment import DeviceAssignmentStatus
from ..api.vfpool import NodeVFPoolStatus
from ..core.approval import (
    Approval,
    Drift,
    Verdict,
    after_doing,
    asked_by,
    asked_by_pool,
    carried_out,
    judge,
)
from ..core.checks import Refusal
from ..core.described import Described
from ..core.drift import is_done_again, is_drift, is_pool_drift, without_unplugs
from ..core.errors import HostError
from ..core.intent import Goal, Wish
from ..core.kinds import kind_of
from ..core.model import Observation
from ..core.plan import Decision, Plan
from ..core.planned import in_words, pool_in_words
from ..core.pool import PoolWish
from ..core.pool_plan import PoolPlan, plan_pool
from ..core.settings import CORRECT
from ..ports import ApprovalStore


@dataclass(frozen=True)
class Planned:
    """What an assignment means on the host, and ``verdict``: whether its plan may begin; None if it has no actions.

    ``again``: it does what was done before, and what only another hand can have undone.
    """

    decision: Decision[Goal]
    verdict: Verdict | None = None
    again: bool = False

    @property
    def waits(self) -> bool:
        """Whether there is a plan that is not approved."""
        return self.verdict is not None and self.verdict.waits is not None


@dataclass(frozen=True)
class PlannedStep:
    """The next step of a pool, or why there is none. ``verdict`` is on the whole plan; None if nothing is left."""

    answer: PoolPlan | Refusal
    verdict: Verdict | None = None

    @property
    def begins(self) -> bool:
        """Whether it leads to an action."""
        return self.verdict is not None and self.verdict.waits is None


class Approvals:
    """The approvals of this node. Where nothing was ever approved, nothing is written. HostError as the journal."""

    def __init__(self, store: ApprovalStore) -> None:
        self._store = store
        self._worded: dict[str, tuple[PoolWish, PoolPlan, Observation, Described]] = {}

    def plan(self, wish: Wish, node: str, status: DeviceAssignmentStatus, host: Observation) -> Planned:
        """What is to be done, and whether it may begin; ``status`` is the object's as it is. Changes nothing."""
        kind = kind_of(wish)
        decision: Decision[Goal] = kind.decide(wish, host)
        goal, answer = decision.intent, decision.answer
        if goal is None or not isinstance(answer, Plan) or not answer.actions:
            return Planned(decision)
        guest = host.guest(goal.domain_uuid) if goal.domain_uuid else None
        now, drift = kind.standing(goal, wish.spec, host), Drift.NONE
        if is_drift(answer, status.settled, now, guest):
            drift = Drift.THERE
            rest = without_unplugs(answer)
            if not in_words(rest, goal, host).keys:
                drift = Drift.OF_RUNNING_GUEST
            elif wish.spec.drift_policy == CORRECT:
                answer = rest
        words = in_words(answer, goal, host)
        verdict = judge(asked_by(wish, node, status.plan, host), words, self._known(wish.uid), drift)
        return Planned(Decision(goal, answer), verdict, is_done_again(status.settled, now, guest))

    def plan_pool(self, wish: PoolWish, status: NodeVFPoolStatus, host: Observation) -> PlannedStep:
        """The same of a pool; a plan that may not begin is a refusal."""
        answer = plan_pool(wish, host)
        if isinstance(answer, Refusal) or not answer:
            self._worded.pop(wish.uid, None)
            return PlannedStep(answer)
        words = self._pool_in_words(wish, host, answer)
        drift = Drift.THERE if is_pool_drift(answer, wish, status.settled, host) else Drift.NONE
        verdict = judge(asked_by_pool(wish, status.plan, host), words, self._known(wish.uid), drift)
        return PlannedStep(verdict.waits or answer, verdict)

    def _pool_in_words(self, wish: PoolWish, host: Observation, answer: PoolPlan) -> Described:
        """To foresee the steps to come takes far longer than to plan one, and most looks see what the last one saw."""
        known = self._worded.get(wish.uid)
        if known is None or known[:3] != (wish, answer, host):
            known = self._worded[wish.uid] = (wish, answer, host, pool_in_words(wish, host, answer))
        return known[3]

    def begin(self, verdict: Verdict) -> None:
        """Right before the plan's first change."""
        if verdict.begin:
            self._store.save(verdict.begin)

    def done(self, uid: str, plan: Described) -> None:
        """These actions were carried out."""
        known = self._known(uid)
        if known and known.left:
            self._store.save(after_doing(known, plan.keys))

    def nothing_left(self, uid: str) -> None:
        """The host is as asked."""
        known = self._known(uid)
        if known and known.left:
            self._store.save(carried_out(known))

    def rolled_back(self, uid: str) -> None:
        """Nothing of it is there any more: it begins anew only while spec approves it."""
        known = self._known(uid)
        if known and known.left:
            self._store.save(Approval(known.uid, known.owner, known.hash, (), known.number))

    def forget(self, uid: str) -> None:
        """The object is released, or gone. If that fails, what stays is never asked for: no UID comes twice."""
        self._worded.pop(uid, None)
        with suppress(HostError):
            if self._known(uid):
                self._store.drop(uid)

    def _known(self, uid: str) -> Approval | None:
        return self._store.load().get(uid)
