"""Whether a plan may begin: spec.approval Manual and what was approved, spec.driftPolicy and what has drifted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ..api.plan import ApprovedPlan, PlanAction, PlanStatus
from . import reasons
from .checks import Refusal
from .described import Described
from .intent import Wish
from .model import Observation
from .pool import PoolWish
from .pool_use import listed
from .settings import CORRECT, MANUAL

FORMAT = 1

_TEXT = 1024


class Drift(Enum):
    """Whether a plan puts right what somebody else has changed."""

    NONE = auto()
    THERE = auto()
    #: All that is left to do takes something from a running guest.
    OF_RUNNING_GUEST = auto()


@dataclass(frozen=True)
class Approval:
    """What of an approved plan is left to do. Written and fsynced before its first change.

    ``left`` are keys of actions (described.Step); empty: it was carried out. ``number`` counts the plans that were: it
    is part of the next plan's hash, so that no approval is good for a second time.
    """

    uid: str
    owner: str
    hash: str
    left: tuple[str, ...] = ()
    number: int = 0

    def to_json(self) -> str:
        """The journal's text: one JSON object with its format number."""
        return json.dumps(
            {
                "format": FORMAT,
                "uid": self.uid,
                "owner": self.owner,
                "hash": self.hash,
                "left": list(self.left),
                "number": self.number,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Approval:
        """Read ``to_json``'s text; ValueError, TypeError or KeyError if it is not one."""
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("an approval is a JSON object")  # noqa: TRY004 - to the caller it is a text that is wrong
        if data.get("format") != FORMAT:
            raise ValueError(f"approval of format {data.get('format')!r}; this version reads {FORMAT}")
        return cls(data["uid"], data["owner"], data["hash"], tuple(data["left"]), data["number"])


@dataclass(frozen=True)
class Asked:
    """Whose plan it is, and what was said about it.

    ``node``: where it is carried out. ``manual``: it needs approval, ``by_host`` since the DeviceHost says so.
    ``corrects``: spec.driftPolicy is Correct. ``approved``: the hash in spec. ``shown``: status.plan as it is.
    ``patch``: the kubectl command that changes spec, without its last argument, and ``approval`` that argument where it
    approves, HASH standing for the hash.
    """

    uid: str
    owner: str
    node: str
    manual: bool
    by_host: bool
    corrects: bool
    approved: str | None
    shown: PlanStatus | None
    patch: str
    approval: str

    def approving(self, plan: str) -> str:
        """The command that approves the plan of this hash."""
        return f"{self.patch} {self.approval.replace('HASH', plan)}"


@dataclass(frozen=True)
class Verdict:
    """The plan as status shows it; ``waits``: the refusal, if it may not begin; ``begin``: to be recorded first.

    ``corrects``: it puts right what somebody else has changed, and may begin.
    """

    plan: PlanStatus
    waits: Refusal | None = None
    begin: Approval | None = None
    corrects: bool = False


def asked_by(wish: Wish, node: str, shown: PlanStatus | None, host: Observation) -> Asked:
    """Of an assignment that is bound to the node."""
    patch = f"kubectl patch deviceassignment {wish.name} -n {wish.namespace} --type merge -p"
    return Asked(
        wish.uid,
        wish.owner,
        node,
        host.settings.manual or wish.spec.approval == MANUAL,
        host.settings.manual,
        wish.spec.drift_policy == CORRECT,
        wish.spec.approved_plan,
        shown,
        patch,
        '\'{"spec":{"approvedPlan":"HASH"}}\'',
    )


def asked_by_pool(wish: PoolWish, shown: PlanStatus | None, host: Observation) -> Asked:
    """Of a pool on its node."""
    node = wish.spec.node_name
    patch = f"kubectl patch vfpool {wish.name} --type merge -p"
    return Asked(
        wish.uid,
        f"pool {wish.name}",
        node,
        host.settings.manual or wish.spec.approval == MANUAL,
        host.settings.manual,
        wish.spec.drift_policy == CORRECT,
        wish.spec.approved_plan,
        shown,
        patch,
        f'\'{{"spec":{{"approvedPlans":{{"{node}":"HASH"}}}}}}\'',
    )


def judge(asked: Asked, plan: Described, known: Approval | None, drift: Drift = Drift.NONE) -> Verdict:
    """Whether the plan may begin; ``known`` is what the journal has.

    What is left of a plan that was approved goes on, whatever is approved by now. What changes our own notes alone
    needs no approval. Who approves a plan has read it, so it begins even if it puts right what has drifted.
    """
    number = known.number if known else 0
    shown = PlanStatus(hash=plan.hash(asked.node, number), actions=plan.actions())
    if plan.keys <= set(known.left if known else ()):
        return Verdict(shown)
    if asked.manual and asked.approved == shown.hash:
        begin = Approval(asked.uid, asked.owner, shown.hash, tuple(sorted(plan.keys)), number)
        return Verdict(shown, begin=begin, corrects=drift is not Drift.NONE)
    reported = drift is Drift.OF_RUNNING_GUEST or (drift is Drift.THERE and not asked.corrects)
    if not asked.manual and not reported:
        return Verdict(shown, corrects=drift is not Drift.NONE)
    if asked.manual:
        shown = shown.model_copy(update={"approved": _approved(asked)})
    if reported:
        return Verdict(shown, Refusal(reasons.DRIFTED, _drifted(asked, plan, shown, drift)))
    return Verdict(shown, Refusal(reasons.AWAITING_APPROVAL, _message(asked, plan, shown)))


def _drifted(asked: Asked, plan: Described, shown: PlanStatus, drift: Drift) -> str:
    text = f"{asked.owner} stood as asked, and somebody else has changed it since; what puts it right: {plan.in_short}"
    if asked.corrects:
        then = "driftPolicy Correct takes nothing from a running guest: shut the guest down and start it"
    else:
        then = f'{asked.patch} \'{{"spec":{{"driftPolicy":"Correct"}}}}\' has it done'
        if drift is Drift.OF_RUNNING_GUEST:
            then = f"it takes something from a running guest: shut the guest down and start it, after {then}"
    return f"{text}; {then}" + (f"; so does approving it: {asked.approving(shown.hash)}" if asked.manual else "")


def _approved(asked: Asked) -> ApprovedPlan | None:
    """The plan that was approved before the host changed, as status.plan still has it."""
    old = asked.shown
    if old is None or asked.approved is None:
        return None
    if old.hash == asked.approved:
        return ApprovedPlan(hash=old.hash, actions=tuple(line(action) for action in old.actions))
    return old.approved if old.approved and old.approved.hash == asked.approved else None


def line(action: PlanAction) -> str:
    """An action in one line."""
    change = f": {action.before} -> {action.after}" if action.before or action.after else ""
    return f"{action.summary}{change}"[:_TEXT]


def _message(asked: Asked, plan: Described, shown: PlanStatus) -> str:
    count = f"{len(plan.steps)} action{'s' if len(plan.steps) > 1 else ''}"
    who = f"DeviceHost {asked.node} has spec.approval Manual: " if asked.by_host else ""
    text = (
        f"{who}plan {shown.hash} ({count}, see status.plan; the first: {plan.steps[0].full_summary}) waits for"
        f" approval: {asked.approving(shown.hash)}"
    )
    return text if asked.approved is None else f"{text}; {_difference(asked.approved, shown)}"


def _difference(approved: str, shown: PlanStatus) -> str:
    if shown.approved is None:
        return f"the approved plan {approved} is not this one: it was carried out, or is of another node or time"
    old, new = shown.approved.actions, tuple(line(action) for action in shown.actions)
    gone, added = [a for a in old if a not in new], [a for a in new if a not in old]
    parts = [f"no more: {listed(gone)}"] if gone else []
    parts += [f"new: {listed(added)}"] if added else []
    what = "; ".join(parts) or "the same words, but another device by its fingerprint, or in another order"
    return f"the host is not as it was when plan {approved} was approved: {what}"


def after_doing(known: Approval, done: frozenset[str]) -> Approval:
    """What is left when these actions are done; a plan of which nothing is left was carried out."""
    left = tuple(key for key in known.left if key not in done)
    return Approval(known.uid, known.owner, known.hash, left, known.number + (not left))


def carried_out(known: Approval) -> Approval:
    """Nothing is left to do, so what was approved is done, or needless."""
    return Approval(known.uid, known.owner, known.hash, (), known.number + bool(known.left))
