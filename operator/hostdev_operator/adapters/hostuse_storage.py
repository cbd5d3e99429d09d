"""Which PCI devices the host's storage needs, down through everything that block devices are made of.

Formats: proc(5) mountinfo and swaps.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from functools import cached_property

from ..core.model import Use
from ..core.pci import PciAddress
from .files import exists, link_target, listing, read_lines, resolve, text_if_any
from .hostuse_network import Addresses, Network
from .sysfs import functions_behind, parse_address

_STORAGE = 0x01
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
_NVME_OVER_IP = ("tcp", "rdma")
_NVME_HEAD = re.compile(r".*/nvme-subsystem/[^/]+")
_NVME_FABRICS = re.compile(r".*/nvme-fabrics/[^/]+/[^/]+")
_SCSI_HOST = re.compile(r"(?:scsi_)?(host\d+)")
_ABOVE_SCSI_HOST = re.compile(r".*?/(host\d+)(?=/|$)")
_OVER_INTERFACE = re.compile(r".*/devices/virtual/net/([^/]+)/")

#: A block device's name, its controllers (None: cannot be followed), and what it is to the host.
Claim = tuple[str, Addresses | None, str]


class Storage:
    """One look at mounts, swap and block devices: what has been followed is not followed again. One for each look."""

    def __init__(self, root: str, classes: dict[str, int], network: Network) -> None:
        self._root = root
        self._sys = f"{root}/sys"
        self._block = f"{root}/sys/class/block"
        self._classes = classes
        self._network = network
        self._followed: dict[str, Addresses | None] = {}
        self._named: dict[str, str | None] = {}

    def uses(self) -> Iterator[Use]:
        """One use for each controller and block device; mounts before stacks, and of several mounts the shortest.

        Storage that cannot be followed could be on any storage controller, so all of them count.
        """
        controllers = frozenset(parse_address(name) for name, code in self._classes.items() if code >> 16 == _STORAGE)
        best: dict[tuple[PciAddress, str], tuple[int, int, str]] = {}
        for rank, claims in enumerate((self._mounts(), self._swaps(), self._members())):
            for name, followed, thing in claims:
                what = f"carries {thing}"
                if followed is None:
                    what = f"may carry {thing} ({name} cannot be followed to its controller)"
                for address in controllers if followed is None else followed:
                    key, claim = (address, name), (rank, len(what), what)
                    best[key] = min(best.get(key, claim), claim)
        for (address, _), (_, _, what) in best.items():
            yield Use(address, what)

    def _mounts(self) -> Iterator[Claim]:
        for line in read_lines(f"{self._root}/proc/1/mountinfo"):
            before, _, after = line.partition(" - ")
            number, inside, target = map(_unescape, before.split()[2:5])
            kind, source, options = (_unescape(field) for field in after.split(" ")[:3])
            thing = f"the file system that is mounted on {target}"
            folder = self._numbered(number)
            if folder:
                yield posixpath.basename(folder), self._follow(folder), thing
            elif kind == "devtmpfs":
                path = f"/dev{inside}"  # a device node that is mounted by itself: a pod's raw block volume
                if self._name(path):
                    yield path, self.block_device(path), f"the device {path}, which is mounted on {target}"
            else:
                yield from self._by_source(number, kind, source, thing)
            for path in re.findall(r"(?:logdev|rtdev)=(/dev/[^,]+)", options):  # of XFS
                yield path, self.block_device(path), thing

    def _numbered(self, number: str) -> str | None:
        """The folder of a block device's number; None if it is no block device's."""
        try:
            return resolve(f"{self._sys}/dev/block/{number}")
        except FileNotFoundError:
            return None

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
        for line in read_lines(f"{self._root}/proc/swaps")[1:]:
            path, kind = _unescape(line.split()[0]), line.split()[1]
            followed = self.block_device(path)
            if followed is not None or kind == "partition":  # a swap file lies on a mounted file system
                yield path, followed, f"the swap space {path}"

    def _members(self) -> Iterator[Claim]:
        """What is active without being mounted: members of LVM, md, multipath, dm-crypt, bcache, btrfs, ZFS; loops."""
        for name in listing(self._block):
            folder = f"{self._block}/{name}"
            holders = sorted(listing(f"{folder}/holders"), key=lambda holder: (len(holder), holder))
            if holders and not listing(f"{folder}/slaves"):  # else its slaves have holders themselves
                yield name, self._follow(resolve(folder)), f"{name}, which is part of {holders[0]}"
            backing = text_if_any(f"{folder}/loop/backing_file") if name.startswith("loop") else ""
            if backing.startswith("/dev/") and not backing.startswith("/dev/shm/"):  # noqa: S108 - a prefix, not a file
                yield backing, self.block_device(backing), f"{backing}, which is below {name}"
        for member in self._btrfs():
            name = posixpath.basename(member)
            yield name, self._follow(resolve(member)), f"{name}, which is part of a mounted btrfs"
        for pool in listing(f"{self._root}/proc/spl/kstat/zfs"):
            if exists(f"{self._root}/proc/spl/kstat/zfs/{pool}/state"):
                yield f"the ZFS pool {pool}", None, f"the ZFS pool {pool}, which is imported"

    def _btrfs(self) -> Iterator[str]:
        """All devices of all mounted btrfs: the kernel lists them while the file system is mounted."""
        for uuid in listing(f"{self._sys}/fs/btrfs"):
            for member in listing(f"{self._sys}/fs/btrfs/{uuid}/devices"):
                yield f"{self._sys}/fs/btrfs/{uuid}/devices/{member}"

    def block_device(self, path: str) -> Addresses | None:
        """PCI devices under a device node; None if the path cannot be followed."""
        name = self._name(path)
        return self._follow(resolve(f"{self._block}/{name}")) if name else None

    def scsi_host(self, name: str) -> Addresses:
        """PCI devices behind host3 or scsi_host3; empty if there is none."""
        match = _SCSI_HOST.fullmatch(name)
        if not match:
            return frozenset()
        try:
            folder = resolve(f"{self._sys}/class/scsi_host/{match[1]}")
        except FileNotFoundError:
            return frozenset()
        return functions_behind(folder) or self._over_network(folder) or frozenset()

    def _name(self, path: str) -> str | None:
        """The kernel's name of the block device that a path leads to; None if it leads to none."""
        if path not in self._named:
            self._named[path] = self._find_name(path)
        return self._named[path]

    def _find_name(self, path: str) -> str | None:
        relative = path.removeprefix("/dev/")
        for _ in range(8):
            name = relative.replace("/", "!")  # the kernel's own spelling of slashes in device names
            if exists(f"{self._block}/{name}"):
                return name
            target = link_target(f"{self._root}/dev/{relative}")
            if target is None:
                break
            joined = posixpath.join("/dev", posixpath.dirname(relative), target)
            relative = posixpath.normpath(joined).removeprefix("/dev/")
        return self._mapped.get(path.removeprefix("/dev/mapper/")) if path.startswith("/dev/mapper/") else None

    @cached_property
    def _mapped(self) -> dict[str, str]:
        """The kernel's names of device mapper's devices, by their own."""
        names = (name for name in listing(self._block) if name.startswith("dm-"))
        return {text_if_any(f"{self._block}/{name}/dm/name"): name for name in names}

    def _follow(self, folder: str) -> Addresses | None:
        """What a disk or partition, and everything that a dm, md or multipath device is made of, hangs on.

        None: a virtual device that does not show what it is made of (a zvol, for example).
        """
        if folder not in self._followed:
            self._followed[folder] = frozenset()  # ends a circle, which the kernel does not make
            self._followed[folder] = self._ends(folder)
        return self._followed[folder]

    def _ends(self, folder: str) -> Addresses | None:
        functions = functions_behind(folder)
        ends: list[Addresses | None] = [functions] if functions else []
        for holder in (folder, posixpath.dirname(folder)):  # a partition's disk
            ends += [self._follow(resolve(f"{holder}/slaves/{slave}")) for slave in listing(f"{holder}/slaves")]
        ends += [self._nvme_controller(controller) for controller in _nvme_controllers(folder)]
        if not ends:
            over = self._over_network(folder)
            virtual = folder.startswith(f"{self._sys}/devices/virtual/")
            if over is None and virtual and not _ON_NO_CONTROLLER.match(posixpath.basename(folder)):
                return None
            return over or frozenset()
        followed = [end for end in ends if end is not None]
        return frozenset().union(*followed) if len(followed) == len(ends) else None

    def _over_network(self, folder: str) -> Addresses | None:
        """The interfaces under a SCSI host that is made of software; None if it is none, or they cannot be told.

        FCoE's host is below its interface. iSCSI's is below no device (devices/platform/host3/session1): it names the
        interface to which it is bound, or none, and the addresses of the other side, which routes of the table main
        lead to. Where it names none and no route matches (policy routing), its interface is protected only if it has
        another route or a global IPv6 address. Offloading adapters and iSER have their PCI function above them.
        """
        over = _OVER_INTERFACE.match(folder)
        if over:
            return self._network.interface(over[1]) or None
        found = _ABOVE_SCSI_HOST.match(folder)
        if not found or not exists(f"{found[0]}/iscsi_host"):
            return None
        host, name = found[0], found[1]
        carrying = self._network.interface(_unsteady(f"{host}/iscsi_host/{name}/netdev"))
        for session in (entry for entry in listing(host) if entry.startswith("session")):
            for connection in (c for c in listing(f"{host}/{session}") if c.startswith("connection")):
                attributes = f"{host}/{session}/{connection}/iscsi_connection/{connection}"
                other = _unsteady(f"{attributes}/address") or _unsteady(f"{attributes}/persistent_address")
                carrying |= self._network.towards(other)
        return carrying

    def _nvme_controller(self, folder: str) -> Addresses | None:
        """A controller's function; over IP the interfaces to which it is bound or whose routes lead there.

        Over Fibre Channel: the adapter with the port's name. None for the local target, and what names none.
        """
        functions = functions_behind(folder)
        if functions:
            return functions
        transport = text_if_any(f"{folder}/transport")
        pairs = (pair.partition("=") for pair in _unsteady(f"{folder}/address").split(","))
        told = {key.strip(): value for key, _, value in pairs}
        if transport in _NVME_OVER_IP:
            return self._network.interface(told.get("host_iface", "")) | self._network.towards(told.get("traddr", ""))
        return self._fibre_channel(told.get("host_traddr", "")) if transport == "fc" else None

    def _fibre_channel(self, port: str) -> Addresses | None:
        """The adapter with a port: nn-0x<node>:pn-0x<port>."""
        wanted = port.rpartition("pn-")[2].lower()
        for name in listing(f"{self._sys}/class/fc_host"):
            folder = f"{self._sys}/class/fc_host/{name}"
            if wanted and text_if_any(f"{folder}/port_name").lower() == wanted:
                return functions_behind(resolve(folder)) or None
        return None


def _unescape(field: str) -> str:
    r"""Undo the octal escapes of /proc (\040 is a space)."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field) if "\\" in field else field


def _unsteady(path: str) -> str:
    """A file that fails to be read while a connection is down; empty then."""
    try:
        return text_if_any(path)
    except OSError:
        return ""


def _nvme_controllers(folder: str) -> list[str]:
    """What a multipath head or a disk over a network hangs on (the kernel keeps both among virtual devices)."""
    head = _NVME_HEAD.match(folder)
    if head:
        links = (f"{head[0]}/{name}" for name in listing(head[0]) if name.startswith("nvme"))
        return [resolve(link) for link in links if link_target(link) is not None]
    fabrics = _NVME_FABRICS.match(folder)
    return [fabrics[0]] if fabrics else []
