"""Guests' NICs on VFs, by address and from pools, judged by ip link, virsh dumpxml, virsh net-dumpxml and sysfs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from lxml import etree

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.inspect_guest import config_xml, live_xml
from tests.system.pools import IGB, PfView, from_pool, pool, pool_condition
from tests.system.stack import NODE, Stack, assignment
from tests.system.test_hotplug import start

MAC, OTHER_MAC = "52:54:00:30:00:01", "52:54:00:30:00:02"
PLUGGED, GONE = "GUEST plugged .* 8086:10ca", "GUEST gone"
GROUPS = [{"name": "finance", "vlan": 42}]


class VfLine(NamedTuple):
    """A VF as `ip link show PF` has it. ``vlan`` 0: untagged; ``limit`` in Mbit/s, 0: none."""

    mac: str
    vlan: int
    spoof_check: bool
    trust: bool
    limit: int


class XmlNic(NamedTuple):
    """An <interface>; ``place`` is its VF's address, or its network."""

    kind: str
    mac: str
    vlan: str | None
    place: str


def vf_line(pf: PfView, index: int) -> VfLine:
    (link,) = json.loads(pf.lab.run(["ip", "-j", "-d", "link", "show", pf.netdev]).stdout)
    vf: dict[str, Any] = next(v for v in link["vfinfo_list"] if v["vf"] == index)
    tags = [tag["vlan"] for tag in vf.get("vlan_list", ()) if "vlan" in tag]
    return VfLine(vf["address"], tags[0] if tags else 0, vf["spoofchk"], vf["trust"], vf["rate"]["max_tx"])


def nics(xml: str) -> list[XmlNic]:
    found = []
    for nic in etree.fromstring(xml).findall("devices/interface"):
        source, mac, tag = nic.find("source"), nic.find("mac"), nic.find("vlan/tag")
        assert source is not None
        assert mac is not None
        address = source.find("address")
        numbers = (
            [int(address.get(n) or "", 16) for n in ("domain", "bus", "slot", "function")]
            if address is not None
            else []
        )
        place = "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers) if numbers else f"network {source.get('network')}"
        found.append(
            XmlNic(nic.get("type") or "", mac.get("address") or "", tag.get("id") if tag is not None else None, place)
        )
    return found


def define_guest(system: Stack, name: str) -> None:
    define(system.lab, name, guest_xml(name))
    system.wait_guest_listed(name)


def process(system: Stack, name: str) -> str:
    """The id of the guest's QEMU process: the same as long as it runs."""
    return system.lab.run(f"pgrep -f 'guest={name},'").stdout


def connections(system: Stack, network: str) -> int:
    """What `virsh net-dumpxml` counts; libvirt leaves the attribute out at 0."""
    return int(etree.fromstring(system.lab.virsh("net-dumpxml", network)).get("connections") or 0)


@pytest.fixture(scope="module")
def card(stack: Stack) -> Iterator[PfView]:
    """The first PF: up, with three VFs that have no drivers."""
    lab = stack.lab
    pf = PfView(lab, lab.find_devices(IGB)[0])
    lab.run(
        f"echo 0 > {pf.folder}/sriov_drivers_autoprobe; echo 3 > {pf.folder}/sriov_numvfs; ip link set {pf.netdev} up"
    )
    lab.run(f"until [ $(cat /sys/class/net/{pf.netdev}/carrier) = 1 ]; do sleep 0.1; done", timeout=60)
    yield pf
    lab.run(
        f"ip link set {pf.netdev} down; echo 0 > {pf.folder}/sriov_numvfs; echo 1 > {pf.folder}/sriov_drivers_autoprobe"
    )


@pytest.fixture
def second(system: Stack) -> PfView:
    """The other PF, for pools."""
    return PfView(system.lab, system.lab.find_devices(IGB)[1])


def vf_nic(name: str, pf: PfView, index: int, **spec: Any) -> str:
    """An assignment of a PF's VF for the guest of its name."""
    return assignment(name, domain=name, source={"match": {"pfMAC": pf.mac, "vfIndex": index}}, **spec)


# -- one VF ----------------------------------------------------------------------------------------------------------


