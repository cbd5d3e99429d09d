"""Has a guest whose assignment says requireAtStart wait for its device: closes and opens what libvirt's hook looks at.

Closed before the first action of a plan, so that no crash leaves a guest that may start in between; opened when all
stands, when it is not asked for any more, and at a deletion before anything is given back.
"""

from __future__ import annotations

from dataclasses import replace

from ..core import conditions
from ..core.checks import Refusal
from ..core.errors import HostError
from ..core.intent import Wish
from ..core.reasons import Retry
from ..core.start_gate import hindrance
from ..core.start_reasons import START_HOOK_MISSING
from ..ports import Host
from .bound import Assignment, Result


class GuestStarts:
    """Of one node."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def take_up(self, obj: Assignment) -> None:
        """Before a run: who does not ask for it, or is being deleted, stands in no guest's way. May raise HostError."""
        if not _is_asked_for(obj):
            self._host.gate.open(obj.uid)

    def begin(self, wish: Wish) -> None:
        """Something will be changed for it. HostError if the hook cannot be told: then nothing is."""
        if wish.spec.require_at_start and wish.domain_uuid and self._host.gate.installed():
            self._host.gate.close(wish.uid, wish.domain_uuid, wish.owner, "its device is being prepared")
            self._host.boundary("assign: start gate closed")

    def judge(self, obj: Assignment, result: Result) -> Result:
        """After a run: what it came to decides. Not ready, if nothing would hold the guest up."""
        if not _is_asked_for(obj) or not obj.status.domain_uuid:
            return result
        if not self._host.gate.installed():
            return self._unguarded(obj, result)
        why = None if result.left else hindrance(result.status)
        try:
            if why:
                self._host.gate.close(obj.uid, obj.status.domain_uuid, f"{obj.namespace}/{obj.name}", why)
            else:
                self._host.gate.open(obj.uid)
        except HostError as error:
            return self._not_ready(obj, result, Refusal(error.reason, error.message))
        return result

    def _unguarded(self, obj: Assignment, result: Result) -> Result:
        text = (
            "nothing on this node holds up the start of the guest without its device (spec.requireAtStart): install"
            " the hook manifests/host/hostdev-guest-ready (docs/host.md), or set spec.requireAtStart to false"
        )
        return self._not_ready(obj, result, Refusal(START_HOOK_MISSING, text))

    def _not_ready(self, obj: Assignment, result: Result, why: Refusal) -> Result:
        """Another trouble is told first."""
        ready = conditions.find(result.status.conditions, conditions.READY)
        if result.left or ready is None or ready.status != "True":
            return result
        others = (c for c in result.status.conditions if c.type != conditions.READY)
        told = (*others, conditions.condition(conditions.READY, False, why.reason, why.message))
        stamped = conditions.stamp(told, obj.status.conditions, self._host.clock.now(), obj.generation)
        status = result.status.model_copy(update={"conditions": stamped})
        return replace(result, status=status, retry=Retry.BACKOFF)


def _is_asked_for(obj: Assignment) -> bool:
    return obj.spec.require_at_start and obj.spec.domain is not None and not obj.deleting
