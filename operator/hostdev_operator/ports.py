"""What the engine needs of the outside world. Adapters implement these; tests/fakes has one stateful fake of each.

All calls of Hypervisor have a deadline inside the adapter: none waits for ever. Failures are HostError with a reason of
the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .core.actions import AddHostdev, PlugHostdev, RemoveHostdev, UnplugHostdev
from .core.domain_xml import GuestXml
from .core.host_status import Names
from .core.model import PciDevice, Platform, Use
from .core.pci import PciAddress
from .core.record import Record

Body = dict[str, Any]


class Hypervisor(Protocol):
    """libvirt on this node."""

    def guests(self) -> tuple[GuestXml, ...]:
        """Live and persistent XML of every domain, running or defined."""

    def networks(self) -> tuple[str, ...]:
        """XML of every libvirt network."""

    def storage_pools(self) -> tuple[str, ...] | None:
        """XML of every libvirt storage pool; None where libvirt has no storage driver."""

    def names(self, addresses: tuple[PciAddress, ...]) -> Names:
        """Vendor and product names of these devices."""

    def detach_driver(self, address: PciAddress) -> None:
        """nodedev-detach: from the host driver to vfio-pci."""

    def reattach_driver(self, address: PciAddress) -> None:
        """nodedev-reattach: from vfio-pci to whatever driver the host binds."""

    def add_hostdev(self, action: AddHostdev) -> None:
        """attach-device --config."""

    def remove_hostdev(self, action: RemoveHostdev) -> None:
        """detach-device --config; nothing to do if the device is not in there, or the guest is gone."""

    def plug_hostdev(self, action: PlugHostdev) -> None:
        """attach-device --live; nothing to do if the running guest has it."""

    def unplug_hostdev(self, action: UnplugHostdev) -> None:
        """detach-device --live, and wait some seconds until it is out of the live XML; nothing to do if it is.

        HostError UnplugRejected if the guest refuses, UnplugPending if it does not answer.
        """

    def rejections(self) -> frozenset[tuple[str, str]]:
        """Hostdevs (guest's UUID, alias) whose last unplug request the guest has refused, by libvirt's events."""

    def blocked(self) -> frozenset[PciAddress]:
        """Devices whose detach or reattach has not returned within its deadline, and still has not."""


class HostDevices(Protocol):
    """The host's kernel, as /sys and /proc show it."""

    def devices(self) -> tuple[PciDevice, ...]:
        """All PCI functions."""

    def device(self, address: PciAddress) -> PciDevice | None:
        """One PCI function, read now; None if there is none."""

    def iommu_group(self, address: PciAddress) -> int | None:
        """The device's IOMMU group now; None if it has none, or is not there. Cheap."""

    def driver(self, address: PciAddress) -> str | None:
        """The driver that is bound now; None if none is, or the device is gone."""

    def wait_for_driver(self, address: PciAddress, wanted: Callable[[str | None], bool], seconds: float) -> str | None:
        """Wait until the bound driver is as wanted; returns what is bound in the end."""

    def platform(self) -> Platform:
        """IOMMU, interrupt remapping, VFIO."""

    def uses(self, age: float = 0.0) -> tuple[Use, ...]:
        """What the host itself needs, read now or at most ``age`` seconds ago.

        HostError HostUseUnknown if that cannot be read whole.
        """

    def block_device(self, path: str) -> frozenset[PciAddress] | None:
        """The PCI controllers under a block device's path; None if the path cannot be followed."""

    def scsi_host(self, name: str) -> frozenset[PciAddress]:
        """The PCI controller of a SCSI host such as scsi_host3 or host3; empty if there is none."""

    def interface(self, name: str) -> frozenset[PciAddress]:
        """The PCI devices under a bridge, bond, VLAN or NIC of the host."""


class RecordStore(Protocol):
    """The node's journal: one durable record for each assignment."""

    def load(self) -> Mapping[str, Record]:
        """All records by UID. HostError StateDirectoryFailed if one cannot be read."""

    def save(self, record: Record) -> None:
        """Write durably: when it returns, a power cut cannot lose it."""

    def drop(self, uid: str) -> None:
        """Remove durably; nothing to do if it is not there."""


class Cluster(Protocol):
    """The API server, as far as agent and controller write to it. Bodies are plain JSON objects.

    Raises ClusterError. No call retries by itself.
    """

    async def get_assignment(self, namespace: str, name: str) -> Body | None:
        """The object, or None if it does not exist."""

    async def bound_assignments(self, node: str) -> list[Body]:
        """All DeviceAssignments whose status.nodeName is this node."""

    async def apply_assignment_status(self, body: Body, status: Body, manager: str) -> Body:
        """Server-side apply of the manager's fields of status to this very version of the object; the new body.

        ClusterError 409 if it has changed since (also: was deleted and made anew): read it again and think again.
        """

    async def clear_binding(self, body: Body) -> None:
        """Remove status.nodeName, status.record and status.guest of this very version; nothing if it is gone."""

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        """Replace metadata.finalizers of this very version of the object; None if it is gone."""

    async def hosts(self) -> list[Body]:
        """All DeviceHosts."""

    async def host(self, node: str) -> Body | None:
        """The node's DeviceHost, or None."""

    async def apply_host_status(self, node: str, status: Body) -> Body:
        """Make the node's DeviceHost if it is missing, and apply its status."""

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        """An event about a DeviceAssignment; failing to write one is logged and no error."""


class Clock(Protocol):
    """Time, for conditions."""

    def now(self) -> str:
        """RFC 3339 in UTC, to the second."""

    def monotonic(self) -> float:
        """Seconds that only grow, for delays."""


class ClusterError(Exception):
    """The API server refused or did not answer. ``code`` is the HTTP status, 0 if there was no answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Host:
    """Everything of one node in one hand.

    ``boundary`` is called with the name of each point where a crash would leave something half done; it does nothing
    but in tests, which end the process there.
    """

    hypervisor: Hypervisor
    devices: HostDevices
    records: RecordStore
    clock: Clock
    boundary: Callable[[str], None] = lambda _name: None
