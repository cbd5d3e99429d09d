"""The row of the failure catalogue for guests that are saved."""

from __future__ import annotations

from .reasons import CATALOGUE, Reason, Retry

# fmt: off
GUEST_SAVED = CATALOGUE["GuestSaved"] = Reason("GuestSaved", Retry.ON_EVENT,
    "The guest has a managed save image: its next start resumes that, with the devices and NICs that are in there, and"
    " not with those of its persistent XML.",
    "Start the guest and, to have it as its XML says, shut it down and start it again. Or drop the image, and with it"
    " what the guest had in memory, as after a power cut: `spec.savedImage: Drop`, or `virsh managedsave-remove NAME`.",
    topic="Waiting")
# fmt: on
