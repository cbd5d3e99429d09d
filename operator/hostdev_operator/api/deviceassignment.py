"""DeviceAssignment: one host PCI device, or one VF of a pool, for one guest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    AddressText,
    Conditions,
    DriverName,
    GuestName,
    Model,
    NodeName,
    ReleasePolicy,
    Uuid,
    rules,
)
from .drift import DriftPolicy, GuestSettledStatus
from .guest_topology import TOPOLOGY_KEPT, TOPOLOGY_RULES, GuestTopology
from .network import NetworkSettings, NicStatus, VfConfigStatus
from .plan import Approval, PlanHash, PlanStatus
from .source import Source

FINALIZER = "hostdev.dev/release"


class DomainReference(Model):
    """The guest, by name or by UUID."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.name) != has(self.uuid)", "name the guest once: either domain.name or domain.uuid")
        )
    )

    name: GuestName | None = Field(default=None, description="The guest's name, as virsh list shows it.")
    uuid: Uuid | None = Field(default=None, description="The guest's UUID, as virsh domuuid shows it.")


class DriverSpec(Model):
    """How the guest reaches the device."""

    name: Annotated[
        str,
        Field(
            max_length=16,
            json_schema_extra=rules(
                (
                    "self == 'vfio'",
                    "driver.name must be vfio: the kvm driver does not exist any more, neither in the kernel nor in"
                    " libvirt; leave driver out or write vfio",
                )
            ),
        ),
    ] = Field(description="vfio is the only driver that exists; the old name kvm is refused.")


class DeviceAssignmentSpec(GuestTopology):
    """What should be: this device in that guest."""

    node_name: NodeName | None = Field(
        default=None,
        description="The node whose device is meant. Without it the node is the one where the guest is defined.",
    )
    domain: DomainReference | None = Field(
        default=None,
        description="The guest that gets the device. Without it this is a reservation: the whole IOMMU group is taken"
        " from the host and held for nobody; nodeName is needed then.",
    )
    source: Source = Field(description="The device.")
    group_policy: Literal["DetachUnused", "AssignAll", "RequireFree"] = Field(
        default="DetachUnused",
        description="What happens to the other endpoints of the device's IOMMU group, which is never split between host"
        " and guest. DetachUnused: they are detached from their host drivers, held on vfio-pci, and given back"
        " together with the device. AssignAll: they go to the same guest. RequireFree: nothing; an endpoint with a"
        " host driver refuses the assignment.",
    )
    mate_address: Literal["Auto", "Unassigned"] = Field(
        default="Auto",
        description="AssignAll: how the guest gets the other endpoints. Auto: visible, at addresses that libvirt"
        " chooses. Unassigned: on vfio-pci and in the guest's XML, so that nobody else gets them, but not shown to the"
        " guest.",
    )
    managed: bool = Field(
        default=True,
        description="true: libvirt moves the device to vfio-pci at each start of the guest and back at each"
        " stop, so between two runs the host has it. false: the device is held on vfio-pci all the time. Of no meaning"
        " for a reservation, which is always held.",
    )
    attach: Literal["Auto", "Live", "NextBoot"] = Field(
        default="Auto",
        description="What a running guest gets. Live: the device is plugged in at once; if that cannot be, nothing is"
        " done. Auto: plugged in at once if it can be, else at the next boot. NextBoot: at the next boot. A guest that"
        " is off gets it at its next start, whatever this says.",
    )
    detach: Literal["WhenOff", "Live"] = Field(
        default="WhenOff",
        description="What a deletion does to a running guest. WhenOff: it waits until the guest is shut off. Live: the"
        " guest is asked to let go of the device; if it does not, the deletion waits. Can be changed at any time. A"
        " guest that was started with a whole managed group keeps it until it is off: libvirt would give the first"
        " unplugged device to the host while the guest has the others.",
    )
    driver: DriverSpec | None = Field(default=None, description="The driver that serves the guest.")
    network: NetworkSettings | None = Field(
        default=None,
        description="The guest's NIC on an SR-IOV VF. A device that is no VF has no such settings. What is in it can be"
        " changed at any time: a running guest gets it by a detach and an attach with attach: Live, else at its next"
        " boot.",
    )
    adopt: bool = Field(
        default=False,
        description="true: takes over what stands in the guest's persistent XML already, made by whatever tool: the"
        " hostdev, or the NIC on the VF or of the pool's network. Nothing of guest and host is changed, neither now nor"
        " later; attach has no effect. What is not there, or is not as spec says, is refused. Set to false later, an"
        " assignment of a device is carried out like any other.",
    )
    require_at_start: bool = Field(
        default=False,
        description="true: libvirt does not start the guest while it would come up without the device, as asked: the"
        " conditions Planned, GroupReady and Configured must be True, and a guest that is off must get it at its next"
        " start (Attached: GuestShutOff). false: it starts, with the device or without. Needs the hook"
        " hostdev-guest-ready on the node (docs/host.md). An agent that is gone holds nothing up for longer than 15"
        " minutes. Can be changed at any time.",
    )
    saved_image: Literal["Keep", "Drop"] = Field(
        default="Keep",
        description="What becomes of the managed save image of a guest that is off, if it is in the way: it does not"
        " have the device, so that the next start would resume the guest without it; or, when the object is deleted, it"
        " has it still. Keep: nothing; the condition says so (GuestSaved). Drop: it is removed, whenever there is one,"
        " and what the guest had in memory is lost, as by a power cut. Of no effect with adopt before the deletion. Can"
        " be changed at any time.",
    )
    release_policy: ReleasePolicy = Field(
        default="Return",
        description="What deleting the object does. Return: the guest loses the device, and the host gets it back."
        " Keep: the guest's XML, drivers and settings of the VF stay as they are, and nobody remembers what was before."
        " Can be changed at any time.",
    )
    approval: Approval = Field(
        default="Automatic",
        description="Manual: nothing is begun before approvedPlan names the plan that status.plan shows. A rollback and"
        " a deletion need no approval. Automatic gives way to Manual in spec.approval of the DeviceHost.",
    )
    approved_plan: PlanHash | None = Field(
        default=None, description="Manual: the hash of the plan that may be carried out (status.plan.hash)."
    )
    drift_policy: DriftPolicy = Field(
        default="Report",
        description="What becomes of what somebody else changes by hand once all stands as asked: drivers, the guest's"
        " XML, a device that is taken out of the running guest. Report: Ready is False with reason Drifted, and nothing"
        " is changed. Correct: it is put right again, after growing delays if it is changed again and again; nothing is"
        " taken from a running guest for it. What reboots and restarts of the guest change is put right by both.",
    )


