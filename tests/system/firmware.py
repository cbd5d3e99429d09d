"""Firmware that says what this emulation's does not: a DMAR table of the tests' own, in front of an initial RAM disk.

Formats: Intel, Virtualization Technology for Directed I/O, chapter 8; Linux, initrd_table_override and initramfs
buffer format.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

_RMRR, _ENDPOINT = 1, 1
_LENGTH_AT, _CHECKSUM_AT, _REVISION_AT = 4, 9, 24
_FOLDER, _FILE = 0o40755, 0o100644
_PLACE = "kernel/firmware/acpi"


def hops(folder: str) -> list[tuple[int, int]]:
    """Slot and function of each device on the way to one of sysfs (.../pci0000:00/0000:00:11.0/0000:02:00.0)."""
    found = re.findall(r"/[0-9a-f]{4}:[0-9a-f]{2}:([0-9a-f]{2})[.]([0-7])", folder)
    return [(int(slot, 16), int(function)) for slot, function in found]


def with_reserved_memory(dmar: bytes, path: list[tuple[int, int]], base: int, limit: int) -> bytes:
    """The table with one RMRR more, for the endpoint at the end of the path; a newer revision, as the kernel wants."""
    scope = struct.pack("<BBHBB", _ENDPOINT, 6 + 2 * len(path), 0, 0, 0) + bytes(n for hop in path for n in hop)
    table = bytearray(dmar + struct.pack("<HHHHQQ", _RMRR, 24 + len(scope), 0, 0, base, limit) + scope)
    struct.pack_into("<I", table, _LENGTH_AT, len(table))
    (revision,) = struct.unpack_from("<I", table, _REVISION_AT)
    struct.pack_into("<I", table, _REVISION_AT, revision + 1)
    table[_CHECKSUM_AT] = 0
    table[_CHECKSUM_AT] = -sum(table) % 256
    return bytes(table)


def initrd_with(table: bytes, initrd: Path, made: Path) -> None:
    """An initial RAM disk whose ACPI table the kernel takes instead of the firmware's."""
    parts = _PLACE.split("/")
    folders = [_entry("/".join(parts[: n + 1]), b"", _FOLDER) for n in range(len(parts))]
    archive = b"".join([*folders, _entry(f"{_PLACE}/dmar.aml", table, _FILE), _entry("TRAILER!!!", b"", 0)])
    made.write_bytes(archive + bytes(-len(archive) % 512) + initrd.read_bytes())


def _entry(name: str, content: bytes, mode: int) -> bytes:
    """One file of a cpio archive, newc."""
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
