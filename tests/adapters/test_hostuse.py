from __future__ import annotations

from pathlib import Path

import pytest

from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from tests.fakes.sysfs_tree import DISK, GPU, OTHER, SysfsTree, storage_and_network


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return storage_and_network(tmp_path)


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


def everything_stored(tree: SysfsTree, *texts: str) -> bool:
    """Whether both storage controllers, and nothing else, count, with a text that says why."""
    found = uses(tree)
    return set(found) == {DISK, OTHER} and all(
        any(text in w for w in what) for what in found.values() for text in texts
    )


def test_zfs_could_be_on_any_storage_controller(tree: SysfsTree) -> None:
    tree.mount("0:60", "/tank/data", "zfs", "tank/data")
    tree.mount("0:61", "/tank", "zfs", "tank")
    assert everything_stored(
        tree, "may carry the file system that is mounted on /tank (the ZFS pool tank cannot be followed"
    )
    assert all(len(what) == 1 for what in uses(tree).values())


def test_an_imported_zfs_pool_counts_without_a_mount(tree: SysfsTree) -> None:
    pool = tree.root / "proc/spl/kstat/zfs/tank"
    pool.mkdir(parents=True)
    (pool / "state").write_text("ONLINE\n")
    assert everything_stored(tree, "the ZFS pool tank, which is imported")


def test_bcachefs_is_followed_to_the_devices_that_it_lists_or_could_be_anywhere(tree: SysfsTree) -> None:
    tree.mount("0:60", "/", "bcachefs", "/dev/nvme0n1p1:/dev/nvme0n1")
    assert set(uses(tree)) == {OTHER}
    tree.mount("0:61", "/srv", "bcachefs", "/dev/nvme0n1p1:/dev/gone")
    assert everything_stored(tree, "/srv")
    tree.mounts.clear()
    tree.mount("0:61", "/srv", "bcachefs", "UUID=1-2-3")
    assert everything_stored(tree, "/srv")


@pytest.mark.parametrize(
    ("number", "kind", "source"),
    [
        ("0:60", "gpfs", "/dev/gpfs0"),
        ("0:60", "fuseblk", "/dev/sdz1"),
        ("0:60", "btrfs", "/dev/root"),
        ("8:99", "ext4", "/dev/root"),
        ("8:99", "ext4", "none"),
    ],
)
def test_any_mount_of_a_device_that_cannot_be_followed_could_be_anywhere(
    tree: SysfsTree, number: str, kind: str, source: str
) -> None:
    tree.mount(number, "/x", kind, source)
    assert everything_stored(tree, "mounted on /x", "cannot be followed")


@pytest.mark.parametrize("kind", ["devtmpfs", "devpts", "tmpfs", "fuse", "fuse.lxcfs", "overlay"])
def test_pseudo_file_systems_need_no_device_whatever_their_source(tree: SysfsTree, kind: str) -> None:
    tree.mount("0:60", "/x", kind, "/dev/fuse")
    assert uses(tree) == {}


def test_a_mounted_zvol_could_be_anywhere(tree: SysfsTree) -> None:
    tree.disk("zd0", "230:0")
    tree.mount("230:0", "/x", "ext4", "/dev/zd0")
    assert everything_stored(tree, "(zd0 cannot be followed")


def test_btrfs_over_several_devices_needs_all_of_them(tree: SysfsTree) -> None:
    tree.btrfs("0a-1b", "nvme0n1p1", "sda2")
    tree.mount("0:45", "/", "btrfs", "/dev/nvme0n1p1")
    assert set(uses(tree)) == {DISK, OTHER}
    assert uses(tree)[DISK] == {"carries sda2, which is part of a mounted btrfs"}


def test_btrfs_with_an_unknown_source_is_among_those_that_the_kernel_lists(tree: SysfsTree) -> None:
    tree.btrfs("0a-1b", "nvme0n1p1")
    tree.mount("0:45", "/", "btrfs", "/dev/root")
    assert set(uses(tree)) == {OTHER}


def test_members_of_stacked_devices_count_without_a_mount(tree: SysfsTree) -> None:
    for number in (2, 3, 10):
        tree.over(f"dm-{number}", f"253:{number}", "sda2")
    tree.holder("sda2", "dm-10", "dm-3", "dm-2")
    tree.over("dm-11", "253:11", "dm-2")
    tree.holder("dm-2", "dm-11")
    assert uses(tree) == {DISK: {"carries sda2, which is part of dm-2"}}


def test_an_empty_folder_of_holders_is_no_use(tree: SysfsTree) -> None:
    tree.holder("sda")
    tree.nvme_multipath("nvme1n1", "259:5", ("nvme1", OTHER))
    assert uses(tree) == {}