class IdentityStatus(Model):
    """The device's fingerprint, stored at first sight and compared before each detach and attach."""

    vendor_id: Annotated[str, Field(max_length=6)] = Field(description="PCI vendor, for example 0x8086.")
    product_id: Annotated[str, Field(max_length=6)] = Field(description="PCI device, for example 0x100e.")
    subsystem_vendor_id: Annotated[str, Field(max_length=6)] = Field(description="PCI subsystem vendor.")
    subsystem_product_id: Annotated[str, Field(max_length=6)] = Field(description="PCI subsystem device.")
    function: int = Field(description="PCI function: functions of one card share its serial number.")
    serial: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Serial number; absent if none can be read."
    )
    serial_source: Annotated[str, Field(max_length=8)] | None = Field(
        default=None, description="Who told it: VPD (vital product data), NVMe (the driver) or DSN (the kernel)."
    )
    slot_path: Annotated[str, Field(max_length=128)] = Field(
        description="The way from the root bus without bus numbers, for example 0000:00/1c.0/00.0."
    )
    pf_mac: Annotated[str, Field(max_length=17)] | None = Field(
        default=None, alias="pfMAC", description="A VF: permanent MAC address of its PF."
    )
    vf_index: int | None = Field(default=None, description="A VF: its index on its PF.")


class SeenStatus(IdentityStatus):
    """The fingerprint of the assigned device, and where it was."""

    address: AddressText = Field(description="PCI address at which it was seen last.")


class DeviceStatus(Model):
    """The device as it was found."""

    address: AddressText = Field(description="PCI address, for example 0000:01:00.0.")
    name: Annotated[str, Field(max_length=32)] = Field(
        description="libvirt's name, as virsh nodedev-list shows it, for example pci_0000_01_00_0."
    )
    vendor_id: Annotated[str, Field(max_length=6)] = Field(description="PCI vendor, for example 0x8086.")
    product_id: Annotated[str, Field(max_length=6)] = Field(description="PCI device, for example 0x100e.")
    driver: DriverName | None = Field(default=None, description="The kernel driver bound now; absent if none.")


class MemberStatus(Model):
    """One member of the device's IOMMU group."""

    address: AddressText = Field(description="PCI address.")
    role: Literal["Device", "Mate", "Bridge"] = Field(
        description="Device: given to the guest (with AssignAll the other endpoints too). Mate: held on vfio-pci with"
        " it. Bridge: anything that is no endpoint; never detached."
    )
    driver: DriverName | None = Field(default=None, description="The kernel driver bound now; absent if none.")


