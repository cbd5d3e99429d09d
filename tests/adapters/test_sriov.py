"""What kernels and drivers do wrong with VFs, and what is said of it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostdev_operator.adapters import deadline, sriov
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.simulation.sriov import FRESH
from tests.adapters.late_calls import wait_for_late_calls
from tests.fakes.sysfs_sriov import PF, SriovKernel
from tests.fakes.sysfs_tree import SysfsTree

ADDRESS = PciAddress.parse(PF)
SECONDS = 20.0
_write = sriov._write


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SriovKernel:
    made = SriovKernel(SysfsTree(tmp_path))
    monkeypatch.setattr(sriov, "_write", made.write)
    monkeypatch.setattr(sriov, "BUSY_SECONDS", 0.2)
    return made


@pytest.fixture
def kernel(below: SriovKernel, tmp_path: Path) -> Kernel:
    return Kernel(tmp_path, below)


def failure(call: object, *arguments: object, **options: object) -> HostError:
    with pytest.raises(HostError) as caught:
        call(*arguments, **options)  # type: ignore[operator]
    return caught.value


def netdev(kernel: Kernel) -> str | None:
    (pf,) = kernel.pfs()
    return pf.netdev


# -- the number of VFs ------------------------------------------------------------------------------------------------


def test_the_kernel_is_asked_for_no_more_than_needed(kernel: Kernel, below: SriovKernel) -> None:
    for count in (0, 7, 7, 3, 0):
        kernel.set_num_vfs(ADDRESS, count, SECONDS)
    assert below.writes == [f"sriov_numvfs={n}" for n in (7, 0, 3, 0)]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ERANGE, reasons.VF_COUNT_TOO_HIGH),
        (errno.ENOENT, reasons.SRIOV_UNSUPPORTED),
        (errno.EPERM, reasons.VFS_NOT_CREATED),
        (errno.ENOMEM, reasons.VFS_NOT_CREATED),
        (errno.EBUSY, reasons.VFS_NOT_CREATED),
    ],
)
def test_a_refusal_names_pf_number_and_cause(kernel: Kernel, below: SriovKernel, number: int, reason: Reason) -> None:
    below.refusal = number
    error = failure(kernel.set_num_vfs, ADDRESS, 5, SECONDS)
    assert error.reason is reason
    assert str(ADDRESS) in error.message
    assert reason is reasons.SRIOV_UNSUPPORTED or ("5 VFs" in error.message and os.strerror(number) in error.message)


def test_a_pf_without_driver_makes_no_vfs(kernel: Kernel, below: SriovKernel) -> None:
    below.tree.bind(PF, None)
    error = failure(kernel.set_num_vfs, ADDRESS, 5, SECONDS)
    assert error.reason is reasons.SRIOV_UNSUPPORTED
    assert "without driver" in error.message


def test_a_driver_that_makes_fewer_is_told(kernel: Kernel, below: SriovKernel) -> None:
    below.makes = 4
    error = failure(kernel.set_num_vfs, ADDRESS, 7, SECONDS)
    assert error.reason is reasons.VF_COUNT_TOO_HIGH
    assert "7 VFs" in error.message
    assert "igb has made 4" in error.message


def test_vfs_that_are_not_there_yet_are_waited_for(kernel: Kernel, below: SriovKernel) -> None:
    below.make(2)
    link = below.tree.device("0000:01:10.2") / "physfn"
    target = link.readlink()
    link.unlink()
    error = failure(kernel.set_num_vfs, ADDRESS, 2, 0.1)
    assert error.reason is reasons.VFS_NOT_CREATED
    assert "1 of them" in error.message
    later = threading.Timer(0.2, link.symlink_to, (target,))
    later.start()
    kernel.set_num_vfs(ADDRESS, 2, SECONDS)
    later.join()
    assert link.exists()


def test_old_vfs_must_be_gone(kernel: Kernel, below: SriovKernel) -> None:
    below.make(1)
    (below.folder / "sriov_numvfs").write_text("0\n")
    assert failure(kernel.set_num_vfs, ADDRESS, 0, 0.1).reason is reasons.VFS_NOT_CREATED


@pytest.fixture
def hanging(below: SriovKernel, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writes do not return before the event."""
    leave = threading.Event()

    def hang(path: str, text: str) -> None:
        leave.wait(SECONDS)
        below.write(path, text)

    monkeypatch.setattr(sriov, "_write", hang)
    yield leave
    leave.set()
    wait_for_late_calls()


