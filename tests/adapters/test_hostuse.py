from __future__ import annotations

from pathlib import Path

import pytest

from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from tests.fakes.sysfs_tree import SysfsTree

DISK, OTHER, NIC, GPU = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:00:02.0"


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    """Two storage controllers behind root ports, a NIC, a GPU; nothing of it is used."""
    made = SysfsTree(tmp_path)
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


def uses(tree: SysfsTree) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for use in Kernel(tree.root).uses():
        found.setdefault(str(use.address), set()).add(use.what)
    return found


def below(tree: SysfsTree, path: str) -> set[str] | None:
    found = Kernel(tree.root).block_device(path)
    return None if found is None else {str(a) for a in found}


def test_an_unused_host_uses_nothing(tree: SysfsTree) -> None:
    assert uses(tree) == {}


def test_a_mounted_partition_is_found_by_its_number(tree: SysfsTree) -> None:
    tree.mount("8:1", "/", "ext4", "/dev/root")
    assert uses(tree) == {DISK: {"carries the file system that is mounted on /"}}


def test_a_mount_with_optional_fields_and_blanks_is_read(tree: SysfsTree) -> None:
    tree.mount("8:2", "/mnt/my data", "ext4", "/dev/sda2", fields="shared:1 master:2 ")
    assert uses(tree) == {DISK: {"carries the file system that is mounted on /mnt/my data"}}


def test_btrfs_has_a_number_of_its_own_and_is_found_by_its_source(tree: SysfsTree) -> None:
    tree.mount("0:45", "/", "btrfs", "/dev/nvme0n1p1")
    assert set(uses(tree)) == {OTHER}


def test_network_and_memory_file_systems_need_no_device(tree: SysfsTree) -> None:
    tree.mount("0:50", "/mnt", "nfs4", "server:/export")
    tree.mount("0:51", "/run", "tmpfs", "tmpfs")
    tree.mount("0:52", "/mnt/f", "fuse.x", "/dev/fuse")
    assert uses(tree) == {}


def test_dm_over_partitions_leads_to_all_controllers(tree: SysfsTree) -> None:
    tree.over("dm-0", "253:0", "sda2", "nvme0n1p1", dm="vg-root")
    tree.over("dm-1", "253:1", "dm-0", dm="luks-root")
    tree.mount("253:1", "/", "xfs", "/dev/mapper/luks-root")
    assert set(uses(tree)) == {DISK, OTHER}
    assert below(tree, "/dev/mapper/vg-root") == {DISK, OTHER}
    assert below(tree, "/dev/dm-1") == {DISK, OTHER}


def test_partitions_of_md_lead_to_its_members(tree: SysfsTree) -> None:
    folder = tree.over("md127", "9:127", "sda1", "nvme0n1")
    (folder / "md127p1").mkdir()
    (tree.sys / "class/block/md127p1").symlink_to(folder / "md127p1")
    (tree.sys / "dev/block/259:9").symlink_to(folder / "md127p1")
    tree.mount("259:9", "/srv", "ext4", "/dev/md127p1")
    assert set(uses(tree)) == {DISK, OTHER}


def test_a_multipath_nvme_head_leads_to_its_controllers(tree: SysfsTree) -> None:
    tree.nvme_multipath("nvme1n1", "259:5", ("nvme1", OTHER), ("nvme2", DISK))
    tree.mount("259:5", "/", "ext4", "/dev/nvme1n1")
    assert set(uses(tree)) == {DISK, OTHER}


def test_a_disk_behind_vmd_needs_its_controller_too(tree: SysfsTree) -> None:
    tree.pci("0000:00:0e.0", 0x010400)
    tree.pci("0000:00:0e.0/pci10000:e0/10000:e0:06.0", 0x060400, header=1)
    tree.pci("0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0", 0x010802)
    tree.disk("nvme2n1", "259:9", tree.device("10000:e1:00.0") / "nvme/nvme2")
    assert below(tree, "/dev/nvme2n1") == {"0000:00:0e.0", "10000:e1:00.0"}


def test_swap_counts(tree: SysfsTree) -> None:
    tree.swap("/dev/sda2")
    tree.swap("/swap\\040file", "file")
    assert uses(tree) == {DISK: {"carries the swap space /dev/sda2"}}


def test_a_swap_partition_that_cannot_be_found_closes_the_guard(tree: SysfsTree) -> None:
    tree.swap("/dev/mapper/unknown")
    assert "unknown" in closed(tree)


def test_the_default_route_counts(tree: SysfsTree) -> None:
    tree.route("eth0")
    assert uses(tree) == {NIC: {"carries the default route over eth0"}}


def test_any_route_counts_and_one_that_is_down_does_not(tree: SysfsTree) -> None:
    tree.route("eth0", "000200C0", "00FFFFFF", "0001")
    assert uses(tree) == {NIC: {"carries a network of the host (it has an IPv4 route) over eth0"}}
    tree.routes.clear()
    tree.route("eth0", flags="0002")
    assert uses(tree) == {}


