"""DeviceHost: one node under its name: what its agent sees, and what the administrator says of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import AddressText, Conditions, DriverName, GuestName, Model, PoolName, Uuid, rules
from .plan import Approval
from .preparation import Preparation

#: The limit of the guide (RHEL 6, chapter 9). Neither libvirt nor QEMU has one; a PCI bus, or a root port each, has.
DEVICES_PER_GUEST = 32

Uid = Annotated[str, Field(min_length=1, max_length=64)]


class CriticalOverride(Model):
    """A device that may be taken although the host needs it."""

    device: Annotated[
        str,
        Field(
            max_length=16,
            json_schema_extra=rules(
                (
                    "self.matches('^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f][.][0-7]$')",
                    "device is an address in lspci's form: 0000:01:00.0",
                )
            ),
        ),
    ] = Field(
        description="PCI address in full and in lower case: 0000:01:00.0. It means whatever is at that address: look"
        " again after cards were moved."
    )
    reason: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Why: shown in the conditions of the DeviceHost and of assignments that use it."
    )


class Limits(Model):
    """How much guests of the node may have."""

    devices_per_guest: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=DEVICES_PER_GUEST,
        description="Host PCI devices of one guest, VFs of pools included, whoever gave them to it. What is more is"
        " refused before anything is detached; what a guest has is never taken away.",
    )


class DeviceHostSpec(Model):
    """What the administrator says of the node."""

    paused: bool = Field(
        default=False,
        description="true: the agent looks and reports, and begins nothing: neither assigns nor releases. What it has"
        " begun is finished. Deleting the DeviceHost takes this back with all the rest of spec.",
    )
    approval: Approval = Field(
        default="Automatic",
        description="Manual: no plan of an assignment or a pool is begun on this node before it is approved, whatever"
        " their own spec.approval says.",
    )
    limits: Limits = Field(default=Limits(), description="How much guests of this node may have.")
    preparation: Preparation | None = Field(
        default=None, description="What the host must bring along; whether that is looked at, or seen to."
    )
    critical_overrides: Annotated[
        tuple[CriticalOverride, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["device"]},
        ),
    ] = Field(
        default=(),
        description="Devices that may be assigned although the host needs them. Each is listed by its address; needs of"
        " other guests are not lifted.",
    )
    release_orphans: Annotated[
        tuple[Uid, ...], Field(max_length=1024, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(
        default=(),
        description="UIDs from status.orphans whose devices and NICs shall be given back. A UID whose assignment"
        " exists is left alone.",
    )


class NamedId(Model):
    """A vendor or product as nodedev-dumpxml gives it."""

    id: Annotated[str, Field(max_length=6)] = Field(description="The number, for example 0x8086.")
    name: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="The name in the PCI ID database; absent if it is not in there."
    )


class SriovStatus(Model):
    """The device's part in SR-IOV."""

    role: Literal["PF", "VF"] = Field(description="PF: physical function. VF: virtual function.")
    total_vfs: int | None = Field(default=None, description="PF: how many VFs it can have.", alias="totalVFs")
    num_vfs: int | None = Field(default=None, description="PF: how many VFs it has now.", alias="numVFs")
    pf: AddressText | None = Field(default=None, description="VF: address of its PF.")
    index: int | None = Field(default=None, description="VF: its index on the PF, from 0.")
    pf_mac: Annotated[str, Field(max_length=17)] | None = Field(
        default=None, alias="pfMAC", description="VF: permanent MAC address of its PF; absent if it cannot be read."
    )


class HolderStatus(Model):
    """Who has the device."""

    kind: Literal["Guest", "Assignment", "Reservation", "Pool", "HostDriver", "VFIO"] = Field(
        description="Guest: in a guest's XML. Assignment: claimed by a DeviceAssignment for a guest. Reservation: by"
        " one without a guest. Pool: handed out by a libvirt network. HostDriver: a driver of the host. VFIO: bound to"
        " vfio-pci for nobody that is known."
    )
    name: Annotated[str, Field(max_length=320)] = Field(
        description="Name of the guest, of the assignment or reservation (namespace/name), of the network or driver."
    )


class DeviceEntry(Model):
    """One PCI device."""

    address: AddressText = Field(description="PCI address, for example 0000:01:00.0.")
    name: Annotated[str, Field(max_length=32)] = Field(description="libvirt's name: pci_0000_01_00_0.")
    class_: Annotated[str, Field(max_length=8)] = Field(
        alias="class", description="PCI class code, for example 0x020000 (Ethernet controller)."
    )
    vendor: NamedId = Field(description="Vendor.")
    product: NamedId = Field(description="Product.")
    driver: DriverName | None = Field(default=None, description="Kernel driver bound now; absent if none.")
    iommu_group: int | None = Field(default=None, description="IOMMU group; absent without an IOMMU.")
    numa_node: int | None = Field(default=None, description="NUMA node; absent if the host has none.")
    serial: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Serial number; absent if none can be read."
    )
    slot_path: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="The way from the root bus without bus numbers: 0000:00/1c.0/00.0."
    )
    sriov: SriovStatus | None = Field(default=None, description="PF or VF; absent for other devices.")
    holder: HolderStatus | None = Field(default=None, description="Who has it; absent if nobody.")
    host_use: Annotated[str, Field(max_length=512)] | None = Field(
        default=None,
        description="Why the host, or a guest through the host, needs it; absent otherwise. It cannot be"
        " assigned unless spec.criticalOverrides lists it; needs of guests are never lifted.",
    )


