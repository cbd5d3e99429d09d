"""The status of a Guest, from what is asked for, the host, and how the run ended."""

from __future__ import annotations

from typing import Literal

from ..api.common import Condition
from ..api.guest import GuestStatus
from . import conditions
from .assignment_status import Outcome
from .conditions import READY, condition
from .guest import GuestWish
from .model import Guest, Observation

DEFINED, RUNNING = "Defined", "Running"
NOTHING = Outcome()


def guest_status(
    wish: GuestWish, old: GuestStatus, host: Observation, now: str, outcome: Outcome = NOTHING
) -> GuestStatus:
    """``now``: RFC 3339."""
    guest = host.guest(wish.uid)
    pending = old.pending_run if guest is not None and guest.run == old.pending_run else None
    found = (_defined(wish, guest, outcome), _running(wish, guest, outcome, pending), _ready(wish, guest, outcome))
    return GuestStatus(
        observed_generation=wish.generation,
        node_name=wish.spec.node_name,
        domain_uuid=wish.uid,
        state=_state(guest),
        pending_run=pending,
        conditions=conditions.stamp(found, old.conditions, now, wish.generation),
    )


def unknown_status(wish: GuestWish, old: GuestStatus, now: str, outcome: Outcome) -> GuestStatus:
    """The host could not be looked at."""
    trouble = outcome.trouble
    assert trouble is not None  # noqa: S101 - that is why
    kept = tuple(c for c in old.conditions if c.type != READY)
    ready = condition(READY, None, trouble.reason, trouble.message)
    stamped = conditions.stamp((ready,), old.conditions, now, wish.generation)
    return old.model_copy(update={"conditions": (*kept, *stamped)})


def _state(guest: Guest | None) -> Literal["Running", "ShutOff", "Saved", "Undefined"]:
    if guest is None:
        return "Undefined"
    return "Running" if guest.active else "Saved" if guest.saved else "ShutOff"


def _defined(wish: GuestWish, guest: Guest | None, outcome: Outcome) -> Condition:
    trouble = outcome.trouble
    if guest is not None and wish.is_defined(guest):
        return condition(DEFINED, True, "Defined", f"libvirt has guest {guest.name} as asked")
    if trouble:
        return condition(DEFINED, False, trouble.reason, trouble.message)
    return condition(DEFINED, False, "NotDefined", "libvirt does not have it")


def _running(wish: GuestWish, guest: Guest | None, outcome: Outcome, pending: int | None) -> Condition:
    if guest is not None and guest.active:
        if pending is not None:
            text = f"guest {guest.name} runs as it was defined before; shut it down and start it for what has changed"
            return condition(RUNNING, True, "PendingGuestRestart", text)
        return condition(RUNNING, True, "Running", f"guest {guest.name} runs")
    if wish.spec.running and outcome.trouble:
        return condition(RUNNING, False, outcome.trouble.reason, outcome.trouble.message)
    return condition(RUNNING, False, "GuestShutOff", f"guest {wish.domain_name} is off")


def _ready(wish: GuestWish, guest: Guest | None, outcome: Outcome) -> Condition:
    if outcome.trouble:
        return condition(READY, False, outcome.trouble.reason, outcome.trouble.message)
    if guest is None or guest.active != wish.spec.running:
        return condition(READY, False, "NotYet", f"guest {wish.domain_name} is {_state(guest)}")
    return condition(READY, True, "AsAsked", f"guest {guest.name} {'runs' if guest.active else 'is off'}, as asked")
