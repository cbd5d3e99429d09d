"""What is recorded of a host is seen as it was seen there; conftest.py asks so of every other host of these tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import zstandard

from hostdev_operator.adapters.archive import pack, unpack, write_folder
from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
from hostdev_operator.adapters.journal import Journal
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
from hostdev_operator.adapters.recorder import capture
from hostdev_operator.adapters.recording import open_recording, read_head
from hostdev_operator.core import reasons
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
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord
from hostdev_operator.core.recording import HEAD as HEAD_FILE
from hostdev_operator.core.recording import LIBVIRT, Link, RecordingError
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.ports import Host
from hostdev_operator.simulation.host import FakeHost
from tests.adapters import libvirt_node
from tests.adapters.replaying import HEAD, made_up, replayed, seen
from tests.core.hosts import assigned
from tests.fakes.samples import DB, NIC, UID, WEB, device
from tests.fakes.sysfs_sriov import PF, SriovKernel
from tests.fakes.sysfs_tree import SysfsTree, storage_and_network

RECORD = assigned().records[UID]


def host_with_all(folder: Path) -> tuple[Host, Path]:
    """A PF with VFs, disks, a running guest and one that is off, networks, a pool of storage, records of both kinds."""
    root, state = folder / "host", folder / "state"
    below = SriovKernel(SysfsTree(root))
    tree = below.tree
    below.make(3)
    below.configs[1] = replace(below.configs[1], mac="52:54:00:aa:bb:01", vlan=42)
    (below.folder / "serial_number").write_text("90-e2-ba-ff-ff-12-34-56\n")
    tree.nic("bond0", None, "eth3")
    tree.route("bond0")
    tree.pci("0000:02:00.0", 0x010802, driver="nvme", group=14)
    tree.nvme_serial("0000:02:00.0", "S3RIAL")
    tree.disk("nvme0n1", "259:0", tree.device("0000:02:00.0") / "nvme/nvme0", "nvme0n1p1")
    tree.mount("259:1", "/", "ext4", "/dev/nvme0n1p1")
    (root / "dev/disk/by-id").mkdir(parents=True)
    (root / "dev/disk/by-id/nvme-Disk_S3RIAL").symlink_to("../../nvme0n1")
    libvirt = FakeHost(device(PF))
    libvirt.define(WEB, "web", "<disk><source dev='/dev/disk/by-id/nvme-Disk_S3RIAL'/></disk>")
    libvirt.define(DB, "db", "<interface type='bridge'><source bridge='bond0'/></interface>")
    libvirt.start(DB)
    libvirt.undefine(DB)
    libvirt.networks.append("<network><name>lan</name><bridge name='br0'/></network>")
    libvirt.networks.define("<network><name>vfs</name><forward mode='hostdev'><pf dev='eth3'/></forward></network>")
    libvirt.storage_pools.append(
        "<pool type='disk'><name>p</name><source><device path='/dev/nvme0n1'/></source></pool>"
    )
    libvirt.rejections.add((DB, "ua-x"))
    journal = Journal(state)
    journal.open()
    journal.assignments.save(RECORD)
    journal.pools.save(pool_record())
    real = made_up(root, libvirt)
    records = {"records": journal.assignments, "pool_records": journal.pools}
    return replace(real, devices=Kernel(root, below), **records), root  # type: ignore[arg-type]


def pool_record() -> PoolRecord:
    address = PciAddress.parse(PF)
    before = MappingProxyType({0: VfConfig(trust=False)})
    return PoolRecord(
        "u1",
        "vfs",
        address,
        device(address).identity,
        "52:54:00:10:00:01",
        num_vfs_before=0,
        up_before=False,
        network_name="vfs",
        vfs_before=before,
    )


def test_a_recorded_host_is_seen_as_the_host_was(tmp_path: Path) -> None:
    host, root = host_with_all(tmp_path)
    before = seen(host)
    with replayed(root, host, tmp_path / "state") as recorded:
        assert seen(recorded) == before
        addresses = tuple(before.devices)
        assert recorded.hypervisor.names(addresses) == host.hypervisor.names(addresses)
    assert before.pfs[PciAddress.parse(PF)].vfs[1].vlan == 42
    assert {device.serial for device in before.devices.values()} == {None, "S3RIAL", "90-e2-ba-ff-ff-12-34-56"}
    assert {use.what.split()[-1] for use in before.uses if use.by_guest} == {"web", "uses"}
    assert (list(before.records), list(before.pool_records)) == ([UID], ["u1"])


def test_what_libvirt_itself_says_is_recorded_as_it_says_it(tmp_path: Path) -> None:
    root = tmp_path / "host"
    SysfsTree(root).pci(f"0000:00:01.0/{NIC}")
    libvirt = LibvirtHypervisor(LibvirtConnection(libvirt_node.uri(tmp_path), lambda: None))
    host = replace(made_up(root), hypervisor=libvirt)
    with replayed(root, host) as recorded:
        assert sorted(recorded.hypervisor.guests(), key=str) == sorted(libvirt.guests(), key=str)
        assert recorded.hypervisor.networks() == libvirt.networks()
        assert recorded.hypervisor.storage_pools() == libvirt.storage_pools()
        assert recorded.hypervisor.names((NIC,)) == libvirt.names((NIC,)) != {}
        assert seen(recorded) == seen(host)


def test_the_same_host_makes_the_same_bytes_and_nothing_of_whose_and_when(tmp_path: Path) -> None:
    host, root = host_with_all(tmp_path)
    first, second = (pack(capture(root, host, tmp_path / "state", HEAD)) for _ in range(2))
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(zstandard.decompress(first, 1 << 24))) as archive:
        members = archive.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_a_folder_serves_as_well_as_an_archive(tmp_path: Path) -> None:
    host, root = host_with_all(tmp_path)
    packed = pack(capture(root, host, tmp_path / "state", HEAD))
    archive, folder = tmp_path / "host.tar.zst", tmp_path / "unpacked"
    archive.write_bytes(packed)
    write_folder(unpack(packed), folder)
    with open_recording(folder) as one, open_recording(archive) as other:
        assert seen(one) == seen(other) == seen(host)
    assert read_head(folder) == read_head(archive) == HEAD


def test_a_host_whose_libvirt_is_away_is_recorded_with_what_it_said(tmp_path: Path) -> None:
    libvirt = FakeHost()
    libvirt.down = True
    storage_and_network(tmp_path / "host")
    with replayed(tmp_path / "host", made_up(tmp_path / "host", libvirt)) as recorded:
        assert len(recorded.devices.devices()) > 3
        with pytest.raises(HostError, match="Failed to connect socket") as caught:
            recorded.hypervisor.guests()
    assert caught.value.reason is reasons.LIBVIRT_UNAVAILABLE


def test_a_host_without_libvirts_storage_driver(tmp_path: Path) -> None:
    host = made_up(tmp_path / "host")
    SysfsTree(tmp_path / "host")
    host.hypervisor.storage_pools = lambda: None  # type: ignore[method-assign]
    with replayed(tmp_path / "host", host) as recorded:
        assert recorded.hypervisor.storage_pools() is None


def test_a_record_that_cannot_be_read_is_recorded_as_it_is(tmp_path: Path) -> None:
    host, root = host_with_all(tmp_path)
    (tmp_path / "state/assignments" / f"{UID}.json").write_text("{")
    with replayed(root, host, tmp_path / "state") as recorded, pytest.raises(HostError) as caught:
        recorded.records.load()
    assert caught.value.reason is reasons.STATE_DIRECTORY_FAILED


HOSTDEV = HostdevXml(NIC, "ua-x", managed=True)
INTERFACE = InterfaceXml("lan", "ua-x", NicXml("52:54:00:aa:bb:01"))
CHANGES: list[Callable[[Host], None]] = [
    lambda h: h.hypervisor.define_network("<network/>"),
    lambda h: h.hypervisor.start_network("lan"),
    lambda h: h.hypervisor.autostart_network("lan"),
    lambda h: h.hypervisor.stop_network("lan"),
    lambda h: h.hypervisor.undefine_network("lan", UID),
    lambda h: h.hypervisor.detach_driver(NIC),
    lambda h: h.hypervisor.reattach_driver(NIC),
    lambda h: h.hypervisor.add_hostdev(AddHostdev(WEB, HOSTDEV, device(NIC).identity)),
    lambda h: h.hypervisor.remove_hostdev(RemoveHostdev(WEB, NIC, None)),
    lambda h: h.hypervisor.plug_hostdev(PlugHostdev(WEB, HOSTDEV, device(NIC).identity)),
    lambda h: h.hypervisor.unplug_hostdev(UnplugHostdev(WEB, NIC, None)),
    lambda h: h.hypervisor.add_interface(AddInterface(WEB, INTERFACE)),
    lambda h: h.hypervisor.remove_interface(RemoveInterface(WEB, "ua-x")),
    lambda h: h.hypervisor.plug_interface(PlugInterface(WEB, INTERFACE)),
    lambda h: h.hypervisor.unplug_interface(UnplugInterface(WEB, "ua-x")),
    lambda h: h.devices.set_num_vfs(PciAddress.parse(PF), 1, 1.0),
    lambda h: h.devices.set_autoprobe(PciAddress.parse(PF), on=False),
    lambda h: h.devices.set_link(PciAddress.parse(PF), up=True),
    lambda h: h.devices.configure_vf(PciAddress.parse(PF), 1, VfConfig(vlan=1)),
    lambda h: h.records.save(RECORD),
    lambda h: h.records.drop(UID),
    lambda h: h.pool_records.save(pool_record()),
    lambda h: h.pool_records.drop("u1"),
]


def test_nothing_of_a_recorded_host_can_be_changed(tmp_path: Path) -> None:
    host, root = host_with_all(tmp_path)
    with replayed(root, host, tmp_path / "state") as recorded:
        before = seen(recorded)
        for change in CHANGES:
            with pytest.raises(HostError, match="this is a recording") as caught:
                change(recorded)
            assert caught.value.reason is reasons.PERMISSION_DENIED
        assert recorded.devices.wait_for_driver(PciAddress.parse(PF), lambda d: d is None, 60.0) == "igb"
        assert seen(recorded) == before


# -- what is no recording ----------------------------------------------------------------------------------------------


def opened(content: bytes, folder: Path) -> None:
    path = folder / "host.tar.zst"
    path.write_bytes(content)
    with open_recording(path):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nonsense", "no recording"),
        (zstandard.compress(b"nonsense" * 100), "no recording"),
        (pack({}), HEAD_FILE),
        (pack({HEAD_FILE: b'{"format": 99}'}), "format 99"),
        (pack({HEAD_FILE: HEAD.to_json().encode()}), LIBVIRT),
        (pack({"a/../../b": b""}), "leads out"),
        (pack({"/etc/b": b""}), "leads out"),
        (pack({"a/link": Link("../../b")}), "leads out"),
        (pack({"a/link": Link("/etc")}), "leads out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_recording_is_refused_with_words(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=words):
        opened(content, tmp_path)


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="missing"), open_recording(tmp_path / "missing"):
        pass


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A file below what is a link to a folder in the same archive: the link comes too late."""
    with pytest.raises((RecordingError, OSError)):
        opened(pack({"a": Link("b"), "a/file": b"x", "b/other": b"y"}), tmp_path)


def test_an_archive_holds_nothing_but_files_folders_and_links(tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo("node")
        member.type = tarfile.CHRTYPE
        archive.addfile(member)
    with pytest.raises(RecordingError, match="node is no file"):
        opened(zstandard.compress(plain.getvalue()), tmp_path)


def test_packing_and_unpacking_is_the_same_tree() -> None:
    tree = {"a": None, "a/b": b"\0\xff" * 9000, "c": Link("a/b"), "d/" + "x" * 120: b""}
    assert unpack(pack(tree)) == tree