class GroupMember(Model):
    """One member of an IOMMU group."""

    address: AddressText = Field(description="PCI address.")
    role: Literal["Endpoint", "Bridge", "RootPort", "HostBridge"] = Field(
        description="Endpoints are claimed together. Bridges and root ports stay with the host."
    )


class GroupEntry(Model):
    """One IOMMU group."""

    number: int = Field(description="Number on this boot.")
    members: Annotated[tuple[GroupMember, ...], Field(max_length=1024)] = Field(description="All members.")


class GuestDevice(Model):
    """A host PCI device in a guest's XML."""

    address: AddressText = Field(description="Address on the host.")
    live: bool = Field(description="In the running guest.")
    persistent: bool = Field(description="In the persistent XML.")


class GuestEntry(Model):
    """One guest, whoever made it."""

    name: GuestName = Field(description="Name.")
    uuid: Uuid = Field(description="UUID.")
    active: bool = Field(description="Whether it runs.")
    persistent: bool = Field(description="Whether it has a persistent definition.")
    saved: bool | None = Field(
        default=None, description="true: it has a managed save image, which its next start resumes; else absent."
    )
    devices: Annotated[tuple[GuestDevice, ...], Field(max_length=1024)] = Field(
        default=(), description="Host PCI devices that it has or will have."
    )
    virtio_devices: int = Field(
        default=0, description="How many virtio devices it has: for information, each takes a PCI slot."
    )
    scsi_disks: int = Field(default=0, description="How many SCSI disks it has: for information.")


class OrphanEntry(Model):
    """What an object has left that is gone from the API without a release; nothing is done by itself."""

    uid: Annotated[str, Field(max_length=64)] = Field(
        description="UID of the DeviceAssignment, or of the NodeVFPool, that is gone."
    )
    assignment: Annotated[str, Field(max_length=320)] | None = Field(
        default=None,
        description="The assignment's namespace/name; absent for a pool, and for a NIC of a pool, of which only the"
        " alias in the guest's XML tells.",
    )
    pool: PoolName | None = Field(default=None, description="The pool's name; absent for an assignment.")
    guest: GuestName | None = Field(default=None, description="The guest that it is for; absent for a reservation.")
    address: AddressText | None = Field(
        default=None,
        description="The device that is still claimed; of a pool its PF; of a NIC of a pool the VF that the running"
        " guest has.",
    )
    message: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="What its release (spec.releaseOrphans) waits for; absent if none was asked for."
    )


class DeviceHostStatus(Model):
    """The node as its agent sees it."""

    conditions: Conditions = Field(
        default=(),
        description="IOMMUReady, InterruptRemappingReady, VFIOReady, LibvirtReady, JournalReady: what assignments need,"
        " each with what is missing and how to mend it. Paused, CriticalOverrides and UnsafeInterrupts: what spec asks"
        " for, if it does. With spec.preparation: Prepared (all of it is there), LimitsReady (locked memory and open"
        " files of libvirt's daemon), RebootRequired (what stands for the next boot is not in force yet; since when is"
        " its lastTransitionTime).",
    )
    summary: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="Counts for kubectl get: devices, groups, guests."
    )
    devices: Annotated[tuple[DeviceEntry, ...], Field(max_length=4096)] = Field(
        default=(), description="All PCI devices."
    )
    groups: Annotated[tuple[GroupEntry, ...], Field(max_length=4096)] = Field(
        default=(), description="All IOMMU groups."
    )
    guests: Annotated[tuple[GuestEntry, ...], Field(max_length=4096)] = Field(
        default=(), description="All guests, also those of virsh, virt-install and virt-manager."
    )
    orphans: Annotated[tuple[OrphanEntry, ...], Field(max_length=1024)] = Field(
        default=(),
        description="What assignments and pools have left that are gone from the API: claimed devices, NICs of pools,"
        " and VFs with their network.",
    )


class DeviceHost(Model):
    """The host PCI devices, IOMMU groups and guests of the node of the same name. Status is its agent's."""

    spec: DeviceHostSpec | None = Field(default=None, description="What the administrator says of the node.")
    status: DeviceHostStatus | None = Field(default=None, description="What the agent sees.")
