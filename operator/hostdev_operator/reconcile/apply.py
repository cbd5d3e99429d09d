"""apply: carries a plan out, action by action, with a boundary between any two.

To add an action: its dataclass in core/actions.py, where a plan makes it in core/plan.py, how it is done here in
_PERFORM, and a boundary test in tests/system/test_sigkill.py (which enumerates them by itself).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import reasons
from ..core.actions import (
    Action,
    AddHostdev,
    DetachDriver,
    DropRecord,
    RemoveHostdev,
    ReturnDriver,
    WriteRecord,
)
from ..core.errors import HostError
from ..core.model import VFIO_DRIVER, is_vfio
from ..core.plan import Plan
from ..ports import Host

#: How long a driver may take to appear in sysfs after libvirt has returned.
BIND_SECONDS = 20.0


def apply(plan: Plan, host: Host, phase: str) -> None:
    """Do the actions in order; HostError at the first that fails, with everything before it done.

    ``phase`` (assign, rollback, release) names the boundaries.
    """
    for action in plan.actions:
        host.boundary(f"{phase}: before: {action}")
        _PERFORM[type(action)](action, host)


def _write_record(action: WriteRecord, host: Host) -> None:
    host.records.save(action.record)


def _drop_record(action: DropRecord, host: Host) -> None:
    host.records.drop(action.uid)


def _detach_driver(action: DetachDriver, host: Host) -> None:
    current = host.devices.driver(action.address)
    if is_vfio(current):
        return
    if (current or "") != action.driver:
        raise HostError(
            reasons.HOST_CHANGED,
            f"{action.address} had driver {action.driver or 'none'} a moment ago and has {current or 'none'} now",
        )
    for use in host.devices.uses():  # a plan with several mates takes time, and the host goes on meanwhile
        if use.address == action.address:
            raise HostError(reasons.HOST_CHANGED, f"{action.address} {use.what} since a moment ago")
    host.hypervisor.detach_driver(action.address)
    current = host.devices.wait_for_driver(action.address, is_vfio, BIND_SECONDS)
    if not is_vfio(current):
        raise HostError(
            reasons.DETACH_FAILED,
            f"{action.address} was detached from {action.driver}, but has {current or 'no driver'} instead of"
            f" {VFIO_DRIVER}; look at the kernel's log",
        )


def _return_driver(action: ReturnDriver, host: Host) -> None:
    current = host.devices.driver(action.address)
    if is_vfio(current) or (current is None and action.driver is not None):
        host.hypervisor.reattach_driver(action.address)
    current = host.devices.wait_for_driver(action.address, lambda d: action.driver in (None, d), BIND_SECONDS)
    if action.driver is not None and current != action.driver:
        raise HostError(
            reasons.BIND_FAILED,
            f"{action.address} was given back, but has {current or 'no driver'} instead of {action.driver}; load the"
            f" driver (modprobe {action.driver}) and look at the kernel's log",
        )


def _add_hostdev(action: AddHostdev, host: Host) -> None:
    host.hypervisor.add_hostdev(action)


def _remove_hostdev(action: RemoveHostdev, host: Host) -> None:
    host.hypervisor.remove_hostdev(action)


_PERFORM: dict[type[Action], Callable[[Any, Host], None]] = {
    WriteRecord: _write_record,
    DropRecord: _drop_record,
    DetachDriver: _detach_driver,
    ReturnDriver: _return_driver,
    AddHostdev: _add_hostdev,
    RemoveHostdev: _remove_hostdev,
}
