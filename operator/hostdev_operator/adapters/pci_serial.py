"""A PCI function's serial number, from the places of /sys that can show one.

The capability in the configuration space is none of them: beyond its first 64 bytes that takes CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os

from .files import listing, opened, read_text

_LONGEST = 64
_VPD_SIZE = 0x8000
# PCI 3.0, appendix I: a large resource has bit 7 in its tag, then 2 bytes of length; the small one is the end.
_LARGE, _READ_ONLY = 0x80, 0x90
_HEAD = 3


def serial_number(path: str) -> str | None:
    """The Device Serial Number capability, as kernels since 6.18 show it: eight bytes, joined with dashes."""
    try:
        text = read_text(f"{path}/serial_number")
    except OSError:
        return None
    return clean(text) if text.strip("0-") and text.lower().strip("f-") else None


def nvme_serial(path: str) -> str | None:
    """What the NVMe driver has asked the controller for; None while it is not bound."""
    try:
        for name in sorted(listing(f"{path}/nvme")):
            if serial := clean(read_text(f"{path}/nvme/{name}/serial")):
                return serial
    except OSError:
        return None
    return None


def vpd_serial(path: str) -> str | None:
    """The SN keyword of the vital product data; OSError if there is none, or it cannot be read.

    Each four bytes are a slow round trip to the device, so no more is read than what leads there.
    """
    with opened(f"{path}/vpd") as vpd:
        offset = 0
        while offset < _VPD_SIZE:
            head = os.pread(vpd, _HEAD, offset)
            if len(head) < _HEAD or not head[0] & _LARGE:
                return None
            length = int.from_bytes(head[1:], "little")
            if head[0] == _READ_ONLY:
                return _keyword(_read(vpd, offset + _HEAD, length), b"SN")
            offset += _HEAD + length
    return None


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """The kernel answers with at most a page at once."""
    found = b""
    while len(found) < length and (part := os.pread(descriptor, length - len(found), offset + len(found))):
        found += part
    return found


def _keyword(resource: bytes, keyword: bytes) -> str | None:
    """The value of a keyword: two letters, one byte of length, the value."""
    position = 0
    while position + _HEAD <= len(resource):
        start = position + _HEAD
        end = start + resource[position + 2]
        if resource[position : position + 2] == keyword:
            return clean(resource[start:end].decode("ascii", "replace"))
        position = end
    return None


def clean(text: str) -> str | None:
    """Printable ASCII without blanks around it, and not too long; None if nothing is left."""
    printable = "".join(c for c in text if " " <= c <= "~")
    return printable.strip()[:_LONGEST].strip() or None
