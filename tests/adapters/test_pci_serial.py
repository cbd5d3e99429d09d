from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from hostdev_operator.adapters import sysfs
from hostdev_operator.adapters.kernel import Kernel
from tests.adapters.test_sysfs import read
from tests.fakes.sysfs_tree import SysfsTree


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


def test_vital_product_data_come_first_then_nvme_then_the_kernels_serial_number(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", 0x010802)
    serials = []
    (tree.device("0000:00:03.0") / "serial_number").write_text("00-a0-c9-00-00-00-00-07\n")
    serials.append(read(tree)["0000:00:03.0"].serial)
    tree.nvme_serial("0000:00:03.0", "  S5GXNX0R  ")
    serials.append(read(tree)["0000:00:03.0"].serial)
    tree.vpd("0000:00:03.0", PN="1234", SN="VPD-7 ", V0="x")
    serials.append(read(tree)["0000:00:03.0"].serial)
    assert serials == ["00-a0-c9-00-00-00-00-07", "S5GXNX0R", "VPD-7"]
    assert read(tree)["0000:00:03.0"].serial_source == "VPD"


@pytest.mark.parametrize("number", ["00-00-00-00-00-00-00-00", "ff-ff-ff-ff-ff-ff-ff-ff", ""])
def test_a_serial_number_that_says_nothing_is_skipped(tree: SysfsTree, number: str) -> None:
    tree.pci("0000:00:03.0")
    (tree.device("0000:00:03.0") / "serial_number").write_text(number + "\n")
    assert read(tree)["0000:00:03.0"].serial is None
    tree.vpd("0000:00:03.0", SN="7")
    assert read(tree)["0000:00:03.0"].serial == "7"


@pytest.mark.parametrize(
    ("vpd", "expected"),
    [
        (b"", None),
        (b"\xff" * 64, None),
        (b"\0" * 64, None),
        (b"\x78", None),
        (b"\x90\x05\0SN\x02AB\x78", "AB"),
        (b"\x90\x05\0PN\x02AB\x78", None),
        (b"\x90\xff\0SN\x10AB", "AB"),
        (b"\x90\x08\0SN\x05A\x07\xffB\0\x78", "AB"),
        (b"\x90\x05\0SN\x02  \x78", None),
        (b"\x90\x43\0SN\x41" + b"A" * 65, "A" * 64),
        (b"\x82\xff\xff", None),
        (b"\x82\0\x20" + b"\0" * 0x2000 + b"\x90\x05\0SN\x02AB\x78", "AB"),
    ],
)
def test_vital_product_data_of_any_shape_is_survived(tree: SysfsTree, vpd: bytes, expected: str | None) -> None:
    tree.pci("0000:00:03.0")
    (tree.device("0000:00:03.0") / "vpd").write_bytes(vpd)
    assert read(tree)["0000:00:03.0"].serial == expected


def test_vital_product_data_that_fails_is_not_asked_for_ever(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails after a timeout, and the kernel complains each time."""
    asked = []

    def failing(path: str) -> str:
        asked.append(path)
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    tree.pci("0000:00:03.0")
    monkeypatch.setattr(sysfs, "vpd_serial", failing)
    kernel = Kernel(tree.root)
    assert [kernel.devices()[0].serial for _ in range(9)] == [None] * 9
    assert len(asked) == 3


def test_bridges_are_not_asked_for_a_serial_number(tree: SysfsTree) -> None:
    tree.pci("0000:00:1c.0", 0x060400, header=1)
    tree.vpd("0000:00:1c.0", SN="7")
    assert read(tree)["0000:00:1c.0"].serial is None


def test_an_nvme_serial_is_kept_when_the_driver_that_told_it_is_gone_and_not_for_another_device(
    tree: SysfsTree,
) -> None:
    tree.pci("0000:00:03.0", 0x010802, driver="vfio-pci")
    kernel = Kernel(tree.root)
    assert kernel.devices()[0].serial is None
    tree.nvme_serial("0000:00:03.0", "S1")
    assert kernel.devices()[0].serial == "S1"
    shutil.rmtree(tree.device("0000:00:03.0") / "nvme")
    assert kernel.devices()[0].serial == "S1"
    tree.unplug("0000:00:03.0")
    tree.pci("0000:00:03.0", 0x010802)
    assert kernel.devices()[0].serial is None
