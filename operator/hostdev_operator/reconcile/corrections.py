"""No fights: what is changed again and again is put right after growing delays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core import reasons
from ..core.checks import Refusal
from .failures import FIRST_SECONDS, LONGEST_SECONDS

#: Who changes it so long after it was put right does not do it again and again.
_CALM_SECONDS = 2 * LONGEST_SECONDS


@dataclass(frozen=True)
class _Correction:
    count: int
    at: float

    @property
    def not_before(self) -> float:
        """When the next one may be."""
        delay: float = min(FIRST_SECONDS * 2 ** (self.count - 1), LONGEST_SECONDS)
        return self.at + delay


def corrected(what: str | None) -> str | None:
    """The sentence of the event."""
    return f"somebody else had changed what stood as asked; done: {what}" if what else None


class Corrections:
    """How often each object was put right. It is lost with the process: a new agent begins without delays."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: dict[str, _Correction] = {}

    def brake(self, uid: str, owner: str, plan: str, *, by_policy: bool) -> Refusal | None:
        """Why it is not put right now; None if it may be. ``by_policy``: since driftPolicy is Correct."""
        last = self._last.get(uid)
        if last is None or self._monotonic() >= last.not_before:
            return None
        times = "once" if last.count == 1 else f"{last.count} times"
        then = ", or set spec.driftPolicy to Report" if by_policy else ""
        return Refusal(
            reasons.DRIFTS_AGAIN,
            f"{owner} was put right {times}, and somebody else changes it back; after a growing delay it is done again:"
            f" {plan}; find who does it (journalctl -u libvirtd){then}",
        )

    def note(self, uid: str) -> None:
        """It was put right."""
        now, last = self._monotonic(), self._last.get(uid)
        again = last is not None and now - last.not_before < _CALM_SECONDS
        self._last[uid] = _Correction(last.count + 1 if last and again else 1, now)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._last.pop(uid, None)
