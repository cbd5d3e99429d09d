"""Devices that move to another address are followed, and guests that move to another node.

A guest takes its NICs of pools with it: their assignments are bound anew, there.
"""

from __future__ import annotations

from ..api.deviceassignment import DeviceAssignmentStatus
from .intent import Wish
from .model import Observation
from .plan import Plan
from .release import plan_release


def has_left(wish: Wish, host: Observation) -> bool:
    """Whether nothing keeps the assignment on this node: neither its guest is here, nor anything of its own.

    So it is of a pool alone, which other nodes may have as well. A device is this node's, and so is what spec.nodeName
    names. A node that is paused keeps all.
    """
    if wish.spec.source.pool is None or wish.spec.node_name is not None or wish.domain_uuid is None:
        return False
    gone = host.guest(wish.domain_uuid) is None and not host.settings.paused
    return gone and plan_release(wish.uid, host) == Plan()


def moved(old: DeviceAssignmentStatus, new: DeviceAssignmentStatus) -> str | None:
    """A sentence for an event, if the device has another address now."""
    before, now = old.identity, new.identity
    if before is None or now is None or before.address == now.address:
        return None
    return f"the device that was at {before.address} is at {now.address} now, by its fingerprint; it is followed"
