from __future__ import annotations

import errno
from pathlib import Path

import pytest

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
        at("0000:01:00.0"), 0x8086, 0x10D3, 0x020000, Role.ENDPOINT, "e1000e", 12, numa_node=1
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
    read_text = Path.read_text

    def failing(path: Path) -> str:
        if path.parent.name == "0000:00:03.0":
            raise OSError(errno.ENODEV, "No such device")
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", failing)
    assert set(read(tree)) == {"0000:00:04.0"}
    assert [path.name for path in PciSysfs(tree.root).classes()] == ["0000:00:04.0"]


def test_a_host_without_pci_has_no_devices(tmp_path: Path) -> None:
    assert Kernel(tmp_path).devices() == ()


def test_the_fingerprint_differs_when_a_driver_or_the_hosts_use_has_changed(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", driver="e1000e")
    tree.nic("eth0", tree.device("0000:00:03.0"))
    kernel = Kernel(tree.root)
    seen = [kernel.fingerprint()]
    assert kernel.fingerprint() == seen[0]
    tree.bind("0000:00:03.0", "vfio-pci")
    seen.append(kernel.fingerprint())
    tree.route("eth0")
    seen.append(kernel.fingerprint())
    (tree.root / "proc/swaps").unlink()
    seen.append(kernel.fingerprint())
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("interrupts", "expected"),
    [
        (" 24:  1  0  IR-PCI-MSIX-0000:00:01.0   0-edge      virtio0-config\n", True),
        ("  2:  0  0  IO-APIC   2-edge      timer\n 24:  1  0  PCI-MSI-0000:00:01.0   0-edge  x\n", False),
        (" 24:  1  0 PCI-MSIX-0000:00:01.0   0-edge      virtio0-config\n", False),
        (" 11:  1  0  GICv3  27 Level     arch_timer\n", None),
        (None, None),
    ],
)
def test_interrupt_remapping_is_told_from_the_names_of_chips(
    tree: SysfsTree,
    interrupts: str | None,
    expected: bool | None,  # noqa: FBT001
) -> None:
    if interrupts is not None:
        (tree.root / "proc/interrupts").write_text(interrupts)
    assert Kernel(tree.root).platform().interrupt_remapping is expected


def test_the_platform_is_what_modules_and_groups_show(tree: SysfsTree) -> None:
    bare = Kernel(tree.root).platform()
    assert (bare.iommu, bare.vfio, bare.unsafe_interrupts) == (False, False, False)
    tree.pci("0000:00:03.0", group=1, driver="vfio-pci")
    parameter = tree.sys / "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    parameter.parent.mkdir(parents=True)
    parameter.write_text("Y\n")
    ready = Kernel(tree.root).platform()
    assert (ready.iommu, ready.vfio, ready.unsafe_interrupts) == (True, True, True)


def test_an_empty_folder_of_groups_is_no_iommu(tree: SysfsTree) -> None:
    (tree.sys / "kernel/iommu_groups").mkdir(parents=True)
    assert Kernel(tree.root).platform().iommu is False


def test_this_very_machine_can_be_read() -> None:
    devices = Kernel(Path("/")).devices()
    assert len({d.address for d in devices}) == len(devices)
