"""Preparing the host: ask its unit for what spec says, and tell how that stands."""

from __future__ import annotations

import math
from dataclasses import replace

from ..api.common import Condition
from ..core.conditions import condition
from ..core.errors import HostError
from ..core.model import Observation
from ..core.preparation import Answer, BootFacts, Request, request
from ..core.preparation_status import Asked, conditions
from ..ports import Host

#: GRUB's configuration is made in seconds, and in minutes where it looks for other systems on many disks.
UNANSWERED_SECONDS = 300.0
#: The unit can have been busy, or not been there, when it was asked.
ASK_AGAIN_SECONDS = 60.0


class Preparer:
    """Keeps only since when an answer is waited for: what is asked stands in one file, what came of it in another."""

    def __init__(self, host: Host) -> None:
        self._unit = host.preparation
        self._clock = host.clock
        self._waits: tuple[str, float] | None = None  # for the answer to which request, since when
        self._asked = 0.0

    @property
    def waits(self) -> bool:
        """Whether an answer is to be expected soon."""
        return self._waits is not None and not self._is_overdue()

    def conditions(self, seen: Observation) -> tuple[Condition, ...]:
        """Ask for what is not asked for yet; how it stands then. Nothing on hosts of which nothing was ever asked."""
        asked = seen.settings.preparation
        try:
            before = self._unit.request()
            if asked is None and before is None:
                return ()
            facts, answer = self._unit.facts(), self._unit.answer()
            return conditions(asked, seen, facts, self._settle(seen, facts, before, answer))
        except HostError as error:
            return (condition("Prepared", False, error.reason, error.message),)

    def _settle(self, seen: Observation, facts: BootFacts, before: str | None, text: str | None) -> Asked:
        """What is taken back is written even where no unit would do it now: one could be installed later."""
        wanted = request(seen.settings.preparation, seen, facts, before)
        state = Asked(wanted, Answer.parse(text) if text is not None else None, seen.platform.boot_id)
        if wanted == Request():
            asks = before is not None and (state.is_there or before != wanted.text)
        else:
            asks = state.is_there
        if state.answered or seen.settings.paused or not asks:
            self._waits = None
            return state
        now = self._clock.monotonic()
        if self._waits is None or self._waits[0] != wanted.id:
            self._waits, self._asked = (wanted.id, now), -math.inf
        if before != wanted.text or now - self._asked >= ASK_AGAIN_SECONDS:
            self._unit.ask(wanted.text)
            self._asked = now
        return replace(state, overdue=self._is_overdue())

    def _is_overdue(self) -> bool:
        return self._waits is not None and self._clock.monotonic() - self._waits[1] > UNANSWERED_SECONDS
