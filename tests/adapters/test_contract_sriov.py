"""The same questions about VFs to the fake host and to the real adapter, on a kernel that is made up below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostdev_operator.adapters import sriov
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.sriov import Pf, VfConfig
from hostdev_operator.ports import HostDevices
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeDevices
from hostdev_operator.simulation.sriov import FRESH
from tests.fakes.samples import device
from tests.fakes.sysfs_sriov import PF, SriovKernel
from tests.fakes.sysfs_tree import SysfsTree

BOTH = pytest.mark.parametrize("kind", ["fake", "real"])
PF_ADDRESS, PLAIN, GONE = map(PciAddress.parse, (PF, "0000:02:00.0", "0000:7f:00.0"))
SECONDS = 20.0


@pytest.fixture
def devices(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevices:
    """A PF of igb that may have 7 VFs; its driver refuses a link state. A NIC without VFs."""
    if kind == "fake":
        host = FakeHost(device(PLAIN))
        host.sriov.add(device(PF_ADDRESS, "igb")).rejects = {"link_state"}
        return FakeDevices(host)
    kernel = SriovKernel(SysfsTree(tmp_path))
    kernel.tree.pci(str(PLAIN))
    kernel.rejects = {"link_state": 95}
    monkeypatch.setattr(sriov, "_write", kernel.write)
    return Kernel(tmp_path, kernel)


def the_pf(devices: HostDevices) -> Pf:
    (pf,) = devices.pfs()
    return pf


def vfs(devices: HostDevices) -> list[tuple[str, int | None, str | None, str | None]]:
    found = [d for d in devices.devices() if d.physfn == PF_ADDRESS]
    return [(str(d.address), d.vf_index, d.driver, d.pf_mac) for d in found]


def failure(call: object, *arguments: object, **options: object) -> HostError:
    with pytest.raises(HostError) as caught:
        call(*arguments, **options)  # type: ignore[operator]
    return caught.value


def reason_of(call: object, *arguments: object, **options: object) -> Reason:
    return failure(call, *arguments, **options).reason


@BOTH
def test_a_pf_without_vfs(devices: HostDevices) -> None:
    assert the_pf(devices) == Pf(PF_ADDRESS, "eth3", "52:54:00:10:00:01", up=False, autoprobe=True)
    pf = devices.device(PF_ADDRESS)
    assert pf is not None
    assert (pf.total_vfs, pf.num_vfs) == (7, 0)
    assert devices.blocked() == frozenset()


@BOTH
def test_vfs_come_and_go(devices: HostDevices) -> None:
    for count in (3, 7, 7, 0, 0):
        devices.set_num_vfs(PF_ADDRESS, count, SECONDS)
        pf = devices.device(PF_ADDRESS)
        assert pf is not None
        assert pf.num_vfs == count
        assert [index for _, index, _, _ in vfs(devices)] == list(range(count))
        assert the_pf(devices).vfs == dict.fromkeys(range(count), FRESH)


@BOTH
def test_vfs_stand_where_the_82576_has_them(devices: HostDevices) -> None:
    devices.set_num_vfs(PF_ADDRESS, 5, SECONDS)
    mac = "52:54:00:10:00:01"
    assert vfs(devices)[:1] + vfs(devices)[4:] == [
        ("0000:01:10.0", 0, "igbvf", mac),
        ("0000:01:11.0", 4, "igbvf", mac),
    ]


@BOTH
def test_autoprobe_decides_on_the_drivers_of_new_vfs(devices: HostDevices) -> None:
    for on in (False, True):
        devices.set_autoprobe(PF_ADDRESS, on=on)
        assert the_pf(devices).autoprobe is on
        devices.set_num_vfs(PF_ADDRESS, 0, SECONDS)
        devices.set_num_vfs(PF_ADDRESS, 2, SECONDS)
        assert {driver for _, _, driver, _ in vfs(devices)} == {"igbvf" if on else None}


@BOTH
def test_numbers_that_cannot_be_and_devices_that_cannot_have_vfs(devices: HostDevices) -> None:
    too_high = failure(devices.set_num_vfs, PF_ADDRESS, 8, SECONDS)
    assert too_high.reason is reasons.VF_COUNT_TOO_HIGH
    assert str(PF_ADDRESS) in too_high.message
    assert reason_of(devices.set_num_vfs, PLAIN, 1, SECONDS) is reasons.SRIOV_UNSUPPORTED
    assert reason_of(devices.set_num_vfs, GONE, 1, SECONDS) is reasons.DEVICE_NOT_FOUND
    assert reason_of(devices.set_autoprobe, PLAIN, on=True) is reasons.SRIOV_UNSUPPORTED
    assert reason_of(devices.set_autoprobe, GONE, on=True) is reasons.DEVICE_NOT_FOUND
    assert reason_of(devices.set_link, GONE, up=True) is reasons.DEVICE_NOT_FOUND
    assert reason_of(devices.configure_vf, GONE, 0, VfConfig(trust=True)) is reasons.DEVICE_NOT_FOUND
    assert vfs(devices) == []


@BOTH
def test_the_link_goes_up_and_down(devices: HostDevices) -> None:
    for up in (True, True, False):
        devices.set_link(PF_ADDRESS, up=up)
        assert the_pf(devices).up is up


@BOTH
def test_settings_of_one_vf_are_kept_and_the_others_are_as_they_were(devices: HostDevices) -> None:
    devices.set_num_vfs(PF_ADDRESS, 2, SECONDS)
    wanted = VfConfig("52:54:00:aa:bb:01", 42, trust=True, spoof_check=False, max_tx_rate=100)
    for _ in range(2):
        devices.configure_vf(PF_ADDRESS, 1, wanted)
        now = the_pf(devices).vfs
        assert now[1].only(wanted) == wanted
        assert (now[0], now[1].link_state) == (FRESH, "auto")
    before = FRESH.only(wanted)
    devices.configure_vf(PF_ADDRESS, 1, before)
    assert the_pf(devices).vfs == {0: FRESH, 1: FRESH}


@BOTH
def test_a_setting_that_is_refused_is_named_with_driver_and_vf(devices: HostDevices) -> None:
    devices.set_num_vfs(PF_ADDRESS, 2, SECONDS)
    devices.configure_vf(PF_ADDRESS, 1, VfConfig(link_state="auto"))  # it is so: nothing is asked
    error = failure(devices.configure_vf, PF_ADDRESS, 1, VfConfig(link_state="enable"))
    assert error.reason is reasons.VF_CONFIG_REJECTED
    assert [w for w in ("driver igb", str(PF_ADDRESS), "VF 1", "enable") if w not in error.message] == []
    assert the_pf(devices).vfs[1] == FRESH


@BOTH
def test_a_vf_that_is_not_there_cannot_be_set(devices: HostDevices) -> None:
    assert reason_of(devices.configure_vf, PF_ADDRESS, 0, VfConfig(trust=True)) is reasons.VFS_NOT_CREATED
    devices.set_num_vfs(PF_ADDRESS, 2, SECONDS)
    assert reason_of(devices.configure_vf, PF_ADDRESS, 2, VfConfig(trust=True)) is reasons.VFS_NOT_CREATED


@BOTH
def test_a_pf_without_netdev_is_shown_and_cannot_be_set(kind: str, tmp_path: Path) -> None:
    if kind == "fake":
        host = FakeHost()
        host.sriov.add(device(PF_ADDRESS, "vfio-pci"), netdev=None)
        devices: HostDevices = FakeDevices(host)
    else:
        kernel = SriovKernel(SysfsTree(tmp_path))
        kernel.tree.unplug_netdev("eth3")
        devices = Kernel(tmp_path, kernel)
    assert the_pf(devices) == Pf(PF_ADDRESS, autoprobe=True)
    assert reason_of(devices.set_link, PF_ADDRESS, up=True) is reasons.PF_DOWN
    assert reason_of(devices.configure_vf, PF_ADDRESS, 0, VfConfig(trust=True)) is reasons.PF_DOWN