def test_bridge_over_bond_over_vlan_leads_to_the_nics(tree: SysfsTree) -> None:
    tree.pci("0000:00:1e.0/0000:03:00.1")
    tree.nic("eth1", tree.device("0000:03:00.1"))
    tree.nic("bond0", None, "eth0", "eth1")
    tree.nic("bond0.7", None, "bond0")
    tree.nic("br0", None, "bond0.7")
    tree.route("br0")
    assert set(uses(tree)) == {NIC, "0000:03:00.1"}
    assert {str(a) for a in Kernel(tree.root).interface("br0")} == {NIC, "0000:03:00.1"}


def test_interfaces_in_a_circle_end(tree: SysfsTree) -> None:
    tree.nic("a", None)
    tree.nic("b", None, "a", "eth0")
    (tree.sys / "devices/virtual/net/a/lower_b").symlink_to(tree.sys / "devices/virtual/net/b")
    assert {str(x) for x in Kernel(tree.root).interface("a")} == {NIC}


@pytest.mark.parametrize("name", ["nothing", "../block/sda", ""])
def test_no_interface_has_no_devices(tree: SysfsTree, name: str) -> None:
    assert Kernel(tree.root).interface(name) == frozenset()


def test_global_ipv6_addresses_count_and_link_local_ones_do_not(tree: SysfsTree) -> None:
    tree.inet6("eth0", scope="20", address="fe800000000000000000000000000001")
    assert uses(tree) == {}
    tree.inet6("eth0")
    assert uses(tree) == {NIC: {"carries an IPv6 address of the host over eth0"}}


def test_the_ipv6_default_route_counts_and_others_do_not(tree: SysfsTree) -> None:
    tree.route6("eth0", "fe80" + "0" * 28, "40")
    assert uses(tree) == {}
    tree.route6("eth0")
    assert uses(tree) == {NIC: {"carries the default route (IPv6) over eth0"}}


def test_the_consoles_gpu_counts(tree: SysfsTree) -> None:
    (tree.device(GPU) / "boot_vga").write_text("0\n")
    assert uses(tree) == {}
    (tree.device(GPU) / "boot_vga").write_text("1\n")
    assert uses(tree) == {GPU: {"is the console's GPU (boot_vga)"}}


def closed(tree: SysfsTree) -> str:
    with pytest.raises(HostError) as caught:
        Kernel(tree.root).uses()
    assert caught.value.reason is reasons.HOST_USE_UNKNOWN
    return caught.value.message


@pytest.mark.parametrize("name", ["proc/1/mountinfo", "proc/swaps", "proc/1/net/route"])
def test_a_missing_file_closes_the_guard(tree: SysfsTree, name: str) -> None:
    (tree.root / name).unlink()
    assert Path(name).name in closed(tree)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/1/mountinfo", "27 1 8:1\n"),
        ("proc/1/net/route", "head\neth0\tzz\n"),
        ("proc/1/net/if_inet6", "x\n"),
        ("proc/1/net/ipv6_route", "zz\n"),
    ],
)
def test_a_file_that_makes_no_sense_closes_the_guard(tree: SysfsTree, name: str, text: str) -> None:
    (tree.root / name).write_text(text)
    closed(tree)


def test_a_route_over_an_interface_that_sysfs_does_not_show_closes_the_guard(tree: SysfsTree) -> None:
    """The agent's /sys is then that of another network namespace."""
    tree.route("wan0")
    assert "wan0" in closed(tree)


@pytest.mark.parametrize("path", ["/dev/sda1", "/dev/sda", "/dev/disk/by-id/ata-x-part1", "/dev/cdrom"])
def test_block_devices_are_followed_through_links(tree: SysfsTree, path: str) -> None:
    by_id = tree.root / "dev/disk/by-id"
    by_id.mkdir(parents=True)
    (by_id / "ata-x-part1").symlink_to("../../sda1")
    (tree.root / "dev/cdrom").symlink_to("/dev/sda")
    assert below(tree, path) == {DISK}


@pytest.mark.parametrize("path", ["/dev/nothing", "/dev/loop", "relative", "/dev/circle", "/dev/mapper/nothing"])
def test_a_path_that_leads_nowhere_is_unknown_and_not_unused(tree: SysfsTree, path: str) -> None:
    (tree.root / "dev/circle").symlink_to("circle")
    assert below(tree, path) is None


def test_a_virtual_disk_is_known_and_on_no_controller(tree: SysfsTree) -> None:
    tree.disk("zram0", "252:0")
    assert below(tree, "/dev/zram0") == set()


def test_slashes_in_kernel_names_are_found(tree: SysfsTree) -> None:
    tree.disk("cciss!c0d0", "104:0", tree.device(DISK))
    assert below(tree, "/dev/cciss/c0d0") == {DISK}


def test_this_very_machine_can_be_read() -> None:
    kernel = Kernel(Path("/"))
    known = {d.address for d in kernel.devices()}
    assert {use.address for use in kernel.uses()} <= known
    root = Path("/sys/class/net")
    for name in (p.name for p in root.iterdir()):
        assert all(isinstance(a, PciAddress) for a in kernel.interface(name))
