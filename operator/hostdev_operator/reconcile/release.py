"""Gives back all that was done for an assignment: for a release, a rollback, and a record without an assignment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..core import reasons
from ..core.actions import UNPLUGS, Action, DropSavedImage, RemoveHostdev, RemoveInterface
from ..core.assignment_status import Outcome
from ..core.checks import Refusal
from ..core.errors import HostError
from ..core.intent import Wish
from ..core.model import Observation
from ..core.plan import Plan
from ..core.release import Manner, plan_keep, plan_release, refused_unplug, rejected
from ..ports import Host
from .apply import apply

log = logging.getLogger(__name__)

#: What comes before the drivers, each followed by a second look at the host.
_FIRST: tuple[tuple[type[Action], ...], ...] = (UNPLUGS, (RemoveHostdev, RemoveInterface, DropSavedImage))


class Releaser:
    """Carries release plans out. ``look`` observes what our own actions can have changed since another look."""

    def __init__(self, host: Host, look: Callable[[Observation, Iterable[Action]], Observation]) -> None:
        self._host = host
        self._look = look

    def undo(self, uid: str, owner: str, seen: Observation, phase: str, manner: Manner) -> Refusal | None:
        """Give everything back; a refusal if it must wait. HostError if an action fails.

        First out of the running guest, then out of the XML, each with a second look: libvirt lets a guest start while
        it removes the device, and then the guest has it. Once it is out, no new start can take it.
        """
        plan = plan_release(uid, seen, manner)
        for kinds in _FIRST:
            if isinstance(plan, Refusal):
                return plan
            part = Plan(tuple(a for a in plan.actions if isinstance(a, kinds)))
            if part.actions:
                self._apply(part, owner, phase)
                seen = self._look(seen, plan.actions)
                plan = plan_release(uid, seen, manner)
        if isinstance(plan, Refusal):
            return plan
        if any(isinstance(a, kinds) for a in plan.actions for kinds in _FIRST):
            raise HostError(
                reasons.LIBVIRT_ERROR,
                f"{plan.actions[0]}: libvirt did, but it is there again; edit the guest's XML by hand (virsh edit)",
            )
        self.carry_out(plan, owner, phase)
        return None

    def carry_out(self, plan: Plan, owner: str, phase: str) -> None:
        """What takes nothing from a guest."""
        self._apply(plan, owner, phase)
        if plan.actions:
            self._host.boundary(f"{phase}: done")

    def _apply(self, plan: Plan, owner: str, phase: str) -> None:
        log_plan(owner, phase, plan)
        apply(plan, self._host, phase)


def log_plan(owner: str, phase: str, plan: Plan) -> None:
    """What is about to be done, in one line."""
    if plan.actions:
        log.info("%s: %s: %s", owner, phase, "; ".join(map(str, plan.actions)))


UNANSWERED = (reasons.UNPLUG_PENDING, reasons.UNPLUG_REJECTED)


def plan_of_release(wish: Wish, host: Observation) -> Plan | Refusal:
    """What deleting the assignment does."""
    if wish.keeps:
        return plan_keep(wish.uid, host)
    return plan_release(wish.uid, host, Manner.of(wish))


def asks_the_guest(plan: Plan | Refusal) -> bool:
    """Whether a running guest is asked to let go."""
    return isinstance(plan, Plan) and any(isinstance(a, UNPLUGS) for a in plan.actions)


def as_rejected(known: Outcome, wish: Wish, host: Observation) -> Outcome:
    """The guest's refusal can come after the time that we wait for it."""
    trouble = known.trouble
    guest = rejected(wish, host)
    if trouble is None or trouble.reason is not reasons.UNPLUG_PENDING or guest is None:
        return known
    record = host.records.get(wish.uid)
    text = refused_unplug(guest, record.address if record else "the device")
    return Outcome(failed=Refusal(reasons.UNPLUG_REJECTED, text))
