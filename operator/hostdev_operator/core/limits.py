"""What limits the host devices of one guest: said before anything is detached, with the number that is in the way."""

from __future__ import annotations

from .model import Guest, Observation


def too_many_devices(guest: Guest, new: int, thing: str, host: Observation) -> str | None:
    """Why the guest may not have so many more; None if it may. ``thing`` is what it would get.

    Counted are devices and VFs of pools, those of others too, in the persistent XML or in the running guest. The limit
    is the administrator's (spec.limits of the DeviceHost); by default that of the guide: 32 for each guest.
    """
    limit = host.settings.devices_per_guest
    has = _assigned(guest, host)
    if not new or has + new <= limit:
        return None
    return (
        f"guest {guest.name} has {has} host devices, and this node allows a guest {limit}, so it cannot get {thing}"
        f"{f' ({new} devices)' if new > 1 else ''}; take one away, or raise spec.limits.devicesPerGuest of the"
        " DeviceHost"
    )


def too_little_lockable_memory(guest: Guest, new: int, thing: str) -> str | None:
    """Why VFIO could not lock the guest's memory; None if it can, or nothing new is to be assigned.

    Libvirt raises QEMU's limit to what VFIO needs, except where the guest has a memtune hard_limit: then that is the
    limit. With an IOMMU in the guest each device has an address space of its own, and locks the memory once more
    (both: qemuDomainGetMemLockLimitBytes, src/qemu/qemu_domain.c).
    """
    if not new or guest.hard_limit is None:
        return None
    times = len({h.address for h in guest.config if h.element != "disk"}) + new if guest.viommu else 1
    if guest.hard_limit >= times * guest.memory:
        return None
    each = f" once for each of {times} devices, since the guest has an IOMMU," if guest.viommu else ""
    return (
        f"guest {guest.name} has {guest.memory} KiB of memory, all of which VFIO locks,{each} and may lock"
        f" {guest.hard_limit} KiB by its memtune hard_limit, so it would not start with {thing}; lift that:"
        f" virsh memtune {guest.name} --hard-limit -1 --config"
    )


def _assigned(guest: Guest, host: Observation) -> int:
    """A VF of a pool has an address while the guest runs, and none in the persistent XML."""
    pools = {name for name, network in host.networks.items() if network.hands_out_vfs}
    config = sum(h.element != "disk" for h in guest.config) + sum(n.network in pools for n in guest.nics)
    return max(config, sum(h.element != "disk" for h in guest.live))
