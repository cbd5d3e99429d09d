"""The hosts that the recordings of this folder are of, made up after what such boards show in /sys.

``python -m tests.recordings`` records all of them anew; test_recordings.py compares. Each has an NVMe disk with / and
two guests, web and db, which are off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.simulation.sriov import FRESH
from tests.fakes.samples import DB
from tests.recordings.board import (
    AMD,
    HD_AUDIO,
    HOST_BRIDGE,
    ISA_BRIDGE,
    NVIDIA,
    RAID,
    SATA,
    SMBUS,
    UCSI,
    VGA,
    XHCI,
    Board,
)


def amd(root: Path) -> Board:
    """A Ryzen board. A root port shares its group with the dummy host bridge of its slot, and with what is behind it.

    SMBus and the ISA bridge are one group; the eight functions 18.* of the processor are another.
    """
    board = Board(root)
    board.function("0000:00:01.0", HOST_BRIDGE, None, 0, AMD, 0x1482)
    board.port("0000:00:01.1", 0, AMD)
    board.nvme("0000:00:01.1/0000:01:00.0", 0, 0, "AMD-ROOT-0001")
    board.function("0000:00:03.0", HOST_BRIDGE, None, 1, AMD, 0x1482)
    board.port("0000:00:03.1", 1, AMD)
    board.nic("0000:00:03.1/0000:02:00.0", 1, "enp2s0", "90:e2:ba:00:01:01")
    board.port("0000:00:07.1", 2, AMD)
    board.function("0000:00:07.1/0000:03:00.3", XHCI, "xhci_hcd", 3, AMD, 0x149C)
    board.function("0000:00:14.0", SMBUS, "piix4_smbus", 4, AMD, 0x790B)
    board.function("0000:00:14.3", ISA_BRIDGE, None, 4, AMD, 0x790E)
    for function in range(8):
        driver = "k10temp" if function == 3 else None
        board.function(f"0000:00:18.{function}", HOST_BRIDGE, driver, 5, AMD, 0x1440 + function)
    board.mount(0)
    return board


def gpu(root: Path) -> Board:
    """A graphics card of four functions in one group: GPU, audio, USB, USB-C. Another one is the console's."""
    board = Board(root)
    board.port("0000:00:01.0", 1)
    card = "0000:00:01.0/0000:01:00"
    board.function(f"{card}.0", VGA, "nouveau", 2, NVIDIA, 0x1E84)
    board.function(f"{card}.1", HD_AUDIO, "snd_hda_intel", 2, NVIDIA, 0x10F8)
    board.function(f"{card}.2", XHCI, "xhci_hcd", 2, NVIDIA, 0x1AD8)
    board.function(f"{card}.3", UCSI, "nvidia-gpu", 2, NVIDIA, 0x1AD9)
    console = board.function("0000:00:02.0", VGA, "i915", 3, device=0x3E92)
    (console / "boot_vga").write_text("1\n")
    board.tree.object("class/graphics", "fb0", console)
    board.port("0000:00:1d.0", 4)
    board.nvme("0000:00:1d.0/0000:02:00.0", 5, 0, "GPU-ROOT-0001")
    board.mount(0)
    return board


def sriov_bond(root: Path) -> Board:
    """Both ports of a NIC are in bond0, which has the default route. The first has four VFs; db has the second."""
    board = Board(root)
    board.port("0000:00:1c.0", 1)
    ports = ("0000:01:00.0", "0000:01:00.1")
    for function, address in enumerate(ports):
        board.nic(f"0000:00:1c.0/{address}", 2 + function, f"enp1s0f{function}", f"90:e2:ba:00:02:0{function + 1}")
    used = VfConfig(mac="52:54:00:00:02:0a", vlan=42)
    vfs = board.vfs(ports[0], 4, 10, "0000:00:1c.0", {n: used.or_else(FRESH) if n == 1 else FRESH for n in range(4)})
    board.tree.nic("bond0")
    for function in range(2):
        board.tree.master(f"enp1s0f{function}", "bond0")
    board.tree.route("bond0")
    board.nvme("0000:00:1d.0", 20, 0, "BOND-ROOT-001")
    board.mount(0)
    slot, number = vfs[1].rsplit(":", 1)[1].split(".")
    board.libvirt.define(
        DB,
        "db",
        f"""<interface type='hostdev' managed='yes'><mac address='{used.mac}'/><source>
        <address type='pci' domain='0x0000' bus='0x01' slot='0x{slot}' function='0x{number}'/></source></interface>""",
    )
    return board


