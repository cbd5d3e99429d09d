"""Rows of the failure catalogue for guests that must not start without their device."""

from __future__ import annotations

from .reasons import CATALOGUE, Reason, Retry

# fmt: off
START_HOOK_MISSING = CATALOGUE["StartHookMissing"] = Reason("StartHookMissing", Retry.BACKOFF,
    "spec.requireAtStart is true, and the host has no folder in which libvirt's hook would look: nothing holds the"
    " guest's start up. All else is as the other conditions say.",
    "Install `manifests/host/hostdev-guest-ready` on the node as docs/host.md says, which makes the folder as well. Or"
    " set spec.requireAtStart to false.",
    topic="The host")
# fmt: on
