"""The brake: what was plugged into a running guest and is out again is plugged again after growing delays."""

from __future__ import annotations

from collections.abc import Callable

from ..core import reasons
from ..core.actions import Action, PlugHostdev, PlugInterface, UnplugHostdev, UnplugInterface
from ..core.assignment_status import Outcome
from ..core.checks import Refusal
from ..core.intent import Goal
from ..core.model import Observation
from ..core.pci import PciAddress
from ..core.plan import Plan
from .failures import FailureMemory

#: What gives a running guest something; a NIC of a pool gets any VF.
PLUGS: tuple[type[Action], ...] = (PlugHostdev, PlugInterface)
#: What takes it from the guest again.
UNPLUGS: tuple[type[Action], ...] = (UnplugHostdev, UnplugInterface)


def plugs(plan: Plan) -> bool:
    """Whether a plan plugs something in."""
    return any(isinstance(a, PLUGS) for a in plan.actions)


def plugged(plan: Plan) -> frozenset[PciAddress]:
    """The devices that a plan plugs in."""
    return frozenset(a.hostdev.address for a in plan.actions if isinstance(a, PlugHostdev))


class PlugMemory:
    """The last plug of each assignment, in one run of its guest: that it worked, or why it did not."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._memory = FailureMemory(monotonic)

    def brake(self, intent: Goal, host: Observation, plan: Plan) -> tuple[Plan, Refusal | None]:
        """The plan, without its plugs while the delay lasts, and why they are left out.

        What the plan itself takes out, to plug it in anew, is no reason to wait.
        """
        anew = any(isinstance(a, UNPLUGS) for a in plan.actions)
        held = self._memory.too_soon(intent.uid, _run(intent, host)) if plugs(plan) and not anew else None
        if held is None:
            return plan, None
        return Plan(tuple(a for a in plan.actions if not isinstance(a, PLUGS))), held.trouble

    def note(self, intent: Goal, host: Observation, plan: Plan, failure: Refusal | None) -> None:
        """A plan that plugs was carried out. If it worked, then a next plug is for somebody's having taken it out."""
        guest = host.guest(intent.domain_uuid) if intent.domain_uuid else None
        if not plugs(plan) or guest is None:
            return
        text = (
            f"{intent.thing} was plugged into running guest {guest.name}, and somebody else took it out; it is"
            " plugged in again after a growing delay; to leave it out set spec.attach to NextBoot, or delete the"
            " assignment"
        )
        why = failure or Refusal(reasons.UNPLUGGED_OUTSIDE, text)
        self._memory.remember(intent.uid, _run(intent, host), Outcome(failed=why))

    def forget(self, uid: str) -> None:
        """The assignment is gone."""
        self._memory.forget(uid)


def _run(intent: Goal, host: Observation) -> tuple[object, ...]:
    guest = host.guest(intent.domain_uuid) if intent.domain_uuid else None
    return (intent.domain_uuid, guest.run if guest else None)
