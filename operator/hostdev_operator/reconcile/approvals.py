"""Keeps in the journal what was approved, so that it is carried out to its end and never a second time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ..api.plan import PlanStatus
from ..core.approval import (
    Approval,
    Verdict,
    after_doing,
    asked_by,
    asked_by_pool,
    carried_out,
    judge,
)
from ..core.checks import Refusal
from ..core.described import Described
from ..core.errors import HostError
from ..core.intent import Goal, Wish
from ..core.kinds import kind_of
from ..core.model import Observation
from ..core.plan import Decision, Plan
from ..core.planned import in_words, pool_in_words
from ..core.pool import PoolWish
from ..core.pool_plan import PoolPlan, plan_pool
from ..ports import ApprovalStore


@dataclass(frozen=True)
class Planned:
    """What an assignment means on the host, and ``verdict``: whether its plan may begin; None if it has no actions."""

    decision: Decision[Goal]
    verdict: Verdict | None = None

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

    def plan(self, wish: Wish, node: str, shown: PlanStatus | None, host: Observation) -> Planned:
        """What is to be done, and whether it may begin; ``shown`` is status.plan as it is. Changes nothing."""
        decision: Decision[Goal] = kind_of(wish).decide(wish, host)
        goal, answer = decision.intent, decision.answer
        if goal is None or not isinstance(answer, Plan) or not answer.actions:
            return Planned(decision)
        words = in_words(answer, goal, host)
        return Planned(decision, judge(asked_by(wish, node, shown, host), words, self._known(wish.uid)))

    def plan_pool(self, wish: PoolWish, shown: PlanStatus | None, host: Observation) -> PlannedStep:
        """The same of a pool; a plan that is not approved is a refusal."""
        answer = plan_pool(wish, host)
        if isinstance(answer, Refusal) or not answer:
            return PlannedStep(answer)
        words = pool_in_words(wish, host, answer)
        verdict = judge(asked_by_pool(wish, shown, host), words, self._known(wish.uid))
        return PlannedStep(verdict.waits or answer, verdict)

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
        with suppress(HostError):
            if self._known(uid):
                self._store.drop(uid)

    def _known(self, uid: str) -> Approval | None:
        return self._store.load().get(uid)