@pytest.mark.mission("N1")
def test_a_vf_with_mac_vlan_and_settings_and_all_of_it_as_before(card: PfView, system: Stack) -> None:
    lab, before, vf = system.lab, vf_line(card, 1), card.vfs()[1]
    define_guest(system, "single")
    network = {"mac": MAC, "vlan": 42, "spoofCheck": False, "trust": True, "maxTxRate": 100}
    system.apply(vf_nic("single", card, 1, network=network))
    system.wait_condition("single", "Ready", "True")
    assert nics(config_xml(system, "single")) == [XmlNic("hostdev", MAC, "42", vf)]
    assert "managed='yes'" in config_xml(system, "single")
    asked = VfLine(MAC, 42, spoof_check=False, trust=True, limit=100)
    assert vf_line(card, 1) == asked._replace(mac=before.mac, vlan=before.vlan)
    lab.virsh("start", "single")
    wait_for_guest(lab, "single", PLUGGED)
    system.wait_condition("single", "Attached", "True")
    assert vf_line(card, 1) == asked
    assert (lab.driver(vf), vf_line(card, 0), vf_line(card, 2)) == ("vfio-pci", before, before)
    lab.virsh("destroy", "single")
    system.wait_condition("single", "Attached", "False", "GuestShutOff")
    assert nics(config_xml(system, "single")) == [XmlNic("hostdev", MAC, "42", vf)]
    system.delete("single")
    system.wait_gone("single")
    assert nics(config_xml(system, "single")) == []
    assert (lab.driver(vf), vf_line(card, 1)) == (None, before)


def test_another_vlan_waits_for_the_next_boot_or_is_plugged_in_anew(card: PfView, system: Stack) -> None:
    lab, before = system.lab, vf_line(card, 0)
    define_guest(system, "changing")
    system.apply(vf_nic("changing", card, 0, network={"mac": MAC, "vlan": 42}, attach="NextBoot"))
    system.wait_condition("changing", "Ready", "True")
    lab.virsh("start", "changing")
    wait_for_guest(lab, "changing", "GUEST up")
    system.wait_condition("changing", "Attached", "True")

    system.patch("changing", {"spec": {"network": {"vlan": 43}}})
    message = system.wait_condition("changing", "Attached", "False", "NetworkPending")
    assert "42" in message
    assert "43" in message
    assert system.condition("changing")["status"] == "True"
    assert [n.vlan for n in nics(config_xml(system, "changing"))] == ["43"]
    assert [n.vlan for n in nics(live_xml(system, "changing"))] == ["42"]
    assert vf_line(card, 0)[:2] == (MAC, 42)
    lab.virsh("destroy", "changing")
    lab.virsh("start", "changing")
    wait_for_guest(lab, "changing", "GUEST up")
    system.wait_condition("changing", "Attached", "True")
    assert vf_line(card, 0)[:2] == (MAC, 43)

    run = process(system, "changing")
    system.patch("changing", {"spec": {"attach": "Live", "network": {"vlan": 44}}})
    wait_for_guest(lab, "changing", GONE)
    system.wait("the PF to show it", lambda: vf_line(card, 0)[:2] == (MAC, 44))
    wait_for_guest(lab, "changing", PLUGGED)
    system.wait_condition("changing", "Attached", "True")
    for xml in (config_xml, live_xml):
        assert [(n.mac, n.vlan) for n in nics(xml(system, "changing"))] == [(MAC, "44")]

    system.patch("changing", {"spec": {"detach": "Live"}})
    system.delete("changing")
    system.wait_gone("changing")
    assert nics(config_xml(system, "changing")) == nics(live_xml(system, "changing")) == []
    assert vf_line(card, 0) == before
    assert process(system, "changing") == run


def test_a_setting_that_the_driver_refuses_is_named_and_nothing_is_left_of_it(card: PfView, system: Stack) -> None:
    before, vf = vf_line(card, 2), card.vfs()[2]
    define_guest(system, "picky")
    system.apply(vf_nic("picky", card, 2, network={"mac": MAC, "trust": True, "linkState": "Enable"}))
    message = system.wait_condition("picky", "Ready", "False", "VFConfigRejected")
    assert [word for word in ("igb", "linkState", card.address) if word not in message] == []
    assert nics(config_xml(system, "picky")) == []
    assert vf_line(card, 2) == before
    system.patch("picky", {"spec": {"network": {"linkState": None}}})
    system.wait_condition("picky", "Ready", "True")
    stands = [XmlNic("hostdev", MAC, None, vf)]
    assert nics(config_xml(system, "picky")) == stands
    assert vf_line(card, 2) == before._replace(trust=True)
    system.patch("picky", {"spec": {"network": {"maxTxRate": 100_000}}})
    message = system.wait_condition("picky", "Ready", "False", "VFConfigRejected")
    assert [word for word in ("igb", "maxTxRate 100000") if word not in message] == []
    assert nics(config_xml(system, "picky")) == stands
    assert vf_line(card, 2) == before._replace(trust=True)


