"""The adapters on real VFs: two igb cards, the kernel's rtnetlink, libvirt's networks. Judged by ip, sysfs and virsh.

They run with the privileges of the DaemonSet, and no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image.cache import REPOSITORY
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost

pytestmark = pytest.mark.lab

IGB, IGBVF = "8086:10c9", "8086:10ca"
SOURCE, SHELL = "/opt/hostdev-operator", "/opt/adapter_shell.py"
PRIVILEGES = "setpriv --bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs"
UUID = "44444444-4444-4444-8444-444444444444"
GUEST = "11111111-1111-4111-8111-111111111111"
NIC = "actions.InterfaceXml('vfs', 'ua-hostdev-{n}', actions.NicXml('52:54:00:aa:bb:0{n}'), portgroup='a')"
#: 7 VFs without drivers take 1 to 2 s in an idle laboratory; with drivers 16 s.
SECONDS = 10.0


class Adapters:
    """The adapters inside the laboratory host."""

    def __init__(self, lab: LabHost) -> None:
        self._lab = lab
        lab.put_python(REPOSITORY / "operator", SOURCE)
        lab.put(REPOSITORY / "tests/lab/adapter_shell.py", SHELL)
        lab.run("mkfifo /tmp/in /tmp/out")
        command = f"exec {PRIVILEGES} python3 {SHELL} /tmp/in /tmp/out"
        self.process = lab.spawn(command, "adapters", {"PYTHONPATH": SOURCE, "LC_ALL": "C"})

    def ask(self, call: str) -> dict[str, Any]:
        """Outcome and duration of a call."""
        script = 'printf "%s\\n" "$1" > /tmp/in; cat /tmp/out'
        answer: dict[str, Any] = json.loads(self._lab.run(["bash", "-c", script, "-", call], timeout=90).stdout)
        print(f"{call}\n  -> {answer}")
        return answer

    def __call__(self, call: str) -> Any:
        """The value of a call that must succeed."""
        answer = self.ask(call)
        assert "reason" not in answer, (call, answer)
        return answer["value"]

    def fails(self, call: str, reason: str, *words: str) -> None:
        """A call that must fail for this reason, with these words."""
        answer = self.ask(call)
        assert answer.get("reason") == reason, (call, answer)
        assert [word for word in words if word not in answer["message"]] == [], answer


@pytest.fixture(scope="module")
def adapters(lab: LabHost) -> Adapters:
    return Adapters(lab)


@pytest.fixture(scope="module")
def pf(lab: LabHost) -> str:
    return lab.find_devices(IGB)[0]


@pytest.fixture(scope="module")
def netdev(lab: LabHost, pf: str) -> str:
    return lab.run(["ls", f"/sys/bus/pci/devices/{pf}/net"]).stdout.strip()


@pytest.fixture
def vfs(adapters: Adapters, pf: str) -> Iterator[None]:
    """Three VFs on a PF that is up; none afterwards."""
    adapters(f"kernel.set_autoprobe(address('{pf}'), on=False)")
    adapters(f"kernel.set_link(address('{pf}'), up=True)")
    adapters(f"kernel.set_num_vfs(address('{pf}'), 3, 60)")
    yield
    adapters(f"kernel.set_num_vfs(address('{pf}'), 0, 60)")


@pytest.fixture
def network(adapters: Adapters, netdev: str, vfs: None) -> Iterator[None]:
    """A network over all VFs, started; none afterwards."""
    xml = (
        f"<network><name>vfs</name><uuid>{UUID}</uuid><forward mode='hostdev' managed='yes'><pf dev='{netdev}'/>"
        "</forward><portgroup name='a'><vlan><tag id='42'/></vlan></portgroup></network>"
    )
    adapters(f'libvirt.define_network("{xml}")')
    adapters("libvirt.start_network('vfs')")
    yield
    adapters("libvirt.stop_network('vfs')")
    adapters(f"libvirt.undefine_network('vfs', '{UUID}')")


def ip_link(lab: LabHost, netdev: str) -> dict[str, Any]:
    (link,) = json.loads(lab.run(["ip", "-j", "-d", "link", "show", netdev]).stdout)
    assert isinstance(link, dict)
    return link


def ip_vf(lab: LabHost, netdev: str, index: int) -> dict[str, Any]:
    (vf,) = (v for v in ip_link(lab, netdev)["vfinfo_list"] if v["vf"] == index)
    assert isinstance(vf, dict)
    return vf


def told_pf(adapters: Adapters, pf: str) -> dict[str, Any]:
    (found,) = (p for p in adapters("kernel.pfs()") if p["address"] == pf)
    assert isinstance(found, dict)
    return found


def test_both_pfs_are_told_as_sysfs_and_ip_show_them(lab: LabHost, adapters: Adapters) -> None:
    found = {p["address"]: p for p in adapters("kernel.pfs()")}
    assert list(found) == lab.find_devices(IGB)
    for address, told in found.items():
        name = lab.run(["ls", f"/sys/bus/pci/devices/{address}/net"]).stdout.strip()
        link = ip_link(lab, name)
        assert (told["netdev"], told["mac"], told["up"]) == (name, link["address"], "UP" in link["flags"])
        assert (told["autoprobe"], told["vfs"]) == (True, {})


def test_vfs_without_drivers_are_there_in_seconds_and_go_again(
    lab: LabHost, adapters: Adapters, pf: str, netdev: str
) -> None:
    adapters(f"kernel.set_autoprobe(address('{pf}'), on=False)")
    took = adapters.ask(f"kernel.set_num_vfs(address('{pf}'), 7, 60)")["seconds"]
    print(f"7 VFs in {took:.2f} s")
    assert took < SECONDS
    assert [lab.driver(vf) for vf in lab.find_devices(IGBVF)] == [None] * 7
    shown = ip_link(lab, netdev)["vfinfo_list"]
    told = told_pf(adapters, pf)["vfs"]
    assert [int(index) for index in told] == [vf["vf"] for vf in shown] == list(range(7))
    for vf in shown:
        now = told[str(vf["vf"])]
        assert (now["mac"], now["trust"], now["spoof_check"]) == (vf["address"], vf["trust"], vf["spoofchk"])
        assert (now["vlan"], now["link_state"]) == (0, vf["link_state"])
    adapters.fails(f"kernel.set_num_vfs(address('{pf}'), 8, 60)", "VFCountTooHigh", "7 VFs")
    for count in (3, 0, 0):
        adapters(f"kernel.set_num_vfs(address('{pf}'), {count}, 60)")
        assert lab.sysfs(f"bus/pci/devices/{pf}/sriov_numvfs") == str(count)
        assert len(lab.find_devices(IGBVF)) == count
    adapters(f"kernel.set_autoprobe(address('{pf}'), on=True)")
    adapters(f"kernel.set_num_vfs(address('{pf}'), 1, 60)")
    (vf,) = lab.find_devices(IGBVF)
    assert lab.driver(vf) == "igbvf"
    adapters(f"kernel.set_num_vfs(address('{pf}'), 0, 60)")


def test_the_link_goes_up_and_down(lab: LabHost, adapters: Adapters, pf: str, netdev: str) -> None:
    for up in (True, False):
        adapters(f"kernel.set_link(address('{pf}'), up={up})")
        assert ("UP" in ip_link(lab, netdev)["flags"]) is up


@pytest.mark.usefixtures("vfs")
def test_igb_takes_some_settings_and_refuses_others(lab: LabHost, adapters: Adapters, pf: str, netdev: str) -> None:
    lab.run(f"until [ $(cat /sys/class/net/{netdev}/carrier) = 1 ]; do sleep 0.1; done", timeout=60)
    before = ip_vf(lab, netdev, 1), ip_vf(lab, netdev, 2)
    wanted = "trust=True, spoof_check=False, max_tx_rate=100, mac='52:54:00:aa:bb:01', vlan=42"
    adapters(f"kernel.configure_vf(address('{pf}'), 1, VfConfig({wanted}))")
    now = ip_vf(lab, netdev, 1)
    assert (now["trust"], now["spoofchk"], now["rate"]["max_tx"]) == (True, False, 100)
    assert (now["address"], now["vlan_list"][0]["vlan"]) == ("52:54:00:aa:bb:01", 42)
    named = ("driver igb", pf, "VF 1")
    call = f"kernel.configure_vf(address('{pf}'), 1, VfConfig(%s))"
    adapters.fails(call % "link_state='enable'", "VFConfigRejected", *named, "linkState enable", "not supported")
    adapters.fails(call % "min_tx_rate=10", "VFConfigRejected", *named, "minTxRate 10", "Invalid argument")
    adapters.fails(call % "max_tx_rate=100000", "VFConfigRejected", *named, "maxTxRate 100000")
    adapters.fails(f"kernel.configure_vf(address('{pf}'), 6, VfConfig(trust=True))", "VFsNotCreated", "VF 6")
    back = "trust=False, spoof_check=True, max_tx_rate=0, mac='00:00:00:00:00:00', vlan=0"
    adapters(call % back)
    assert (ip_vf(lab, netdev, 1), ip_vf(lab, netdev, 2)) == before


@pytest.mark.usefixtures("network")
def test_a_network_comes_and_goes(lab: LabHost, adapters: Adapters, netdev: str) -> None:
    for _ in range(2):
        adapters("libvirt.start_network('vfs')")
        adapters("libvirt.autostart_network('vfs')")
    for fact in ("Active: *yes", "Autostart: *yes", "Persistent: *yes"):
        lab.run(f"virsh net-info vfs | grep -q '{fact}'")
    (shown,) = (n for n in adapters("[network_xml.network(n) for n in libvirt.networks()]") if n["name"] == "vfs")
    assert (shown["uuid"], shown["active"], shown["autostart"], shown["connections"]) == (UUID, True, True, 0)
    assert (shown["hands_out"]["pf"], shown["hands_out"]["addresses"]) == (netdev, [])
    assert shown["running"]["addresses"] == lab.find_devices(IGBVF)
    other = "55555555-5555-4555-8555-555555555555"
    adapters(f"libvirt.undefine_network('vfs', '{other}')")
    xml = (
        f"<network><name>vfs</name><uuid>{other}</uuid><forward mode='hostdev'><pf dev='{netdev}'/></forward></network>"
    )
    adapters.fails(f'libvirt.define_network("{xml}")', "NetworkDiffers", UUID)
    adapters.fails("libvirt.start_network('mystery')", "PoolNotFound", "mystery")
    assert lab.run("virsh net-uuid vfs").stdout.strip() == UUID
    told = adapters("len(told)")
    lab.virsh("net-destroy", "vfs")
    assert adapters("[__import__('time').sleep(1), len(told)][1]") > told


@pytest.mark.usefixtures("network")
def test_a_network_without_vfs_does_not_start(lab: LabHost, adapters: Adapters, pf: str, netdev: str) -> None:
    adapters("libvirt.stop_network('vfs')")
    adapters(f"kernel.set_num_vfs(address('{pf}'), 0, 60)")
    adapters.fails("libvirt.start_network('vfs')", "VFsNotCreated", netdev)


@pytest.mark.usefixtures("network")
def test_a_running_guest_gets_a_nic_of_the_network_and_lets_it_go(
    lab: LabHost, adapters: Adapters, pf: str, netdev: str
) -> None:
    define(lab, "nics", guest_xml("nics", uuid=GUEST))
    first, second = (f"libvirt.%s_interface(actions.%sInterface('{GUEST}', {NIC.format(n=n)}))" for n in (1, 2))
    for _ in range(2):
        adapters(first % ("add", "Add"))
    assert adapters("libvirt.starting()") is False
    starts = lab.spawn(["virsh", "start", "nics"], "start")
    while not adapters("libvirt.starting()"):
        assert starts.alive()
    assert starts.wait() == 0
    wait_for_guest(lab, "nics", "GUEST up")
    lab.virsh("suspend", "nics")
    assert adapters("libvirt.starting()") is False
    lab.virsh("resume", "nics")
    vf, free, _ = lab.find_devices(IGBVF)
    now = ip_vf(lab, netdev, 0)
    assert (now["address"], now["vlan_list"][0]["vlan"], lab.driver(vf)) == ("52:54:00:aa:bb:01", 42, "vfio-pci")
    adapters.fails("libvirt.stop_network('vfs')", "HostChanged", "vfs")
    for _ in range(2):
        adapters(second % ("plug", "Plug"))
    assert lab.virsh("dumpxml", "nics").count("<interface type='hostdev'") == 2
    assert lab.virsh("dumpxml", "--inactive", "nics").count("<interface type='network'") == 1
    assert "connections='2'" in lab.virsh("net-dumpxml", "vfs")
    assert lab.driver(free) == "vfio-pci"
    unplug = f"libvirt.unplug_interface(actions.UnplugInterface('{GUEST}', 'ua-hostdev-2', address('{free}')))"
    for _ in range(2):
        adapters(unplug)
    assert "connections='1'" in lab.virsh("net-dumpxml", "vfs")
    assert (lab.driver(free), ip_vf(lab, netdev, 1)["address"]) == (None, "00:00:00:00:00:00")
    lab.virsh("destroy", "nics")
    for _ in range(2):
        adapters(f"libvirt.remove_interface(actions.RemoveInterface('{GUEST}', 'ua-hostdev-1'))")
    assert "<interface" not in lab.virsh("dumpxml", "nics")
    assert (lab.driver(vf), ip_vf(lab, netdev, 0)["address"]) == (None, "00:00:00:00:00:00")
    lab.virsh("undefine", "nics")


@pytest.mark.usefixtures("vfs")
def test_a_kernel_that_waits_for_a_guest_hinders_no_look_and_no_other_work(
    lab: LabHost, adapters: Adapters, pf: str
) -> None:
    """Nobody should take VFs from a running guest; should it happen, the agent goes on."""
    vf = lab.find_devices(IGBVF)[0]
    define(lab, "keeps", guest_xml("keeps", hostdevs=[vf], refuse=True))
    lab.virsh("start", "keeps")
    wait_for_guest(lab, "keeps", "GUEST up")
    try:
        adapters.fails(f"kernel.set_num_vfs(address('{pf}'), 0, 5)", "DetachBlocked", pf)
        assert adapters("kernel.blocked()") == [pf]
        adapters.fails(f"kernel.set_num_vfs(address('{pf}'), 1, 5)", "DetachBlocked", pf)
        looks = ("len(kernel.devices())", "len(kernel.pfs())", "len(kernel.uses())", "len(libvirt.guests())")
        assert all(adapters(look) for look in looks)
        other = lab.find_devices(IGB)[1]
        adapters.fails(f"kernel.set_num_vfs(address('{other}'), 1, 60)", "DetachBlocked", other, pf)
        for up in (True, False):
            adapters(f"kernel.set_link(address('{other}'), up={up})")
    finally:
        lab.virsh("destroy", "keeps", check=False)
    lab.run(f"while [ $(cat /sys/bus/pci/devices/{pf}/sriov_numvfs) != 0 ]; do sleep 0.1; done", timeout=60)
    assert adapters("[__import__('time').sleep(1), kernel.blocked()][1]") == []
    lab.virsh("undefine", "keeps")


def test_the_agents_netlink_costs_little_memory(adapters: Adapters) -> None:
    """The same process without it takes as much; a library would add 10 to 14 MB."""
    assert adapters("'pyroute2' in __import__('sys').modules") is False
    resident = adapters("int(open('/proc/self/statm').read().split()[1]) * 4 // 1024")
    print(f"adapters alone: {resident} MB")
    assert resident < 60


def test_logs_end_here(adapters: Adapters, tmp_path: Path) -> None:
    assert adapters.process.alive()
    assert "Traceback" not in adapters.process.log()
