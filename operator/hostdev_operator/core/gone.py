"""Whether a node is gone for good, so that nobody is left to give back what it has: docs/controller.md says why so.

A deleted Node object is no proof: guests of libvirt are no pods, and run on without it. Only people (or what fences
hosts) know that a host is off for good. Their word counts for what was there when they gave it: an agent that has
reported since then makes it void.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from . import reasons
from .checks import Refusal

#: Of a DeviceHost: when an administrator made sure that the host is off for good (RFC 3339).
ANNOTATION = "hostdev.dev/node-gone"
#: How far the administrator's clock may be ahead: a time to come would confirm what nobody can know yet.
_AHEAD = timedelta(minutes=1)
_AGENT = "hostdev-agent"


class Fate(IntEnum):
    """What is known of a node."""

    THERE = 0  # it has a Node object: it could run
    MISSING = 1  # it has none, and nobody says what became of it
    OVERDUE = 2  # nor was anything heard of it for the grace time: what is being deleted waits no longer
    GONE = 3  # and an administrator says that it is off for good


@dataclass(frozen=True)
class Evidence:
    """What tells of one node.

    ``node``: whether there is a Node object. ``silent``: seconds for which there was none, and no report of the agent;
    and, of an object that is being deleted, for which it was not answered.
    ``confirmed``: the annotation; ``reported``: when the agent has written last, by the API server's clock.
    """

    node: bool
    silent: float = 0.0
    confirmed: str | None = None
    reported: str | None = None


def fate(evidence: Evidence, now: str, grace: float | None) -> Fate:
    """``now`` is the time of day (RFC 3339), ``grace`` in seconds; None: only an administrator's word counts."""
    if evidence.node:
        return Fate.THERE
    if evidence.confirmed is not None and doubt(evidence, now) is None:
        return Fate.GONE
    return Fate.OVERDUE if grace is not None and evidence.silent >= grace else Fate.MISSING


def doubt(evidence: Evidence, now: str) -> str | None:
    """Why the annotation does not count, in a sentence; None if it does, or if there is none."""
    if evidence.confirmed is None:
        return None
    said = _time(evidence.confirmed)
    if said is None:
        return f"the annotation {ANNOTATION} is no time in UTC like {now}: {evidence.confirmed!r}"
    if said > (_time(now) or said) + _AHEAD:
        return f"the annotation {ANNOTATION} is of a time to come: {evidence.confirmed}"
    last = _time(evidence.reported) if evidence.reported else None
    if last is not None and last >= said:
        return f"the node's agent has reported at {evidence.reported}, after it was said to be gone: it ran then"
    return None


def comes_true(evidence: Evidence, now: str) -> float | None:
    """In how many seconds an annotation that is of a time to come will count; None if it is of none."""
    said, at = _time(evidence.confirmed or ""), _time(now)
    left = (said - _AHEAD - at).total_seconds() if said and at else 0.0
    return left if left > 0 else None


def last_report(*metadata: Mapping[str, Any]) -> str | None:
    """When the agent has last changed the status of one of these objects; None if it never has."""
    return max((entry.get("time", "") for meta in metadata for entry in reports(meta)), default="") or None


def reports(metadata: Mapping[str, Any]) -> list[dict[str, str]]:
    """Of an object's managedFields what tells when its agent has written, without which fields, which are many."""
    return [
        {key: entry[key] for key in ("manager", "subresource", "time") if key in entry}
        for entry in metadata.get("managedFields") or ()
        if entry.get("manager") == _AGENT and entry.get("subresource") == "status"
    ]


def waited(metadata: Mapping[str, Any], now: str) -> float | None:
    """For how many seconds an object is being deleted; None if it is not."""
    asked, at = _time(metadata.get("deletionTimestamp", "")), _time(now)
    return (at - asked).total_seconds() if asked and at else None


def confirmation(metadata: Mapping[str, Any]) -> str | None:
    """The annotation of a DeviceHost."""
    found: str | None = (metadata.get("annotations") or {}).get(ANNOTATION)
    return found


def missing(node: str, evidence: Evidence, now: str, *, has_host: bool) -> Refusal:
    """What an administrator must hear of a node that has no Node object; ``has_host``: whether it has a DeviceHost."""
    why = doubt(evidence, now)
    first = "" if has_host else f" (there is no DeviceHost {node} any more: create one before)"
    text = (
        f"node {node} has no Node object any more{f', and {why}' if why else ''}; if its host is off for good, and no"
        f" guest runs there any more, say so{first}: kubectl annotate --overwrite devicehost {node}"
        f" {ANNOTATION}=$(date -u +%FT%TZ)"
    )
    return Refusal(reasons.NODE_GONE, text)


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None
