"""apply: carries a plan out, action by action, with a boundary between any two.

To add an action: its dataclass in core/actions.py, where a plan makes it in core/plan.py, how it is done here in
_PERFORM, and a boundary test in tests/system/test_sigkill.py (which enumerates them by itself).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..core import reasons
from ..core.actions import (
    Action,
    AddController,
    AddHostdev,
    AddInterface,
    DetachDriver,
    DropRecord,
    DropSavedImage,
    PlugHostdev,
    PlugInterface,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    ReturnDriver,
    UnplugHostdev,
    UnplugInterface,
    WriteRecord,
)
from ..core.errors import HostError
from ..core.identity import Identity
from ..core.model import VFIO_DRIVER, PciDevice, is_vfio
from ..core.nic import NO_MACS
from ..core.pci import PciAddress
from ..core.plan import Plan
from ..core.pool_actions import ConfigureVf
from ..ports import Host

#: How long a driver may take to appear in sysfs after libvirt has returned.
BIND_SECONDS = 20.0
#: What was read of the host's own use so short a time ago is not read again.
RECENT_SECONDS = 0.5


def apply(plan: Plan, host: Host, phase: str, may_fail: tuple[type[Action], ...] = ()) -> HostError | None:
    """Do the actions in order; HostError at the first that fails, with everything before it done.

    An action of a kind that may fail does not end it: the others of its kind are left out, and its error is returned.
    ``phase`` (assign, withdraw, rollback, release, orphan) names the boundaries.
    """
    failure: HostError | None = None
    for action in plan.actions:
        optional = isinstance(action, may_fail)
        if optional and failure:
            continue
        host.boundary(f"{phase}: before: {action}")
        try:
            _PERFORM[type(action)](action, host)
        except HostError as error:
            if not optional or error.reason in (reasons.LIBVIRT_UNAVAILABLE, reasons.HOST_CHANGED):
                raise
            failure = error
    return failure


def _write_record(action: WriteRecord, host: Host) -> None:
    host.records.save(action.record)


def _drop_record(action: DropRecord, host: Host) -> None:
    host.records.drop(action.uid)


def _same_device(address: PciAddress, identity: Identity, host: Host) -> PciDevice:
    """The device, looked at once more: between plan and action another one may have been put there."""
    device = host.devices.device(address)
    if device is None:
        raise HostError(reasons.DEVICE_NOT_FOUND, f"{address} was there a moment ago, and is gone")
    if not identity.same(device.identity):
        raise HostError(
            reasons.IDENTITY_CHANGED,
            f"{device.label} {device.identity} is not {identity}, which was there a moment ago",
        )
    return device


def _still_spared(address: PciAddress, host: Host) -> None:
    """A plan with several mates takes time, and the host goes on meanwhile."""
    for use in host.devices.uses(RECENT_SECONDS):
        if use.address == address:
            raise HostError(reasons.HOST_CHANGED, f"{address} {use.what} since a moment ago")


def _detach_driver(action: DetachDriver, host: Host) -> None:
    current = _same_device(action.address, action.identity, host).driver
    if is_vfio(current):
        return
    if (current or "") != action.driver:
        raise HostError(
            reasons.HOST_CHANGED,
            f"{action.address} had driver {action.driver or 'none'} a moment ago and has {current or 'none'} now",
        )
    if not action.overridden:
        _still_spared(action.address, host)
    host.hypervisor.detach_driver(action.address)
    current = host.devices.wait_for_driver(action.address, is_vfio, BIND_SECONDS)
    if not is_vfio(current):
        raise HostError(
            reasons.DETACH_FAILED,
            f"{action.address} was detached from {action.driver}, but has {current or 'no driver'} instead of"
            f" {VFIO_DRIVER}; look at the kernel's log",
        )


def _return_driver(action: ReturnDriver, host: Host) -> None:
    device = host.devices.device(action.address)
    if device is None or not action.identity.same(device.identity):
        return
    current = device.driver
    if is_vfio(current) or (current is None and action.driver is not None):
        host.hypervisor.reattach_driver(action.address)
    current = host.devices.wait_for_driver(action.address, lambda d: action.driver in (None, d), BIND_SECONDS)
    if action.driver is not None and current != action.driver:
        raise HostError(
            reasons.BIND_FAILED,
            f"{action.address} was given back, but has {current or 'no driver'} instead of {action.driver}; load the"
            f" driver (modprobe {action.driver}) and look at the kernel's log",
        )


def _plug_hostdev(action: PlugHostdev, host: Host) -> None:
    device = _same_device(action.hostdev.address, action.identity, host)
    if device.on_host_driver and not action.overridden:
        _still_spared(device.address, host)
    host.hypervisor.plug_hostdev(action)


def _unplug_hostdev(action: UnplugHostdev, host: Host) -> None:
    host.hypervisor.unplug_hostdev(action)


def _add_hostdev(action: AddHostdev, host: Host) -> None:
    _same_device(action.hostdev.address, action.identity, host)
    host.hypervisor.add_hostdev(action)


def _remove_hostdev(action: RemoveHostdev, host: Host) -> None:
    host.hypervisor.remove_hostdev(action)


def _configure_vf(action: ConfigureVf, host: Host) -> None:
    """A driver that does not take "no MAC address" back gets the one that libvirt sets in its place."""
    none, instead = NO_MACS
    try:
        host.devices.configure_vf(action.pf, action.index, action.config)
    except HostError as error:
        if action.config.mac != none or error.reason is not reasons.VF_CONFIG_REJECTED:
            raise
        host.devices.configure_vf(action.pf, action.index, replace(action.config, mac=instead))


_PERFORM: dict[type[Action], Callable[[Any, Host], None]] = {
    WriteRecord: _write_record,
    DropRecord: _drop_record,
    DetachDriver: _detach_driver,
    ReturnDriver: _return_driver,
    PlugHostdev: _plug_hostdev,
    UnplugHostdev: _unplug_hostdev,
    AddHostdev: _add_hostdev,
    RemoveHostdev: _remove_hostdev,
    ConfigureVf: _configure_vf,
    AddController: lambda action, host: host.hypervisor.add_controller(action),
    RemoveController: lambda action, host: host.hypervisor.remove_controller(action),
    DropSavedImage: lambda action, host: host.hypervisor.drop_saved_image(action),
    PlugInterface: lambda action, host: host.hypervisor.plug_interface(action),
    UnplugInterface: lambda action, host: host.hypervisor.unplug_interface(action),
    AddInterface: lambda action, host: host.hypervisor.add_interface(action),
    RemoveInterface: lambda action, host: host.hypervisor.remove_interface(action),
}
