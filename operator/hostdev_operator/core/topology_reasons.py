"""Rows of the failure catalogue for the place that a device gets in its guest."""

from __future__ import annotations

from .reasons import CATALOGUE, Reason, Retry

_TOPIC = "Changing it"


def _row(name: str, meaning: str, remedy: str) -> Reason:
    row = CATALOGUE[name] = Reason(name, Retry.ON_EVENT, meaning, remedy, topic=_TOPIC)
    return row


# fmt: off
GUEST_ADDRESS_IN_USE = _row("GuestAddressInUse",
    "Another device of the guest is at spec.guestAddress, or has that slot for itself.",
    "The message names it; `virsh dumpxml NAME --inactive` shows the others. Make the assignment anew with another"
    " guestAddress or without one. Functions share a slot only if each says so: spec.multifunction, or"
    " `multifunction='on'` at function 0.")
GUEST_ADDRESS_UNUSABLE = _row("GuestAddressUnusable",
    "The guest has no such place as spec.guestAddress, or function 0 of that slot is missing.",
    "The message says which buses there are. Add a PCI controller (`virsh edit NAME`), or make the assignment anew with"
    " another guestAddress. Of a multi-function slot the assignment with function 0 comes first, and is deleted last:"
    " a guest does not look at functions of a slot without it.")
MULTIFUNCTION_NEEDS_BOOT = _row("MultifunctionNeedsBoot",
    "spec.multifunction is true and the guest runs: hot plug takes a slot with one function alone.",
    "With spec.attach Auto or NextBoot the persistent XML has all functions: shut the guest off and start it. Live"
    " refuses instead.")
# fmt: on
