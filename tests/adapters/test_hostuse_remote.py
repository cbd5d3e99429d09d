"""Storage over networks, SCSI hosts, and devices whose driver serves others."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostdev_operator.adapters.kernel import Kernel
from tests.adapters.test_hostuse import below, uses
from tests.fakes.sysfs_tree import DISK, GPU, NIC, SysfsTree, storage_and_network

ETH1 = "0000:03:00.1"


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    made = storage_and_network(tmp_path)
    made.pci(f"0000:00:1e.0/{ETH1}")
    made.nic("eth1", made.device(ETH1))
    return made


def test_a_disk_of_software_iscsi_needs_the_nic_that_the_route_to_its_target_names(tree: SysfsTree) -> None:
    tree.iscsi("sdi", "8:128", "192.0.2.7")
    tree.route("eth0")
    tree.route("eth1", "000200C0", "00FFFFFF")
    tree.mount("8:128", "/srv", "ext4", "/dev/sdi")
    assert "carries the file system that is mounted on /srv" in uses(tree)[ETH1]
    assert uses(tree)[NIC] == {"carries the default route over eth0"}
    assert below(tree, "/dev/sdi") == {ETH1}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", {ETH1}),
        ("192.0.3.7", {NIC}),
        ("2001:0db8:0000:0000:0000:0000:0000:0007", {ETH1}),
        ("[2001:db8::7]", {ETH1}),
        ("2001:db9::7", {NIC}),
        ("fe80::7%eth1", {NIC}),
        ("", set()),
        ("san.example", set()),
    ],
)
def test_the_longest_route_to_the_target_decides(tree: SysfsTree, address: str, expected: set[str]) -> None:
    tree.route("eth0", "000000C0", "000000FF")
    tree.route("eth1", "000200C0", "00FFFFFF")
    tree.route("*", "070200C0", "FFFFFFFF", "0201")
    tree.nic("lo")
    tree.route6("eth0")
    tree.route6("eth1", "20010db8" + "0" * 24, "20")
    tree.route6("lo", "20010db9" + "0" * 24, "20", "00200201")
    tree.iscsi("sdi", "8:128", address)
    assert below(tree, "/dev/sdi") == expected


def test_all_of_several_routes_to_the_target_count(tree: SysfsTree) -> None:
    tree.route("eth0")
    tree.route("eth1")
    tree.iscsi("sdi", "8:128", "192.0.2.7")
    assert below(tree, "/dev/sdi") == {NIC, ETH1}


def test_a_session_that_is_bound_to_an_interface_needs_it_whatever_the_routes(tree: SysfsTree) -> None:
    tree.nic("eth1.7", None, "eth1")
    tree.iscsi("sdi", "8:128", "192.0.2.7", netdev="eth1.7")
    tree.mount("8:128", "/srv", "ext4", "/dev/sdi")
    assert uses(tree)[ETH1] >= {"carries the file system that is mounted on /srv"}
    tree.route("eth0")
    assert below(tree, "/dev/sdi") == {NIC, ETH1}


def test_multipath_over_iscsi_and_a_local_disk_needs_all(tree: SysfsTree) -> None:
    tree.route("eth1")
    tree.iscsi("sdi", "8:128", "192.0.2.7")
    tree.over("dm-0", "253:0", "sdi", "sda")
    assert below(tree, "/dev/dm-0") == {ETH1, DISK}


def test_a_target_on_this_very_host_needs_no_device(tree: SysfsTree) -> None:
    tree.nic("lo")
    tree.route("lo", "0000007F", "000000FF")
    tree.iscsi("sdi", "8:128", "127.0.0.1")
    assert below(tree, "/dev/sdi") == set()


def test_routes_that_cannot_be_read_leave_an_iscsi_disk_unknown(tree: SysfsTree) -> None:
    tree.iscsi("sdi", "8:128", "192.0.2.7")
    (tree.root / "proc/1/net/route").unlink()
    assert below(tree, "/dev/sdi") is None
    assert below(tree, "/dev/sda") == {DISK}


def test_disks_of_adapters_are_on_the_adapters_function(tree: SysfsTree) -> None:
    """Of offloaded iSCSI, iSER and Fibre Channel: their SCSI host hangs on the PCI function."""
    host = tree.scsi_host("host9", tree.device(NIC), "iscsi_host")
    tree.disk("sdi", "8:128", host / "session3/target9:0:0/9:0:0:0")
    port = tree.scsi_host("host8", tree.device(ETH1), "fc_host")
    tree.disk("sdj", "8:144", port / "rport-8:0-0/target8:0:0/8:0:0:0")
    assert (below(tree, "/dev/sdi"), below(tree, "/dev/sdj")) == ({NIC}, {ETH1})


def test_a_disk_of_fcoe_needs_the_nic_below_its_interface(tree: SysfsTree) -> None:
    tree.nic("eth1.9", None, "eth1")
    ctlr = tree.sys / "devices/virtual/net/eth1.9/ctlr_0/host5/rport-5:0-0/target5:0:0/5:0:0:0"
    tree.disk("sdi", "8:128", ctlr)
    assert below(tree, "/dev/sdi") == {ETH1}
    tree.nic("veth0")
    tree.disk("sdj", "8:144", tree.sys / "devices/virtual/net/veth0/ctlr_1/host6")
    assert below(tree, "/dev/sdj") is None


@pytest.mark.parametrize(
    ("transport", "address", "expected"),
    [
        ("tcp", "traddr=192.0.2.7,trsvcid=4420,src_addr=192.0.2.1", {ETH1}),
        ("rdma", "traddr=192.0.9.7,trsvcid=4420", {NIC}),
        ("tcp", "traddr=192.0.9.7,trsvcid=4420,host_iface=eth1", {NIC, ETH1}),
        ("fc", "traddr=nn-0x2:pn-0x3,host_traddr=nn-0x20000025b5:pn-0x10000025B5", {DISK}),
        ("fc", "traddr=nn-0x2:pn-0x3,host_traddr=nn-0x20000025b5:pn-0x10000025b6", None),
        ("fc", "traddr=nn-0x2:pn-0x3", None),
        ("loop", "", None),
    ],
)
def test_nvme_over_a_network_needs_what_its_address_names(
    tree: SysfsTree, transport: str, address: str, expected: set[str] | None
) -> None:
    tree.route("eth0")
    tree.route("eth1", "000200C0", "00FFFFFF")
    tree.scsi_host("host8", tree.device(DISK), "fc_host", port_name="0x10000025b5")
    tree.nvme_over(transport, "nvme9n1", "259:90", address)
    assert below(tree, "/dev/nvme9n1") == expected


def behind(tree: SysfsTree, name: str) -> set[str]:
    return {str(a) for a in Kernel(tree.root).scsi_host(name)}


def test_scsi_hosts_lead_to_their_controllers(tree: SysfsTree) -> None:
    tree.scsi_host("host0", tree.device(DISK) / "ata1")
    tree.scsi_host("host3", tree.device(NIC) / "usb1/1-1")
    tree.iscsi("sdi", "8:128", "192.0.2.7")
    tree.scsi_host("host9", tree.sys / "devices/pseudo")
    tree.route("eth1")
    assert behind(tree, "host0") == behind(tree, "scsi_host0") == {DISK}
    assert behind(tree, "scsi_host3") == {NIC}
    assert behind(tree, "scsi_host7") == {ETH1}
    assert behind(tree, "scsi_host9") == set()


@pytest.mark.parametrize("name", ["host77", "", "scsi_host", "../host0", "host0/../host0", "naa.5", "fc_host0"])
def test_what_is_no_scsi_host_has_no_controller(tree: SysfsTree, name: str) -> None:
    tree.scsi_host("host0", tree.device(DISK))
    assert behind(tree, name) == set()


def test_framebuffers_and_tpms_on_pci_count_and_others_do_not(tree: SysfsTree) -> None:
    tree.object("class/graphics", "fb7", tree.sys / "devices/platform/efi-framebuffer.0")
    tree.object("class/graphics", "fbcon", tree.sys / "devices/virtual")
    tree.object("class/tpm", "tpm0", tree.sys / "devices/LNXSYSTM:00/MSFT0101:00")
    assert uses(tree) == {}
    tree.object("class/graphics", "fb0", tree.device(GPU))
    tree.object("class/tpm", "tpm1", tree.device(NIC) / "spi")
    assert uses(tree) == {
        GPU: {"carries the framebuffer fb0: a screen, and maybe the console"},
        NIC: {"carries the TPM tpm1"},
    }
