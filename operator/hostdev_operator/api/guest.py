"""Guest: a libvirt domain on a node, made from its description."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import Conditions, Model, NodeName, Uuid, rules
from .network import MacAddress, NetworkName, PortgroupName

GUEST_FINALIZER = "hostdev.dev/guest"

#: A domain's name that is also a file's name, since libvirt makes it part of some.
_DomainName = Annotated[str, Field(max_length=63, pattern="^[A-Za-z0-9][-A-Za-z0-9._]*$")]
_Path = Annotated[str, Field(max_length=1024, pattern="^/[^\\x00-\\x1f]+$")]
_Order = Annotated[int, Field(ge=1, le=64)]


class Volume(Model):
    """A volume of a libvirt storage pool."""

    pool: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="Name of the storage pool.")
    name: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="Name of the volume.")


class Disk(Model):
    """A disk that is there already: it is neither made nor deleted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.file), has(self.block), has(self.volume)].exists_one(has, has)",
                "say what the disk is: one of file, block and volume",
            )
        )
    )

    file: _Path | None = Field(default=None, description="An image file of the host, by its absolute path.")
    block: _Path | None = Field(
        default=None,
        description="A block device of the host, best by a name that stays, such as /dev/disk/by-id/NAME. Nobody looks"
        " whether the host itself uses it.",
    )
    volume: Volume | None = Field(default=None, description="A volume of a libvirt storage pool.")
    format: Literal["raw", "qcow2"] = Field(
        default="raw", description="What is in it. It is never probed: a guest could write another header."
    )
    bus: Literal["virtio", "scsi", "sata"] = Field(
        default="virtio", description="The controller that the guest sees; scsi is virtio-scsi."
    )
    read_only: bool = Field(default=False, description="Whether the guest may only read it.")
    boot_order: _Order | None = Field(
        default=None, description="1 is tried first. Without any in disks and networks: the first disk."
    )


class GuestNetwork(Model):
    """A NIC of the guest that is no VF: for those, make DeviceAssignments."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.network) != has(self.bridge)", "say where the NIC is: either network or bridge"),
            ("!has(self.portgroup) || has(self.network)", "a portgroup is of a network"),
        )
    )

    network: NetworkName | None = Field(default=None, description="A libvirt network that does not hand out VFs.")
    portgroup: PortgroupName | None = Field(default=None, description="A portgroup of the network.")
    bridge: Annotated[str, Field(max_length=15, pattern="^[^/\\s]+$")] | None = Field(
        default=None, description="A bridge of the host, by the name of its netdev."
    )
    mac: MacAddress | None = Field(default=None, description="Its MAC address; libvirt makes one up without it.")
    model: Literal["virtio", "e1000e", "e1000"] = Field(default="virtio", description="The card that the guest sees.")
    boot_order: _Order | None = Field(default=None, description="As of a disk.")


class AssignmentReference(Model):
    """A DeviceAssignment."""

    namespace: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Its namespace.")
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Its name.")


class GuestSpec(Model):
    """What should be: this guest on that node."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.nodeName == oldSelf.nodeName && has(self.name) == has(oldSelf.name)"
                " && (!has(self.name) || self.name == oldSelf.name)",
                "nodeName and name cannot be changed: delete the Guest and make a new one",
            )
        )
    )

    node_name: NodeName = Field(description="The node where it is defined. Cannot be changed.")
    name: _DomainName | None = Field(
        default=None, description="Its name in libvirt; the object's name if it is left out. Cannot be changed."
    )
    memory: Annotated[str, Field(max_length=20, pattern="^[1-9][0-9]{0,11}(Mi|Gi|Ti)$")] = Field(
        description="Its memory, for example 4Gi. With a device of the host all of it is locked."
    )
    vcpus: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, description="Number of virtual CPUs.")
    machine: Literal["q35", "pc"] = Field(
        default="q35", description="The machine type: q35 has PCI Express, pc (i440fx) conventional PCI alone."
    )
    firmware: Literal["BIOS", "EFI"] = Field(
        default="BIOS", description="EFI: the one that libvirt finds for the machine on the node."
    )
    disks: Annotated[tuple[Disk, ...], Field(max_length=64)] = Field(
        default=(), description="Its disks, in this order: vda, vdb, or sda, sdb."
    )
    networks: Annotated[tuple[GuestNetwork, ...], Field(max_length=32)] = Field(
        default=(), description="Its NICs that are no VFs."
    )
    device_assignments: Annotated[tuple[AssignmentReference, ...], Field(max_length=64)] = Field(
        default=(),
        description="DeviceAssignments of this guest that must be Ready before it is started. Those that are not named"
        " here have their devices at a start as well, if they are Ready by then.",
    )
    domain_xml: Annotated[str, Field(max_length=65536)] | None = Field(
        default=None,
        alias="domainXML",
        description="What is not said here otherwise, as libvirt's XML: <domain>...</domain>. Its elements take the"
        " place of ours of the same name; its devices are added to ours, and those of serial, console, rng and"
        " memballoon take their place. name, uuid, memory, vcpu, metadata and devices of the host (hostdev) are"
        " refused.",
    )
    running: bool = Field(
        default=True,
        description="true: it is started whenever it is off, after growing delays if it goes off soon after. false: it"
        " is asked to shut down (ACPI), and never destroyed.",
    )
    deletion_policy: Literal["Keep", "Undefine"] = Field(
        default="Keep",
        description="What deleting the object does. Keep: libvirt keeps the guest, running or not. Undefine: it is"
        " asked to shut down, and undefined when it is off and has no device of an assignment any more; its disks"
        " stay.",
    )


class GuestStatus(Model):
    """What is. Written by the node's agent."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that this status was computed from."
    )
    node_name: NodeName | None = Field(default=None, description="The node whose agent has taken it up.")
    domain_uuid: Uuid | None = Field(
        default=None, alias="domainUUID", description="Its UUID in libvirt, which is the UID of this object."
    )
    state: Literal["Running", "ShutOff", "Saved", "Undefined"] | None = Field(default=None, description="What it is.")
    pending_run: int | None = Field(
        default=None,
        description="libvirt's id of the run during which its definition was changed last; absent if none was. As long"
        " as it runs with this id, it runs as it was defined before.",
    )
    conditions: Conditions = Field(
        default=(),
        description="Defined: its persistent XML is as asked. Running: it runs. Ready: it is defined, and runs or is"
        " off, as asked.",
    )


class Guest(Model):
    """A guest that libvirt runs on a node. Who may make one reaches all of the node (docs/guests.md)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.spec.name) || self.metadata.name.matches('^[A-Za-z0-9][-A-Za-z0-9._]*$')"
                " && size(self.metadata.name) <= 63",
                "metadata.name has more than 63 characters, so spec.name must say the guest's name in libvirt",
            )
        )
    )

    spec: GuestSpec = Field(description="What should be.")
    status: GuestStatus | None = Field(default=None, description="What is.")
