"""One look at the host serves all who need one, as long as nothing has been noticed since it began."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ..core.actions import Action, touched
from ..core.errors import HostError
from ..core.host_status import Trouble
from ..core.model import Guest, Observation
from ..ports import Host
from .context import Context
from .observe import (
    libvirt_differs,
    observe,
    observe_again,
    observe_libvirt_again,
    observe_what_can_be,
    with_context,
)


@dataclass(frozen=True)
class _Look:
    """``number`` is its place in the order in which looks began, ``version`` what had been noticed of the host then.

    ``objects``: the same of what is asked for.
    """

    number: int
    version: tuple[int, int]
    objects: int
    seen: Observation


class Looker:
    """Observes. Thread-safe.

    An event of the host wakes every assignment of the node; without sharing, each would read the whole host again.
    Nobody acts on a shared look: who finds something to do looks afresh, under its locks.
    """

    def __init__(self, host: Host, context: Context) -> None:
        self._host = host
        self._context = context
        self._lock = threading.Lock()
        self._keeping = threading.Lock()
        self._numbers = itertools.count()
        self._done = 0
        self._last: _Look | None = None
        self._differed = False

    def _version(self) -> tuple[int, int]:
        """Changes with what is noticed, and with what was done."""
        return self._context.version(), self._done

    def fresh(self) -> Observation:
        """A look that begins now. HostError if libvirt does not answer, or the journal cannot be read."""
        number, version, objects = next(self._numbers), self._version(), self._context.objects()
        seen = observe(self._host, self._context)
        with self._keeping:
            if self._last is None or self._last.number < number:
                self._differed = self._differed or (self._last is not None and self._last.seen != seen)
                self._last = _Look(number, version, objects, seen)
        return seen

    def shared(self) -> tuple[Observation, bool]:
        """The last look if nothing was noticed or done since it began, else a fresh one; whether it is fresh."""
        with self._lock:
            known = self._still_good()
            return (known, False) if known else (self.fresh(), True)

    def latest(self) -> Observation:
        """The last look, however old: for what costs nothing if it is wrong by now."""
        last = self._last
        return last.seen if last else self.fresh()

    def _still_good(self) -> Observation | None:
        """What is asked for by now, on the host as it was seen."""
        last = self._last
        if last is None or last.version != self._version():
            return None
        objects = self._context.objects()
        if objects == last.objects:
            return last.seen
        seen = with_context(last.seen, self._context)
        with self._keeping:
            if self._last is last:
                self._last = _Look(last.number, last.version, objects, seen)
        return seen

    def differed(self) -> bool:
        """Whether any two looks since the last question were different: some may have been reported from an older one.

        Not everything that changes raises an event, and what has changed back is seen by comparing all looks alone.
        """
        with self._keeping:
            differed, self._differed = self._differed, False
        return differed

    def libvirt_differs(self) -> bool:
        """Whether guests or networks are not as in the last look: of a persistent XML that is changed no event tells.

        HostError if libvirt does not answer.
        """
        last = self._last
        return last is not None and libvirt_differs(self._host, last.seen)

    def for_release(self) -> tuple[Observation, bool]:
        """Like shared, but a new look is at what a release depends on: the host's own needs are as they were last."""
        known = self._still_good()
        return (known, False) if known else (self.fresh_for_release(), True)

    def fresh_for_release(self) -> Observation:
        """The same, beginning now."""
        last = self._last
        return observe_again(self._host, self._context, last.seen) if last else self.fresh()

    def after(self, before: Observation, actions: Iterable[Action]) -> Observation:
        """What our own actions can have changed since a look; the rest as it was then, and for nobody else to share."""
        with self._keeping:
            self._done += 1
        return observe_again(self._host, self._context, before, touched(actions))

    def after_networks(self, before: Observation) -> Observation:
        """The same after a change of libvirt's networks alone."""
        with self._keeping:
            self._done += 1
        return observe_libvirt_again(self._host, self._context, before)

    def what_can_be(self, guests: tuple[Guest, ...]) -> tuple[Observation, Trouble]:
        """For reporting: a shared look, or, if that fails, what can be seen, with the guests as they were seen last."""
        try:
            return self.shared()[0], Trouble()
        except HostError:
            return observe_what_can_be(self._host, self._context, guests)