class IommuGroupStatus(Model):
    """The IOMMU group: the unit of a claim."""

    number: int = Field(description="The group's number on this boot. It can change at the next one.")
    members: Annotated[tuple[MemberStatus, ...], Field(max_length=1024)] = Field(
        default=(), description="All members of the group."
    )


class RecordMember(Model):
    """What one endpoint was before anything was changed."""

    address: AddressText = Field(description="PCI address.")
    identity: IdentityStatus = Field(description="Its fingerprint.")
    driver: DriverName | None = Field(
        default=None, description="The driver that it gets back at release; absent if it had none."
    )


class RecordStatus(Model):
    """Copy of the node's own record. A node that lost its state directory takes this one."""

    sequence: int = Field(description="Grows with each change of the record; the highest wins.")
    address: AddressText = Field(description="The assigned device.")
    domain_uuid: Uuid | None = Field(
        default=None, alias="domainUUID", description="UUID of the guest; absent for a reservation."
    )
    domain_name: GuestName | None = Field(default=None, description="Name of the guest when it was bound.")
    managed: bool = Field(
        description="Whether libvirt moves the device itself (spec.managed; false for a reservation)."
    )
    group_policy: Annotated[str, Field(max_length=16)] = Field(description="spec.groupPolicy.")
    members: Annotated[tuple[RecordMember, ...], Field(max_length=1024)] = Field(
        default=(), description="The endpoints of the group, as they were before."
    )
    vf: VfConfigStatus | None = Field(
        default=None, description="Settings of the VF as they were before; absent if none were changed."
    )
    adopted: bool = Field(default=False, description="Whether the guest's XML had the device before.")


class GuestStatus(Model):
    """The device as the guest sees it."""

    name: GuestName = Field(description="The guest's name.")
    active: bool = Field(description="Whether the guest runs.")
    alias: Annotated[str, Field(max_length=255)] | None = Field(
        default=None,
        description="Alias in the guest's XML, made from the assignment's UID; of an adopted one what stands there,"
        " absent if it has none.",
    )
    persistent: bool = Field(description="Whether the persistent XML has the device.")
    live: bool = Field(description="Whether the running guest has the device.")


