"""The status of a DeviceHost, computed from an observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..api.common import Condition
from ..api.devicehost import (
    DeviceEntry,
    DeviceHostStatus,
    GroupEntry,
    GroupMember,
    GuestDevice,
    GuestEntry,
    HolderStatus,
    NamedId,
    OrphanEntry,
    SriovStatus,
)
from . import reasons
from .conditions import condition
from .model import Guest, Observation, PciDevice, Platform, is_vfio
from .orphans import Orphan
from .pci import PciAddress

#: Of an orphan's message in the CRD.
MESSAGE_LIMIT = 1024
#: Of InterruptRemappingReady.
UNSAFE_INTERRUPTS_ALLOWED = "UnsafeInterruptsAllowed"
Names = Mapping[PciAddress, tuple[str | None, str | None]]


@dataclass(frozen=True)
class Trouble:
    """What could not be read, and why; None: all is well."""

    libvirt: str | None = None
    journal: str | None = None


def host_status(
    host: Observation, names: Names, orphans: tuple[Orphan, ...], waits: Mapping[str, str], trouble: Trouble
) -> DeviceHostStatus:
    """The status without times. ``names``: of vendors and products; ``waits``: what orphans to be released wait for."""
    devices = sorted(host.devices.values(), key=lambda d: d.address)
    counts = f"{len(devices)} devices, {len(host.groups)} groups, {len(host.guests)} guests"
    return DeviceHostStatus(
        conditions=(
            *_platform_conditions(host.platform),
            _libvirt(trouble.libvirt),
            _journal(trouble.journal),
            *_settings(host),
        ),
        summary=counts,
        devices=tuple(_device(d, host, names) for d in devices),
        groups=tuple(
            GroupEntry(
                number=number,
                members=tuple(GroupMember(address=str(m.address), role=m.role.value) for m in members),
            )
            for number, members in host.groups.items()
        ),
        guests=tuple(_guest(g) for g in sorted(host.guests, key=lambda g: g.name)),
        orphans=tuple(
            OrphanEntry(
                uid=o.uid,
                assignment=o.record.owner if o.record else None,
                pool=o.pool.name if o.pool else None,
                guest=o.guest,
                address=str(o.address) if o.address else None,
                message=_cut(waits.get(o.uid)),
            )
            for o in orphans
        ),
    )


def _cut(message: str | None) -> str | None:
    return message[:MESSAGE_LIMIT] if message else None


def _platform_conditions(platform: Platform) -> tuple[Condition, ...]:
    iommu = (
        condition("IOMMUReady", True, "IOMMUEnabled", "the IOMMU is on and devices have groups")
        if platform.iommu
        else condition(
            "IOMMUReady",
            False,
            reasons.IOMMU_DISABLED,
            "no IOMMU groups: enable VT-d or AMD-Vi in the firmware, add intel_iommu=on (Intel) to the kernel's"
            " command line, and reboot",
        )
    )
    vfio = (
        condition("VFIOReady", True, "VFIOLoaded", "the vfio-pci driver is loaded")
        if platform.vfio
        else condition(
            "VFIOReady",
            False,
            reasons.VFIO_MODULE_MISSING,
            "the vfio-pci driver is not loaded: modprobe vfio-pci, and list it in /etc/modules-load.d",
        )
    )
    return iommu, _interrupt_remapping(platform), vfio


def _interrupt_remapping(platform: Platform) -> Condition:
    kind = "InterruptRemappingReady"
    if platform.interrupt_remapping:
        return condition(kind, True, "InterruptsRemapped", "interrupt remapping is on")
    if platform.unsafe_interrupts:
        return condition(
            kind,
            False,
            UNSAFE_INTERRUPTS_ALLOWED,
            "no interrupt remapping, and allow_unsafe_interrupts is set: every guest with a device is trusted",
        )
    if platform.interrupt_remapping is None:
        return condition(kind, None, "CannotTell", "/proc/interrupts does not tell on this machine")
    return condition(
        kind,
        False,
        reasons.INTERRUPT_REMAPPING_UNAVAILABLE,
        "no interrupt remapping: enable it (x2APIC, VT-d) in the firmware; assignments are refused",
    )


def _libvirt(trouble: str | None) -> Condition:
    if trouble is None:
        return condition("LibvirtReady", True, "Connected", "libvirt answers")
    return condition(
        "LibvirtReady",
        False,
        reasons.LIBVIRT_UNAVAILABLE,
        f"{trouble}; what is shown of guests is from before. Start libvirtd (systemctl start libvirtd)",
    )


def _journal(trouble: str | None) -> Condition:
    if trouble is None:
        return condition("JournalReady", True, "Readable", "all records can be read")
    return condition(
        "JournalReady", False, reasons.STATE_DIRECTORY_FAILED, f"{trouble}; nothing is changed until all can be read"
    )


def _settings(host: Observation) -> tuple[Condition, ...]:
    """What the administrator asks for, where it is not the usual."""
    found = []
    if host.settings.paused:
        text = "spec.paused is true: the agent looks and reports, and changes nothing"
        found.append(condition("Paused", True, reasons.PAUSED, text))
    if host.settings.overrides:
        listed = "; ".join(f"{a}: {reason}" for a, reason in sorted(host.settings.overrides.items()))
        text = f"these may be taken although the host needs them: {listed}"
        found.append(condition("CriticalOverrides", True, "CriticalOverride", text))
    return tuple(found)


def holder(device: PciDevice, host: Observation) -> HolderStatus | None:
    """Who has a device: a guest before an assignment before a pool before a driver of the host."""
    guests = host.holders(device.address)
    if guests:
        return HolderStatus(kind="Guest", name=guests[0].name)
    record = next((r for _, r in sorted(host.records.items()) if r.covers(device.address)), None)
    if record:
        return HolderStatus(kind="Assignment" if record.domain_uuid else "Reservation", name=record.owner)
    pool = next((p for p in host.pools if device.address in p.addresses), None)
    if pool:
        return HolderStatus(kind="Pool", name=pool.name)
    if is_vfio(device.driver):
        return HolderStatus(kind="VFIO", name=device.driver or "")
    return HolderStatus(kind="HostDriver", name=device.driver) if device.driver else None


def _device(device: PciDevice, host: Observation, names: Names) -> DeviceEntry:
    vendor, product = names.get(device.address, (None, None))
    uses = "; ".join(use.what for use in host.uses if use.address == device.address)
    return DeviceEntry(
        address=str(device.address),
        name=device.address.libvirt_name,
        class_=f"0x{device.class_code:06x}",
        vendor=NamedId(id=f"0x{device.vendor:04x}", name=vendor),
        product=NamedId(id=f"0x{device.product:04x}", name=product),
        driver=device.driver,
        iommu_group=device.iommu_group,
        numa_node=device.numa_node,
        serial=device.serial,
        slot_path=device.slot_path or None,
        sriov=_sriov(device),
        holder=holder(device, host),
        host_use=uses[:512] or None,
    )


def _sriov(device: PciDevice) -> SriovStatus | None:
    if device.physfn:
        return SriovStatus(role="VF", pf=str(device.physfn), index=device.vf_index, pf_mac=device.pf_mac)
    if device.total_vfs:
        return SriovStatus(role="PF", total_vfs=device.total_vfs, num_vfs=device.num_vfs)
    return None


def _guest(guest: Guest) -> GuestEntry:
    live = {h.address for h in guest.live}
    config = {h.address for h in guest.config}
    saved = {h.address for h in guest.saved.hostdevs} if guest.saved else set()
    return GuestEntry(
        name=guest.name,
        uuid=guest.uuid,
        active=guest.active,
        persistent=guest.persistent,
        virtio_devices=guest.virtio_devices,
        scsi_disks=guest.scsi_disks,
        saved=True if guest.saved else None,
        devices=tuple(
            GuestDevice(address=str(a), live=a in live, persistent=a in config) for a in sorted(live | saved | config)
        ),
    )
