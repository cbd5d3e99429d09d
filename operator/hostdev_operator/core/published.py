"""Identities and records in a status, and back: the published copy of the journal."""

from __future__ import annotations

from dataclasses import asdict

from ..api.deviceassignment import (
    DeviceAssignmentSpec,
    DeviceAssignmentStatus,
    IdentityStatus,
    RecordMember,
    RecordStatus,
    SeenStatus,
)
from ..api.network import VfConfigStatus
from .identity import Identity
from .intent import Seen, SeenNic
from .pci import PciAddress
from .record import Member, Record
from .sriov import VfConfig


def _hex(number: int) -> str:
    return f"0x{number:04x}"


def identity_status(identity: Identity) -> IdentityStatus:
    """The fingerprint as status.identity shows it."""
    return IdentityStatus(
        vendor_id=_hex(identity.vendor),
        product_id=_hex(identity.product),
        subsystem_vendor_id=_hex(identity.subsystem_vendor),
        subsystem_product_id=_hex(identity.subsystem_device),
        function=identity.function,
        serial=identity.serial,
        serial_source=identity.serial_source,
        slot_path=identity.slot_path,
        pf_mac=identity.pf_mac,
        vf_index=identity.vf_index,
    )


def identity_from_status(copy: IdentityStatus) -> Identity:
    """The fingerprint from its copy; ValueError if it is malformed."""
    return Identity(
        vendor=int(copy.vendor_id, 16),
        product=int(copy.product_id, 16),
        subsystem_vendor=int(copy.subsystem_vendor_id, 16),
        subsystem_device=int(copy.subsystem_product_id, 16),
        function=copy.function,
        serial=copy.serial,
        serial_source=copy.serial_source,
        slot_path=copy.slot_path,
        pf_mac=copy.pf_mac,
        vf_index=copy.vf_index,
    )


def seen_status(seen: Seen) -> SeenStatus:
    """status.identity."""
    return SeenStatus(address=str(seen.address), **dict(identity_status(seen.identity)))


def seen_before(status: DeviceAssignmentStatus) -> Seen | None:
    """Where the device was, and its fingerprint; None before the first sight. ValueError if it is malformed."""
    if status.identity is None:
        return None
    return Seen(PciAddress.parse(status.identity.address), identity_from_status(status.identity))


def nic_seen_before(spec: DeviceAssignmentSpec, status: DeviceAssignmentStatus) -> SeenNic | None:
    """The NIC of a pool that was adopted: nothing else remembers which one it is."""
    nic = status.network
    if not spec.adopt or nic is None or nic.name is None:
        return None
    return SeenNic(nic.name, nic.mac.lower())


def record_status(record: Record) -> RecordStatus:
    """The record's published copy."""
    return RecordStatus(
        sequence=record.sequence,
        address=str(record.address),
        domain_uuid=record.domain_uuid,
        domain_name=record.domain_name,
        managed=record.managed,
        group_policy=record.group_policy,
        members=tuple(
            RecordMember(address=str(m.address), identity=identity_status(m.identity), driver=m.driver)
            for m in record.members
        ),
        vf=VfConfigStatus(**asdict(record.vf)) if record.vf else None,
        adopted=record.adopted,
    )


def record_from_status(copy: RecordStatus, uid: str, namespace: str, name: str) -> Record:
    """The record from its published copy, for a node that lost its state directory; ValueError if it is malformed."""
    return Record(
        uid=uid,
        namespace=namespace,
        name=name,
        address=PciAddress.parse(copy.address),
        domain_uuid=copy.domain_uuid,
        domain_name=copy.domain_name,
        managed=copy.managed,
        group_policy=copy.group_policy,
        members=tuple(
            Member(PciAddress.parse(m.address), identity_from_status(m.identity), m.driver) for m in copy.members
        ),
        sequence=copy.sequence,
        vf=VfConfig(**dict(copy.vf)) if copy.vf else None,
        adopted=copy.adopted,
    )
