from __future__ import annotations

import pytest
from lxml import etree

from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.storage_xml import StoragePool, storage_pool


def read(kind: str, source: str) -> StoragePool:
    return storage_pool(
        f"<pool type='{kind}'><name>p</name><source>{source}</source><target><path>/dev/x</path></target></pool>"
    )


def made_of(
    kind: str,
    *paths: str,
    hosts: tuple[str, ...] = (),
    followable: bool = True,
    addresses: tuple[PciAddress, ...] = (),
) -> StoragePool:
    return StoragePool("p", kind, frozenset(paths), frozenset(hosts), followable, frozenset(addresses))


SDB, SDC = "<device path='/dev/sdb'/>", "<device path='/dev/disk/by-id/ata-c' part_separator='yes'/>"


@pytest.mark.parametrize("kind", ["logical", "disk", "fs", "zfs"])
def test_a_pool_of_devices_is_made_of_those_that_it_lists(kind: str) -> None:
    both = f"<name>vg</name>{SDB}{SDC}<format type='lvm2'/>"
    assert read(kind, both) == made_of(kind, "/dev/sdb", "/dev/disk/by-id/ata-c")


@pytest.mark.parametrize("kind", ["logical", "disk", "fs", "zfs"])
@pytest.mark.parametrize("source", ["<name>vg</name>", "<device/>", "<device path=''/>"])
def test_a_pool_of_devices_that_names_none_could_be_anywhere(kind: str, source: str) -> None:
    assert read(kind, source) == made_of(kind, followable=False)


def test_a_device_without_a_path_beside_others_leaves_something_unknown() -> None:
    assert read("logical", f"{SDB}<device/>") == made_of("logical", "/dev/sdb", followable=False)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("dir", ""),
        ("netfs", "<host name='nas'/><dir path='/export'/><format type='nfs'/>"),
        ("iscsi", "<host name='san'/><device path='iqn.2013-06.com.example:one'/>"),
        ("iscsi-direct", "<host name='san'/><device path='/dev/that-is-none'/><initiator><iqn name='x'/></initiator>"),
        ("rbd", "<name>rbd</name><host name='mon'/>"),
        ("gluster", "<name>volume</name><host name='g'/><dir path='/'/>"),
        ("sheepdog", "<name>p</name><host name='s'/>"),
        ("vstorage", "<name>cluster</name>"),
    ],
)
def test_pools_of_files_and_networks_are_on_no_controller_of_their_own(kind: str, source: str) -> None:
    assert read(kind, source) == made_of(kind)


@pytest.mark.parametrize(
    ("adapter", "host"),
    [
        ("<adapter name='host3'/>", "host3"),
        ("<adapter type='scsi_host' name='scsi_host3'/>", "scsi_host3"),
        ("<adapter type='fc_host' parent='scsi_host5' wwnn='20000000c9831b4b' wwpn='10000000c9831b4b'/>", "scsi_host5"),
    ],
)
def test_a_pool_of_a_scsi_host_names_it(adapter: str, host: str) -> None:
    assert read("scsi", adapter) == made_of("scsi", hosts=(host,))


def test_a_scsi_host_can_be_found_by_its_controller() -> None:
    adapter = """<adapter type='scsi_host'><parentaddr unique_id='1'>
      <address domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/></parentaddr></adapter>"""
    assert read("scsi", adapter) == made_of("scsi", addresses=(PciAddress(0, 0, 0x1F, 2),))


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("scsi", ""),
        ("scsi", "<adapter type='fc_host' wwnn='20000000c9831b4b' wwpn='10000000c9831b4b'/>"),
        ("scsi", "<adapter type='fc_host' name='host3' wwnn='20000000c9831b4b' wwpn='10000000c9831b4b'/>"),
        ("scsi", "<adapter type='scsi_host'><parentaddr><address slot='0x99'/></parentaddr></adapter>"),
        ("mpath", ""),
        ("new-in-libvirt-99", SDB),
    ],
)
def test_what_does_not_tell_could_be_anywhere(kind: str, source: str) -> None:
    assert read(kind, source) == made_of(kind, followable=False)


def test_broken_xml_is_an_error_and_entities_are_not_resolved() -> None:
    with pytest.raises(etree.XMLSyntaxError):
        storage_pool("<pool")
    hostile = "<!DOCTYPE p [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><pool type='dir'><name>&e;</name></pool>"
    assert storage_pool(hostile).name == ""
