from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from hostdev_operator.core import domain_xml
from hostdev_operator.core.actions import HostdevXml
from hostdev_operator.core.domain_xml import GuestXml
from hostdev_operator.core.model import Guest, Hostdev
from hostdev_operator.core.pci import PciAddress
from tests.fakes.samples import NIC, WEB

GUEST_ADDRESS = PciAddress(0, 6, 0, 0)
HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <driver name='vfio'/>
  <source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
  <alias name='ua-mine'/>
  <address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x0'/>
</hostdev>"""


def domain(devices: str) -> str:
    return f"<domain type='kvm'><name>web</name><uuid>{WEB}</uuid><devices>{devices}</devices></domain>"


def read(devices: str, networks: dict[str, frozenset[str]] | None = None, live: str | None = None) -> Guest:
    return domain_xml.guest(GuestXml(WEB, "web", live and domain(live), domain(devices)), networks or {})


def test_a_hostdev_is_read_with_alias_and_source_address() -> None:
    assert read(HOSTDEV).config == (Hostdev(NIC, "ua-mine", managed=True, driver="vfio", guest_address=GUEST_ADDRESS),)


def test_decimal_numbers_are_decimal_and_0x_is_hexadecimal() -> None:
    text = (
        "<hostdev mode='subsystem' type='pci'><source><address bus='10' slot='0x10' function='1'/></source></hostdev>"
    )
    assert read(text).config == (Hostdev(PciAddress(0, 10, 16, 1), None, managed=False),)


def test_an_interface_of_type_hostdev_counts() -> None:
    text = """<interface type='hostdev' managed='yes'>
      <source><address type='pci' domain='0' bus='0x81' slot='0x02' function='0x0'/></source></interface>"""
    assert read(text).config == (Hostdev(PciAddress(0, 0x81, 2, 0), None, managed=True, element="interface"),)


def test_an_unassigned_hostdev_counts() -> None:
    text = HOSTDEV.replace("<address type='pci' domain='0x0000' bus='0x06'", "<address type='unassigned' bus='0x06'")
    assert read(text).config[0].address == NIC


NVME = """<source type='pci' managed='yes' namespace='1'>
  <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>"""


@pytest.mark.parametrize(
    "text",
    [
        f"<disk type='nvme' device='disk'>{NVME}<alias name='ua-disk'/></disk>",
        f"<disk type='file'><source file='/a'/><backingStore type='nvme'>{NVME}</backingStore></disk>",
        f"<disk type='file'><source file='/a'/><mirror type='nvme' job='copy'>{NVME}</mirror></disk>",
    ],
)
def test_the_device_of_an_nvme_disk_counts_and_its_alias_is_not_ours(text: str) -> None:
    assert read(text).config == (Hostdev(NIC, None, managed=True, element="disk"),)


@pytest.mark.parametrize(
    "text",
    [
        "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>",
        "<hostdev mode='capabilities' type='misc'><source><char>/dev/x</char></source></hostdev>",
        "<hostdev mode='subsystem' type='mdev'><source><address uuid='x'/></source></hostdev>",
        "<interface type='network'><source network='default'/></interface>",
    ],
)
def test_other_host_devices_are_none_of_ours(text: str) -> None:
    assert read(text).config == ()


def test_live_and_persistent_xml_are_kept_apart() -> None:
    both = read("", live=HOSTDEV)
    assert (both.active, both.persistent, both.config) == (True, True, ())
    assert [h.address for h in both.live] == [NIC]
    transient = domain_xml.guest(GuestXml(WEB, "web", domain(HOSTDEV), None), {})
    assert (transient.active, transient.persistent) == (True, False)


def test_block_disks_of_both_xmls_are_found_and_files_are_not() -> None:
    block = "<disk type='block' device='disk'><source dev='{}'/></disk><disk type='file'><source file='/x.img'/></disk>"
    found = read(block.format("/dev/disk/by-id/a"), live=block.format("/dev/sdb"))
    assert found.block_paths == {"/dev/disk/by-id/a", "/dev/sdb"}


def test_block_devices_below_backing_stores_and_mirrors_are_found() -> None:
    text = (
        "<disk type='file'><source file='/dev/sdd'/><backingStore type='file'><source file='/b'/>"
        "<backingStore type='block'><source dev='/dev/sdb'/></backingStore></backingStore>"
        "<mirror type='block' job='copy'><source dev='/dev/sdc'/></mirror></disk>"
        "<disk type='file'><source file='/dev/shm/x'/></disk>"
    )
    assert read(text).block_paths == {"/dev/sdb", "/dev/sdc", "/dev/sdd"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host2'/><address bus='0' target='0'"
            " unit='0'/></source></hostdev>",
            {"SCSI device of scsi_host2"},
        ),
        (
            "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5'/></hostdev>",
            {"SCSI device of naa.5"},
        ),
        ("<hostdev mode='subsystem' type='scsi'><source protocol='iscsi' name='iqn.x/1'/></hostdev>", set()),
        ("<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>", set()),
    ],
)
def test_scsi_devices_are_storage_that_no_path_leads_to(text: str, expected: set[str]) -> None:
    assert read(text).block_paths == expected


def test_bridges_macvtap_and_networks_lead_to_host_interfaces() -> None:
    text = (
        "<interface type='bridge'><source bridge='br0'/></interface>"
        "<interface type='direct'><source dev='eth1' mode='bridge'/></interface>"
        "<interface type='network'><source network='lan'/></interface>"
        "<interface type='network'><source network='unknown'/></interface>"
    )
    assert read(text, {"lan": frozenset({"eth7", "virbr3"})}).interfaces == {"br0", "eth1", "eth7", "virbr3"}


def test_volumes_name_their_pools() -> None:
    volume = "<disk type='volume'><source pool='{}' volume='v'/></disk>"
    backed = (
        "<disk type='file'><source file='/a'/><backingStore type='volume'><source pool='b' volume='v'/></backingStore>"
        "</disk>"
    )
    found = read(volume.format("a") + backed, live=volume.format("c"))
    assert (set(found.volume_pools), set(found.block_paths)) == ({"a", "b", "c"}, set())


def test_memory_and_its_limit_are_the_larger_and_the_smaller_of_both_definitions() -> None:
    def text(memory: int, more: str) -> str:
        return f"<domain id='3'><memory unit='KiB'>{memory}</memory>{more}<devices/></domain>"

    limit = "<memtune><hard_limit unit='KiB'>{}</hard_limit></memtune>"
    seen = domain_xml.guest(GuestXml("u", "n", text(100, limit.format(300)), text(200, limit.format(400))), {})
    assert (seen.memory, seen.hard_limit) == (200, 300)
    seen = domain_xml.guest(
        GuestXml("u", "n", None, text(200, "<memtune><soft_limit unit='KiB'>1</soft_limit></memtune>")), {}
    )
    assert (seen.memory, seen.hard_limit) == (200, None)


def test_the_run_is_libvirts_number_of_a_running_guest() -> None:
    running = domain("").replace("<domain type", "<domain id='7' type")
    assert domain_xml.guest(GuestXml(WEB, "web", running, None), {}).run == 7
    assert (read("").run, read("", live="<a/>").run) == (None, None)


def test_names_of_node_devices_are_read() -> None:
    text = """<device><name>pci_0000_01_00_0</name><capability type='pci'>
      <product id='0x10d3'>82574L</product><vendor id='0x8086'>Intel Corporation</vendor></capability></device>"""
    assert domain_xml.node_device_names(text) == ("Intel Corporation", "82574L")
    bare = "<device><capability type='pci'><product id='0x1'/><vendor id='0x2'/></capability></device>"
    assert domain_xml.node_device_names(bare) == (None, None)


ADDRESSES = st.builds(
    PciAddress, st.integers(0, 0x7FFFFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="￾￿"), min_size=1)


@given(ADDRESSES, NAMES, st.booleans(), st.sampled_from([None, "vfio"]), st.booleans())
def test_the_hostdev_that_is_written_is_read_again(
    address: PciAddress,
    alias: str,
    managed: bool,  # noqa: FBT001
    driver: str | None,
    unassigned: bool,  # noqa: FBT001
) -> None:
    text = domain_xml.hostdev_xml(HostdevXml(address, alias, managed, driver, unassigned))
    assert read(text).config == (Hostdev(address, alias, managed, driver=driver),)
    found = domain_xml.find_hostdev(domain(text), address)
    assert found is not None
    assert domain_xml.parse(found).find("source/address") is not None
    assert (domain_xml.parse(found).find("address[@type='unassigned']") is not None) is unassigned


def test_a_hostile_alias_stays_one_attribute() -> None:
    hostile = 'x\'/><source file="/etc/shadow"/><!-- &amp; ]]>'
    tree = domain_xml.parse(domain_xml.hostdev_xml(HostdevXml(NIC, hostile, managed=True)))
    assert [child.tag for child in tree] == ["source", "alias"]
    alias = tree.find("alias")
    assert alias is not None
    assert alias.get("name") == hostile


def test_find_hostdev_takes_the_one_with_the_source_address_and_leaves_the_rest() -> None:
    other = HOSTDEV.replace("bus='0x01'", "bus='0x02'").replace("bus='0x06'", "bus='0x01'")
    found = domain_xml.find_hostdev(domain(other + HOSTDEV), NIC)
    assert found is not None
    assert "ua-mine" in found
    assert 'bus="0x06"' in found
    assert domain_xml.find_hostdev(domain(other), NIC) is None


def test_external_entities_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    doctype = f"<!DOCTYPE domain [<!ENTITY x SYSTEM 'file://{secret}'>]>"
    tree = domain_xml.parse(doctype + domain("<emulator>&x;</emulator>"))
    assert "s3cret" not in etree.tostring(tree, encoding="unicode", method="text")
    assert (tree.findtext("devices/emulator") or "") == ""


@pytest.mark.parametrize("place", ["<emulator>&l8;</emulator>", "<disk type='block'><source dev='&l8;'/></disk>"])
def test_entities_are_not_blown_up(place: str) -> None:
    levels = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 9))
    doctype = f"<!DOCTYPE domain [<!ENTITY l0 'lol'>{levels}]>"
    try:
        tree = domain_xml.parse(doctype + domain(place))
    except etree.XMLSyntaxError:
        return
    assert len(etree.tostring(tree)) < 10_000


def test_broken_xml_is_an_error() -> None:
    with pytest.raises(etree.XMLSyntaxError):
        domain_xml.parse("<domain>")
