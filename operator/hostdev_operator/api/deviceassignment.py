"""DeviceAssignment: one host PCI device for one guest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .common import (
    AddressText,
    Conditions,
    DriverName,
    GuestName,
    IntOrHex,
    Model,
    NodeName,
    Uuid,
    rules,
)

FINALIZER = "hostdev.dev/release"

_ADDRESS_RULE = (
    r"self.matches('^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F][.][0-7]$')"
    r" || self.matches('^pci_[0-9a-fA-F]{4,8}_[0-9a-fA-F]{2}_[01][0-9a-fA-F]_[0-7]$')"
)


def _number(limit: int, digits: str) -> dict[str, Any]:
    """An integer up to the limit, or hexadecimal text with 0x.

    Native validation, since CEL cannot bound the cost of text that may be a number: the pattern holds for text alone,
    the limits for numbers alone.
    """
    return {"pattern": f"^0x{digits}$", "minimum": 0, "maximum": limit}


class PciSource(Model):
    """A device by its address, written in one of three ways."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.address) ? !has(self.domain) && !has(self.bus) && !has(self.slot)"
                " && !has(self.function) : has(self.bus) && has(self.slot) && has(self.function)",
                "give the device once: either address, or bus, slot and function (and domain)",
            ),
        )
    )

    address: Annotated[
        str | None,
        Field(
            max_length=24,
            json_schema_extra=rules(
                (
                    _ADDRESS_RULE,
                    "address must be in lspci's form (0000:01:00.0) or libvirt's (pci_0000_01_00_0)",
                )
            ),
        ),
    ] = Field(
        default=None,
        description="The address in lspci's form 0000:01:00.0 (hexadecimal; without the domain it is 0000)"
        " or libvirt's name pci_0000_01_00_0.",
    )
    domain: IntOrHex | None = Field(
        default=None,
        json_schema_extra=_number(0x7FFFFFFF, "[0-9a-fA-F]{1,7}"),
        description="PCI domain: an integer or 0x text; 0 if absent.",
    )
    bus: IntOrHex | None = Field(
        default=None, json_schema_extra=_number(0xFF, "[0-9a-fA-F]{1,2}"), description="PCI bus: an integer or 0x text."
    )
    slot: IntOrHex | None = Field(
        default=None,
        json_schema_extra=_number(0x1F, "[01]?[0-9a-fA-F]"),
        description="PCI slot (device): an integer or 0x text.",
    )
    function: IntOrHex | None = Field(
        default=None, json_schema_extra=_number(0x7, "0?[0-7]"), description="PCI function: an integer or 0x text."
    )


class Source(Model):
    """Which device is meant. Exactly one of the fields."""

    model_config = ConfigDict(json_schema_extra=rules(("has(self.pci)", "name the device: set source.pci")))

    pci: PciSource | None = Field(default=None, description="A device by its PCI address on the node.")


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


class DeviceAssignmentSpec(Model):
    """What should be: this device in that guest."""

    node_name: NodeName | None = Field(
        default=None,
        description="The node whose device is meant. Without it the node is the one where the guest is defined.",
    )
    domain: DomainReference = Field(description="The guest that gets the device.")
    source: Source = Field(description="The device.")
    group_policy: Literal["DetachUnused"] = Field(
        default="DetachUnused",
        description="What happens to the other endpoints of the device's IOMMU group. DetachUnused: they are"
        " detached from their host drivers and held on vfio-pci, so that the group is never split between host"
        " and guest. They are given back together with the device.",
    )
    managed: bool = Field(
        default=True,
        description="true: libvirt moves the device to vfio-pci at each start of the guest and back at each"
        " stop, so between two runs the host has it. false: the device is held on vfio-pci all the time.",
    )
    driver: DriverSpec | None = Field(default=None, description="The driver that serves the guest.")


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
        description="Device: the assigned one. Mate: another endpoint, claimed with it. Bridge: never detached."
    )
    driver: DriverName | None = Field(default=None, description="The kernel driver bound now; absent if none.")


class IommuGroupStatus(Model):
    """The IOMMU group: the unit of a claim."""

    number: int = Field(description="The group's number on this boot. It can change at the next one.")
    members: Annotated[tuple[MemberStatus, ...], Field(max_length=256)] = Field(
        default=(), description="All members of the group."
    )


class RecordMember(Model):
    """What one endpoint was before anything was changed."""

    address: AddressText = Field(description="PCI address.")
    vendor_id: Annotated[str, Field(max_length=6)] = Field(description="PCI vendor: part of the fingerprint.")
    product_id: Annotated[str, Field(max_length=6)] = Field(description="PCI device: part of the fingerprint.")
    driver: DriverName | None = Field(
        default=None, description="The driver that it gets back at release; absent if it had none."
    )


class RecordStatus(Model):
    """Copy of the node's own record. A node that lost its state directory takes this one."""

    sequence: int = Field(description="Grows with each change of the record; the highest wins.")
    address: AddressText = Field(description="The assigned device.")
    domain_uuid: Uuid = Field(alias="domainUUID", description="UUID of the guest.")
    domain_name: GuestName = Field(description="Name of the guest when it was bound.")
    managed: bool = Field(description="spec.managed at the time of the claim.")
    members: Annotated[tuple[RecordMember, ...], Field(max_length=256)] = Field(
        default=(), description="The endpoints of the group, as they were before."
    )


class GuestStatus(Model):
    """The device as the guest sees it."""

    name: GuestName = Field(description="The guest's name.")
    active: bool = Field(description="Whether the guest runs.")
    alias: Annotated[str, Field(max_length=64)] = Field(
        description="Alias of the hostdev in the guest's XML, made from the assignment's UID."
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
        description="The binding: the node whose agent carries the assignment out. Cleared by it after release.",
    )
    domain_uuid: Uuid | None = Field(
        default=None,
        alias="domainUUID",
        description="UUID of the guest, pinned at binding. A guest of that name with another UUID gets nothing.",
    )
    device: DeviceStatus | None = Field(default=None, description="The device.")
    iommu_group: IommuGroupStatus | None = Field(default=None, description="Its IOMMU group.")
    record: RecordStatus | None = Field(default=None, description="What was before, to be given back.")
    guest: GuestStatus | None = Field(default=None, description="The guest's side.")
    conditions: Conditions = Field(
        default=(),
        description="Accepted: bound to a node. Planned: all checks passed. GroupReady: the whole IOMMU group is"
        " claimed. Configured: the persistent XML has the device. Attached: the running guest has it."
        " Ready: host and persistent XML stand as asked.",
    )


class DeviceAssignment(Model):
    """Gives one host PCI device to one libvirt guest, keeps it so, and gives it back when deleted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(oldSelf.status) || !has(oldSelf.status.nodeName) ||"
                " (self.spec.source == oldSelf.spec.source && self.spec.domain == oldSelf.spec.domain"
                " && self.spec.managed == oldSelf.spec.managed"
                " && self.spec.groupPolicy == oldSelf.spec.groupPolicy"
                " && has(self.spec.nodeName) == has(oldSelf.spec.nodeName)"
                " && (!has(self.spec.nodeName) || self.spec.nodeName == oldSelf.spec.nodeName)"
                " && has(self.spec.driver) == has(oldSelf.spec.driver)"
                " && (!has(self.spec.driver) || self.spec.driver == oldSelf.spec.driver))",
                "a bound assignment cannot be changed: delete it and make a new one",
            ),
        )
    )

    spec: DeviceAssignmentSpec = Field(description="What should be.")
    status: DeviceAssignmentStatus | None = Field(default=None, description="What is.")
