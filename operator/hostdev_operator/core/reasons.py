"""The failure catalogue: every reason a condition can have, when it heals, and what libvirt or the kernel says.

Texts: libvirt 11.3 src/hypervisor/virhostdev.c, src/util/virpci.c, src/qemu/; Linux drivers/vfio.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """When trying again makes sense."""

    NEVER = "never by itself"
    ON_EVENT = "when the host or the object changes"
    SOON = "soon"
    BACKOFF = "with growing delays"


@dataclass(frozen=True)
class Reason:
    """A row of the catalogue. ``words`` are substrings of libvirt's or the kernel's message (LC_ALL=C)."""

    name: str
    retry: Retry
    meaning: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def _row(name: str, retry: Retry, meaning: str, *words: str) -> Reason:
    row = Reason(name, retry, meaning, words)
    CATALOGUE[name] = row
    return row


CATALOGUE: dict[str, Reason] = {}

# The object itself
INVALID_SOURCE = _row("InvalidSource", Retry.NEVER, "The source is not a PCI address.")
NODE_NOT_FOUND = _row("NodeNotFound", Retry.ON_EVENT, "No agent reports the node that the object names.")
GUEST_NOT_FOUND = _row("GuestNotFound", Retry.ON_EVENT, "No node (or not the named one) has the guest.")
GUEST_AMBIGUOUS = _row("GuestAmbiguous", Retry.ON_EVENT, "Several nodes have a guest of that name.")
GUEST_IDENTITY_CHANGED = _row(
    "GuestIdentityChanged",
    Retry.ON_EVENT,
    "A guest of that name exists, but it has another UUID than the bound one.",
)
GUEST_TRANSIENT = _row("GuestTransient", Retry.ON_EVENT, "The guest has no persistent definition to write to.")
# The device
DEVICE_NOT_FOUND = _row(
    "DeviceNotFound",
    Retry.ON_EVENT,
    "The node has no device at the address.",
    "no node device with matching name",
)
NOT_ASSIGNABLE = _row(
    "NotAssignable",
    Retry.NEVER,
    "Bridges, root ports and host bridges are never assigned.",
    "Non-endpoint PCI devices cannot be assigned",
)
DEVICE_IN_USE = _row(
    "DeviceInUse",
    Retry.ON_EVENT,
    "Another guest or assignment has the device.",
    "is in use by driver",
    "is in use by domain",
)
GROUP_IN_USE = _row("GroupInUse", Retry.ON_EVENT, "Another guest or assignment has a device of the same IOMMU group.")
HOST_CRITICAL = _row(
    "HostCritical",
    Retry.ON_EVENT,
    "The host, or another guest through the host, needs the device or a mate of its group.",
)
HOST_USE_UNKNOWN = _row(
    "HostUseUnknown", Retry.BACKOFF, "What the host needs could not be read, so nothing is touched."
)
IDENTITY_CHANGED = _row("IdentityChanged", Retry.NEVER, "Another device than the recorded one is at the address.")
# The host
IOMMU_DISABLED = _row(
    "IOMMUDisabled", Retry.ON_EVENT, "The host has no active IOMMU.", "host doesn't support passthrough"
)
VFIO_MODULE_MISSING = _row(
    "VFIOModuleMissing",
    Retry.BACKOFF,
    "The vfio-pci module is not to be had.",
    "VFIO device assignment is currently not supported",
    "Failed to load PCI driver module vfio",
)
INTERRUPT_REMAPPING_UNAVAILABLE = _row(
    "InterruptRemappingUnavailable",
    Retry.ON_EVENT,
    "The host has no interrupt remapping: a guest could inject interrupts.",
    "No interrupt remapping support",
    "allow_unsafe_interrupts",
)
LIBVIRT_UNAVAILABLE = _row(
    "LibvirtUnavailable",
    Retry.BACKOFF,
    "libvirtd does not answer.",
    "Failed to connect socket",
    "Connection refused",
    "client socket is closed",
    "Cannot recv data",
    "Cannot write data",
    "End of file while reading data",
    "internal error: client closed",
)
# Changing it
IOMMU_GROUP_NOT_VIABLE = _row(
    "IOMMUGroupNotViable",
    Retry.ON_EVENT,
    "A group member cannot be taken from its host driver.",
    "is not viable",
)
FIRMWARE_RESERVED_MEMORY = _row(
    "FirmwareReservedMemory",
    Retry.NEVER,
    "The firmware reserves memory of the device (RMRR).",
    "requested this device have a 1:1",
)
NOT_DETACHED = _row(
    "NotDetached",
    Retry.BACKOFF,
    "An unmanaged device is not on vfio-pci.",
    "must be manually detached from the host",
)
NO_GUEST_PCI_SLOT = _row(
    "NoGuestPCISlot", Retry.ON_EVENT, "The guest has no free PCI slot.", "No more available PCI slots"
)
DETACH_BLOCKED = _row("DetachBlocked", Retry.ON_EVENT, "Taking the device from its host driver does not return.")
DETACH_FAILED = _row("DetachFailed", Retry.ON_EVENT, "The device did not end on vfio-pci.")
REATTACH_BLOCKED = _row("ReattachBlocked", Retry.BACKOFF, "Giving the device back to its host driver does not return.")
BIND_FAILED = _row("BindFailed", Retry.BACKOFF, "The original driver is not bound after the device was given back.")
VFIO_GROUP_BUSY = _row(
    "VFIOGroupBusy",
    Retry.BACKOFF,
    "Another process has the VFIO group open.",
    "Device or resource busy",
)
PERMISSION_DENIED = _row(
    "PermissionDenied", Retry.BACKOFF, "The host denies it.", "Permission denied", "Operation not permitted"
)
HOST_CHANGED = _row("HostChanged", Retry.SOON, "The host changed between looking and acting.")
LIBVIRT_ERROR = _row("LibvirtError", Retry.BACKOFF, "libvirt refused for a reason that is not in the catalogue.")
STATE_DIRECTORY_FAILED = _row(
    "StateDirectoryFailed", Retry.BACKOFF, "The record could not be written, so nothing was changed."
)
# Waiting
GUEST_RUNNING = _row(
    "GuestRunning",
    Retry.ON_EVENT,
    "A running guest holds the device; it is given back when the guest is off.",
)

_BY_WORDS = tuple((word, reason) for reason in CATALOGUE.values() for word in reason.words)


def from_words(message: str) -> Reason:
    """The reason for a message of libvirt or the kernel; LibvirtError if the catalogue does not know it."""
    return next((reason for word, reason in _BY_WORDS if word in message), LIBVIRT_ERROR)
