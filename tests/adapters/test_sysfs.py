from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostdev_operator.adapters import files, sysfs
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.adapters.sysfs import PciSysfs
from hostdev_operator.core.model import PciDevice, Role
from hostdev_operator.core.pci import PciAddress
from tests.fakes.sysfs_tree import SysfsTree


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


def at(text: str) -> PciAddress:
    return PciAddress.parse(text)


def read(tree: SysfsTree) -> dict[str, PciDevice]:
    return {str(d.address): d for d in Kernel(tree.root).devices()}


def test_an_endpoint_is_read_with_driver_group_and_ids(tree: SysfsTree) -> None:
    tree.pci("0000:00:01.0/0000:01:00.0", driver="e1000e", group=12)
    (tree.device("0000:01:00.0") / "numa_node").write_text("1\n")
    assert read(tree)["0000:01:00.0"] == PciDevice(
        at("0000:01:00.0"),
        0x8086,
        0x10D3,
        0x020000,
        Role.ENDPOINT,
        "e1000e",
        12,
        numa_node=1,
        slot_path="0000:00/01.0/00.0",
    )


def test_what_is_not_there_is_none(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0")
    device = read(tree)["0000:00:03.0"]
    assert (device.driver, device.iommu_group, device.numa_node, device.physfn) == (None, None, None, None)


@pytest.mark.parametrize(
    ("path", "class_code", "header", "driver", "role"),
    [
        ("0000:00:02.0", 0x030000, 0x80, None, Role.ENDPOINT),
        ("0000:00:1c.0", 0x060400, 0x81, "pcieport", Role.ROOT_PORT),
        ("0000:00:1c.0", 0x060400, 0x01, None, Role.BRIDGE),
        ("0000:00:1c.0/0000:01:00.0", 0x060400, 0x01, "pcieport", Role.BRIDGE),
        ("0000:00:1e.0", 0x060700, 0x02, None, Role.BRIDGE),
        ("0000:00:00.0", 0x060000, 0x00, None, Role.HOST_BRIDGE),
        ("0000:00:1f.0", 0x060100, 0x80, "lpc_ich", Role.HOST_BRIDGE),
        ("0000:00:02.0", 0x020000, 0xFF, None, Role.ENDPOINT),
        ("0000:00:1c.0", 0x060400, 0xFF, "pcieport", Role.ROOT_PORT),
        ("0000:00:02.0", 0x088000, 0x01, None, Role.BRIDGE),
    ],
)
def test_the_role_follows_header_type_and_class(
    tree: SysfsTree, path: str, class_code: int, header: int, driver: str | None, role: Role
) -> None:
    tree.pci(path, class_code, header=header, driver=driver)
    assert read(tree)[path.rsplit("/", 1)[-1]].role is role


def test_without_a_readable_configuration_space_the_class_decides(tree: SysfsTree) -> None:
    for path, class_code in (("0000:00:1c.0", 0x060400), ("0000:00:02.0", 0x020000)):
        tree.pci(path, class_code)
        (tree.device(path) / "config").unlink()
    assert [d.role for d in read(tree).values()] == [Role.ENDPOINT, Role.BRIDGE]


def test_pf_and_vfs_know_each_other(tree: SysfsTree) -> None:
    tree.pci("0000:00:1c.0/0000:01:00.0")
    for name in ("0000:01:10.0", "0000:01:10.2"):
        tree.pci(f"0000:00:1c.0/{name}")
    tree.vfs("0000:01:00.0", 7, "0000:01:10.0", "0000:01:10.2")
    devices = read(tree)
    pf, vf = devices["0000:01:00.0"], devices["0000:01:10.2"]
    assert (pf.total_vfs, pf.num_vfs, pf.physfn) == (7, 2, None)
    assert (vf.physfn, vf.vf_index, vf.total_vfs) == (at("0000:01:00.0"), 1, 0)


def test_domains_above_ffff_are_read(tree: SysfsTree) -> None:
    tree.pci("10000:00:02.0", 0x010802)
    assert at("10000:00:02.0") in {d.address for d in Kernel(tree.root).devices()}


def test_a_device_that_vanishes_while_it_is_read_is_left_out(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0")
    (tree.device("0000:00:03.0") / "vendor").unlink()
    assert read(tree) == {}


def test_a_device_that_answers_no_more_is_left_out(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.pci("0000:00:03.0")
    tree.pci("0000:00:04.0")

    def failing(path: str) -> str:
        if "/0000:00:03.0/" in path:
            raise OSError(errno.ENODEV, "No such device")
        return files.read_text(path)

    monkeypatch.setattr(sysfs, "read_text", failing)
    assert set(read(tree)) == {"0000:00:04.0"}
    assert Kernel(tree.root).device(at("0000:00:03.0")) is None
    assert list(PciSysfs(tree.root).classes()) == ["0000:00:04.0"]


def test_one_device_is_read_by_its_address(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", driver="e1000e")
    kernel = Kernel(tree.root)
    assert kernel.device(at("0000:00:04.0")) is None
    assert (kernel.device(at("0000:00:03.0")),) == kernel.devices()
    tree.bind("0000:00:03.0", "vfio-pci")
    device = kernel.device(at("0000:00:03.0"))
    assert device is not None
    assert device.driver == "vfio-pci"
    tree.unplug("0000:00:03.0")
    assert kernel.device(at("0000:00:03.0")) is None


def test_subsystem_and_express_are_read(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", subsystem=(0x8086, 0xA01F))
    tree.express("0000:00:03.0")
    tree.pci("0000:00:04.0")
    first, second = read(tree).values()
    assert (first.subsystem_vendor, first.subsystem_device, first.express) == (0x8086, 0xA01F, True)
    assert (second.subsystem_vendor, second.subsystem_device, second.express) == (0, 0, False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("0000:00:02.0", "0000:00/02.0"),
        ("0000:00:1c.0/0000:01:00.1", "0000:00/1c.0/00.1"),
        ("0000:00:1c.0/0000:01:00.0/0000:02:05.0/0000:05:00.0", "0000:00/1c.0/00.0/05.0/00.0"),
        ("0000:80:03.2/0000:81:00.0", "0000:80/03.2/00.0"),
        ("0001:00:01.0/0001:01:00.0", "0001:00/01.0/00.0"),
        ("0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0", "0000:00/0e.0/06.0/00.0"),
        ("0000:00:0e.0/pci10007:e0/10007:e0:06.0/10007:e1:00.0", "0000:00/0e.0/06.0/00.0"),
    ],
)
def test_the_way_through_the_slots_has_no_bus_numbers_but_the_first(tree: SysfsTree, path: str, expected: str) -> None:
    tree.pci(path)
    assert read(tree)[path.rsplit("/", 1)[-1]].slot_path == expected


def two_vfs(tree: SysfsTree) -> None:
    tree.pci("0000:00:1c.0/0000:01:00.0")
    for name in ("0000:01:10.0", "0000:01:10.2"):
        tree.pci(f"0000:00:1c.0/{name}")
    tree.vfs("0000:01:00.0", 7, "0000:01:10.0", "0000:01:10.2")


def test_vfs_know_the_permanent_mac_of_their_pf(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch) -> None:
    two_vfs(tree)
    kernel = Kernel(tree.root)
    assert {d.pf_mac for d in kernel.devices()} == {None}
    pf = tree.device("0000:01:00.0")
    tree.nic("representor", pf)
    tree.mac("representor", "0e:00:00:00:00:01", 1)
    tree.nic("eth0", pf)
    tree.mac("eth0", "A0:36:9F:00:00:07")
    asked: list[str] = []
    permanent_mac = sysfs.permanent_mac

    def ask(net: str) -> str | None:
        asked.append(net)
        return permanent_mac(net)

    monkeypatch.setattr(sysfs, "permanent_mac", ask)
    assert [d.pf_mac for d in kernel.devices()] == [None, "a0:36:9f:00:00:07", "a0:36:9f:00:00:07"]
    assert len(asked) == 1
    for address, assigned in (("a0:36:9f:00:00:07", 3), ("00:00:00:00:00:00", 0), ("80:00:02:08:fe:80:00:00", 0)):
        tree.mac("eth0", address, assigned)
        assert {d.pf_mac for d in kernel.devices()} == {None}


def test_a_link_to_the_pf_that_comes_late_is_seen(tree: SysfsTree) -> None:
    for path in ("0000:00:1c.0/0000:01:00.0", "0000:00:1c.0/0000:01:10.0"):
        tree.pci(path)
    (tree.device("0000:01:00.0") / "sriov_totalvfs").write_text("7\n")
    kernel = Kernel(tree.root)
    assert [(d.physfn, d.num_vfs) for d in kernel.devices()] == [(None, 0), (None, 0)]
    tree.vfs("0000:01:00.0", 4, "0000:01:10.0")
    pf, vf = kernel.devices()
    assert (pf.total_vfs, pf.num_vfs, vf.physfn, vf.vf_index) == (4, 1, pf.address, 0)


def test_what_never_changes_is_read_once(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.pci("0000:00:03.0", driver="e1000e", group=3, subsystem=(1, 2))
    tree.pci("0000:00:1c.0", 0x060400, header=1)
    kernel = Kernel(tree.root)
    before = kernel.devices()
    asked: list[str] = []
    monkeypatch.setattr(sysfs, "read_text", asked.append)
    assert kernel.devices() == before
    assert asked == []
    tree.bind("0000:00:03.0", None)
    tree.bind("0000:00:1c.0", "pcieport")
    (tree.device("0000:00:03.0") / "iommu_group").unlink()
    after = kernel.devices()
    assert [(d.driver, d.iommu_group, d.role) for d in after] == [
        (None, None, Role.ENDPOINT),
        ("pcieport", None, Role.ROOT_PORT),
    ]
    assert after[0].identity == before[0].identity


@pytest.mark.parametrize("config", [None, b"", b"\xff" * 64])
def test_what_could_not_be_read_is_read_again(tree: SysfsTree, config: bytes | None) -> None:
    tree.pci("0000:00:1c.0", 0x068000)
    file = tree.device("0000:00:1c.0") / "config"
    whole = file.read_bytes()
    file.unlink()
    if config is not None:
        file.write_bytes(config)
    kernel = Kernel(tree.root)
    assert kernel.devices()[0].role is Role.BRIDGE
    file.write_bytes(whole)
    assert kernel.devices()[0].role is Role.HOST_BRIDGE


def test_another_device_at_the_address_is_seen(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", device=1)
    kernel = Kernel(tree.root)
    assert [d.product for d in kernel.devices()] == [1]
    for product in (2, 3):
        tree.unplug("0000:00:03.0")
        tree.pci("0000:00:03.0", device=product)
        asked = [kernel.device(at("0000:00:03.0")), *kernel.devices()]
        assert [d and d.product for d in asked] == [product] * 2


def test_a_device_that_is_replaced_while_it_is_read_is_read_again(
    tree: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.pci("0000:00:03.0", device=1)
    left = [2, 3]
    read_object = sysfs._read_object

    def replacing(path: str, name: str, known: sysfs._Object, macs: dict[PciAddress, str | None]) -> PciDevice:
        found = read_object(path, name, known, macs)
        if left:
            tree.unplug(name)
            tree.pci(name, device=left.pop(0))
        return found

    monkeypatch.setattr(sysfs, "_read_object", replacing)
    assert [d.product for d in Kernel(tree.root).devices()] == [3]
    left += [4, 5, 6]
    assert Kernel(tree.root).devices() == ()


def test_threads_that_read_while_devices_are_replaced_never_see_a_mixture(tree: SysfsTree) -> None:
    link = tree.sys / "bus/pci/devices/0000:00:03.0"
    folders = []
    for number in range(40):
        folders.append(tree.pci("0000:00:03.0", vendor=number, device=number, subsystem=(number, number)))
        folders[-1] = folders[-1].rename(tree.root / f"object{number}")
        link.unlink()
    link.symlink_to(folders[0])
    kernel = Kernel(tree.root)
    done = threading.Event()

    def look() -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []
        while not done.is_set():
            found = (*kernel.devices(), kernel.device(at("0000:00:03.0")))
            seen += [(d.vendor, d.product, d.subsystem_vendor, d.subsystem_device) for d in found if d is not None]
        return seen

    with ThreadPoolExecutor(3) as pool:
        looking = [pool.submit(look) for _ in range(3)]
        for folder in folders[1:]:
            new = tree.root / "new"
            new.symlink_to(folder)
            new.rename(link)
            assert kernel.devices()[0].vendor == int(folder.name.removeprefix("object"))
        done.set()
    for future in looking:
        seen = future.result()
        assert seen
        assert all(len(set(numbers)) == 1 for numbers in seen)


def test_a_host_without_pci_has_no_devices(tmp_path: Path) -> None:
    assert Kernel(tmp_path).devices() == ()


def test_this_very_machine_can_be_read() -> None:
    devices = Kernel(Path("/")).devices()
    assert len({d.address for d in devices}) == len(devices)
