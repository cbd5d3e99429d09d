"""Rows of the failure catalogue for guests that are made from a Guest."""

from __future__ import annotations

from .reasons import CATALOGUE, TOPICS, Reason, Retry

_TOPIC = "Guests"
TOPICS.append(_TOPIC)


def _row(name: str, retry: Retry, meaning: str, remedy: str, *words: str) -> Reason:
    row = CATALOGUE[name] = Reason(name, retry, meaning, remedy, words, _TOPIC)
    return row


# fmt: off
GUEST_EXISTS = _row("GuestExists", Retry.ON_EVENT,
    "libvirt has a guest of this name already, which was not made from this Guest. It is left as it is.",
    "Give the Guest another name (spec.name of a new object), or take the other guest away: `virsh undefine NAME`. A"
    " guest that other tools have made needs no Guest to be given devices.")
DOMAIN_XML_UNUSABLE = _row("DomainXMLUnusable", Retry.ON_EVENT,
    "spec.domainXML cannot be taken: it is no XML, or has something that spec or DeviceAssignments say.",
    "Change what the message names.")
POOL_NEEDS_ASSIGNMENT = _row("PoolNeedsAssignment", Retry.ON_EVENT,
    "A network in spec.networks, or of a NIC in spec.domainXML, hands out VFs.",
    "Make a DeviceAssignment with source.pool for this guest, and take the NIC out of the Guest.")
APPROVAL_UNSUPPORTED = _row("ApprovalUnsupported", Retry.ON_EVENT,
    "The DeviceHost's spec.approval is Manual, and there are no approvals of Guests.",
    "Make the guest by hand (virsh define, virt-install), or set spec.approval of the DeviceHost to Automatic.")
ASSIGNMENTS_NOT_READY = _row("AssignmentsNotReady", Retry.ON_EVENT,
    "The guest is not started yet: a DeviceAssignment in spec.deviceAssignments is not Ready for it.",
    "The message names it and says why; `kubectl describe deviceassignment` says more.")
GUEST_STOPS = _row("GuestStops", Retry.BACKOFF,
    "The guest was off again soon after it was started. It is started again after growing delays.",
    "Look at its console and at its log on the node (`/var/log/libvirt/qemu/NAME.log`). Set spec.running to false to"
    " keep it off.")
SHUTTING_DOWN = _row("ShuttingDown", Retry.BACKOFF,
    "The guest was asked to shut down, and still runs. It is asked again now and then, and never destroyed.",
    "Shut it down from within. A guest that does not listen to ACPI: `virsh destroy NAME`, by which it loses what it"
    " has not written.")
GUEST_HAS_DEVICES = _row("GuestHasDevices", Retry.ON_EVENT,
    "The Guest is being deleted (deletionPolicy: Undefine), and DeviceAssignments still have devices in its XML.",
    "Delete these assignments: their devices are given back when the guest is off.")
# fmt: on