class DeviceAssignmentStatus(Model):
    """What is. nodeName and domainUUID are the controller's; the rest is the node agent's."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that this status was computed from."
    )
    node_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None,
        description="The binding: the node whose agent carries the assignment out. Cleared by it after release,"
        " and with source.pool when the guest is gone from the node: the controller binds it anew where the guest is.",
    )
    domain_uuid: Uuid | None = Field(
        default=None,
        alias="domainUUID",
        description="UUID of the guest, pinned at binding. A guest of that name with another UUID gets nothing.",
    )
    device: DeviceStatus | None = Field(
        default=None,
        description="The device. Of a pool: the VF that libvirt gave to the running guest; absent while it is off.",
    )
    identity: SeenStatus | None = Field(
        default=None, description="Its fingerprint, as it was seen first: decides which device is meant from then on."
    )
    iommu_group: IommuGroupStatus | None = Field(default=None, description="Its IOMMU group.")
    record: RecordStatus | None = Field(default=None, description="What was before, to be given back.")
    guest: GuestStatus | None = Field(default=None, description="The guest's side.")
    network: NicStatus | None = Field(default=None, description="The guest's NIC; absent if the device is not one.")
    plan: PlanStatus | None = Field(
        default=None, description="The plan that waits for approval; else the last one that had anything to do."
    )
    settled: GuestSettledStatus | None = Field(
        default=None, description="What stood when nothing was left to do; absent while it has never been so."
    )
    conditions: Conditions = Field(
        default=(),
        description="Accepted: bound to a node. Planned: all checks passed. GroupReady: the whole IOMMU group is"
        " claimed. Configured: the persistent XML has the device. Attached: the running guest has it."
        " Ready: host and persistent XML stand as asked (attach: Live: the running guest as well).",
    )


#: What source.pool excludes: libvirt chooses the VF at each start of the guest, and the VFPool says how it is set.
_POOL_RULES = tuple(
    (f"!has(self.spec.source.pool) || ({rule})", message)
    for rule, message in (
        ("has(self.spec.domain)", "a pool has no reservations: name the guest that gets the VF (spec.domain)"),
        (
            "self.spec.groupPolicy == 'DetachUnused' && self.spec.mateAddress == 'Auto'",
            "groupPolicy and mateAddress are about the IOMMU group of a certain device: leave them out with"
            " source.pool, where libvirt takes any free VF",
        ),
        (
            "self.spec.managed",
            "managed: false holds a certain device between two runs of the guest: leave it out with source.pool, where"
            " libvirt takes any free VF at each start",
        ),
        (
            "!has(self.spec.network) || (!has(self.spec.network.trust) && !has(self.spec.network.spoofCheck)"
            " && !has(self.spec.network.linkState) && !has(self.spec.network.minTxRate)"
            " && !has(self.spec.network.maxTxRate))",
            "trust, spoofCheck, linkState, minTxRate and maxTxRate of a pool's VFs stand in the VFPool"
            " (spec.vfSettings): with source.pool network has mac, vlan and virtualPort",
        ),
    )
)


_ADOPT_RULES = (
    (
        "!self.spec.adopt || (has(self.spec.domain) && self.spec.groupPolicy != 'AssignAll')",
        "adopt takes over one device that a guest has: name the guest (spec.domain), and make an assignment for each"
        " device instead of groupPolicy AssignAll",
    ),
    (
        "!has(oldSelf.status) || !(has(oldSelf.status.nodeName) || has(oldSelf.status.domainUUID))"
        " || self.spec.adopt == oldSelf.spec.adopt || (oldSelf.spec.adopt && !has(self.spec.source.pool))",
        "a bound assignment cannot begin to adopt, and one of a pool cannot end it: delete it with releasePolicy Keep"
        " and make a new one",
    ),
)


class DeviceAssignment(Model):
    """Gives a host PCI device or a VF of a pool to one libvirt guest, keeps it so, and gives it back when deleted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(oldSelf.status) || !(has(oldSelf.status.nodeName) || has(oldSelf.status.domainUUID)) ||"
                " (self.spec.source == oldSelf.spec.source && has(self.spec.domain) == has(oldSelf.spec.domain)"
                " && (!has(self.spec.domain) || self.spec.domain == oldSelf.spec.domain)"
                " && self.spec.mateAddress == oldSelf.spec.mateAddress"
                " && self.spec.managed == oldSelf.spec.managed"
                " && self.spec.groupPolicy == oldSelf.spec.groupPolicy"
                " && has(self.spec.nodeName) == has(oldSelf.spec.nodeName)"
                " && (!has(self.spec.nodeName) || self.spec.nodeName == oldSelf.spec.nodeName)"
                " && has(self.spec.driver) == has(oldSelf.spec.driver)"
                f" && (!has(self.spec.driver) || self.spec.driver == oldSelf.spec.driver){TOPOLOGY_KEPT})",
                "of a bound assignment only attach, detach, topology, spareHotplugPorts, network, adopt,"
                " requireAtStart, savedImage, releasePolicy, approval, approvedPlan and driftPolicy can be changed:"
                " delete it and make a new one",
            ),
            (
                "!has(oldSelf.status) || !has(oldSelf.status.nodeName) || has(self.spec.source.pool)"
                " || has(self.spec.network) == has(oldSelf.spec.network)",
                "a bound assignment keeps or lacks network, which decides whether the guest gets a device or a NIC:"
                " change what is in it, or delete the assignment and make a new one",
            ),
            *_ADOPT_RULES,
            (
                "has(self.spec.domain) || has(self.spec.nodeName)",
                "name the guest (spec.domain), or, for a reservation, the node (spec.nodeName)",
            ),
            (
                "self.spec.mateAddress == 'Auto' || self.spec.groupPolicy == 'AssignAll'",
                "mateAddress is about mates that go to the guest: set groupPolicy to AssignAll",
            ),
            (
                "has(self.spec.domain) || (self.spec.attach == 'Auto' && self.spec.detach == 'WhenOff'"
                " && !has(self.spec.driver) && !has(self.spec.network) && !self.spec.requireAtStart)",
                "attach, detach, driver, network and requireAtStart are about a guest: a reservation (no spec.domain)"
                " has none",
            ),
            (
                "has(self.spec.domain) || self.spec.groupPolicy != 'AssignAll'",
                "groupPolicy AssignAll needs a guest: set spec.domain",
            ),
            *_POOL_RULES,
            *TOPOLOGY_RULES,
        )
    )

    spec: DeviceAssignmentSpec = Field(description="What should be.")
    status: DeviceAssignmentStatus | None = Field(default=None, description="What is.")