def test_a_write_that_hangs_blocks_its_pf_and_the_count_of_others(
    kernel: Kernel, below: SriovKernel, hanging: threading.Event
) -> None:
    assert kernel.blocked() == frozenset()
    error = failure(kernel.set_num_vfs, ADDRESS, 3, 0.1)
    assert error.reason is reasons.DETACH_BLOCKED
    assert str(ADDRESS) in error.message
    assert kernel.blocked() == {ADDRESS}
    assert failure(kernel.set_num_vfs, ADDRESS, 4, 0.1).reason is reasons.DETACH_BLOCKED
    assert failure(kernel.set_link, ADDRESS, up=True).reason is reasons.PF_DOWN
    assert len(kernel.pfs()) == 1
    below.tree.pci("0000:02:00.0", driver="igb")
    below.tree.vfs("0000:02:00.0", 7)
    other = failure(kernel.set_num_vfs, PciAddress.parse("0000:02:00.0"), 1, SECONDS)
    assert other.reason is reasons.DETACH_BLOCKED
    assert kernel.blocked() == {ADDRESS}
    assert [w for w in (str(ADDRESS), "0000:02:00.0") if w not in other.message] == []
    hanging.set()
    wait_for_late_calls()
    assert kernel.blocked() == frozenset()
    kernel.set_num_vfs(ADDRESS, 3, SECONDS)


