"""Domains made from Guests: what is asked for, and what stays of what others have changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from hostdev_operator.api.guest import GuestSpec
from hostdev_operator.core import domain_xml
from hostdev_operator.core.guest_xml import Definition, asked, defined
from hostdev_operator.core.pci_xml import Element

UUID = "6d0f2c52-5a0e-4a07-9a3e-000000000001"
FILE = {"file": "/var/lib/images/web.qcow2", "format": "qcow2"}
BRIDGE = {"bridge": "br0"}
OVERLAY = """<domain type="qemu">
  <!-- emulated -->
  <os><type arch="x86_64" machine="pc">hvm</type><kernel>/boot/vmlinuz</kernel></os>
  <devices><serial type="file"><source path="/var/log/web.log"/></serial><memballoon model="none"/></devices>
</domain>"""


def wanted(**spec: Any) -> Definition:
    return Definition(UUID, "web", GuestSpec.model_validate({"nodeName": "n1", "memory": "1Gi", **spec}))


def tree(text: str) -> Element:
    return domain_xml.parse(text)


def made(**spec: Any) -> Element:
    return tree(defined(wanted(**spec), None))


def aliases(domain: Element) -> list[str]:
    return [str(a.get("name")) for a in domain.iterfind("devices/*/alias")]


def test_a_plain_one() -> None:
    domain = made(vcpus=2, disks=[FILE], networks=[BRIDGE])
    assert (domain.get("type"), domain.findtext("name"), domain.findtext("uuid")) == ("kvm", "web", UUID)
    assert (domain.findtext("memory"), domain.findtext("vcpu")) == ("1024", "2")
    machine, disk, nic = domain.find("os/type"), domain.find("devices/disk"), domain.find("devices/interface")
    assert machine is not None
    assert disk is not None
    assert nic is not None
    assert machine.get("machine") == "q35"
    assert [(e.tag, dict(e.attrib)) for e in disk if e.tag != "alias"] == [
        ("driver", {"name": "qemu", "type": "qcow2"}),
        ("source", {"file": "/var/lib/images/web.qcow2"}),
        ("target", {"dev": "vda", "bus": "virtio"}),
        ("boot", {"order": "1"}),
    ]
    assert [(e.tag, dict(e.attrib)) for e in nic if e.tag != "alias"] == [
        ("source", {"bridge": "br0"}),
        ("model", {"type": "virtio"}),
    ]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"firmware": "EFI"}, "os[@firmware='efi']"),
        ({"machine": "pc"}, "os/type[@machine='pc']"),
        ({"memory": "2Ti"}, "memory[.='2097152']"),
        ({"disks": [{"block": "/dev/disk/by-id/x"}]}, "devices/disk[@type='block']/source[@dev='/dev/disk/by-id/x']"),
        ({"disks": [{"volume": {"pool": "p", "name": "v"}}]}, "devices/disk[@type='volume']/source[@volume='v']"),
        ({"disks": [{**FILE, "bus": "scsi"}]}, "devices/controller[@type='scsi'][@model='virtio-scsi']"),
        ({"disks": [{**FILE, "bus": "scsi"}, FILE, {**FILE, "bus": "sata"}]}, "devices/disk/target[@dev='sdb']"),
        ({"disks": [{**FILE, "readOnly": True}]}, "devices/disk/readonly"),
        ({"networks": [{"network": "lan", "portgroup": "blue"}]}, "devices/interface/source[@portgroup='blue']"),
        ({"networks": [{**BRIDGE, "mac": "52:54:00:00:00:01"}]}, "devices/interface/mac[@address='52:54:00:00:00:01']"),
        ({"networks": [{**BRIDGE, "bootOrder": 1}], "disks": [FILE]}, "devices/interface/boot[@order='1']"),
        ({"domainXML": OVERLAY}, "os/kernel"),
        ({"domainXML": OVERLAY}, "devices/memballoon[@model='none']"),
    ],
)
def test_what_is_asked_for_is_there(spec: dict[str, Any], path: str) -> None:
    assert len(made(**spec).xpath(path)) == 1  # type: ignore[arg-type]


def test_boot_order_is_left_alone_where_it_is_given() -> None:
    domain = made(networks=[{**BRIDGE, "bootOrder": 1}], disks=[FILE])
    assert domain.find("devices/disk/boot") is None


def test_an_overlay_takes_the_place_of_parts_and_of_some_devices() -> None:
    domain = made(domainXML=OVERLAY)
    assert domain.get("type") == "qemu"
    assert [len(domain.findall(p)) for p in ("os", "features", "cpu", "devices/serial", "devices/rng")] == [
        1,
        1,
        0,
        1,
        1,
    ]
    assert "ua-guest-xml-0" in aliases(domain)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<domain>", "no XML"),
        ("<network/>", "<network>"),
        ("<domain><name>other</name></domain>", "<name>"),
        ("<domain><uuid/></domain>", "<uuid>"),
        ("<domain><metadata/></domain>", "<metadata>"),
        ("<domain><memory>1</memory></domain>", "spec has a field"),
        ("<domain><devices><hostdev mode='subsystem' type='usb'/></devices></domain>", "DeviceAssignment"),
        (
            "<domain><devices><interface type='hostdev'><source><address type='pci' domain='0' bus='1' slot='0'"
            " function='0'/></source></interface></devices></domain>",
            "DeviceAssignment",
        ),
        ("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>", "<name>"),
    ],
)
def test_what_an_overlay_may_not_have(xml: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        asked(wanted(domainXML=xml))


def test_no_file_of_the_host_is_read() -> None:
    xml = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><description>&x;</description></domain>"
    assert "root:" not in asked(wanted(domainXML=xml))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=40))
def test_no_text_becomes_xml(text: str) -> None:
    disk = {"volume": {"pool": text, "name": f"{text}'/><x y=\""}}
    domain = made(disks=[disk])
    source = domain.find("devices/disk/source")
    assert source is not None
    assert (source.get("pool"), source.get("volume")) == (text, f"{text}'/><x y=\"")
    assert domain.findall(".//x") == []
    assert domain_xml.asked_before(domain) == asked(wanted(disks=[disk]))


# -- changes ---------------------------------------------------------------------------------------------------------


def as_libvirt_has_it(text: str) -> str:
    """What it fills in, what an assignment has added, and what somebody has changed by hand."""
    mac, place = '<mac address="52:54:00:aa:bb:cc"/>', '<address type="pci" bus="9"/>'
    by_hand = "<title>by hand</title><memoryBacking><locked/></memoryBacking>"
    replaced = {
        'machine="q35"': 'machine="pc-q35-10.0"',
        '<alias name="ua-guest-nic-0"/>': f'<alias name="ua-guest-nic-0"/>{mac}',
        '<target dev="vda" bus="virtio"/>': f'<target dev="vda" bus="virtio"/>{place}',
        "<devices>": f'{by_hand}<devices><hostdev><alias name="ua-hostdev-1"/></hostdev>',
    }
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


BEFORE = {"disks": [FILE], "networks": [BRIDGE]}


def changed(**spec: Any) -> Element:
    return tree(defined(wanted(**spec), as_libvirt_has_it(defined(wanted(**BEFORE), None))))


def test_nothing_but_what_is_asked_for_otherwise_changes() -> None:
    domain = changed(**BEFORE, memory="2Gi")
    assert (domain.findtext("memory"), domain.findtext("currentMemory")) == ("2048", "2048")
    machine = domain.find("os/type")
    assert machine is not None
    assert machine.get("machine") == "pc-q35-10.0"
    for path in ("title", "memoryBacking/locked", "devices/hostdev", "devices/disk/address", "devices/interface/mac"):
        assert len(domain.findall(path)) == 1, path
    assert domain_xml.asked_before(domain) == asked(wanted(**BEFORE, memory="2Gi"))


def test_a_device_that_is_asked_for_otherwise_keeps_its_place_and_mac() -> None:
    domain = changed(disks=[{**FILE, "readOnly": True}], networks=[{"bridge": "br1"}])
    for path in ("disk/readonly", "disk/address", "interface/mac[@address='52:54:00:aa:bb:cc']", "interface/source"):
        assert len(domain.findall(f"devices/{path}")) == 1, path
    source = domain.find("devices/interface/source")
    assert source is not None
    assert source.get("bridge") == "br1"


def test_a_mac_that_is_asked_for_takes_the_place_of_the_old_one() -> None:
    macs = changed(networks=[{**BRIDGE, "mac": "52:54:00:00:00:01"}]).findall("devices/interface/mac")
    assert [m.get("address") for m in macs] == ["52:54:00:00:00:01"]


def test_what_is_asked_for_no_more_goes_and_what_is_new_comes() -> None:
    limit = "<domain><memtune><hard_limit>9</hard_limit></memtune></domain>"
    domain = changed(networks=[BRIDGE, BRIDGE], domainXML=limit)
    assert domain.findall("devices/disk") == []
    assert aliases(domain).count("ua-guest-nic-1") == 1
    assert domain.findtext("memtune/hard_limit") == "9"
    again = tree(defined(wanted(**BEFORE), etree.tostring(domain, encoding="unicode")))
    assert again.find("memtune") is None
    assert len(again.findall("devices/disk")) == 1


def test_the_version_of_the_machine_stays_with_its_family() -> None:
    assert changed(**BEFORE, firmware="EFI").find("os/type[@machine='pc-q35-10.0']") is not None
    assert changed(**BEFORE, machine="pc").find("os/type[@machine='pc']") is not None


def test_a_change_that_is_taken_back_leaves_what_was() -> None:
    start = as_libvirt_has_it(defined(wanted(**BEFORE), None))
    assert tree(defined(wanted(**BEFORE), start)).findtext("title") == "by hand"
    there = defined(wanted(**BEFORE, vcpus=4), start)
    back = tree(defined(wanted(**BEFORE), there))
    assert back.findtext("vcpu") == "1"
    assert domain_xml.asked_before(back) == asked(wanted(**BEFORE))
