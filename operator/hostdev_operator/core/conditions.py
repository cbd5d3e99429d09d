"""Conditions: made in one place, with transition times that move only when a status does.

To add a condition: name it here, decide it in assignment_status.py (or host_status.py), describe it in the API model's
field, and let a test in tests/core show each of its reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..api.common import Condition

ACCEPTED = "Accepted"
PLANNED = "Planned"
GROUP_READY = "GroupReady"
CONFIGURED = "Configured"
ATTACHED = "Attached"
VFS_READY = "VFsReady"
NETWORK_READY = "NetworkReady"
READY = "Ready"

MESSAGE_LIMIT = 4096


def condition(kind: str, status: bool | None, reason: object, message: str) -> Condition:  # noqa: FBT001
    """A condition without its time; ``status`` None is Unknown."""
    words: dict[bool | None, Literal["True", "False", "Unknown"]] = {
        True: "True",
        False: "False",
        None: "Unknown",
    }
    return Condition(type=kind, status=words[status], reason=str(reason), message=message[:MESSAGE_LIMIT])


def stamp(
    new: Iterable[Condition], old: Iterable[Condition], now: str, generation: int | None
) -> tuple[Condition, ...]:
    """Give each condition its time: the old one's where the status is the same, else now (RFC 3339)."""
    before = {c.type: c for c in old}
    stamped = []
    for c in new:
        previous = before.get(c.type)
        same = previous is not None and previous.status == c.status
        time = previous.last_transition_time if previous and same else now
        stamped.append(c.model_copy(update={"last_transition_time": time, "observed_generation": generation}))
    return tuple(stamped)


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of a type."""
    return next((c for c in conditions if c.type == kind), None)


def changed(new: Iterable[Condition], old: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions whose status or reason differs from before: what deserves an event."""
    before = {c.type: (c.status, c.reason) for c in old}
    return tuple(c for c in new if before.get(c.type) != (c.status, c.reason))