@pytest.mark.parametrize("call", ["set_num_vfs", "set_autoprobe"])
def test_a_file_that_cannot_be_opened_is_the_hosts_denial(
    kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(sriov, "_write", _write)
    real = os.open

    def denied(path: str, flags: int, *more: int) -> int:
        if flags & os.O_WRONLY and PF in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", denied)
    error = (
        failure(kernel.set_num_vfs, ADDRESS, 3, SECONDS)
        if call == "set_num_vfs"
        else failure(kernel.set_autoprobe, ADDRESS, on=False)
    )
    assert error.reason is reasons.PERMISSION_DENIED
    assert "Read-only" in error.message


def test_a_real_file_is_written(kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sriov, "_write", _write)
    kernel.set_autoprobe(ADDRESS, on=False)
    assert (below.folder / "sriov_drivers_autoprobe").read_text() == "0"
    assert kernel.pfs()[0].autoprobe is False


def test_a_kernel_without_autoprobe_is_told(kernel: Kernel, below: SriovKernel) -> None:
    (below.folder / "sriov_drivers_autoprobe").unlink()
    assert kernel.pfs()[0].autoprobe is None
    assert failure(kernel.set_autoprobe, ADDRESS, on=False).reason is reasons.SRIOV_UNSUPPORTED
    assert below.writes == []


# -- looking ----------------------------------------------------------------------------------------------------------


def test_a_renamed_netdev_is_found_again(kernel: Kernel, below: SriovKernel) -> None:
    below.make(1)
    (below.folder / "net/eth3").rename(below.folder / "net/ens1f0")
    kernel.configure_vf(ADDRESS, 0, VfConfig(trust=True))
    (pf,) = kernel.pfs()
    assert (pf.netdev, pf.vfs[0].trust) == ("ens1f0", True)


def test_of_two_ports_in_one_function_the_first_is_meant(kernel: Kernel, below: SriovKernel) -> None:
    below.netdev("aaa", dev_port="1", ifindex="8")
    assert netdev(kernel) == "eth3"
    (below.folder / "net/eth3/dev_port").write_text("2\n")
    assert netdev(kernel) == "aaa"


def test_the_port_of_a_bond_is_known_by_the_mac_that_it_had_before(kernel: Kernel, below: SriovKernel) -> None:
    """As the host's boot script knows it; one that was set otherwise is not known by its MAC."""
    below.tree.mac("eth3", "52:54:00:99:99:99", 3)
    assert [pf.mac for pf in kernel.pfs()] == [None]
    (below.folder / "net/eth3/bonding_slave").mkdir()
    (below.folder / "net/eth3/bonding_slave/perm_hwaddr").write_text("52:54:00:10:00:01\n")
    assert [pf.mac for pf in kernel.pfs()] == ["52:54:00:10:00:01"]
    below.make(1)
    assert [d.pf_mac for d in kernel.devices() if d.physfn] == ["52:54:00:10:00:01"]


def test_what_stands_for_a_vf_in_a_switchdev_is_not_the_pf(kernel: Kernel, below: SriovKernel) -> None:
    below.netdev("aaa", ifindex="8")
    below.tree.mac("aaa", "0e:00:00:00:00:01", 1)
    assert netdev(kernel) == "eth3"


def test_a_pf_or_netdev_that_goes_away_meanwhile_is_no_error(
    kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (below.folder / "net/eth3/flags").unlink()
    assert netdev(kernel) is None
    below.make(1)
    names = kernel._pci.physical_functions()
    below.tree.unplug("0000:01:10.0")
    monkeypatch.setattr(kernel._pci, "physical_functions", lambda: [*names, "0000:7f:00.0"])
    assert [pf.address for pf in kernel.pfs()] == [ADDRESS]


def test_vfs_that_cannot_be_read_are_not_told(
    kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    below.make(1)
    assert kernel.pfs()[0].vfs == {0: FRESH}

    def gone(_interface: int) -> dict[int, VfConfig]:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(below, "vfs", gone)
    assert kernel.pfs()[0].vfs == {}
    assert failure(kernel.configure_vf, ADDRESS, 0, VfConfig(trust=True)).reason is reasons.PF_DOWN


def test_netlink_is_not_asked_where_there_is_no_vf(
    kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(below, "vfs", asked.append)
    kernel.pfs()
    assert asked == []


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL])
def test_what_was_set_before_the_refused_one_stays(kernel: Kernel, below: SriovKernel, number: int) -> None:
    below.make(1)
    below.rejects = {"min_tx_rate": number}
    error = failure(kernel.configure_vf, ADDRESS, 0, VfConfig(trust=True, min_tx_rate=10))
    assert error.reason is reasons.VF_CONFIG_REJECTED
    wanted = ("driver igb", "minTxRate 10", "VF 0", os.strerror(number), "eth3 has no link")
    assert [w for w in wanted if w not in error.message] == []
    assert kernel.pfs()[0].vfs == {0: replace(FRESH, trust=True)}


def test_rates_are_one_setting_to_the_kernel(kernel: Kernel, below: SriovKernel) -> None:
    below.make(1)
    kernel.configure_vf(ADDRESS, 0, VfConfig(min_tx_rate=10, max_tx_rate=100))
    kernel.configure_vf(ADDRESS, 0, VfConfig(max_tx_rate=200))
    assert kernel.pfs()[0].vfs == {0: replace(FRESH, min_tx_rate=10, max_tx_rate=200)}


def test_a_driver_that_does_not_keep_a_setting_is_told(kernel: Kernel, below: SriovKernel) -> None:
    below.make(1)
    below.loses = True
    error = failure(kernel.configure_vf, ADDRESS, 0, VfConfig(trust=True, mac="52:54:00:aa:bb:01"))
    assert error.reason is reasons.VF_CONFIG_REJECTED
    wanted = ("trust true", "mac 52:54:00:aa:bb:01", "does not keep")
    assert [w for w in wanted if w not in error.message] == []


def test_a_vf_that_is_busy_is_asked_again_for_a_while(
    kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    below.make(1)
    below.rejects = {"trust": errno.EAGAIN}
    assert failure(kernel.configure_vf, ADDRESS, 0, VfConfig(trust=True)).reason is reasons.VF_CONFIG_REJECTED
    monkeypatch.setattr(sriov, "BUSY_SECONDS", SECONDS)
    later = threading.Timer(0.2, below.rejects.clear)
    later.start()
    kernel.configure_vf(ADDRESS, 0, VfConfig(trust=True))
    later.join()
    assert kernel.pfs()[0].vfs[0].trust is True


@pytest.mark.parametrize(("number", "reason"), [(errno.EPERM, reasons.PERMISSION_DENIED), (errno.EIO, reasons.PF_DOWN)])
def test_a_link_that_does_not_come_up_is_told(
    kernel: Kernel, below: SriovKernel, monkeypatch: pytest.MonkeyPatch, number: int, reason: Reason
) -> None:
    def refuse(_interface: int, *, up: bool) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(below, "set_up", refuse)
    error = failure(kernel.set_link, ADDRESS, up=True)
    assert error.reason is reason
    assert "eth3" in error.message


def test_looking_never_waits_for_whoever_changes_the_number(kernel: Kernel, below: SriovKernel) -> None:
    """While a write to sriov_numvfs hangs, so does each read of it; likewise with a netdev's carrier."""
    below.make(2)
    for file in ("sriov_numvfs", "net/eth3/carrier", "net/eth3/phys_port_name"):
        (below.folder / file).unlink(missing_ok=True)
        os.mkfifo(below.folder / file)
    for look in (kernel.devices, kernel.pfs):
        assert deadline.call(look, SECONDS, reasons.LIBVIRT_ERROR, "looking")
    pf = kernel.device(ADDRESS)
    assert pf is not None
    assert (pf.num_vfs, len(kernel.pfs()[0].vfs)) == (2, 2)