def nvme_switch(root: Path) -> Board:
    """Behind a PCIe switch with ACS: the root disk, a spare one and a NIC; behind one without: two more disks."""
    board = Board(root)
    with_acs, without = "0000:00:1b.0/0000:01:00.0", "0000:00:1b.4/0000:10:00.0"
    for path, group in (("0000:00:1b.0", 1), (with_acs, 2), ("0000:00:1b.4", 9), (without, 10)):
        board.port(path, group)
    for slot in range(3):
        board.port(f"{with_acs}/0000:02:0{slot}.0", 3 + slot)
        board.port(f"{without}/0000:11:0{slot}.0", 10)
    board.nvme(f"{with_acs}/0000:02:00.0/0000:03:00.0", 6, 0, "SWITCH-ROOT-1")
    board.nvme(f"{with_acs}/0000:02:01.0/0000:04:00.0", 7, 1, "SWITCH-SPARE1")
    board.nic(f"{with_acs}/0000:02:02.0/0000:05:00.0", 8, "enp5s0", "90:e2:ba:00:03:01")
    board.nvme(f"{without}/0000:11:00.0/0000:12:00.0", 10, 2, "SWITCH-DATA-1")
    board.nvme(f"{without}/0000:11:01.0/0000:13:00.0", 10, 3, "SWITCH-SPARE2")
    board.mount(0)
    board.mount(2, "/srv/data")
    return board


def no_acs(root: Path) -> Board:
    """A desktop board whose root ports have no ACS: everything behind them is one group, the root disk included."""
    board = Board(root)
    for slot in range(3):
        board.port(f"0000:00:1c.{slot}", 1)
    board.nvme("0000:00:1c.0/0000:01:00.0", 1, 0, "NOACS-ROOT-01")
    board.nic("0000:00:1c.1/0000:02:00.0", 1, "enp2s0", "90:e2:ba:00:04:01")
    board.function("0000:00:1c.2/0000:03:00.0", VGA, "nouveau", 1, NVIDIA, 0x1E84)
    board.function("0000:00:17.0", SATA, "ahci", 2, device=0xA352)
    board.mount(0)
    return board


def vmd(root: Path) -> Board:
    """Intel VMD: its disks are in domain 10000, and in the group of the controller, which is in domain 0."""
    board = Board(root)
    board.function("0000:00:0e.0", RAID, "vmd", 1, device=0x9A0B)
    behind = "0000:00:0e.0/pci10000:e0"
    for slot, bus, number, serial in (("06", "e1", 0, "VMD-ROOT-0001"), ("07", "e2", 1, "VMD-SPARE-001")):
        board.port(f"{behind}/10000:e0:{slot}.0", 1)
        board.nvme(f"{behind}/10000:e0:{slot}.0/10000:{bus}:00.0", 1, number, serial)
    board.port("0000:00:1c.0", 2)
    board.nic("0000:00:1c.0/0000:01:00.0", 3, "enp1s0", "90:e2:ba:00:05:01")
    board.mount(0)
    return board


def no_iommu(root: Path) -> Board:
    """A host that was booted without its IOMMU: no groups, and no remapping of interrupts."""
    board = Board(root, "PCI-MSI")
    board.port("0000:00:1c.0", None)
    board.nic("0000:00:1c.0/0000:01:00.0", None, "enp1s0", "90:e2:ba:00:06:01")
    board.port("0000:00:1d.0", None)
    board.nvme("0000:00:1d.0/0000:02:00.0", None, 0, "NOIOMMU-ROOT1")
    board.mount(0)
    return board


HOSTS: dict[str, Callable[[Path], Board]] = {
    "amd": amd,
    "gpu": gpu,
    "sriov-bond": sriov_bond,
    "nvme-switch": nvme_switch,
    "no-acs": no_acs,
    "vmd": vmd,
    "no-iommu": no_iommu,
}
