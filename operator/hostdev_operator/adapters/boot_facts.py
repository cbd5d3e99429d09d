"""What /sys and /proc say of the boot, the firmware's IOMMU tables, and the limits of libvirt's daemon."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ..core.preparation import BootFacts, DaemonLimits
from .files import absolute, exists, listing, read_lines, text_if_any

_TABLES = ("DMAR", "IVRS")
_DAEMONS = ("libvirtd", "virtqemud")
_CAP_SYS_RESOURCE = 1 << 24
_VENDOR = re.compile(r"vendor_id\s*: (\w+)")


class BootSource:
    """Reads them below ``host_root``. What is not there, or may not be read, is left out."""

    def __init__(self, host_root: Path) -> None:
        self._root = absolute(host_root).rstrip("/")
        self._daemon = ""  # the folder in /proc where it was last

    def facts(self) -> BootFacts:
        """All of them, now."""
        return BootFacts(
            vendor=self._vendor(),
            table=next((table for table in _TABLES if self._exists(f"sys/firmware/acpi/tables/{table}")), None),
            iommus=tuple(sorted(self._list("sys/class/iommu"))),
            words=tuple(" ".join(self._lines("proc/cmdline")).split()),
            efi=self._exists("sys/firmware/efi"),
            daemon=self._limits(),
            files=self._files(),
        )

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _exists(self, path: str) -> bool:
        with suppress(OSError):
            return exists(self._path(path))
        return False

    def _list(self, path: str) -> list[str]:
        with suppress(OSError):
            return listing(self._path(path))
        return []

    def _lines(self, path: str) -> list[str]:
        with suppress(OSError):
            return read_lines(self._path(path))
        return []

    def _vendor(self) -> str:
        found = next(filter(None, map(_VENDOR.match, self._lines("proc/cpuinfo"))), None)
        return found[1] if found else ""

    def _files(self) -> tuple[int, int] | None:
        """fs.file-nr: open files, none any more, how many there may be."""
        with suppress(OSError, ValueError):
            now, _, most = map(int, text_if_any(self._path("proc/sys/fs/file-nr")).split())
            return now, most
        return None

    def _limits(self) -> DaemonLimits | None:
        """Looking for it reads all processes' names, so where it was is kept."""
        with suppress(OSError, ValueError):
            if self._name(self._daemon) not in _DAEMONS:
                numbers = (name for name in self._list("proc") if name.isdigit())
                self._daemon = next((f"proc/{n}" for n in numbers if self._name(f"proc/{n}") in _DAEMONS), "")
            if self._daemon:
                return self._read_limits(self._name(self._daemon))
        return None

    def _name(self, folder: str) -> str:
        with suppress(OSError):
            return text_if_any(self._path(f"{folder}/comm")) if folder else ""
        return ""

    def _read_limits(self, name: str) -> DaemonLimits | None:
        status = dict(line.split(":", 1) for line in self._lines(f"{self._daemon}/status") if ":" in line)
        hard = {line[:26].strip(): line.split()[-2] for line in self._lines(f"{self._daemon}/limits")[1:]}
        if "CapEff" not in status or "Max open files" not in hard:
            return None
        locked = hard["Max locked memory"]
        return DaemonLimits(
            name=name,
            may_raise=bool(int(status["CapEff"], 16) & _CAP_SYS_RESOURCE),
            locked=None if locked == "unlimited" else int(locked),
            files=int(hard["Max open files"]),
        )
