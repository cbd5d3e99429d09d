"""Makes up a host to be recorded: the kernel's side as a tree, libvirt's as a simulated one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.adapters.netlink import Netlink
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.ports import Host
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import ports
from tests.fakes.samples import DB, WEB
from tests.fakes.sysfs_tree import SysfsTree

AMD, INTEL, NVIDIA, SAMSUNG = 0x1022, 0x8086, 0x10DE, 0x144D
HOST_BRIDGE, ISA_BRIDGE, PCI_BRIDGE, SMBUS = 0x060000, 0x060100, 0x060400, 0x0C0500
ETHERNET, NVME, SATA, RAID = 0x020000, 0x010802, 0x010601, 0x010400
VGA, HD_AUDIO, XHCI, UCSI = 0x030000, 0x040300, 0x0C0330, 0x0C8000


class RecordedNetlink(Netlink):
    """What rtnetlink tells of VFs, by index of the PF's interface."""

    def __init__(self) -> None:
        self.said: dict[int, Mapping[int, VfConfig]] = {}

    def vfs(self, interface: int) -> Mapping[int, VfConfig]:
        return self.said.get(interface, MappingProxyType({}))


@dataclass
class Board:
    """VFIO is loaded, the guests web and db are defined and off, and nothing is plugged in.

    ``interrupts``: how the chips of message-signalled interrupts are called: IR-PCI-MSI if they are remapped.
    """

    root: Path
    interrupts: str = "IR-PCI-MSI"
    libvirt: FakeHost = field(default_factory=FakeHost)
    netlink: RecordedNetlink = field(default_factory=RecordedNetlink)
    netdevs: int = 1

    def __post_init__(self) -> None:
        self.tree = SysfsTree(self.root)
        text = f"           CPU0\n 24:          0  {self.interrupts}-0000:00:1c.0   0-edge      PCIe PME\n"
        (self.root / "proc/interrupts").write_text(text)
        (self.root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
        self.libvirt.define(WEB, "web")
        self.libvirt.define(DB, "db")

    def host(self) -> Host:
        """Its ports."""
        return replace(ports(self.libvirt), devices=Kernel(self.root, self.netlink))

    def port(self, path: str, group: int | None, vendor: int = INTEL) -> None:
        """A root port, or a port of a switch."""
        self.tree.pci(path, PCI_BRIDGE, vendor=vendor, device=0x1234, driver="pcieport", group=group, header=1)
        self.tree.express(path.rsplit("/", 1)[-1])

    def function(
        self, path: str, kind: int, driver: str | None, group: int | None, vendor: int = INTEL, device: int = 0x10D3
    ) -> Path:
        """A PCI Express function with header type 0."""
        folder = self.tree.pci(path, kind, vendor=vendor, device=device, driver=driver, group=group)
        self.tree.express(path.rsplit("/", 1)[-1])
        return folder

    def nic(self, path: str, group: int | None, name: str, mac: str, driver: str = "igb") -> Path:
        """A NIC with its interface, which is up."""
        folder = self.function(path, ETHERNET, driver, group, device=0x1521)
        self.tree.nic(name, folder)
        self.tree.mac(name, mac)
        self.netdevs += 1
        for file, text in (("ifindex", str(self.netdevs)), ("flags", "0x1003"), ("dev_port", "0")):
            (folder / "net" / name / file).write_text(text + "\n")
        return folder

    def vfs(self, pf: str, count: int, group: int, behind: str, settings: Mapping[int, VfConfig]) -> list[str]:
        """VFs of a NIC from function 10.0 of its bus on, two apart, each in a group of its own."""
        bus = pf.rsplit(":", 1)[0]
        names = [f"{bus}:{0x10 + 2 * n // 8:02x}.{2 * n % 8}" for n in range(count)]
        for n, name in enumerate(names):
            folder = self.function(f"{behind}/{name}", ETHERNET, "igbvf", group + n, device=0x1520)
            self.tree.nic(f"{pf[5:7]}v{n}", folder)
        self.tree.vfs(pf, 7, *names)
        folder = self.tree.device(pf)
        (folder / "sriov_drivers_autoprobe").write_text("1\n")
        (netdev,) = (folder / "net").iterdir()
        self.netlink.said[int((netdev / "ifindex").read_text())] = settings
        return names

    def nvme(self, path: str, group: int | None, number: int, serial: str, driver: str = "nvme") -> None:
        """An NVMe disk with one partition: nvme0n1p1 is 259:1, nvme1n1p1 259:17."""
        folder = self.function(path, NVME, driver, group, SAMSUNG, 0xA80A)
        controller, name = folder / "nvme" / f"nvme{number}", f"nvme{number}n1"
        self.tree.disk(name, f"259:{number * 16}", controller, f"{name}p1")
        (controller / "serial").write_text(serial + "\n")

    def mount(self, number: int, target: str = "/") -> None:
        """The partition of that disk is mounted."""
        self.tree.mount(f"259:{number * 16 + 1}", target, "ext4", f"/dev/nvme{number}n1p1")