def test_loop_devices_over_block_devices_count_and_those_over_files_do_not(tree: SysfsTree) -> None:
    tree.loop("loop0", "7:0", "/var/lib/snap.img")
    tree.loop("loop1", "7:1", "/dev/shm/x.img")
    assert uses(tree) == {}
    tree.loop("loop2", "7:2", "/dev/sda")
    assert uses(tree) == {DISK: {"carries /dev/sda, which is below loop2"}}


def test_a_device_node_that_is_mounted_for_a_pod_counts(tree: SysfsTree) -> None:
    tree.mount("0:6", "/run/masked", "devtmpfs", "udev", inside="/null")
    assert uses(tree) == {}
    tree.mount("0:6", "/var/lib/kubelet/x", "devtmpfs", "udev", inside="/sda")
    assert uses(tree) == {DISK: {"carries the device /dev/sda, which is mounted on /var/lib/kubelet/x"}}


def test_the_log_of_xfs_on_another_device_counts(tree: SysfsTree) -> None:
    tree.mount("8:1", "/", "xfs", "/dev/sda1", options=",logdev=/dev/nvme0n1p1,noquota")
    assert set(uses(tree)) == {DISK, OTHER}


def test_many_mounts_of_a_device_are_one_use_that_names_the_shortest(tree: SysfsTree) -> None:
    tree.mount("8:1", "/var/lib/kubelet/pods/1/volumes/x", "ext4", "/dev/sda1")
    tree.mount("8:1", "/var", "ext4", "/dev/sda1")
    tree.mount("8:1", "/srv", "ext4", "/dev/sda1")
    tree.mount("8:2", "/boot", "ext4", "/dev/sda2")
    seen = {DISK: {f"carries the file system that is mounted on {x}" for x in ("/srv", "/boot")}}
    assert uses(tree) == seen
    tree.mount("8:1", "/var/lib/kubelet/pods/2/volumes/x", "ext4", "/dev/sda1")
    assert uses(tree) == seen


def test_swap_counts(tree: SysfsTree) -> None:
    tree.swap("/dev/sda2")
    tree.swap("/swap\\040file", "file")
    assert uses(tree) == {DISK: {"carries the swap space /dev/sda2"}}


def test_a_swap_partition_that_cannot_be_followed_could_be_on_any_storage_controller(tree: SysfsTree) -> None:
    tree.swap("/dev/mapper/unknown")
    name = "/dev/mapper/unknown"
    what = f"may carry the swap space {name} ({name} cannot be followed to its controller)"
    assert uses(tree) == {DISK: {what}, OTHER: {what}}


@pytest.mark.parametrize(("bus", "what"), [("mdev", "mediated devices"), ("vdpa", "vDPA devices")])
def test_a_device_that_is_shared_out_counts(tree: SysfsTree, bus: str, what: str) -> None:
    folder = tree.device(GPU) / "one"
    folder.mkdir()
    (tree.sys / "bus" / bus / "devices").mkdir(parents=True)
    (tree.sys / "bus" / bus / "devices/one").symlink_to(folder)
    assert uses(tree) == {GPU: {f"carries {what}"}}


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


@pytest.mark.parametrize("name", ["zram0", "loop7", "ram1", "nbd0", "rbd0", "nullb0"])
def test_a_virtual_disk_of_memory_files_or_networks_is_on_no_controller(tree: SysfsTree, name: str) -> None:
    tree.disk(name, "252:0", None, f"{name}p1")
    assert below(tree, f"/dev/{name}") == set()
    assert below(tree, f"/dev/{name}p1") == set()


@pytest.mark.parametrize("name", ["zd0", "dm-9", "loopy", "VxVM1"])
def test_any_other_virtual_disk_that_is_made_of_nothing_cannot_be_followed(tree: SysfsTree, name: str) -> None:
    tree.disk(name, "230:0", None, f"{name}p1")
    tree.over("dm-5", "253:5", name, "sda")
    assert below(tree, f"/dev/{name}") is None
    assert below(tree, f"/dev/{name}p1") is None
    assert below(tree, "/dev/dm-5") is None


def test_a_disk_on_another_bus_is_on_no_controller(tree: SysfsTree) -> None:
    tree.disk("mmcblk0", "179:0", tree.sys / "devices/platform/mmc0")
    assert below(tree, "/dev/mmcblk0") == set()


@pytest.mark.parametrize(("transport", "expected"), [("tcp", set()), ("rdma", set()), ("fc", None), ("loop", None)])
def test_nvme_over_ip_needs_no_controller_and_over_others_cannot_be_followed(
    tree: SysfsTree, transport: str, expected: set[str] | None
) -> None:
    tree.nvme_over(transport, "nvme9n1", "259:90")
    assert below(tree, "/dev/nvme9n1") == expected


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
