"""Which device of this host an assignment means: by address or properties at first sight, then by fingerprint."""

from __future__ import annotations

from ..api.source import MatchSource
from . import reasons
from .checks import Refusal
from .identity import find
from .intent import Seen, Wish, address_of
from .model import Observation, PciDevice, Role
from .record import Record

_SHOWN = 8


def last_seen(wish: Wish, record: Record | None) -> Seen | None:
    """What decides which device is meant, once it was seen: the record before the status."""
    return Seen(record.address, record.identity) if record and record.identity else wish.seen


def devices_meant(wish: Wish, host: Observation) -> tuple[PciDevice, ...] | Refusal:
    """The device, or, for ``any: true`` before the choice, all that fit in order of address; never empty."""
    seen = last_seen(wish, host.records.get(wish.uid))
    if seen:
        return _followed(seen, host)
    try:
        if wish.spec.source.pci:
            return _at(wish, host)
    except ValueError as error:
        return Refusal(reasons.INVALID_SOURCE, str(error))
    if wish.spec.source.match:
        return _matching(wish.spec.source.match, host)
    return Refusal(reasons.INVALID_SOURCE, "the source names no device: set source.pci or source.match")


def _at(wish: Wish, host: Observation) -> tuple[PciDevice, ...] | Refusal:
    assert wish.spec.source.pci  # noqa: S101 - the caller has looked
    address = address_of(wish.spec.source.pci)
    device = host.devices.get(address)
    if device:
        return (device,)
    return Refusal(
        reasons.DEVICE_NOT_FOUND,
        f"there is no PCI device at {address} on this node; compare with lspci -D or the DeviceHost",
    )


def _followed(seen: Seen, host: Observation) -> tuple[PciDevice, ...] | Refusal:
    """The device that was seen before, wherever it is now."""
    found = find(seen.identity, host.devices.values())
    in_place = tuple(d for d in found if d.address == seen.address)
    if in_place or len(found) == 1:
        return in_place or found
    if found:
        return Refusal(
            reasons.AMBIGUOUS_DEVICE,
            f"the device {seen.identity} is not at {seen.address} any more, and can be any of {_list(found)}; delete"
            " the assignment and make a new one that names one of them",
        )
    other = host.devices.get(seen.address)
    if other:
        return Refusal(
            reasons.IDENTITY_CHANGED,
            f"{other.label} {other.identity} is not the device {seen.identity} that was seen at {seen.address} before;"
            " put that one back, or delete the assignment and make a new one",
        )
    return Refusal(
        reasons.DEVICE_NOT_FOUND,
        f"the device {seen.identity}, last seen at {seen.address}, is not on this node any more; put it back, or delete"
        " the assignment",
    )


def _matching(match: MatchSource, host: Observation) -> tuple[PciDevice, ...] | Refusal:
    endpoints = (d for d in host.devices.values() if d.role is Role.ENDPOINT)
    found = tuple(sorted((d for d in endpoints if _fits(match, d)), key=lambda d: d.address))
    asked = ", ".join(f"{k} {v}" for k, v in match.wire().items() if k != "any")
    if not found:
        return Refusal(
            reasons.DEVICE_NOT_FOUND,
            f"no PCI endpoint of this node has {asked}; compare with the DeviceHost's status.devices",
        )
    if len(found) > 1 and not match.any:
        return Refusal(
            reasons.AMBIGUOUS_DEVICE,
            f"{len(found)} devices have {asked}: {_list(found)}; make a new assignment with a serial or slotPath, or"
            " with any: true if each of them will do",
        )
    return found


def _fits(match: MatchSource, device: PciDevice) -> bool:
    code = f"{device.class_code:06x}"
    wanted_class = (match.class_ or "0x").removeprefix("0x").lower()
    return (
        (match.vendor is None or int(match.vendor, 16) == device.vendor)
        and (match.device is None or int(match.device, 16) == device.product)
        and code.startswith(wanted_class)
        and match.serial in (None, device.serial)
        and match.slot_path in (None, device.slot_path)
        and match.pf_mac in (None, device.pf_mac)
        and match.vf_index in (None, device.vf_index)
        and match.numa_node in (None, device.numa_node)
    )


def _list(devices: tuple[PciDevice, ...]) -> str:
    shown = ", ".join(f"{d.address} (slot path {d.slot_path})" for d in devices[:_SHOWN])
    return shown + (f" and {len(devices) - _SHOWN} more" if len(devices) > _SHOWN else "")
