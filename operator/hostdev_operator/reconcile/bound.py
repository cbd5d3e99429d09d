"""A DeviceAssignment that is bound to this node, and what a run for it came to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from ..core.intent import Wish
from ..core.mac import with_accepted_mac
from ..core.published import nic_seen_before, seen_before
from ..core.reasons import Retry


@dataclass(frozen=True)
class Assignment:
    """A DeviceAssignment that is bound to this node, as the API server has it."""

    uid: str
    namespace: str
    name: str
    created: str
    generation: int
    deleting: bool
    spec: DeviceAssignmentSpec
    status: DeviceAssignmentStatus

    def wish(self) -> Wish:
        """What it asks for; ValueError if its status makes no sense."""
        if self.spec.domain is not None and self.status.domain_uuid is None:
            raise ValueError("the assignment is bound without a guest's UUID; delete it and make a new one")
        return Wish(
            uid=self.uid,
            namespace=self.namespace,
            name=self.name,
            created=self.created,
            generation=self.generation,
            spec=with_accepted_mac(self.spec, self.status, self.generation),
            domain_uuid=self.status.domain_uuid if self.spec.domain else None,
            seen=seen_before(self.status),
            nic_seen=nic_seen_before(self.spec, self.status),
        )

    def wish_for_release(self) -> Wish:
        """The same for one that is being deleted, whatever its status says: the record alone counts by then."""
        try:
            return self.wish()
        except ValueError:
            status = self.status.model_copy(update={"identity": None, "domain_uuid": self.status.domain_uuid or ""})
            return replace(self, status=status).wish()


@dataclass(frozen=True)
class Result:
    """What came out: the status to be written, and whether everything is given back.

    ``left``: the guest is gone from this node and nothing of the assignment is here, so it may be bound anew.
    ``retry`` says when to try again where nothing on the host will tell. ``moved`` and ``corrected`` are sentences for
    events.
    """

    status: DeviceAssignmentStatus
    released: bool = False
    left: bool = False
    retry: Retry = Retry.ON_EVENT
    moved: str | None = None
    corrected: str | None = None
