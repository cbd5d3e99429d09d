"""Who leads: the decisions on a coordination.k8s.io Lease, as client-go's leader election makes them.

No two clocks are compared. The times in a Lease are for people; whether it has run out is judged by how long this very
process has seen it unchanged. Numbers without a unit in their name are seconds of a clock that only grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Of a lease that was given up: the next one need not wait for it (client-go writes the same).
_RELEASED_SECONDS = 1


class LeadershipLostError(Exception):
    """Another replica leads, or may soon: this process must end."""


@dataclass(frozen=True)
class Timing:
    """``seconds``: how long a Lease must be unchanged before another replica takes it (leaseDurationSeconds).

    Its holder renews it three times in that time, and stops to write a third of it before anybody may take it.
    """

    seconds: int = 30

    @property
    def renew(self) -> float:
        """Between two renewals."""
        return self.seconds / 3

    @property
    def deadline(self) -> float:
        """After the last renewal that succeeded, counted from when it was sent: nothing is written any more."""
        return self.seconds * 2 / 3

    @property
    def retry(self) -> float:
        """Between two attempts to take a lease, or to renew it after a failure."""
        return self.seconds / 15


@dataclass(frozen=True)
class Lease:
    """A Lease's spec; times as RFC 3339. ``version``: its resource version, empty if there is no such object."""

    holder: str = ""
    seconds: int = 0
    transitions: int = 0
    acquired: str = ""
    renewed: str = ""
    version: str = ""


@dataclass(frozen=True)
class Sight:
    """What was read, and since when it has been so."""

    lease: Lease | None
    since: float


def look(before: Sight | None, found: Lease | None, now: float) -> Sight:
    """What is known after the Lease was read. One that was deleted is still waited for: its holder may not know."""
    if before is None or before.lease is None:
        return Sight(found, now)
    if found is None:
        return Sight(replace(before.lease, version=""), before.since)
    same = replace(found, version="") == replace(before.lease, version="")
    return Sight(found, before.since if same else now)


def claim(sight: Sight, me: str, now: float, wall: str, timing: Timing) -> Lease | None:
    """The Lease to write in order to lead, or to go on leading; None while another one holds it.

    ``me`` names one run of one process; ``wall`` is the time of day.
    """
    found = sight.lease
    if found is None:
        return Lease(me, timing.seconds, 0, wall, wall)
    if found.holder == me:
        return replace(found, seconds=timing.seconds, renewed=wall)
    if found.holder and now < sight.since + (found.seconds or timing.seconds):
        return None
    return Lease(me, timing.seconds, found.transitions + 1, wall, wall, found.version)


def released(held: Lease, wall: str) -> Lease:
    """The Lease to write when all work has ended: nobody's."""
    return replace(held, holder="", seconds=_RELEASED_SECONDS, renewed=wall)
