from __future__ import annotations

from pathlib import Path

import pytest

from hostdev_operator.adapters.kernel import Kernel
from tests.fakes.sysfs_tree import SysfsTree


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


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
