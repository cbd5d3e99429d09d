"""What failed, so that it is not done again for nothing: neither at once nor at every event of the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.assignment_status import Outcome

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 300.0


@dataclass(frozen=True)
class _Failure:
    inputs: tuple[object, ...]
    outcome: Outcome
    count: int
    not_before: float


class FailureMemory:
    """The last failure of each assignment. It is lost with the process: a new agent tries once more."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: dict[str, _Failure] = {}

    def holds_back(self, uid: str, inputs: tuple[object, ...]) -> Outcome | None:
        """The known outcome, if trying again makes no sense yet.

        What the failure depends on (``inputs``) is as it was, and either time does not heal it or too little of it has
        passed. A failed change raises events of its own, so events alone are no reason to try again.
        """
        known = self._failures.get(uid)
        if known is None or known.inputs != inputs:
            return None
        over = known.outcome.heals_with_time and self._monotonic() >= known.not_before
        return None if over else known.outcome

    def too_soon(self, uid: str, inputs: tuple[object, ...]) -> Outcome | None:
        """The known outcome while its delay lasts, whatever its reason."""
        known = self._failures.get(uid)
        if known is None or known.inputs != inputs or self._monotonic() >= known.not_before:
            return None
        return known.outcome

    def remember(self, uid: str, inputs: tuple[object, ...], outcome: Outcome) -> None:
        """A run failed; the delay doubles while nothing else changes."""
        known = self._failures.get(uid)
        count = known.count + 1 if known and known.inputs == inputs else 1
        delay = min(FIRST_SECONDS * 2 ** (count - 1), LONGEST_SECONDS)
        self._failures[uid] = _Failure(inputs, outcome, count, self._monotonic() + delay)

    def forget(self, uid: str) -> None:
        """It works, or is gone."""
        self._failures.pop(uid, None)