@pytest.mark.mission("N2")
def test_a_mac_that_nobody_gave_is_the_same_after_its_status_is_lost(card: PfView, system: Stack) -> None:
    define_guest(system, "nameless")
    wanted = vf_nic("nameless", card, 1, network={"vlan": 9})
    system.apply(wanted)
    system.wait_condition("nameless", "Ready", "True")
    (first,) = nics(config_xml(system, "nameless"))
    assert int(first.mac[:2], 16) & 3 == 2, "unicast, and locally administered"

    lost = '[{"op": "remove", "path": "/status"}]'
    system.plane.kubectl("patch", "deviceassignment", "nameless", "--subresource=status", "--type=json", "-p", lost)
    system.wait_condition("nameless", "Ready", "True")
    assert nics(config_xml(system, "nameless")) == [first]
    system.delete("nameless")
    system.wait_gone("nameless")
    assert nics(config_xml(system, "nameless")) == []
    system.apply(wanted)
    system.wait_condition("nameless", "Ready", "True")
    assert nics(config_xml(system, "nameless")) == [first]


@pytest.mark.mission("N3")
def test_what_is_no_vf_gets_no_mac(card: PfView, system: Stack, device: str) -> None:
    lab = system.lab
    define_guest(system, "plain")
    for name, address, driver, mac in (("nic", device, "e1000", MAC), ("pf", card.address, "igb", OTHER_MAC)):
        system.apply(assignment(name, domain="plain", address=address, network={"mac": mac}))
        message = system.wait_condition(name, "Ready", "False", "NotVirtualFunction")
        assert address in message
        assert "spec.network" in message
        assert lab.driver(address) == driver
    assert nics(config_xml(system, "plain")) == []
    assert "<hostdev" not in config_xml(system, "plain")


def test_a_pf_that_is_down_is_told_and_heals_when_it_is_up(card: PfView, system: Stack) -> None:
    lab, netdev = system.lab, card.netdev
    define_guest(system, "downed")
    try:
        lab.run(f"ip link set {netdev} down")
        system.apply(vf_nic("downed", card, 0, network={"mac": MAC}))
        assert f"ip link set {netdev} up" in system.wait_condition("downed", "Ready", "False", "PFDown")
        assert nics(config_xml(system, "downed")) == []
        lab.run(f"ip link set {netdev} up")
        system.wait_condition("downed", "Ready", "True", seconds=20)  # by an event: a scan comes after 30 s
        assert [n.mac for n in nics(config_xml(system, "downed"))] == [MAC]
        lab.run(f"ip link set {netdev} down")
        system.wait_condition("downed", "Ready", "False", "PFDown", seconds=20)
        assert "not online" in lab.run("virsh start downed", check=False).stderr
        lab.run(f"ip link set {netdev} up")
        system.wait_condition("downed", "Ready", "True", seconds=20)
    finally:
        lab.run(f"ip link set {netdev} up")


# -- pools -----------------------------------------------------------------------------------------------------------


def test_a_portgroup_that_is_not_there_gives_no_nic(system: Stack, second: PfView) -> None:
    lab = system.lab
    define_guest(system, "grouped")
    system.apply(pool("groups", second.netdev, 2, linkUp=True, network={"portgroups": GROUPS}))
    pool_condition(system, f"groups.{NODE}", "True")
    system.apply(from_pool("grouped", "groups", portgroup="sales"))
    message = system.wait_condition("grouped", "Ready", "False", "PortgroupUnknown")
    assert "sales" in message
    assert "finance" in message
    assert nics(config_xml(system, "grouped")) == []
    both = [*GROUPS, {"name": "sales", "vlan": 43}]
    system.patch("groups", {"spec": {"network": {"portgroups": both}}}, kind="vfpool")
    system.wait_condition("grouped", "Ready", "True")
    assert re.search("<source network='groups' portgroup='sales'/>", config_xml(system, "grouped"))
    assert "<portgroup name='sales'" in lab.virsh("net-dumpxml", "groups")
    system.patch("groups", {"spec": {"network": {"portgroups": GROUPS}}}, kind="vfpool")
    system.wait_condition("grouped", "Ready", "False", "PortgroupUnknown")
    assert nics(config_xml(system, "grouped")) == []


