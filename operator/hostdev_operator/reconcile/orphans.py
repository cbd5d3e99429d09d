"""What assignments have left that are gone from the API: given back when the administrator says so."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..core import reasons
from ..core.assignment_status import Outcome
from ..core.checks import Refusal
from ..core.errors import HostError
from ..core.model import Observation
from ..core.orphans import Orphan
from ..core.release import PATIENTLY
from .failures import FailureMemory
from .looker import Looker
from .release import Releaser

log = logging.getLogger(__name__)


class OrphanReleaser:
    """Gives back one at a time. Whoever calls holds the locks of its group and its guests."""

    def __init__(self, looker: Looker, releaser: Releaser, monotonic: Callable[[], float]) -> None:
        self._looker = looker
        self._releaser = releaser
        self._failures = FailureMemory(monotonic)

    def release(self, orphan: Orphan) -> Refusal | None:
        """Give back what it holds; a refusal says what it waits for. A running guest is never asked to let go."""
        try:
            host = self._looker.fresh()
            known = self._failures.holds_back(orphan.uid, _inputs(orphan, host))
            if known:
                return known.trouble
            waits = self._releaser.undo(orphan.uid, orphan.owner, host, "orphan", PATIENTLY)
        except HostError as error:
            log.warning("%s: orphan: %s: %s", orphan.owner, error.reason, error.message)
            failed = Refusal(error.reason, error.message)
            if error.reason not in (reasons.LIBVIRT_UNAVAILABLE, reasons.HOST_CHANGED):
                self._failures.remember(orphan.uid, _inputs(orphan, self._looker.fresh()), Outcome(failed=failed))
            return failed
        if waits is None:
            self._failures.forget(orphan.uid)
        return waits


def _inputs(orphan: Orphan, host: Observation) -> tuple[object, ...]:
    record = orphan.record
    devices = tuple(host.devices.get(m.address) for m in record.members) if record else ()
    return record, devices, host.guests, host.blocked, host.settings
