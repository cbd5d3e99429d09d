"""Builds /sys and /proc in a folder, with links where the kernel has links (Documentation/ABI/testing/sysfs-*)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
_SWAP_HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
_HEADER_TYPE_BYTE = 14
DISK, OTHER, NIC, GPU = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:00:02.0"


class SysfsTree:
    """A host root. Devices are named by their way from the root bus: '0000:00:02.0/0000:01:00.0'."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sys = root / "sys"
        self.mounts: list[str] = []
        self.swaps: list[str] = []
        self.routes: list[str] = []
        for folder in ("sys/bus/pci/devices", "sys/class/block", "sys/class/net", "sys/dev/block", "proc/1/net", "dev"):
            (root / folder).mkdir(parents=True)
        self.mount("0:21", "/proc", "proc", "proc")
        self.write_proc()

    # -- PCI ----------------------------------------------------------------------------------------------------------

    def pci(
        self,
        path: str,
        class_code: int = 0x020000,
        *,
        vendor: int = 0x8086,
        device: int = 0x10D3,
        driver: str | None = None,
        group: int | None = None,
        header: int = 0,
        subsystem: tuple[int, int] = (0, 0),
    ) -> Path:
        """A PCI function with its configuration space's header."""
        name = path.rsplit("/", 1)[-1]
        domain_bus = path.split("/", 1)[0][:7]
        folder = self.sys / "devices" / f"pci{domain_bus}" / path
        folder.mkdir(parents=True, exist_ok=True)
        numbers = {
            "vendor": vendor,
            "device": device,
            "subsystem_vendor": subsystem[0],
            "subsystem_device": subsystem[1],
        }
        texts = {file: f"0x{number:04x}" for file, number in numbers.items()}
        for file, text in {**texts, "class": f"0x{class_code:06x}", "numa_node": "-1"}.items():
            (folder / file).write_text(text + "\n")
        config = bytearray(256)
        config[_HEADER_TYPE_BYTE] = header
        (folder / "config").write_bytes(config)
        self._link(self.sys / "bus/pci/devices" / name, folder)
        if driver:
            self.bind(name, driver)
        if group is not None:
            group_folder = self.sys / "kernel/iommu_groups" / str(group)
            (group_folder / "devices").mkdir(parents=True, exist_ok=True)
            self._link(folder / "iommu_group", group_folder)
            self._link(group_folder / "devices" / name, folder)
        return folder

    def device(self, name: str) -> Path:
        """The real folder of a PCI function."""
        return (self.sys / "bus/pci/devices" / name).resolve()

    def bind(self, name: str, driver: str | None) -> None:
        """A driver is bound, or unbound."""
        link = self.device(name) / "driver"
        link.unlink(missing_ok=True)
        if driver:
            folder = self.sys / "bus/pci/drivers" / driver
            folder.mkdir(parents=True, exist_ok=True)
            self._link(link, folder)

    def express(self, name: str) -> None:
        """It has the larger configuration space of PCI Express."""
        os.truncate(self.device(name) / "config", 4096)

    def unplug(self, name: str) -> None:
        """The device is gone. Its folder is kept elsewhere: the kernel gives no inode number twice."""
        link, gone = self.sys / "bus/pci/devices" / name, self.root / "gone"
        gone.mkdir(exist_ok=True)
        link.resolve().rename(gone / f"{name}-{len(list(gone.iterdir()))}")
        link.unlink()

    def vpd(self, name: str, **keywords: str) -> None:
        """Vital product data: a name, keywords to be read (SN='X1'), one to be written, the end."""
        fields = b"".join(k.encode() + bytes([len(v)]) + v.encode() for k, v in {**keywords, "RV": "\1"}.items())
        parts = ((0x82, b"Some card"), (0x90, fields), (0x91, b"YA\x01x"))
        large = b"".join(bytes([tag]) + len(part).to_bytes(2, "little") + part for tag, part in parts)
        (self.device(name) / "vpd").write_bytes(large + b"\x78")

    def nvme_serial(self, name: str, serial: str) -> None:
        """What the nvme driver shows while it is bound."""
        folder = self.device(name) / "nvme/nvme0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "serial").write_text(serial + "\n")

    def vfs(self, pf: str, total: int, *vfs: str) -> None:
        """The PF's files, and links between it and its VFs."""
        folder = self.device(pf)
        (folder / "sriov_totalvfs").write_text(f"{total}\n")
        (folder / "sriov_numvfs").write_text(f"{len(vfs)}\n")
        for index, vf in enumerate(vfs):
            self._link(folder / f"virtfn{index}", self.device(vf))
            self._link(self.device(vf) / "physfn", folder)

    # -- block --------------------------------------------------------------------------------------------------------

    def disk(self, name: str, number: str, parent: Path | None = None, *partitions: str) -> Path:
        """A disk below a device (virtual without one); partitions get the numbers that follow."""
        base = parent if parent is not None else self.sys / "devices/virtual"
        folder = base / "block" / name
        major, minor = number.split(":")
        self._block(folder, number)
        for count, partition in enumerate(partitions, 1):
            self._block(folder / partition, f"{major}:{int(minor) + count}")
            (folder / partition / "partition").write_text(f"{count}\n")
        return folder

    def over(self, name: str, number: str, *slaves: str, dm: str | None = None) -> Path:
        """A dm or md device over others."""
        folder = self.disk(name, number)
        (folder / "slaves").mkdir()
        for slave in slaves:
            self._link(folder / "slaves" / slave, (self.sys / "class/block" / slave).resolve())
        if dm:
            (folder / "dm").mkdir()
            (folder / "dm/name").write_text(dm + "\n")
        return folder

    def holder(self, name: str, *holders: str) -> None:
        """Links from a block device to what it is part of."""
        folder = (self.sys / "class/block" / name).resolve() / "holders"
        folder.mkdir()
        for holder in holders:
            self._link(folder / holder, (self.sys / "class/block" / holder).resolve())

    def loop(self, name: str, number: str, backing: str) -> None:
        """A loop device that is set up."""
        folder = self.disk(name, number)
        (folder / "loop").mkdir()
        (folder / "loop/backing_file").write_text(backing + "\n")

    def btrfs(self, uuid: str, *members: str) -> None:
        """The devices of a mounted btrfs."""
        for member in members:
            self._link(self.sys / "fs/btrfs" / uuid / "devices" / member, (self.sys / "class/block" / member).resolve())

    def nvme_over(self, transport: str, name: str, number: str, address: str = "") -> None:
        """An NVMe disk over a network, without multipath."""
        controller = self.sys / "devices/virtual/nvme-fabrics/ctl/nvme9"
        self._block(controller / name, number)
        (controller / "address").write_text(address + "\n")
        (controller / "transport").write_text(transport + "\n")

    def nvme_multipath(self, head: str, number: str, *controllers: tuple[str, str]) -> None:
        """A multipath head: its subsystem is virtual and links to the controllers (name, PCI function)."""
        subsystem = self.sys / "devices/virtual/nvme-subsystem/nvme-subsys0"
        self._block(subsystem / head, number)
        for name, pci in controllers:
            controller = self.device(pci) / "nvme" / name
            controller.mkdir(parents=True)
            self._link(subsystem / name, controller)

    def scsi_host(self, name: str, parent: Path, kind: str = "scsi_host", **attributes: str) -> Path:
        """A SCSI host below a device, with attributes in the class scsi_host, fc_host or iscsi_host."""
        folder = parent / name / kind / name
        folder.mkdir(parents=True)
        for file, text in attributes.items():
            (folder / file).write_text(text + "\n")
        self._link(self.sys / "class" / kind / name, folder)
        return parent / name

    def iscsi(self, disk: str, number: str, address: str, netdev: str = "<NULL>") -> None:
        """A disk of open-iscsi: its SCSI host hangs on no device."""
        host = self.scsi_host("host7", self.sys / "devices/platform", "iscsi_host", netdev=netdev)
        self.scsi_host("host7", self.sys / "devices/platform")
        session = host / "session1"
        connection = session / "connection1:0/iscsi_connection/connection1:0"
        connection.mkdir(parents=True)
        (connection / "address").write_text(address + "\n")
        self.disk(disk, number, session / "target7:0:0/7:0:0:1")

    def object(self, place: str, name: str, parent: Path) -> None:
        """Something of a bus or class that hangs on a device."""
        folder = parent / place.split("/")[1] / name
        folder.mkdir(parents=True)
        self._link(self.sys / place / name, folder)

    def _block(self, folder: Path, number: str) -> None:
        folder.mkdir(parents=True)
        (folder / "dev").write_text(number + "\n")
        self._link(self.sys / "class/block" / folder.name, folder)
        self._link(self.sys / "dev/block" / number, folder)

    # -- network ------------------------------------------------------------------------------------------------------

    def nic(self, name: str, parent: Path | None = None, *lower: str) -> None:
        """A netdev below a device, or a virtual one over others (bridge, bond, VLAN, macvtap)."""
        base = parent if parent is not None else self.sys / "devices/virtual"
        folder = base / "net" / name
        folder.mkdir(parents=True)
        self._link(self.sys / "class/net" / name, folder)
        for other in lower:
            below = (self.sys / "class/net" / other).resolve()
            self._link(folder / f"lower_{other}", below)
            self._link(below / f"upper_{name}", folder)

    def unplug_netdev(self, name: str) -> None:
        """The netdev is gone: its driver was unbound."""
        link = self.sys / "class/net" / name
        shutil.rmtree(link.resolve())
        link.unlink()

    def mac(self, name: str, address: str, assigned: int = 0) -> None:
        """An interface's MAC; assigned: 0 for its maker's, 1 for a random one, 3 for one that was set."""
        folder = self.sys / "class/net" / name
        (folder / "address").write_text(address + "\n")
        (folder / "addr_assign_type").write_text(f"{assigned}\n")

    def master(self, port: str, name: str) -> None:
        """An interface becomes a port of another one, as of a bridge, bond or ovs-system."""
        below, above = ((self.sys / "class/net" / one).resolve() for one in (port, name))
        self._link(below / "master", above)
        self._link(below / f"upper_{name}", above)
        self._link(above / f"lower_{port}", below)

    # -- /proc --------------------------------------------------------------------------------------------------------

    def mount(
        self,
        number: str,
        target: str,
        kind: str,
        source: str,
        fields: str = "",
        *,
        inside: str = "/",
        options: str = "",
    ) -> None:
        """A line of mountinfo; ``fields`` are the optional ones, such as 'shared:1 '; ``inside`` is a bind's root."""
        escaped = target.replace(" ", "\\040")
        line = f"27 1 {number} {inside} {escaped} rw,relatime {fields}- {kind} {source} rw,discard{options}\n"
        self.mounts.append(line)
        self.write_proc()

    def swap(self, path: str, kind: str = "partition") -> None:
        """A swap space."""
        self.swaps.append(f"{path}{' ' * 32}{kind}\t8388604\t\t0\t\t-2\n")
        self.write_proc()

    def route(self, name: str, destination: str = "00000000", mask: str = "00000000", flags: str = "0003") -> None:
        """A line of the IPv4 routing table; the default route unless told otherwise."""
        self.routes.append(f"{name}\t{destination}\t010200C0\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0".ljust(127) + "\n")
        self.write_proc()

    def write_proc(self) -> None:
        """Write the files of /proc anew."""
        init = self.root / "proc/1"
        (init / "mountinfo").write_text("".join(self.mounts))
        (self.root / "proc/swaps").write_text(_SWAP_HEAD + "".join(self.swaps))
        (init / "net/route").write_text(_ROUTE_HEAD.ljust(127) + "\n" + "".join(self.routes))

    def inet6(self, name: str, scope: str = "00", address: str = "fd000000000000000000000000000002") -> None:
        """An IPv6 address."""
        with (self.root / "proc/1/net/if_inet6").open("a") as file:
            file.write(f"{address} 04 40 {scope} 82 {name:>8}\n")

    def route6(self, name: str, destination: str = "0" * 32, length: str = "00", flags: str = "00000003") -> None:
        """An IPv6 route; the default route unless told otherwise."""
        with (self.root / "proc/1/net/ipv6_route").open("a") as file:
            file.write(
                f"{destination} {length} {'0' * 32} 00 {'0' * 32} 00000400 00000002 00000000 {flags} {name:>8}\n"
            )

    def _link(self, link: Path, target: Path) -> None:
        """Relative, as the kernel's are."""
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent.resolve()))


def storage_and_network(root: Path) -> SysfsTree:
    """Two storage controllers behind root ports, a NIC, a GPU; nothing of it is used."""
    made = SysfsTree(root)
    made.pci("0000:00:1c.0", 0x060400, header=1)
    made.pci(f"0000:00:1c.0/{DISK}", 0x010601)
    made.pci(f"0000:00:1d.0/{OTHER}", 0x010802)
    made.pci(f"0000:00:1e.0/{NIC}")
    made.pci(GPU, 0x030000)
    ata = made.device(DISK) / "ata1/host0/target0:0:0/0:0:0:0"
    made.disk("sda", "8:0", ata, "sda1", "sda2")
    made.disk("nvme0n1", "259:0", made.device(OTHER) / "nvme/nvme0", "nvme0n1p1")
    made.nic("eth0", made.device(NIC))
    return made
