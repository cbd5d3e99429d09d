"""Renders docs/conditions.md from the failure catalogue."""

from __future__ import annotations

from .reasons import CATALOGUE

_HEAD = """# Conditions and reasons

Generated from operator/hostdev_operator/core/reasons.py by `make crds`; do not edit.

A DeviceAssignment has these conditions:

| condition | True means |
|---|---|
| Accepted | the controller bound it to a node and pinned the guest's UUID |
| Planned | every check passed |
| GroupReady | the whole IOMMU group is claimed: its mates are held on vfio-pci |
| Configured | the device is in the guest's persistent XML |
| Attached | the running guest has the device; False/GuestShutOff and False/PendingGuestRestart are no faults |
| Ready | host and persistent XML stand as asked |

Reasons of states that are no faults: GuestShutOff and PendingGuestRestart (Attached), NotTried, NotClaimed and
NotConfigured (what a refusal left undone; the refusal stands in Planned), UnsafeInterruptsAllowed and CannotTell
(DeviceHost). Every other reason of a condition that is not True is a row of the catalogue below; the message names the
device, its holder and the next step. "Heals" says when it is tried again.

## Ways out

- **A deletion that waits.** `kubectl describe` says for what: most often for the guest to be shut off.
- **BindFailed.** Load the driver that the message names (`modprobe`); it is tried again with growing delays.
- **DetachBlocked, ReattachBlocked.** The kernel waits for something that holds the device (`dmesg`, processes in state
  D). Nothing else is tried on it meanwhile; other devices go on. Often only a reboot of the host ends it.
- **An orphan** (DeviceHost, `status.orphans`): its assignment is gone from the API without a release, as after an etcd
  restore. Its group stays claimed. If the assignment shall not come back: stop the agent; remove the hostdev with the
  alias `ua-hostdev-<uid>` from the guest's XML; `virsh nodedev-reattach` each member that the record
  `assignments/<uid>.json` in the state directory lists with a driver; delete that file; start the agent.
- **The node is gone for good.** Nobody is left to release. Remove the finalizer `hostdev.dev/release` by hand, only if
  the node cannot come back with the guest running.

## Catalogue

| reason | meaning | heals | words of libvirt or the kernel |
|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    rows = (
        f"| {r.name} | {r.meaning} | {r.retry} | {', '.join(f'`{w}`' for w in r.words) or '-'} |\n"
        for r in CATALOGUE.values()
    )
    return _HEAD + "".join(rows)
