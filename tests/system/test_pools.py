"""VF pools on emulated SR-IOV cards, judged by sysfs, ip link and virsh net-dumpxml."""

from __future__ import annotations

import re

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.pools import IGB, PfView, from_pool, pool, pool_condition
from tests.system.stack import NODE, Stack

FINANCE = {"name": "finance", "vlan": 42}
BLUE, RED, GREEN = (f"02:00:00:00:00:0{n}" for n in (1, 2, 3))


@pytest.fixture
def pf(system: Stack) -> PfView:
    return PfView(system.lab, system.lab.find_devices(IGB)[0])


def wait_pool(system: Stack, name: str, status: str = "True", reason: str | None = None) -> str:
    """Wait for Ready of the node's part of a pool; its message."""
    return pool_condition(system, f"{name}.{NODE}", status, reason)


@pytest.mark.mission("P1", "P3")
def test_a_pool_makes_vfs_and_network_and_gives_all_of_it_back(system: Stack, pf: PfView) -> None:
    lab = system.lab
    assert (pf.num_vfs, pf.autoprobe, pf.up) == (0, "1", False)
    system.apply(pool("whole", pf.netdev, 4, linkUp=True, network={"portgroups": [FINANCE]}))
    wait_pool(system, "whole")
    assert (pf.num_vfs, pf.autoprobe, pf.up) == (4, "0", True)
    assert [lab.driver(vf) for vf in pf.vfs()] == [None] * 4
    xml = lab.virsh("net-dumpxml", "--inactive", "whole")
    assert f"<pf dev='{pf.netdev}'/>" in xml
    assert re.search(r"<portgroup name='finance'.*?<tag id='42'/>", xml, re.DOTALL)
    assert re.search(r"Active:\s+yes.*Autostart:\s+yes", lab.virsh("net-info", "whole"), re.DOTALL)
    system.wait("the sum over all nodes", lambda: system.get("vfpool", "whole")["status"]["counts"]["free"] == 4)
    system.remove("vfpool", "whole")
    assert (pf.num_vfs, pf.autoprobe, pf.up) == (0, "1", False)
    assert "whole" not in lab.virsh("net-list", "--all")
    assert lab.run("ls /var/lib/hostdev-operator/pools").stdout == ""


@pytest.mark.mission("P4")
def test_three_guests_compete_for_two_vfs(system: Stack, pf: PfView) -> None:
    lab = system.lab
    system.apply(pool("two", pf.netdev, 2, linkUp=True, network={"portgroups": [FINANCE]}))
    wait_pool(system, "two")
    macs = {"blue": BLUE, "red": RED, "green": GREEN}
    for name, mac in macs.items():
        define(lab, name, guest_xml(name))
        system.wait_guest_listed(name)
        system.apply(from_pool(name, "two", portgroup="finance", network={"mac": mac}))
        system.wait_condition(name, "Ready", "True")
        assert f"<mac address='{mac}'/>" in lab.virsh("dumpxml", "--inactive", name)
    for name in ("blue", "red"):
        lab.virsh("start", name)
        system.wait_condition(name, "Attached", "True")
        assert (macs[name], "vlan 42") in pf.macs_and_vlans()
    assert system.get("nodevfpool", f"two.{NODE}")["status"]["counts"] == {"total": 2, "allocated": 2, "free": 0}
    assert lab.run("virsh start green", check=False).returncode != 0
    message = system.wait_condition("green", "Attached", "False", "PoolExhausted")
    assert "blue" in message
    assert "red" in message
    lab.virsh("destroy", "blue")
    system.wait_condition("green", "Attached", "False", "GuestShutOff")
    lab.virsh("start", "green")
    system.wait_condition("green", "Attached", "True")
    assert {(RED, "vlan 42"), (GREEN, "vlan 42")} <= pf.macs_and_vlans()
    assert BLUE not in {mac for mac, _ in pf.macs_and_vlans()}
    allocated = system.get("deviceassignment", "green")["status"]["device"]["address"]
    assert allocated in pf.vfs()


