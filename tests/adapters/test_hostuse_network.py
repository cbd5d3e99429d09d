from __future__ import annotations

from pathlib import Path

import pytest

from hostdev_operator.adapters.kernel import Kernel
from tests.adapters.test_hostuse import uses
from tests.fakes.sysfs_tree import NIC, SysfsTree, storage_and_network


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return storage_and_network(tmp_path)


def test_the_default_route_counts(tree: SysfsTree) -> None:
    tree.route("eth0")
    assert uses(tree) == {NIC: {"carries the default route over eth0"}}


def test_any_route_counts_and_one_that_is_down_does_not(tree: SysfsTree) -> None:
    tree.route("eth0", "000200C0", "00FFFFFF", "0001")
    assert uses(tree) == {NIC: {"carries a network of the host (it has an IPv4 route) over eth0"}}
    tree.routes.clear()
    tree.route("eth0", flags="0002")
    assert uses(tree) == {}


def test_bridge_over_bond_over_vlan_leads_to_the_nics(tree: SysfsTree) -> None:
    tree.pci("0000:00:1e.0/0000:03:00.1")
    tree.nic("eth1", tree.device("0000:03:00.1"))
    tree.nic("bond0", None, "eth0", "eth1")
    tree.nic("bond0.7", None, "bond0")
    tree.nic("br0", None, "bond0.7")
    tree.route("br0")
    assert set(uses(tree)) == {NIC, "0000:03:00.1"}
    assert {str(a) for a in Kernel(tree.root).interface("br0")} == {NIC, "0000:03:00.1"}


def test_a_port_of_open_vswitch_counts_though_the_route_is_on_an_internal_port(tree: SysfsTree) -> None:
    tree.nic("ovs-system")
    tree.nic("br-ex")
    tree.route("br-ex")
    assert uses(tree) == {}
    tree.master("eth0", "ovs-system")
    assert uses(tree) == {NIC: {"carries eth0, which is a port of ovs-system"}}


def test_an_interface_below_another_one_counts_and_a_virtual_one_is_no_device(tree: SysfsTree) -> None:
    (tree.sys / "class/net/bonding_masters").write_text("bond0\n")
    tree.nic("veth1")
    tree.nic("br0")
    tree.master("veth1", "br0")
    assert uses(tree) == {}
    tree.nic("vlan7", None, "eth0")
    assert uses(tree) == {NIC: {"carries eth0, which carries vlan7"}}


def test_routes_without_an_interface_are_skipped(tree: SysfsTree) -> None:
    """Calico has a blackhole route for its block of addresses on every node."""
    tree.route("*", "00F4A80A", "C0FFFFFF", "0201")
    assert uses(tree) == {}


def test_ipv6_routes_over_the_loopback_need_no_device(tree: SysfsTree) -> None:
    tree.nic("lo")
    tree.route6("lo")
    assert uses(tree) == {}


def test_a_bridges_nic_is_named_once_with_the_route(tree: SysfsTree) -> None:
    tree.nic("br0")
    tree.master("eth0", "br0")
    tree.route("br0")
    assert uses(tree) == {NIC: {"carries the default route over br0"}}


def test_an_interface_in_another_network_namespace_counts(tree: SysfsTree) -> None:
    tree.bind(NIC, "iavf")
    assert uses(tree) == {}
    (tree.device(NIC) / "net/eth0").rmdir()
    assert uses(tree) == {NIC: {"has its interface in another network namespace (driver iavf)"}}


def test_virtio_has_its_interface_one_folder_deeper(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", driver="virtio-pci")
    tree.nic("eth5", tree.device("0000:00:03.0") / "virtio2")
    assert uses(tree) == {}
    (tree.device("0000:00:03.0") / "virtio2/net/eth5").rmdir()
    assert set(uses(tree)) == {"0000:00:03.0"}


def test_a_network_function_with_a_user_space_driver_counts_and_one_of_vfio_does_not(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", driver="vfio-pci")
    tree.pci("0000:00:04.0", driver="mlx5_vfio_pci")
    tree.pci("0000:00:05.0")
    assert uses(tree) == {}
    tree.bind("0000:00:05.0", "uio_pci_generic")
    what = "has driver uio_pci_generic but no interface here (a user-space driver, or one that is still starting)"
    assert uses(tree) == {"0000:00:05.0": {what}}


def test_an_infiniband_adapter_may_have_no_interface_and_an_ethernet_one_may_not(tree: SysfsTree) -> None:
    tree.pci("0000:00:03.0", 0x020700, driver="mlx5_core")
    (tree.device("0000:00:03.0") / "infiniband/mlx5_0").mkdir(parents=True)
    assert uses(tree) == {}
    tree.pci("0000:00:04.0", driver="mlx5_core")
    (tree.device("0000:00:04.0") / "infiniband/mlx5_1").mkdir(parents=True)
    assert set(uses(tree)) == {"0000:00:04.0"}


def test_interfaces_in_a_circle_end(tree: SysfsTree) -> None:
    tree.nic("a", None)
    tree.nic("b", None, "a", "eth0")
    (tree.sys / "devices/virtual/net/a/lower_b").symlink_to(tree.sys / "devices/virtual/net/b")
    assert {str(x) for x in Kernel(tree.root).interface("a")} == {NIC}


@pytest.mark.parametrize("name", ["nothing", "../block/sda", ""])
def test_no_interface_has_no_devices(tree: SysfsTree, name: str) -> None:
    assert Kernel(tree.root).interface(name) == frozenset()


def test_global_ipv6_addresses_count_and_link_local_ones_do_not(tree: SysfsTree) -> None:
    tree.inet6("eth0", scope="20", address="fe800000000000000000000000000001")
    assert uses(tree) == {}
    tree.inet6("eth0")
    assert uses(tree) == {NIC: {"carries an IPv6 address of the host over eth0"}}


def test_the_ipv6_default_route_counts_and_others_do_not(tree: SysfsTree) -> None:
    tree.route6("eth0", "fe80" + "0" * 28, "40")
    assert uses(tree) == {}
    tree.route6("eth0")
    assert uses(tree) == {NIC: {"carries the default route (IPv6) over eth0"}}
