"""Masks: nothing of the host is left, and what was the same is the same."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core.masking import mask
from hostdev_operator.core.recording import HEAD, STATE, Entry, Head, Link

MAC, OTHER_MAC = "90:e2:ba:12:34:56", "90:e2:ba:12:34:57"
UUID, OTHER_UUID = "c0ffee00-1111-4222-8333-444455556666", "c0ffee00-1111-4222-8333-444455556667"
SERIAL, DSN = "S4EVNX0R123456", "90-e2-ba-ff-ff-12-34-56"
NODE = "rack7.example.org"


def masked(**texts: str) -> dict[str, Entry]:
    """What becomes of these files, whose names have / for two underlines."""
    tree: dict[str, Entry] = {name.replace("__", "/"): text.encode() for name, text in texts.items()}
    return mask({HEAD: Head(NODE, {"kernel": "6.1"}).to_json().encode(), **tree})


def text(entry: Entry) -> str:
    assert isinstance(entry, bytes)
    return entry.decode()


def one(content: str, name: str = "libvirt/x") -> str:
    tree = mask({HEAD: Head(NODE, {}).to_json().encode(), name: content.encode()})
    return text(tree[name])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MAC, "90:e2:ba:00:00:01"),
        (MAC.upper(), "90:e2:ba:00:00:01"),
        ("enx90e2ba123456", "enx90e2ba000001"),
        ("fe8000000000000092e2bafffe123456", "fe8000000000000092e2bafffe000001"),
        (UUID, "00000000-0000-4000-8000-000000000001"),
        (f"ua-hostdev-{UUID}", "ua-hostdev-00000000-0000-4000-8000-000000000001"),
        ("0x5001438000000001", "0x0000000000000001"),
        ("iqn.2003-01.org.example.rack7:disk0", "iqn.2000-01.masked:1"),
        ("/dev/disk/by-id/nvme-Disk_S4EVNX0R-part2", "/dev/disk/by-id/masked-disk-1-part2"),
        ("/dev/disk/by-uuid/1234-ABCD", "/dev/disk/by-uuid/masked-disk-1"),
        (f"on {NODE} and rack7 alone", "on host-2 and host-1 alone"),
        (
            "server:/x 0:50 / /m rw - nfs4 store.example.org:/e rw",
            "server:/x 0:50 / /m rw - nfs4 store.example.org:/e rw",
        ),
        # what says nothing of whose it is
        (
            "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff 01:00:5e:00:00:01",
            "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff 01:00:5e:00:00:01",
        ),
        ("0000:01:00.0 pci_0000_01_00_0 192.0.2.1", "0000:01:00.0 pci_0000_01_00_0 192.0.2.1"),
        ("rack70 xrack7", "rack70 xrack7"),
    ],
)
def test_values_and_their_masks(value: str, expected: str) -> None:
    assert one(value) == expected


def test_servers_of_mounted_file_systems_are_hosts_too() -> None:
    line = "41 1 0:50 / /m rw,relatime - nfs4 store.example.org:/export rw\n"
    assert one(line, "proc/1/mountinfo") == line.replace("store.example.org", "host-4")


def test_serial_numbers_wherever_they_are_told() -> None:
    record = json.dumps({"serial": SERIAL, "other": "x"}, indent=1)
    domain = f"<domain><devices><disk><serial>{SERIAL}</serial></disk></devices></domain>"
    vpd = b"\x90\x08\x00SN\x05X1 YZ\x78"
    tree = mask(
        {
            HEAD: Head(NODE, {}).to_json().encode(),
            "sys/devices/a/nvme/nvme0/serial": f"{SERIAL}  \n".encode(),
            "sys/devices/b/serial_number": f"{DSN}\n".encode(),
            "sys/devices/c/vpd": vpd,
            f"{STATE}/assignments/x.json": record.encode(),
            "libvirt/guests/x.config.xml": domain.encode(),
        }
    )
    assert text(tree["sys/devices/a/nvme/nvme0/serial"]) == "MASKED000002  \n"
    assert text(tree["sys/devices/b/serial_number"]) == "00-00-00-00-00-00-00-01\n"
    assert tree["sys/devices/c/vpd"] == b"\x90\x0f\x00SN\x0cMASKED000003\x78"
    assert json.loads(text(tree[f"{STATE}/assignments/x.json"])) == {"serial": "MASKED000002", "other": "x"}
    assert "MASKED000002" in text(tree["libvirt/guests/x.config.xml"])


def test_a_short_serial_number_is_not_looked_for_in_other_words() -> None:
    tree = masked(sys__d__nvme__n0__serial="7\n", libvirt__x="7 7", state__assignments__x='{"serial": "7"}')
    assert text(tree["sys/d/nvme/n0/serial"]) == "MASKED000001\n"
    assert text(tree["libvirt/x"]) == "7 7"
    assert text(tree["state/assignments/x"]) == '{"serial": "MASKED000001"}'


def test_words_of_people_and_arguments_of_qemu_are_left_out_of_xml() -> None:
    domain = """<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"><name>web</name>
      <title>Ann's</title><description>call Ann</description><metadata><x>Ann</x></metadata>
      <sysinfo type="smbios"><system><entry name="serial">Ann1</entry></system></sysinfo>
      <qemu:commandline><qemu:arg value="Ann"/></qemu:commandline>
      <devices><hostdev mode="subsystem" type="pci"/></devices></domain>"""
    found = one(domain, "libvirt/guests/x.live.xml")
    assert "Ann" not in found
    assert "<name>web</name>" in found
    assert '<hostdev mode="subsystem" type="pci"/>' in found


def test_hosts_that_networks_and_disks_name() -> None:
    network = (
        "<network><name>lan</name><domain name='corp.example'/>"
        "<dns><host ip='10.0.0.2'><hostname>db9</hostname></host></dns></network>"
    )
    found = one(network, "libvirt/networks/x.live.xml")
    assert "corp" not in found
    assert "db9" not in found
    assert "lan" in found


def test_an_xml_that_is_broken_is_masked_as_text() -> None:
    assert one(f"<domain {MAC}", "libvirt/guests/x.live.xml") == "<domain 90:e2:ba:00:00:01"


def test_paths_and_links_have_the_same_masks_as_contents() -> None:
    tree = mask(
        {
            HEAD: Head(NODE, {}).to_json().encode(),
            "dev/disk/by-id/nvme-S1": Link("../../nvme0n1"),
            "sys/class/net/enx90e2ba123456": Link("../../devices/net/enx90e2ba123456"),
            "libvirt/guests/x.live.xml": b"<d><source dev='/dev/disk/by-id/nvme-S1'/></d>",
            f"{STATE}/assignments/{UUID}.json": f'{{"uid": "{UUID}"}}'.encode(),
            f"sys/fs/btrfs/{OTHER_UUID}/devices/sda": Link("../../../../block/sda"),
        }
    )
    assert tree["dev/disk/by-id/masked-disk-1"] == Link("../../nvme0n1")
    assert tree["sys/class/net/enx90e2ba000001"] == Link("../../devices/net/enx90e2ba000001")
    assert b"/dev/disk/by-id/masked-disk-1" in bytes(text(tree["libvirt/guests/x.live.xml"]), "ascii")
    uid = "00000000-0000-4000-8000-000000000001"
    assert text(tree[f"{STATE}/assignments/{uid}.json"]) == f'{{"uid": "{uid}"}}'


def test_the_head_says_that_it_is_masked_and_not_where_it_is_from() -> None:
    head = Head.from_json(text(masked()[HEAD]))
    assert head == Head("masked", {"kernel": "6.1"}, masked=True)


@pytest.mark.parametrize("name", ["net", "igb", "hostdev", "pci", "mode"])
def test_a_host_that_is_called_like_a_word_of_kernel_or_libvirt_does_not_break_it(name: str) -> None:
    domain = b'<domain type="kvm"><devices><hostdev mode="subsystem" type="pci"/></devices></domain>'
    tree: dict[str, Entry] = {
        "sys/class/net/eth0": Link("../../devices/eth0"),
        "sys/devices/d/driver": Link("../bus/pci/drivers/igb"),
        "libvirt/guests/x.live.xml": domain,
    }
    masked = mask({HEAD: Head(name, {}).to_json().encode(), **tree})
    assert {path: entry for path, entry in masked.items() if path != HEAD} == tree
    assert name not in text(masked[HEAD])


def test_a_volume_group_may_be_called_like_the_host() -> None:
    tree = masked(**{"sys__devices__dm-0__dm__name": "rack7-root\n", "proc__1__mountinfo": "/dev/mapper/rack7-root"})
    assert text(tree["sys/devices/dm-0/dm/name"]) == "host-1-root\n"
    assert text(tree["proc/1/mountinfo"]) == "/dev/mapper/host-1-root"


def test_configuration_space_is_left_alone() -> None:
    raw = b"\x00\xff" * 128
    assert mask({HEAD: Head(NODE, {}).to_json().encode(), "sys/d/config": raw})["sys/d/config"] == raw


macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


@given(st.lists(macs | st.uuids().map(str), min_size=1, max_size=20))
def test_masks_are_one_to_one_valid_and_final(values: list[str]) -> None:
    """Different values have different masks, a MAC's is unicast, and masking once more changes nothing."""
    found = one("\n".join(values)).split("\n")
    assert len(dict(zip(values, found, strict=True))) == len(set(values))
    assert len(set(found)) == len(set(values))
    for value, hidden in zip(values, found, strict=True):
        if re.fullmatch("(..:){5}..", value) and not int(value[:2], 16) & 1 and value.strip("0:"):
            assert not int(hidden[:2], 16) & 1
            assert hidden.strip("0:")
    assert one("\n".join(found)).split("\n") == found
