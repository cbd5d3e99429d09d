"""A guest that is moved, shut off, between two laboratory hosts: its assignment of a pool is not touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guests import define, guest_xml
from tests.lab.host import LabHost
from tests.system.conftest import clean
from tests.system.inspect_guest import config_xml
from tests.system.pools import IGB, PfView, from_pool, pool, pool_condition
from tests.system.stack import Stack
from tests.system.test_nics import connections, nics

pytestmark = pytest.mark.long

GROUPS = [{"name": "finance", "vlan": 42}]
GUEST, UUID = "rover", "77777777-7777-4777-8777-777777777777"


@pytest.fixture
def other(system: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A second node of the cluster, of the same kind: its cards have the same MAC addresses."""
    with LabHost.boot(tmp_path / "lab2") as lab:
        node = Stack(system.plane, lab, tmp_path, "lab2")
        node.install_agent()
        node.start_agent()
        node.wait_host()
        yield node
        clean(node)
        node.stop_agent()
        system.plane.kubectl("delete", "devicehost", "lab2")


def pf_of(node: Stack) -> PfView:
    return PfView(node.lab, node.lab.find_devices(IGB)[0])


def move(source: Stack, target: Stack, xml: str) -> None:
    """As an administrator does it with virsh."""
    source.lab.virsh("undefine", GUEST)
    define(target.lab, GUEST, xml)


def runs_with_its_nic(node: Stack, mac: str) -> None:
    """On this node: what its kernel and its libvirt say."""
    node.lab.virsh("start", GUEST)
    node.wait_condition(GUEST, "Attached", "True")
    assert (mac, "vlan 42") in pf_of(node).macs_and_vlans()
    assert connections(node, "moving") == 1
    node.lab.virsh("destroy", GUEST)
    node.wait_condition(GUEST, "Attached", "False", "GuestShutOff")


def is_bound_to(node: Stack) -> None:
    """And ready there."""

    def bound() -> bool:
        status = node.get("deviceassignment", GUEST).get("status", {})
        rows = {c["type"]: c["status"] for c in status.get("conditions", ())}
        return (status.get("nodeName"), rows.get("Ready"), rows.get("Accepted")) == (node.node, "True", "True")

    node.wait(f"the assignment to be ready on {node.node}", bound)


@pytest.mark.mission("N2", "P5")
def test_a_guest_moves_there_and_back_with_its_mac_and_vlan(system: Stack, other: Stack) -> None:
    first = pf_of(system)
    assert first.mac == pf_of(other).mac
    made = pool("moving", first.netdev, 2, linkUp=True, network={"portgroups": GROUPS}, pf={"mac": first.mac})
    system.apply(made)
    for node in (system, other):
        pool_condition(system, f"moving.{node.node}", "True")
        assert pf_of(node).num_vfs == 2
    plain = guest_xml(GUEST, uuid=UUID)
    define(system.lab, GUEST, plain)
    system.wait_guest_listed(GUEST)
    system.apply(from_pool(GUEST, "moving", portgroup="finance"))
    is_bound_to(system)
    (nic,) = nics(config_xml(system, GUEST))
    runs_with_its_nic(system, nic.mac)
    asked = system.get("deviceassignment", GUEST)

    move(system, other, config_xml(system, GUEST))  # with the NIC in its XML
    is_bound_to(other)
    assert nics(config_xml(other, GUEST)) == [nic]
    runs_with_its_nic(other, nic.mac)
    assert nic.mac not in {mac for mac, _ in first.macs_and_vlans()}

    move(other, system, plain)  # as it was first defined, without it
    is_bound_to(system)
    assert nics(config_xml(system, GUEST)) == [nic]
    runs_with_its_nic(system, nic.mac)

    now = system.get("deviceassignment", GUEST)
    assert (now["spec"], now["metadata"]["uid"]) == (asked["spec"], asked["metadata"]["uid"])
    assert now["metadata"]["generation"] == asked["metadata"]["generation"]
    system.delete(GUEST)
    system.wait_gone(GUEST)
    assert nics(config_xml(system, GUEST)) == []
    system.remove("vfpool", "moving")
    assert [pf_of(node).num_vfs for node in (system, other)] == [0, 0]