def test_a_nic_of_a_network_that_was_undefined_by_hand(system: Stack, second: PfView) -> None:
    """While the agent is held up, so that it finds the pool without its network, and an assignment that wants it."""
    lab = system.lab
    define_guest(system, "robbed")
    network = {"portgroups": GROUPS}
    system.apply(pool("robbed", second.netdev, 2, linkUp=True, driftPolicy="Correct", network=network))
    pool_condition(system, f"robbed.{NODE}", "True")
    assert system.agent is not None
    system.agent.kill(19)  # SIGSTOP
    try:
        lab.virsh("net-destroy", "robbed")
        lab.virsh("net-undefine", "robbed")
        system.apply(from_pool("robbed", "robbed", portgroup="finance", network={"mac": MAC}))
        system.wait_condition("robbed", "Accepted", "True")
    finally:
        system.agent.kill(18)  # SIGCONT
    system.wait_condition("robbed", "Ready", "True")
    assert f"<pf dev='{second.netdev}'/>" in lab.virsh("net-dumpxml", "--inactive", "robbed")
    assert nics(config_xml(system, "robbed")) == [XmlNic("network", MAC, None, "network robbed")]
    lab.virsh("net-destroy", "robbed")
    lab.virsh("net-undefine", "robbed")
    system.wait("the network to be active", lambda: "robbed" in lab.virsh("net-list"))
    lab.virsh("start", "robbed")
    system.wait_condition("robbed", "Attached", "True")
    assert (MAC, "vlan 42") in second.macs_and_vlans()


@pytest.mark.mission("P2", "P4")
@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.long)])
def test_each_start_takes_a_vf_of_the_pool_and_each_stop_gives_it_back(
    system: Stack, second: PfView, times: int
) -> None:
    lab = system.lab
    macs: set[str] = set()
    define_guest(system, "cycler")
    system.apply(pool("cycles", second.netdev, 2, linkUp=True, network={"portgroups": GROUPS}))
    pool_condition(system, f"cycles.{NODE}", "True")
    system.apply(from_pool("cycler", "cycles", portgroup="finance"))
    system.wait_condition("cycler", "Ready", "True")

    def counted(allocated: int) -> None:
        wanted = {"total": 2, "allocated": allocated, "free": 2 - allocated}

        def told() -> bool:
            return bool(system.get("nodevfpool", f"cycles.{NODE}")["status"]["counts"] == wanted)

        system.wait(f"{allocated} of the pool's VFs in use", told)
        assert connections(system, "cycles") == allocated

    for _ in range(times):
        lab.virsh("start", "cycler")
        (nic,) = nics(live_xml(system, "cycler"))
        macs.add(nic.mac)
        assert nic.place in second.vfs()
        assert lab.driver(nic.place) == "vfio-pci"
        assert (nic.mac, "vlan 42") in second.macs_and_vlans()
        counted(1)
        system.wait_condition("cycler", "Attached", "True")
        lab.virsh("destroy", "cycler")
        assert nic.mac not in {mac for mac, _ in second.macs_and_vlans()}
        assert [lab.driver(vf) for vf in second.vfs()] == [None, None]
        counted(0)
        system.wait_condition("cycler", "Attached", "False", "GuestShutOff")
    assert len(macs) == 1


@pytest.mark.mission("P2")
def test_a_running_guest_gets_a_nic_of_a_pool_another_vlan_and_lets_it_go(system: Stack, second: PfView) -> None:
    lab = system.lab
    system.apply(pool("live", second.netdev, 2, linkUp=True))
    run = start(system, "runner")
    pool_condition(system, f"live.{NODE}", "True")
    system.apply(from_pool("runner", "live", network={"mac": OTHER_MAC, "vlan": 7}, attach="Live", detach="Live"))
    system.wait_condition("runner", "Ready", "True")
    wait_for_guest(lab, "runner", PLUGGED)
    assert connections(system, "live") == 1
    assert (OTHER_MAC, "vlan 7") in second.macs_and_vlans()
    (nic,) = nics(live_xml(system, "runner"))
    assert nic.place in second.vfs()
    assert nics(config_xml(system, "runner")) == [XmlNic("network", OTHER_MAC, "7", "network live")]

    system.patch("runner", {"spec": {"network": {"vlan": 8}}})
    system.wait("the PF to show it", lambda: (OTHER_MAC, "vlan 8") in second.macs_and_vlans())
    wait_for_guest(lab, "runner", GONE)
    system.wait_condition("runner", "Ready", "True")
    assert connections(system, "live") == 1
    assert [n.vlan for n in nics(config_xml(system, "runner"))] == ["8"]

    system.delete("runner")
    system.wait_gone("runner")
    assert connections(system, "live") == 0
    assert nics(live_xml(system, "runner")) == nics(config_xml(system, "runner")) == []
    assert OTHER_MAC not in {mac for mac, _ in second.macs_and_vlans()}
    assert process(system, "runner") == run
