"""What is read of the boot, and the two files of agent and host's unit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostdev_operator.adapters.boot_facts import BootSource
from hostdev_operator.adapters.preparation import UnitFiles
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.preparation import BootFacts, DaemonLimits

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max locked memory         {locked}             {locked}             bytes
Max open files            1024                 524288               files
"""


def write(root: Path, path: str, text: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def process(root: Path, number: int, name: str, locked: str = "65536", capabilities: str = "0") -> None:
    write(root, f"proc/{number}/comm", f"{name}\n")
    write(root, f"proc/{number}/status", f"Name:\t{name}\nCapEff:\t{capabilities}\n")
    write(root, f"proc/{number}/limits", LIMITS.format(locked=locked))


def test_nothing_is_known_of_an_empty_host(tmp_path: Path) -> None:
    assert BootSource(tmp_path).facts() == BootFacts()


def test_an_intel_host_that_was_booted_by_efi(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n")
    write(tmp_path, "proc/cmdline", "BOOT_IMAGE=/vmlinuz  quiet intel_iommu=on\n")
    write(tmp_path, "proc/sys/fs/file-nr", "1504\t0\t9223372036854775807\n")
    write(tmp_path, "sys/firmware/acpi/tables/DMAR")
    write(tmp_path, "sys/firmware/efi/fw_platform_size", "64\n")
    write(tmp_path, "sys/class/iommu/dmar0/x")
    assert BootSource(tmp_path).facts() == BootFacts(
        vendor="GenuineIntel",
        table="DMAR",
        iommus=("dmar0",),
        words=("BOOT_IMAGE=/vmlinuz", "quiet", "intel_iommu=on"),
        efi=True,
        files=(1504, 9223372036854775807),
    )


def test_limits_are_those_of_libvirts_daemon_which_may_be_restarted(tmp_path: Path) -> None:
    process(tmp_path, 1, "systemd")
    process(tmp_path, 20, "libvirtd", capabilities="000001ffffffffff")
    source = BootSource(tmp_path)
    assert source.facts().daemon == DaemonLimits("libvirtd", True, 65536, 524288)
    process(tmp_path, 20, "sleep")
    assert source.facts().daemon is None
    process(tmp_path, 30, "virtqemud", locked="unlimited")
    assert source.facts().daemon == DaemonLimits("virtqemud", False, None, 524288)


def test_a_request_is_replaced_and_an_answer_read(tmp_path: Path) -> None:
    files = UnitFiles(tmp_path, tmp_path)
    assert (files.request(), files.answer()) == (None, None)
    files.ask("version 1\n")
    files.ask("version 1\nrequest 0\n")
    assert files.request() == "version 1\nrequest 0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["prepare.conf"]
    (tmp_path / "prepare.result").write_bytes(b"version 1\nfailed \xff\n")
    assert (files.answer() or "").startswith("version 1\n")


@pytest.mark.parametrize("make", ["link", "pipe", "folder"])
def test_an_answer_that_is_no_file_is_not_read(tmp_path: Path, make: str) -> None:
    path = tmp_path / "prepare.result"
    if make == "link":
        path.symlink_to("/etc/hostname")
    elif make == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(HostError, match=r"prepare\.result"):
        UnitFiles(tmp_path, tmp_path).answer()


def test_a_request_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"prepare\.conf could not be written"):
        UnitFiles(tmp_path, tmp_path / "nowhere").ask("version 1\n")
