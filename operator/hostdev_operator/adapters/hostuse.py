"""The guard's eyes: which PCI devices the host itself needs, from PID 1's view of mounts and network, and from /sys.

Fails closed: what cannot be read raises HostUseUnknown, and then nothing is touched.
Formats: proc(5) mountinfo, swaps; kernel Documentation/networking/proc (route, ipv6_route, if_inet6).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..core import reasons
from ..core.errors import HostError
from ..core.model import Use
from ..core.pci import PciAddress
from .sysfs import functions_behind

_GLOBAL_SCOPE = 0x00
_ROUTE_UP = 0x1


class HostUse:
    """Maps mounts, swap, routes, addresses and the console to PCI devices below ``host_root``."""

    def __init__(self, host_root: Path) -> None:
        self._root = host_root
        self._sys = host_root / "sys"
        self._init = host_root / "proc/1"

    def uses(self) -> tuple[Use, ...]:
        """Everything that the host needs; the same device can be there several times."""
        try:
            found = {*self._storage(), *self._network(), *self._console()}
        except (OSError, ValueError, IndexError) as error:
            raise HostError(reasons.HOST_USE_UNKNOWN, f"reading the host's mounts and routes: {error}") from error
        return tuple(sorted(found, key=lambda use: (use.address, use.what)))

    def _storage(self) -> Iterator[Use]:
        for line in (self._init / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            number, target = before.split()[2], _unescape(before.split()[4])
            source = _unescape(after.split()[1])
            addresses = self._block_number(number) or (
                self.block_device(source) or frozenset() if source.startswith("/dev/") else frozenset()
            )
            for address in addresses:
                yield Use(address, f"carries the file system that is mounted on {target}")
        for line in (self._root / "proc/swaps").read_text().splitlines()[1:]:
            path, kind = _unescape(line.split()[0]), line.split()[1]
            under = self.block_device(path)
            if under is None and kind == "partition":  # a swap file lies on a mounted file system
                raise ValueError(f"the swap space {path} cannot be followed to its device")
            for address in under or ():
                yield Use(address, f"carries the swap space {path}")

    def _network(self) -> Iterator[Use]:
        net = self._init / "net"
        for line in (net / "route").read_text().splitlines()[1:]:
            name, destination, _, flags, _, _, _, mask = line.split()[:8]
            if not int(flags, 16) & _ROUTE_UP:
                continue
            default = int(destination, 16) == 0 and int(mask, 16) == 0
            what = "the default route" if default else "a network of the host (it has an IPv4 route)"
            yield from self._over(name, what)
        if (net / "if_inet6").exists():
            for line in (net / "if_inet6").read_text().splitlines():
                _, _, _, scope, _, name = line.split()
                if int(scope, 16) == _GLOBAL_SCOPE:
                    yield from self._over(name, "an IPv6 address of the host")
        if (net / "ipv6_route").exists():
            for line in (net / "ipv6_route").read_text().splitlines():
                fields = line.split()
                if int(fields[0], 16) == 0 and int(fields[1], 16) == 0:
                    yield from self._over(fields[9], "the default route (IPv6)")

    def _over(self, name: str, what: str) -> Iterator[Use]:
        if not (self._sys / "class/net" / name).exists():
            raise ValueError(f"{self._sys}/class/net does not show {name}: it is that of another network namespace")
        for address in self.interface(name):
            yield Use(address, f"carries {what} over {name}")

    def _console(self) -> Iterator[Use]:
        for flag in (self._sys / "bus/pci/devices").glob("*/boot_vga"):
            if flag.read_text().strip() == "1":
                yield Use(PciAddress.parse(flag.parent.name), "is the console's GPU (boot_vga)")

    def block_device(self, path: str) -> frozenset[PciAddress] | None:
        """PCI controllers under a device node such as /dev/sda1, /dev/mapper/x, /dev/disk/by-id/y.

        Links are followed in ``<host root>/dev`` if it is there. None: the path names no block device that is known.
        """
        name = self._block_name(path)
        return self._block_folder(self._sys / "class/block" / name) if name else None

    def _block_name(self, path: str) -> str | None:
        relative = path.removeprefix("/dev/")
        for _ in range(8):
            name = relative.replace("/", "!")  # the kernel's own spelling of slashes in device names
            if (self._sys / "class/block" / name).exists():
                return name
            link = self._root / "dev" / relative
            if not link.is_symlink():
                break
            target = link.readlink()
            joined = target if target.is_absolute() else Path("/dev") / Path(relative).parent / target
            relative = _normal(joined).removeprefix("/dev/")
        for dm in (self._sys / "class/block").glob("dm-*/dm/name"):
            if path == f"/dev/mapper/{dm.read_text().strip()}":
                return dm.parent.parent.name
        return None

    def _block_number(self, number: str) -> frozenset[PciAddress]:
        folder = self._sys / "dev/block" / number
        return self._block_folder(folder) if folder.exists() else frozenset()

    def _block_folder(self, folder: Path) -> frozenset[PciAddress]:
        """The controller of a disk or partition, and of everything that a dm or md device is made of."""
        resolved = folder.resolve()
        found = set(functions_behind(resolved))
        for holder in (resolved, resolved.parent):
            for slave in (holder / "slaves").glob("*") if (holder / "slaves").is_dir() else ():
                found |= self._block_folder(slave)
        if "nvme-subsystem" in resolved.parts:  # multipath heads hang on no controller of their own
            subsystem = resolved
            while subsystem.parent.name != "nvme-subsystem":
                subsystem = subsystem.parent
            for controller in subsystem.glob("nvme*"):
                found |= functions_behind(controller)
        return frozenset(found)

    def interface(self, name: str) -> frozenset[PciAddress]:
        """PCI devices under an interface, through bridges, bonds, teams, VLANs and macvtap (their lower_* links)."""
        return self._interface(name, frozenset())

    def _interface(self, name: str, seen: frozenset[str]) -> frozenset[PciAddress]:
        folder = self._sys / "class/net" / name
        if "/" in name or name in seen or not folder.exists():
            return frozenset()
        found = functions_behind(folder)
        for lower in folder.resolve().glob("lower_*"):
            found |= self._interface(lower.name.removeprefix("lower_"), seen | {name})
        return found


def _unescape(field: str) -> str:
    r"""Undo the octal escapes of /proc (\040 is a space)."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field)


def _normal(path: Path) -> str:
    parts: list[str] = []
    for part in path.parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/" + "/".join(parts)
