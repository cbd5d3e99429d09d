"""Which PF of this host a pool means: by its selector at first sight, then by fingerprint and MAC address."""

from __future__ import annotations

from collections.abc import Iterable

from ..api.vfpool import PfSelector
from . import reasons
from .checks import Refusal
from .identity import find
from .model import Observation, PciDevice, Role
from .pci import PciAddress
from .pool import PoolRecord, PoolWish
from .sriov import Pf

_SHOWN = 8


def pf_meant(wish: PoolWish, host: Observation) -> PciDevice | Refusal:
    """The PF; once it is recorded it is followed, wherever it is and whatever its netdev's name is."""
    record = host.pool_records.get(wish.uid)
    if record:
        return recorded_pf(record, host)
    try:
        address = PciAddress.parse(wish.spec.pf.address) if wish.spec.pf.address is not None else None
    except ValueError as error:
        return Refusal(reasons.INVALID_SOURCE, f"pf.address of pool {wish.name}: {error}")
    return _selected(wish, address, host)


def recorded_pf(record: PoolRecord, host: Observation) -> PciDevice | Refusal:
    """The PF that a pool has changed. A NIC's permanent MAC address says more than its slot."""
    known = [d for d in host.functions if d.identity.model == record.identity.model]
    by_mac = [d for d in known if record.pf_mac is not None and _mac(d, host) == record.pf_mac]
    if len(by_mac) == 1:
        return by_mac[0]
    others = {d.address for d in known if None not in (record.pf_mac, mac := _mac(d, host)) and mac != record.pf_mac}
    found = tuple(d for d in find(record.identity, known) if d.address not in others)
    in_place = tuple(d for d in found if d.address == record.pf)
    if in_place or len(found) == 1:
        return (in_place or found)[0]
    what = f"the PF {record.identity}{f' with MAC {record.pf_mac}' if record.pf_mac else ''} of pool {record.name}"
    if found:
        return Refusal(
            reasons.AMBIGUOUS_DEVICE,
            f"{what} is not at {record.pf} any more, and can be any of {_list(found, host)}; put the card back, or"
            " delete the pool and make a new one",
        )
    other = host.devices.get(record.pf)
    if other:
        return Refusal(
            reasons.IDENTITY_CHANGED,
            f"{other.label} {other.identity} is not {what}, which was at {record.pf} before; put that one back, or"
            " delete the pool and make a new one",
        )
    return Refusal(
        reasons.DEVICE_NOT_FOUND,
        f"{what}, last seen at {record.pf}, is not on this node any more; put it back, or delete the pool",
    )


def _selected(wish: PoolWish, address: PciAddress | None, host: Observation) -> PciDevice | Refusal:
    selector = wish.spec.pf
    asked = ", ".join(f"{k} {v}" for k, v in selector.wire().items() if k != "vfs")
    vf = host.devices.get(address) if address else None
    if vf is not None and (vf.physfn is not None or vf.role is not Role.ENDPOINT):
        what = f"a VF of {vf.physfn}" if vf.physfn else f"a {vf.role.value}"
        return Refusal(
            reasons.NOT_ASSIGNABLE, f"{vf.label} is {what}: pool {wish.name} must name a PF, such as {_pfs(host)}"
        )
    found = [d for d in host.functions if d.role is Role.ENDPOINT and _fits(selector, address, d, host)]
    pfs = tuple(d for d in found if d.total_vfs)
    if len(pfs) == 1:
        return pfs[0]
    if pfs:
        return Refusal(
            reasons.AMBIGUOUS_DEVICE,
            f"{len(pfs)} PFs have {asked}: {_list(pfs, host)}; make a new pool whose pf names one of them",
        )
    if found:
        return Refusal(
            reasons.SRIOV_UNSUPPORTED,
            f"{found[0].label} (driver {found[0].driver or 'none'}) of pool {wish.name} cannot have VFs: turn SR-IOV on"
            f" in the firmware, or name another PF: {_pfs(host)}",
        )
    return Refusal(
        reasons.DEVICE_NOT_FOUND,
        f"no PF of this node has {asked}, which pool {wish.name} asks for; its PFs with SR-IOV are {_pfs(host)}",
    )


def _fits(selector: PfSelector, address: PciAddress | None, device: PciDevice, host: Observation) -> bool:
    pf = host.pfs.get(device.address) or Pf(device.address)
    return (
        address in (None, device.address)
        and (selector.vendor is None or int(selector.vendor, 16) == device.vendor)
        and (selector.device is None or int(selector.device, 16) == device.product)
        and selector.name in (None, pf.netdev)
        and selector.mac in (None, pf.mac)
    )


def _mac(device: PciDevice, host: Observation) -> str | None:
    pf = host.pfs.get(device.address)
    return pf.mac if pf else None


def _pfs(host: Observation) -> str:
    return _list((d for d in host.functions if d.total_vfs), host) or "none"


def _list(devices: Iterable[PciDevice], host: Observation) -> str:
    names = [_name(d, host.pfs.get(d.address)) for d in devices]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _name(device: PciDevice, pf: Pf | None) -> str:
    parts = [pf.netdev, f"MAC {pf.mac}" if pf.mac else None] if pf else []
    told = ", ".join(part for part in parts if part)
    return f"{device.address} ({told})" if told else str(device.address)
