"""What the host's boot unit must know: how many VFs each PF shall have, before libvirtd starts.

One line for each PF, five words: permanent MAC address or -, PCI address, number of VFs, 1 or 0 for
sriov_drivers_autoprobe or - where it is left alone, and up or - for the PF's netdev. The MAC comes first since
addresses change when cards are added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .pool import PoolRecord

HEADER = "# Written by hostdev-operator: PF's MAC address, PCI address, number of VFs, sriov_drivers_autoprobe, link\n"
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def boot_file(records: Iterable[PoolRecord]) -> str:
    """The file's text. Pools of one PF agree; should they not, most VFs and no autoprobe are kept."""
    found: dict[str, PoolRecord] = {}
    for record in sorted(records, key=lambda r: (-(r.num_vfs or 0), r.autoprobe is not False, not r.link_up, r.uid)):
        if record.num_vfs is not None:
            found.setdefault(_mac(record) or str(record.pf), record)
    return HEADER + "".join(sorted(map(_line, found.values())))


def _mac(record: PoolRecord) -> str | None:
    mac = (record.pf_mac or "").lower()
    return mac if _MAC.fullmatch(mac) else None


def _line(record: PoolRecord) -> str:
    autoprobe = "-" if record.autoprobe is None else str(int(record.autoprobe))
    link = "up" if record.link_up else "-"
    return f"{_mac(record) or '-'} {record.pf} {record.num_vfs} {autoprobe} {link}\n"
