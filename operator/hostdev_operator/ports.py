"""What the engine needs of the outside world. Adapters implement these; simulation/ has one stateful fake of each.

All calls of Hypervisor have a deadline inside the adapter: none waits for ever. Failures are HostError with a reason of
the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .core.actions import (
    AddController,
    AddHostdev,
    AddInterface,
    DropSavedImage,
    PlugHostdev,
    PlugInterface,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    UnplugHostdev,
    UnplugInterface,
)
from .core.approval import Approval
from .core.domain_xml import GuestXml
from .core.guest import DefineGuest, ShutDownGuest, StartGuest, UndefineGuest
from .core.host_status import Names
from .core.lease import Lease
from .core.model import PciDevice, Platform, Use
from .core.network_xml import NetworkXml
from .core.pci import PciAddress
from .core.pool import PoolRecord
from .core.preparation import BootFacts
from .core.record import Record
from .core.sriov import Pf, VfConfig

Body = dict[str, Any]
R = TypeVar("R")


class Hypervisor(Protocol):
    """libvirt on this node."""

    def guests(self) -> tuple[GuestXml, ...]:
        """Live and persistent XML of every domain, running or defined."""

    def networks(self) -> tuple[NetworkXml, ...]:
        """Every libvirt network; live and persistent XML of those that hand out VFs.

        Of the others both are the same text, and whether they are started, autostarted or persistent is not looked up.
        """

    def define_network(self, xml: str) -> None:
        """net-define: makes the persistent definition, or replaces that of the same name and UUID.

        A started network goes on as it was started. HostError NetworkDiffers if there is another network of that name
        or UUID: a text without <uuid> never replaces one.
        """

    def start_network(self, name: str) -> None:
        """net-start; nothing to do if it is started. HostError PoolNotFound if there is none."""

    def autostart_network(self, name: str) -> None:
        """net-autostart; HostError PoolNotFound if there is none."""

    def stop_network(self, name: str) -> None:
        """net-destroy; nothing to do if it is not started, or not there. The caller has looked that no guest uses it.

        HostError HostChanged if one does by now: libvirt would forget which VFs it has handed out.
        """

    def undefine_network(self, name: str, uuid: str) -> None:
        """net-undefine; nothing to do if it is not there, is transient, or has another UUID by now."""

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

    def add_controller(self, action: AddController) -> None:
        """attach-device --config of a PCI controller; nothing to do if it is in there.

        HostError HostChanged if another one has its index.
        """

    def remove_controller(self, action: RemoveController) -> None:
        """detach-device --config; nothing to do if that of its index is not ours, or the guest is gone."""

    def drop_saved_image(self, action: DropSavedImage) -> None:
        """Managedsave-remove; nothing to do if there is none, or the guest is gone or runs by now."""

    def define_guest(self, step: DefineGuest) -> None:
        """Define; what a persistent XML has that is not asked for, and has not been, stays."""

    def start_guest(self, step: StartGuest) -> None:
        """Start; nothing to do if it runs. HostError GuestNotFound if there is none."""

    def shut_down_guest(self, step: ShutDownGuest) -> None:
        """Shutdown, by ACPI, without waiting; nothing to do if it is off, or gone."""

    def undefine_guest(self, step: UndefineGuest) -> None:
        """Undefine --keep-nvram --keep-tpm; nothing to do if it is gone."""

    def plug_hostdev(self, action: PlugHostdev) -> None:
        """attach-device --live; nothing to do if the running guest has it."""

    def unplug_hostdev(self, action: UnplugHostdev) -> None:
        """detach-device --live, and wait some seconds until it is out of the live XML; nothing to do if it is.

        HostError UnplugRejected if the guest refuses, UnplugPending if it does not answer.
        """

    def add_interface(self, action: AddInterface) -> None:
        """attach-device --config of a NIC of a network; nothing to do if one with its alias is in there."""

    def remove_interface(self, action: RemoveInterface) -> None:
        """detach-device --config; nothing to do if it is not in there, or the guest is gone."""

    def plug_interface(self, action: PlugInterface) -> None:
        """attach-device --live; nothing to do if the running guest has a NIC with its alias.

        HostError PoolInactive, PoolExhausted, PFDown, VFConfigRejected.
        """

    def unplug_interface(self, action: UnplugInterface) -> None:
        """detach-device --live, and wait as unplug_hostdev does."""

    def rejections(self) -> frozenset[tuple[str, str]]:
        """Hostdevs and NICs (guest's UUID, alias) whose last unplug request the guest has refused."""

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

    def pfs(self) -> tuple[Pf, ...]:
        """The network side of every function that can have VFs, in order of address.

        What of it cannot be read is None; ``vfs`` has what the driver tells of them.
        """

    def set_num_vfs(self, address: PciAddress, count: int, seconds: float) -> None:
        """Make so many VFs: 0 is written first if there are others. Returns when all of them are there, or gone.

        HostError DeviceNotFound, SRIOVUnsupported, VFCountTooHigh, DetachBlocked if the kernel does not return within
        the seconds, VFsNotCreated if it refuses for another reason. The caller has looked that nobody uses a VF.
        """

    def set_autoprobe(self, address: PciAddress, *, on: bool) -> None:
        """Write sriov_drivers_autoprobe: whether VFs that are made from now on get a driver of the host.

        HostError DeviceNotFound, or SRIOVUnsupported where the kernel has no such file.
        """

    def set_link(self, address: PciAddress, *, up: bool) -> None:
        """Bring the PF's netdev up or down (IFF_UP). HostError PFDown if it has none, or refuses."""

    def configure_vf(self, address: PciAddress, index: int, config: VfConfig) -> None:
        """Set what ``config`` says of one VF through its PF, and verify it by reading back.

        HostError VFConfigRejected names the PF's driver, the VF and the setting; PFDown if the PF has no netdev,
        VFsNotCreated if there is no such VF.
        """

    def blocked(self) -> frozenset[PciAddress]:
        """PFs whose number of VFs is being changed by a call that missed its deadline, and has not returned since."""


class Store(Protocol[R]):
    """The node's journal: durable records by UID."""

    def load(self) -> Mapping[str, R]:
        """All records by UID. HostError StateDirectoryFailed if one cannot be read."""

    def save(self, record: R) -> None:
        """Write durably: when it returns, a power cut cannot lose it."""

    def drop(self, uid: str) -> None:
        """Remove durably; nothing to do if it is not there."""


#: One record for each assignment.
RecordStore = Store[Record]
#: One record for each pool of the node. It also keeps what the host's boot unit reads (core/boot_file.py).
PoolRecordStore = Store[PoolRecord]
#: What was approved of assignments and pools; only of those that ever needed approval.
ApprovalStore = Store[Approval]


class Cluster(Protocol):
    """The API server, as far as agent and controller use it. Bodies are plain JSON objects with kind and metadata.

    Kinds: DeviceAssignment (the only one in a namespace), DeviceHost, VFPool, NodeVFPool, and Kubernetes' own Node.
    Raises ClusterError. No call retries by itself.
    """

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Body | None:
        """The object, or None if it does not exist."""

    async def objects(self, kind: str, node: str | None = None) -> list[Body]:
        """All objects of a kind; with ``node`` only that node's, selected by the server.

        A DeviceAssignment is its node's by status.nodeName, a NodeVFPool by spec.nodeName; other kinds have no node.
        """

    async def create(self, body: Body) -> Body:
        """Make the object; ClusterError 409 if there is one of that name."""

    async def replace(self, body: Body) -> Body:
        """Make finalizers, ownerReferences and spec of this very version of the object as the body has them.

        ClusterError 409 if it has changed since, 404 (or 409) if it is gone.
        """

    async def delete(self, body: Body) -> None:
        """Delete this very version of the object; nothing if it is gone. ClusterError 409 if it has changed since."""

    async def apply_status(self, body: Body, status: Body, manager: str) -> Body:
        """Server-side apply of the manager's fields of status to this very version of the object; the new body.

        ClusterError 409 if it has changed since (also: was deleted and made anew): read it again and think again. A
        body without a resourceVersion means whatever version there is; ClusterError 404 if there is none.
        """

    async def clear_status(self, body: Body, fields: Iterable[str]) -> None:
        """Remove these fields of status of this very version, whoever wrote them; nothing if it is gone."""

    async def set_finalizers(self, body: Body, finalizers: list[str]) -> Body | None:
        """Replace metadata.finalizers of this very version of the object; None if it is gone."""

    async def event(self, body: Body, *, warning: bool, reason: str, message: str) -> None:
        """An event about an object; failing to write one is logged and no error."""


class LeaseStore(Protocol):
    """The Lease that says which replica of the controller leads. Raises ClusterError; no call retries by itself."""

    async def read(self) -> Lease | None:
        """As it is now, or None if it does not exist."""

    async def write(self, lease: Lease) -> Lease:
        """Write the Lease whose ``version`` was read or written last, or make it; as it is then, with its new version.

        ClusterError 409 if it has changed since, or was made meanwhile; 404 if it is gone.
        """


class HostPreparation(Protocol):
    """What the kernel says of its boot, and the host's unit hostdev-prepare, which carries out what it is asked for.

    HostError StateDirectoryFailed if a file cannot be read or written.
    """

    def facts(self) -> BootFacts:
        """Read now."""

    def request(self) -> str | None:
        """What the unit is asked for; None if it never was."""

    def ask(self, text: str) -> None:
        """Ask for this, in place of what was asked before; durable."""

    def answer(self) -> str | None:
        """What the unit has left last; None if there is no unit."""


class StartGate(Protocol):
    """What libvirt's hook on this host reads (manifests/host/hostdev-guest-ready): which guests must not start yet.

    HostError StateDirectoryFailed if that cannot be read or written.
    """

    def installed(self) -> bool:
        """Whether there is a hook that looks."""

    def close(self, uid: str, domain_uuid: str, owner: str, why: str) -> None:
        """From now on the guest is not started, for this assignment's sake; durable. The same again costs nothing."""

    def open(self, uid: str) -> None:
        """This assignment stands in no guest's way; nothing to do if it does not."""

    def keep(self, uids: Collection[str]) -> None:
        """Now and then: what is closed stays so. Whatever is closed for other assignments than these, is opened."""


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
    pool_records: PoolRecordStore
    approvals: ApprovalStore
    preparation: HostPreparation
    gate: StartGate
    clock: Clock
    boundary: Callable[[str], None] = lambda _name: None
