"""The guard's eyes: which PCI devices the host itself needs, from PID 1's view of mounts and network, and from /sys.

Fails closed: what cannot be read raises HostUseUnknown, and then nothing is touched.
Formats: proc(5) mountinfo, swaps; kernel Documentation/networking/proc (route, ipv6_route, if_inet6).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from ..core import reasons
from ..core.errors import HostError
from ..core.model import Use
from ..core.pci import PciAddress
from .sysfs import PciSysfs, functions_behind, link_name

_GLOBAL_SCOPE = 0x00
_ROUTE_UP = 0x1
_STORAGE, _NETWORK, _INFINIBAND = 0x01, 0x02, 0x0207
# File systems whose source may be spelled /dev/... without being a block device.
_PSEUDO = frozenset(
    [
        "autofs",
        "bpf",
        "cgroup",
        "cgroup2",
        "debugfs",
        "devpts",
        "devtmpfs",
        "hugetlbfs",
        "mqueue",
        "overlay",
        "proc",
        "ramfs",
        "sysfs",
        "tmpfs",
    ]
)
# Block devices of memory, files and networks: what is below them is a mounted file system, an interface, or nothing.
_ON_NO_CONTROLLER = re.compile(r"(?:loop|ram|zram|nullb|nbd|rbd)\d")
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_NVME_OVER_IP = ("tcp", "rdma")

Addresses = frozenset[PciAddress]
#: A block device's name, its controllers (None: cannot be followed), and what it is to the host.
Claim = tuple[str, Addresses | None, str]


class HostUse:
    """Maps mounts, swap, members of stacked devices, routes, ports and the console to PCI devices of the host."""

    def __init__(self, host_root: Path) -> None:
        self._root = host_root
        self._sys = host_root / "sys"
        self._init = host_root / "proc/1"
        self._pci = PciSysfs(host_root)

    def uses(self) -> tuple[Use, ...]:
        """Everything that the host needs; the same device can be there several times, for different reasons."""
        try:
            network = {*self._network()}
            known = {use.address for use in network}
            network |= {use for use in self._ports() if use.address not in known}
            found = {*self._storage(), *network, *self._without_interface(), *self._shared(), *self._console()}
        except (OSError, ValueError, IndexError) as error:
            raise HostError(reasons.HOST_USE_UNKNOWN, f"reading the host's mounts and routes: {error}") from error
        return tuple(sorted(found, key=lambda use: (use.address, use.what)))

    def _storage(self) -> Iterator[Use]:
        """One use for each controller and block device; mounts before stacks, and of several mounts the shortest.

        Storage that cannot be followed could be on any storage controller, so all of them count.
        """
        best: dict[tuple[PciAddress, str], tuple[int, int, str]] = {}
        for rank, claims in enumerate((self._mounts(), self._swaps(), self._members())):
            for name, followed, thing in claims:
                what = f"carries {thing}"
                if followed is None:
                    what = f"may carry {thing} ({name} cannot be followed to its controller)"
                for address in self._storage_controllers() if followed is None else followed:
                    key, claim = (address, name), (rank, len(what), what)
                    best[key] = min(best.get(key, claim), claim)
        for (address, _), (_, _, what) in best.items():
            yield Use(address, what)

    def _storage_controllers(self) -> Addresses:
        return frozenset(PciAddress.parse(p.name) for p, code in self._pci.classes().items() if code >> 16 == _STORAGE)

    def _mounts(self) -> Iterator[Claim]:
        for line in (self._init / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            number, inside, target = map(_unescape, before.split()[2:5])
            kind, source, options = (_unescape(field) for field in after.split(" ")[:3])
            thing = f"the file system that is mounted on {target}"
            folder = self._sys / "dev/block" / number
            if folder.exists():
                yield folder.resolve().name, self._block_folder(folder), thing
            elif kind == "devtmpfs":
                path = f"/dev{inside}"  # a device node that is mounted by itself: a pod's raw block volume
                if self._block_name(path):
                    yield path, self.block_device(path), f"the device {path}, which is mounted on {target}"
            else:
                yield from self._by_source(number, kind, source, thing)
            for path in re.findall(r"(?:logdev|rtdev)=(/dev/[^,]+)", options):  # of XFS
                yield path, self.block_device(path), thing

    def _by_source(self, number: str, kind: str, source: str, thing: str) -> Iterator[Claim]:
        """A mount whose number names no block device: several devices, none, or one that is unknown."""
        if kind == "zfs":
            yield f"the ZFS pool {source.split('/', maxsplit=1)[0]}", None, thing
        elif source.startswith("/dev/"):
            for path in re.split(":(?=/dev/)", source):  # bcachefs lists its devices
                followed = self.block_device(path)
                listed = kind == "btrfs" and any(self._btrfs())  # then it is among these
                pseudo = kind in _PSEUDO or kind == "fuse" or kind.startswith("fuse.")
                if followed is not None or not (listed or pseudo):
                    yield path, followed, thing
        elif kind == "bcachefs" or not number.startswith("0:"):
            yield source or number, None, thing

    def _swaps(self) -> Iterator[Claim]:
        for line in (self._root / "proc/swaps").read_text().splitlines()[1:]:
            path, kind = _unescape(line.split()[0]), line.split()[1]
            followed = self.block_device(path)
            if followed is not None or kind == "partition":  # a swap file lies on a mounted file system
                yield path, followed, f"the swap space {path}"

    def _members(self) -> Iterator[Claim]:
        """What is active without being mounted: members of LVM, md, multipath, dm-crypt, bcache, btrfs, ZFS; loops."""
        for folder in (self._sys / "class/block").glob("*"):
            holders = sorted((h.name for h in (folder / "holders").glob("*")), key=lambda name: (len(name), name))
            if holders and not any((folder / "slaves").glob("*")):  # else its slaves have holders themselves
                yield folder.name, self._block_folder(folder), f"{folder.name}, which is part of {holders[0]}"
            backing = _text(folder / "loop/backing_file")
            if backing.startswith("/dev/") and not backing.startswith("/dev/shm/"):  # noqa: S108 - a prefix, not a file
                yield backing, self.block_device(backing), f"{backing}, which is below {folder.name}"
        for member in self._btrfs():
            yield member.name, self._block_folder(member), f"{member.name}, which is part of a mounted btrfs"
        for state in self._root.glob("proc/spl/kstat/zfs/*/state"):
            name = f"the ZFS pool {state.parent.name}"
            yield name, None, f"{name}, which is imported"

    def _btrfs(self) -> Iterator[Path]:
        """All devices of all mounted btrfs: the kernel lists them while the file system is mounted."""
        return (self._sys / "fs/btrfs").glob("*/devices/*")

    def _network(self) -> Iterator[Use]:
        net = self._init / "net"
        for line in (net / "route").read_text().splitlines()[1:]:
            name, destination, _, flags, _, _, _, mask = line.split()[:8]
            if name == "*" or not int(flags, 16) & _ROUTE_UP:  # *: a blackhole or unreachable route
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

    def _ports(self) -> Iterator[Use]:
        """Interfaces on a PCI device that are part of another one: a bridge, bond, Open vSwitch, VRF, VLAN, macvtap."""
        for folder in (self._sys / "class/net").glob("*"):
            master = link_name(folder / "master")
            uppers = sorted(link.name.removeprefix("upper_") for link in folder.resolve().glob("upper_*"))
            if master or uppers:
                what = f"is a port of {master}" if master else f"carries {uppers[0]}"
                for address in functions_behind(folder):
                    yield Use(address, f"carries {folder.name}, which {what}")

    def _without_interface(self) -> Iterator[Use]:
        """Network functions that are bound, but not to an interface that is seen here.

        The kernel keeps the folder ``net`` of a device whose interface is in another network namespace, and shows it
        empty. InfiniBand adapters may have no interface at all: they show ``infiniband/``, and do not count.
        """
        for folder, code in self._pci.classes().items():
            driver = link_name(folder / "driver")
            if code >> 16 != _NETWORK or driver is None or driver.replace("_", "-").endswith("vfio-pci"):
                continue
            parents = [*folder.glob("net"), *folder.glob("virtio*/net")]
            if any(any(parent.glob("*")) for parent in parents):
                continue
            if parents:
                what = f"has its interface in another network namespace (driver {driver})"
            elif code >> 8 == _INFINIBAND and any(folder.glob("infiniband/*")):
                continue
            else:
                what = f"has driver {driver} but no interface here (a user-space driver, or one that is still starting)"
            yield Use(PciAddress.parse(folder.name), what)

    def _shared(self) -> Iterator[Use]:
        for bus, what in (("mdev", "mediated devices"), ("vdpa", "vDPA devices")):
            for folder in (self._sys / "bus" / bus / "devices").glob("*"):
                for address in functions_behind(folder):
                    yield Use(address, f"carries {what}")

    def _console(self) -> Iterator[Use]:
        for flag in (self._sys / "bus/pci/devices").glob("*/boot_vga"):
            if _text(flag) == "1":
                yield Use(PciAddress.parse(flag.parent.name), "is the console's GPU (boot_vga)")

    def block_device(self, path: str) -> Addresses | None:
        """PCI controllers under a device node such as /dev/sda1, /dev/mapper/x, /dev/disk/by-id/y.

        Links are followed in ``<host root>/dev`` if it is there. None: the path cannot be followed. Empty: it is on no
        PCI device.
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

    def _block_folder(self, folder: Path) -> Addresses | None:
        """The controllers of a disk or partition, and of everything that a dm, md or multipath device is made of.

        None: a virtual device that does not show what it is made of (a zvol, for example).
        """
        resolved = folder.resolve()
        ends: list[Addresses | None] = [functions_behind(resolved)] if functions_behind(resolved) else []
        for holder in (resolved, resolved.parent):  # a partition's disk
            ends += [self._block_folder(slave) for slave in (holder / "slaves").glob("*")]
        ends += [_nvme_controller(controller) for controller in _nvme_controllers(resolved)]
        if not ends:
            virtual = resolved.is_relative_to((self._sys / "devices/virtual").resolve())
            return None if virtual and not _ON_NO_CONTROLLER.match(resolved.name) else frozenset()
        followed = [end for end in ends if end is not None]
        return frozenset().union(*followed) if len(followed) == len(ends) else None

    def interface(self, name: str) -> Addresses:
        """PCI devices under an interface, through bridges, bonds, teams, VLANs and macvtap (their lower_* links)."""
        return self._interface(name, frozenset())

    def _interface(self, name: str, seen: frozenset[str]) -> Addresses:
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


def _text(path: Path) -> str:
    """A small file of /sys; empty if it is not there, or its device goes away."""
    try:
        return path.read_text().strip()
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise


def _nvme_controllers(resolved: Path) -> Iterator[Path]:
    """What a multipath head or a disk over a network hangs on (the kernel keeps both among virtual devices)."""
    for folder in (resolved, *resolved.parents):
        if folder.parent.name == "nvme-subsystem":
            yield from (link.resolve() for link in folder.glob("nvme*") if link.is_symlink())
        elif folder.parent.parent.name == "nvme-fabrics":
            yield folder


def _nvme_controller(folder: Path) -> Addresses | None:
    """Empty over IP: that interface has a route. None for Fibre Channel and the local target."""
    return functions_behind(folder) or (frozenset() if _text(folder / "transport") in _NVME_OVER_IP else None)


def _normal(path: Path) -> str:
    parts: list[str] = []
    for part in path.parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/" + "/".join(parts)