@pytest.mark.mission("P3")
def test_a_number_of_vfs_is_never_changed_while_one_is_in_use(system: Stack, pf: PfView) -> None:
    lab = system.lab
    system.apply(pool("busy", pf.netdev, 2, linkUp=True))
    wait_pool(system, "busy")
    define(lab, "user", guest_xml("user"))
    system.wait_guest_listed("user")
    system.apply(from_pool("user", "busy", network={"mac": BLUE, "vlan": 7}))
    system.wait_condition("user", "Ready", "True")
    lab.virsh("start", "user")
    system.wait_condition("user", "Attached", "True")
    system.patch("busy", {"spec": {"numVFs": 4}}, kind="vfpool")
    assert "user" in wait_pool(system, "busy", "False", "VFsInUse")
    assert pf.num_vfs == 2
    assert (BLUE, "vlan 7") in pf.macs_and_vlans()
    system.patch("busy", {"spec": {"numVFs": 8}}, kind="vfpool")
    assert "7" in wait_pool(system, "busy", "False", "VFCountTooHigh")
    assert pf.num_vfs == 2
    lab.virsh("destroy", "user")
    system.patch("busy", {"spec": {"numVFs": 4}}, kind="vfpool")
    wait_pool(system, "busy")
    assert pf.num_vfs == 4


def test_what_is_undone_by_hand_is_told_and_done_again_if_that_is_asked_for(system: Stack, pf: PfView) -> None:
    lab = system.lab
    system.apply(pool("kept", pf.netdev, 2, linkUp=True))
    wait_pool(system, "kept")
    lab.virsh("net-destroy", "kept")
    assert "start libvirt network kept" in wait_pool(system, "kept", "False", "Drifted")
    assert "kept" not in lab.virsh("net-list")
    system.patch("kept", {"spec": {"driftPolicy": "Correct"}}, kind="vfpool")
    system.wait("the network to be active", lambda: "kept" in lab.virsh("net-list"))
    lab.virsh("net-destroy", "kept")
    lab.run(["sh", "-c", f"echo 0 > {pf.folder}/sriov_numvfs"])
    system.wait("the VFs to be there", lambda: pf.num_vfs == 2 and "kept" in lab.virsh("net-list"))
    wait_pool(system, "kept")


def test_a_vf_of_a_foreign_guest_is_left_out(system: Stack, pf: PfView) -> None:
    lab = system.lab
    lab.run(["sh", "-c", f"echo 0 > {pf.folder}/sriov_drivers_autoprobe; echo 3 > {pf.folder}/sriov_numvfs"])
    try:
        foreign = pf.vfs()[1]
        define(lab, "foreign", guest_xml("foreign", hostdevs=[foreign]))
        system.wait_guest_listed("foreign")
        system.apply(pool("rest", pf.netdev, 3, linkUp=True))
        wait_pool(system, "rest")
        handed_out = lab.virsh("net-dumpxml", "--inactive", "rest")
        assert "<pf " not in handed_out
        assert handed_out.count("<address ") == 2
        slot = int(foreign[8:10], 16), int(foreign[-1])
        assert f"slot='0x{slot[0]:02x}' function='0x{slot[1]:x}'" not in handed_out
        holders = {vf["index"]: vf.get("holder") for vf in system.get("nodevfpool", f"rest.{NODE}")["status"]["vfs"]}
        assert "foreign" in holders[1]
        system.remove("vfpool", "rest")
        assert pf.num_vfs == 3
    finally:
        lab.virsh("undefine", "foreign", check=False)
        lab.run(["sh", "-c", f"echo 0 > {pf.folder}/sriov_numvfs; echo 1 > {pf.folder}/sriov_drivers_autoprobe"])


@pytest.mark.mission("P1")
def test_two_pools_share_a_pf_and_a_third_is_refused(system: Stack, pf: PfView) -> None:
    lab = system.lab
    for name, vfs in (("left", "0-1"), ("right", "2-3"), ("over", "1-2")):
        system.apply(pool(name, pf.netdev, 4, vfs=vfs, linkUp=True))
        if name != "over":
            wait_pool(system, name)
    message = wait_pool(system, "over", "False", "PoolConflict")
    assert "left" in message
    assert "over" in message
    for name in ("left", "right"):
        assert lab.virsh("net-dumpxml", "--inactive", name).count("<address ") == 2
    assert "over" not in lab.virsh("net-list", "--all")
    system.remove("vfpool", "left")
    assert pf.num_vfs == 4
    system.remove("vfpool", "over")
    system.remove("vfpool", "right")
    assert pf.num_vfs == 0
