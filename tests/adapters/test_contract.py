"""The same questions to the fakes and to the real adapters: what the engine's tests rely on is what adapters do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from hostdev_operator.adapters.clock import SystemClock
from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
from hostdev_operator.adapters.journal import Journal
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
from hostdev_operator.api.common import Condition
from hostdev_operator.core import domain_xml, network_xml, reasons
from hostdev_operator.core.actions import (
    AddHostdev,
    AddInterface,
    HostdevXml,
    InterfaceXml,
    NicXml,
    PlugHostdev,
    PlugInterface,
    RemoveHostdev,
    RemoveInterface,
    UnplugHostdev,
    UnplugInterface,
)
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.model import Hostdev, Platform
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.ports import Clock, HostDevices, Hypervisor, PoolRecordStore, RecordStore
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, FakeDevices, FakeHypervisor, FakePoolRecords, FakeRecords
from tests.adapters import libvirt_node
from tests.core.hosts import assigned
from tests.fakes.samples import DB, MATE, NIC, OTHER_UID, UID, WEB, device, port
from tests.fakes.sysfs_tree import SysfsTree

RECORD = assigned().records[UID]
POOL_RECORD = PoolRecord(
    UID,
    "vfs",
    NIC,
    device(NIC).identity,
    "52:54:00:10:00:01",
    num_vfs_before=0,
    up_before=False,
    network_name="vfs",
    vfs_before=MappingProxyType({3: VfConfig(trust=False, min_tx_rate=0)}),
)
BOTH = pytest.mark.parametrize("kind", ["fake", "real"])
GONE = PciAddress.parse("0000:7f:00.0")
NOBODY = "33333333-3333-4333-8333-333333333333"


# -- the kernel ------------------------------------------------------------------------------------------------------


#: As sysfs shows them: both functions are behind the port.
DEVICES = (
    replace(port(), slot_path="0000:00/01.0", express=False),
    device(NIC, slot_path="0000:00/01.0/00.0", express=False),
    device(MATE, None, slot_path="0000:00/01.0/00.1", express=False),
)


def devices_of(kind: str, folder: Path) -> HostDevices:
    """A root port, a NIC with a driver, its mate without; a disk path and a bridge over the NIC."""
    if kind == "fake":
        host = FakeHost(*DEVICES)
        host.platform = Platform(iommu=True, interrupt_remapping=True, unsafe_interrupts=False, vfio=False)
        host.disks["/dev/sda"] = frozenset({NIC})
        host.interfaces["br0"] = frozenset({NIC})
        host.use(NIC, "carries the default route over br0")
        return FakeDevices(host)
    tree = SysfsTree(folder)
    tree.pci("0000:00:01.0", 0x060400, driver="pcieport", group=12, header=1)
    tree.pci("0000:00:01.0/0000:01:00.0", driver="e1000e", group=12)
    tree.pci("0000:00:01.0/0000:01:00.1", group=12)
    tree.disk("sda", "8:0", tree.device(str(NIC)))
    tree.nic("eth0", tree.device(str(NIC)))
    tree.nic("br0", None, "eth0")
    tree.route("br0")
    (tree.root / "proc/interrupts").write_text(" 24:  0  IR-PCI-MSI-0000:00:01.0   0-edge      x\n")
    return Kernel(tree.root)


@BOTH
def test_the_kernel_shows_devices_in_order_of_address(kind: str, tmp_path: Path) -> None:
    assert devices_of(kind, tmp_path).devices() == DEVICES


@BOTH
def test_the_kernel_tells_drivers(kind: str, tmp_path: Path) -> None:
    devices = devices_of(kind, tmp_path)
    assert [devices.driver(a) for a in (NIC, MATE, GONE)] == ["e1000e", None, None]
    groups = {d.address: d.iommu_group for d in devices.devices()}
    assert [devices.iommu_group(a) for a in (NIC, MATE, GONE)] == [groups[NIC], groups[MATE], None]
    assert devices.wait_for_driver(NIC, lambda d: d == "e1000e", 20.0) == "e1000e"
    assert devices.wait_for_driver(NIC, lambda _d: True, 20.0) == "e1000e"
    assert devices.wait_for_driver(MATE, lambda d: d == "e1000e", 0.0) is None


@BOTH
def test_the_kernel_tells_platform_and_uses(kind: str, tmp_path: Path) -> None:
    devices = devices_of(kind, tmp_path)
    assert devices.platform() == Platform(iommu=True, interrupt_remapping=True, unsafe_interrupts=False, vfio=False)
    assert [(u.address, u.what) for u in devices.uses()] == [(NIC, "carries the default route over br0")]


@BOTH
def test_the_kernel_follows_disks_and_interfaces(kind: str, tmp_path: Path) -> None:
    devices = devices_of(kind, tmp_path)
    assert devices.block_device("/dev/sda") == frozenset({NIC})
    assert devices.block_device("/dev/mystery") is None
    assert devices.interface("br0") == {NIC}
    assert devices.interface("mystery") == frozenset()


# -- the journal -----------------------------------------------------------------------------------------------------


def records_of(kind: str, folder: Path) -> RecordStore:
    if kind == "fake":
        return FakeRecords(FakeHost())
    journal = Journal(folder)
    journal.open()
    return journal.assignments


def pool_records_of(kind: str, folder: Path) -> PoolRecordStore:
    if kind == "fake":
        return FakePoolRecords(FakeHost())
    journal = Journal(folder)
    journal.open()
    return journal.pools


@BOTH
def test_the_journal_keeps_the_last_version_of_each_record(kind: str, tmp_path: Path) -> None:
    records = records_of(kind, tmp_path)
    assert records.load() == {}
    newer, other = RECORD.changed(RECORD.address, ()), replace(RECORD, uid=OTHER_UID)
    for record in (RECORD, other, newer):
        records.save(record)
    assert records.load() == {UID: newer, OTHER_UID: other}


@BOTH
def test_the_journal_drops_once_and_does_not_mind_twice(kind: str, tmp_path: Path) -> None:
    records = records_of(kind, tmp_path)
    records.save(RECORD)
    for _ in range(2):
        records.drop(UID)
        assert records.load() == {}


@BOTH
def test_the_journal_keeps_pools_apart_from_assignments(kind: str, tmp_path: Path) -> None:
    records = pool_records_of(kind, tmp_path)
    newer = replace(POOL_RECORD, num_vfs=7, sequence=2)
    for record in (POOL_RECORD, newer):
        records.save(record)
        assert records.load() == {UID: record}
    for _ in range(2):
        records.drop(UID)
        assert records.load() == {}


# -- libvirt ---------------------------------------------------------------------------------------------------------


def added(uuid: str, alias: str = "ua-x") -> AddHostdev:
    """NIC for a guest."""
    return AddHostdev(uuid, HostdevXml(NIC, alias, managed=True), device(NIC).identity)


def hypervisor_of(kind: str, folder: Path) -> Hypervisor:
    """A guest that is off with a hostdev, a running one without, one network, one device with names."""
    if kind == "real":
        return LibvirtHypervisor(LibvirtConnection(libvirt_node.uri(folder), lambda: None))
    host = FakeHost(device(NIC))
    host.define(WEB, "web", libvirt_node.HOSTDEV)
    host.define(DB, "db")
    host.start(DB)
    host.networks.append("<network><name>lan</name><bridge name='br0'/></network>")
    return FakeHypervisor(host)


@BOTH
def test_libvirt_shows_guests_and_networks(kind: str, tmp_path: Path) -> None:
    hypervisor = hypervisor_of(kind, tmp_path)
    guests = {xml.uuid: domain_xml.guest(xml, {}) for xml in hypervisor.guests()}
    assert {u: (g.name, g.active, g.persistent) for u, g in guests.items()} == {
        WEB: ("web", False, True),
        DB: ("db", True, True),
    }
    assert guests[WEB].config == (Hostdev(NIC, "ua-mine", managed=True),)
    assert guests[WEB].live == guests[DB].live == ()
    (lan,) = map(network_xml.network, hypervisor.networks())
    assert (lan.name, set(lan.interfaces), lan.hands_out_vfs) == ("lan", {"br0"}, False)
    assert (lan.active, lan.persistent, lan.connections) == (True, True, 0)


@BOTH
def test_libvirt_tells_who_is_saved(kind: str, tmp_path: Path) -> None:
    """What is in the image the test driver does not tell."""
    hypervisor = hypervisor_of(kind, tmp_path)
    if isinstance(hypervisor, FakeHypervisor):
        hypervisor._host.save(DB)
    elif isinstance(hypervisor, LibvirtHypervisor):
        hypervisor._connection.get().lookupByUUIDString(DB).managedSave(0)
    saved = {xml.uuid: domain_xml.guest(xml, {}).saved is not None for xml in hypervisor.guests()}
    assert saved == {WEB: False, DB: True}


@BOTH
def test_libvirt_names_known_devices_alone(kind: str, tmp_path: Path) -> None:
    names = hypervisor_of(kind, tmp_path).names((NIC, GONE))
    assert list(names) == [NIC]
    assert names[NIC][0] == "Intel Corporation"


@BOTH
def test_libvirt_has_nothing_to_do_for_what_is_done(kind: str, tmp_path: Path) -> None:
    hypervisor = hypervisor_of(kind, tmp_path)
    before = hypervisor.guests()
    hypervisor.add_hostdev(added(WEB, "ua-other"))
    hypervisor.remove_hostdev(RemoveHostdev(WEB, MATE, None))
    hypervisor.remove_hostdev(RemoveHostdev(NOBODY, NIC, None))
    assert hypervisor.guests() == before


@BOTH
def test_libvirt_has_nothing_to_unplug_from_who_does_not_have_it(kind: str, tmp_path: Path) -> None:
    hypervisor = hypervisor_of(kind, tmp_path)
    before = hypervisor.guests()
    for uuid, address in ((NOBODY, NIC), (DB, NIC), (WEB, NIC)):
        hypervisor.unplug_hostdev(UnplugHostdev(uuid, address, "ua-mine"))
    assert hypervisor.guests() == before
    assert hypervisor.rejections() == frozenset()


@BOTH
def test_libvirt_has_nothing_to_do_for_nics_that_are_not_there(kind: str, tmp_path: Path) -> None:
    hypervisor = hypervisor_of(kind, tmp_path)
    before = hypervisor.guests()
    for uuid in (NOBODY, DB, WEB):
        hypervisor.remove_interface(RemoveInterface(uuid, "ua-x"))
        hypervisor.unplug_interface(UnplugInterface(uuid, "ua-x"))
    nic = InterfaceXml("lan", "ua-x", NicXml("52:54:00:aa:bb:01"))
    assert reason_of(hypervisor.add_interface, AddInterface(NOBODY, nic)) is reasons.GUEST_NOT_FOUND
    assert reason_of(hypervisor.plug_interface, PlugInterface(NOBODY, nic)) is reasons.GUEST_NOT_FOUND
    reason_of(hypervisor.plug_interface, PlugInterface(WEB, nic))
    assert hypervisor.guests() == before


@BOTH
def test_libvirt_plugs_nothing_into_a_guest_that_is_gone_or_off(kind: str, tmp_path: Path) -> None:
    hypervisor = hypervisor_of(kind, tmp_path)
    before = hypervisor.guests()
    gone = PlugHostdev(NOBODY, added(NOBODY).hostdev, device(NIC).identity)
    assert reason_of(hypervisor.plug_hostdev, gone) is reasons.GUEST_NOT_FOUND
    off = PlugHostdev(WEB, HostdevXml(MATE, "ua-x", managed=True), device(MATE).identity)
    reason_of(hypervisor.plug_hostdev, off)
    assert hypervisor.guests() == before


@BOTH
def test_libvirt_shows_storage_pools(kind: str, tmp_path: Path) -> None:
    assert hypervisor_of(kind, tmp_path).storage_pools() == ()


def reason_of(call: object, *arguments: object) -> Reason:
    with pytest.raises(HostError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.reason


@BOTH
def test_libvirt_tells_what_is_gone(kind: str, tmp_path: Path) -> None:
    hypervisor = hypervisor_of(kind, tmp_path)
    assert reason_of(hypervisor.detach_driver, GONE) is reasons.DEVICE_NOT_FOUND
    assert reason_of(hypervisor.reattach_driver, GONE) is reasons.DEVICE_NOT_FOUND
    assert reason_of(hypervisor.add_hostdev, added(NOBODY)) is reasons.GUEST_NOT_FOUND


@BOTH
def test_libvirt_away_is_the_same_reason_for_every_call(kind: str, tmp_path: Path) -> None:
    if kind == "fake":
        host = FakeHost()
        host.down = True
        hypervisor: Hypervisor = FakeHypervisor(host)
    else:
        hypervisor = LibvirtHypervisor(LibvirtConnection(f"test://{tmp_path}/missing.xml", lambda: None))
    calls: list[tuple[object, tuple[object, ...]]] = [
        (hypervisor.guests, ()),
        (hypervisor.networks, ()),
        (hypervisor.storage_pools, ()),
        (hypervisor.plug_hostdev, (PlugHostdev(DB, added(DB).hostdev, device(NIC).identity),)),
        (hypervisor.unplug_hostdev, (UnplugHostdev(DB, NIC, "ua-x"),)),
        (hypervisor.detach_driver, (NIC,)),
        (hypervisor.add_hostdev, (added(WEB),)),
        (hypervisor.define_network, ("<network/>",)),
        (hypervisor.start_network, ("lan",)),
        (hypervisor.autostart_network, ("lan",)),
        (hypervisor.stop_network, ("lan",)),
        (hypervisor.undefine_network, ("lan", NOBODY)),
        (hypervisor.unplug_interface, (UnplugInterface(DB, "ua-x"),)),
    ]
    assert {reason_of(call, *arguments) for call, arguments in calls} == {reasons.LIBVIRT_UNAVAILABLE}


# -- the clock -------------------------------------------------------------------------------------------------------


@BOTH
def test_the_clock_says_what_conditions_take(kind: str) -> None:
    clock: Clock = FakeClock() if kind == "fake" else SystemClock()
    now = clock.now()
    assert len(now) == len("2026-01-01T00:00:00Z")
    assert now.endswith("Z")
    condition = Condition(type="Ready", status="True", reason="x", last_transition_time=now)
    assert condition.wire()["lastTransitionTime"] == now
