"""Captures of a host what the agent's observe reads, and nothing that is secret.

What other adapters begin to read must be added here: tests/adapters/replaying.py compares what is seen of a host with
what is seen of its recording, for each made-up host of the adapters' own tests.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..core.errors import HostError
from ..core.recording import HEAD, NETLINK, STATE, Entry, Head, LibvirtAnswers, Link, libvirt_tree, netlink_text
from ..core.sriov import VfConfig
from ..ports import Host, Hypervisor
from .files import absolute, link_target, listing, opened, read_lines, resolve, text_if_any
from .libvirt_connection import LibvirtConnection

log = logging.getLogger(__name__)

_FUNCTION_FILES = (
    "boot_vga",
    "class",
    "device",
    "numa_node",
    "serial_number",
    "sriov_drivers_autoprobe",
    "sriov_totalvfs",
    "subsystem_device",
    "subsystem_vendor",
    "vendor",
)
_FUNCTION_LINKS = re.compile(r"driver|iommu_group|physfn|virtfn\d+")
_NETDEV_FILES = ("addr_assign_type", "address", "dev_port", "flags", "ifindex")
_NETDEV_LINKS = re.compile(r"master|(?:upper|lower)_.*")
_BLOCK_FILES = ("dev", "dm/name", "loop/backing_file", "partition")
_NVME_FILES = ("address", "transport")
_CONNECTION_FILES = ("address", "persistent_address")
# Folders of links to what hangs on a device; where it leads is all that is asked.
_LINKED = (
    "sys/bus/mdev/devices",
    "sys/bus/vdpa/devices",
    "sys/class/graphics",
    "sys/class/tpm",
    "sys/dev/block",
    "sys/devices/virtual/nvme-subsystem/*",
    "sys/fs/btrfs/*/devices",
)
_HEADER_BYTES = 64  # what anybody may read
_MOUNT_OPTIONS = re.compile(r"(?:logdev|rtdev)=")
_DEV_DEPTH = 3
_NOT_IN_DEV = frozenset(["char", "fd", "shm"])


def capture(host_root: Path, host: Host, state_dir: Path, head: Head) -> dict[str, Entry]:
    """A recording of the host below ``host_root``. What libvirt does not tell is recorded as such."""
    recorder = _Recorder(host_root)
    recorder.kernel()
    for device in host.devices.devices():
        if device.serial_source == "VPD" and device.serial:
            recorder.vpd(str(device.address), device.serial)
    vfs = {pf.netdev: pf.vfs for pf in host.devices.pfs() if pf.netdev}
    return {
        **recorder.tree,
        **libvirt_tree(_ask(host.hypervisor, host)),
        **_state(state_dir),
        NETLINK: netlink_text(recorder.by_index(vfs)).encode(),
        HEAD: head.to_json().encode(),
    }


def versions(host_root: Path, connection: LibvirtConnection) -> dict[str, str]:
    """Of this program, the kernel and libvirt (none if it does not answer)."""
    found = {"hostdev-operator": __version__}
    with suppress(OSError):
        found["kernel"] = (host_root / "proc/sys/kernel/osrelease").read_text().strip()
    with suppress(HostError):
        number = connection.get().getLibVersion()  # major * 1,000,000 + minor * 1,000 + release
        found["libvirt"] = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    return found


def _ask(hypervisor: Hypervisor, host: Host) -> LibvirtAnswers:
    """XML as the agent asks for it: without VIR_DOMAIN_XML_SECURE, so without passwords."""
    try:
        return LibvirtAnswers(
            hypervisor.guests(),
            hypervisor.networks(),
            hypervisor.storage_pools(),
            hypervisor.names(tuple(device.address for device in host.devices.devices())),
            hypervisor.rejections(),
        )
    except HostError as error:
        log.warning("libvirt is recorded as not answering: %s", error.message)
        return LibvirtAnswers(trouble=error.message)


def _state(state_dir: Path) -> dict[str, Entry]:
    """The journal as it stands there, even if it is broken."""
    found: dict[str, Entry] = {}
    for pattern in ("*/*.json", "sriov.conf"):
        for path in sorted(state_dir.glob(pattern)):
            with suppress(OSError):  # a record that was dropped meanwhile
                found[f"{STATE}/{path.relative_to(state_dir)}"] = path.read_bytes()
    return found


class _Recorder:
    """What of /sys, /proc and /dev counts. What goes away while it is read is left out."""

    def __init__(self, host_root: Path) -> None:
        self._root = absolute(host_root).rstrip("/")
        self.tree: dict[str, Entry] = {}

    def kernel(self) -> None:
        """All of it."""
        self._functions()
        self._groups()
        self._netdevs()
        self._block_devices()
        self._scsi_hosts()
        for folder in self._matching(_LINKED):
            self._links(folder)
        for folder in self._matching(["sys/devices/virtual/nvme-fabrics/ctl/*"]):
            self._files(folder, _NVME_FILES)
        self._proc()
        self._device_nodes("dev", _DEV_DEPTH)

    def vpd(self, name: str, serial: str) -> None:
        """Of the vital product data the serial number alone: reading all of it takes seconds on some cards."""
        field = b"SN" + bytes([len(serial)]) + serial.encode()
        folder = self._leads(f"sys/bus/pci/devices/{name}")
        self.tree[f"{folder}/vpd"] = b"\x90" + len(field).to_bytes(2, "little") + field + b"\x78"

    def by_index(self, vfs: Mapping[str, Mapping[int, VfConfig]]) -> dict[int, Mapping[int, VfConfig]]:
        """What was found by an interface's name, by its index."""
        found = {}
        for name, settings in vfs.items():
            index = text_if_any(self._path(f"sys/class/net/{name}/ifindex"))
            if index.isdigit():
                found[int(index)] = settings
        return found

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _leads(self, path: str) -> str:
        """Where a link of /sys leads, as a path of the recording; OSError if nothing is there."""
        return resolve(self._path(path)).removeprefix(f"{self._root}/")

    def _file(self, path: str) -> None:
        with suppress(OSError, ValueError), opened(self._path(path)) as descriptor:
            self.tree[path] = os.read(descriptor, 4096)

    def _files(self, folder: str, names: Iterable[str]) -> None:
        for name in names:
            self._file(f"{folder}/{name}")

    def _link(self, path: str) -> bool:
        target = link_target(self._path(path))
        if target is not None:
            if target.startswith(f"{self._root}/"):  # the kernel's are relative; a recording's all must be
                target = os.path.relpath(target, os.path.dirname(self._path(path)))  # noqa: PTH120
            self.tree[path] = Link(target)
        return target is not None

    def _links(self, folder: str, wanted: re.Pattern[str] | None = None) -> None:
        for name in self._list(folder):
            if wanted is None or wanted.fullmatch(name):
                self._link(f"{folder}/{name}")

    def _list(self, folder: str) -> list[str]:
        try:
            return sorted(listing(self._path(folder)))
        except OSError:
            return []

    def _folder(self, path: str) -> bool:
        there = Path(self._path(path)).is_dir()
        if there:
            self.tree[path] = None
        return there

    def _matching(self, patterns: Iterable[str]) -> Iterator[str]:
        """Folders by patterns; a * is one part of the path."""
        for pattern in patterns:
            before, star, after = pattern.partition("/*")
            yield from (f"{before}/{name}{after}" for name in self._list(before)) if star else (before,)

    def _linked(self, folder: str) -> Iterator[str]:
        """Records the links of a class or bus; where each leads."""
        self._folder(folder)
        for name in self._list(folder):
            if self._link(f"{folder}/{name}"):
                with suppress(OSError):
                    yield self._leads(f"{folder}/{name}")

    # -- /sys ---------------------------------------------------------------------------------------------------------

    def _functions(self) -> None:
        for folder in self._linked("sys/bus/pci/devices"):
            self._folder(folder)
            self._files(folder, _FUNCTION_FILES)
            self._links(folder, _FUNCTION_LINKS)
            self._config(f"{folder}/config")
            entries = self._list(folder)
            for parent in (folder, *(f"{folder}/{name}" for name in entries if name.startswith("virtio"))):
                self._folder(f"{parent}/net")  # empty, it says that the interface is in another namespace
            for name in self._list(f"{folder}/infiniband"):
                self._folder(f"{folder}/infiniband/{name}")
            for name in self._list(f"{folder}/nvme"):
                self._file(f"{folder}/nvme/{name}/serial")

    def _config(self, path: str) -> None:
        """The header, and how much there is behind it: the size tells PCI Express."""
        with suppress(OSError), opened(self._path(path)) as config:
            head = os.pread(config, _HEADER_BYTES, 0)
            self.tree[path] = head.ljust(os.fstat(config).st_size, b"\0")

    def _groups(self) -> None:
        for name in self._list("sys/kernel/iommu_groups"):
            self._folder(f"sys/kernel/iommu_groups/{name}")
        self._file("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts")
        self._folder("sys/bus/pci/drivers/vfio-pci")

    def _netdevs(self) -> None:
        for folder in self._linked("sys/class/net"):
            self._folder(folder)
            self._files(folder, _NETDEV_FILES)
            self._links(folder, _NETDEV_LINKS)

    def _block_devices(self) -> None:
        for folder in self._linked("sys/class/block"):
            self._folder(folder)
            self._files(folder, _BLOCK_FILES)
            for name in ("holders", "slaves"):
                self._links(f"{folder}/{name}")

    def _scsi_hosts(self) -> None:
        """``folder`` is such as .../host3/scsi_host/host3; what iSCSI says of its sessions is below .../host3."""
        for kind in ("scsi_host", "fc_host", "iscsi_host"):
            for folder in self._linked(f"sys/class/{kind}"):
                self._folder(folder)
                self._files(folder, ("port_name", "netdev"))
                if kind == "iscsi_host":
                    self._sessions(posixpath.dirname(posixpath.dirname(folder)))

    def _sessions(self, host: str) -> None:
        for session in (name for name in self._list(host) if name.startswith("session")):
            for connection in (n for n in self._list(f"{host}/{session}") if n.startswith("connection")):
                self._files(f"{host}/{session}/{connection}/iscsi_connection/{connection}", _CONNECTION_FILES)

    # -- /proc and /dev -----------------------------------------------------------------------------------------------

    def _proc(self) -> None:
        for path, change in _PROC.items():
            with suppress(OSError):
                lines = read_lines(self._path(path))
                text = "".join(f"{change(line)}\n" for line in lines)
                self.tree[path] = text.encode(errors="surrogateescape")
        for pool in self._list("proc/spl/kstat/zfs"):
            self._file(f"proc/spl/kstat/zfs/{pool}/state")

    def _device_nodes(self, folder: str, depth: int) -> None:
        """Links within /dev, such as disk/by-id and mapper: guests' disks are named by them."""
        for name in self._list(folder):
            path = f"{folder}/{name}"
            target = link_target(self._path(path))
            if target is not None:
                leads = posixpath.normpath(posixpath.join("/", folder, target))
                if leads.startswith("/dev/"):
                    self.tree[path] = Link(posixpath.relpath(leads, f"/{folder}"))
            elif depth > 1 and name not in _NOT_IN_DEV and Path(self._path(path)).is_dir():
                self._device_nodes(path, depth - 1)


def _without_options(line: str) -> str:
    """Of a line of mountinfo: what a file system is mounted with is nobody's business but where XFS has its log."""
    before, dash, after = line.partition(" - ")
    fields = after.split(" ")
    kept = [option for option in fields[-1].split(",") if _MOUNT_OPTIONS.match(option)]
    return f"{before}{dash}{' '.join(fields[:-1])} {','.join(['rw', *kept])}"


def _without_counts(line: str) -> str:
    """Of a line of /proc/interrupts: how often each came, on each processor."""
    return re.sub(r"^(\s*\S+:)(?:\s+\d+)+", r"\1", line)


def _without_use(line: str) -> str:
    """Of a line of /proc/swaps: path, kind and size."""
    fields = line.split()
    return line if fields[0] == "Filename" else f"{fields[0]} {fields[1]} {fields[2]} 0 {fields[-1]}"


def _whole(line: str) -> str:
    return line


_PROC = {
    "proc/1/mountinfo": _without_options,
    "proc/1/net/if_inet6": _whole,
    "proc/1/net/ipv6_route": _whole,
    "proc/1/net/route": _whole,
    "proc/interrupts": _without_counts,
    "proc/swaps": _without_use,
    "proc/sys/kernel/random/boot_id": _whole,
}
