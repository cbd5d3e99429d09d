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

The reason of a condition that is not True is a row of this catalogue; the message names the device, its holder and the
next step. "Heals" says when it is tried again.

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
