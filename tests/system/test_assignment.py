"""The whole path on real parts: API server, agent, libvirt, VFIO, guest, and back. Judged by sysfs, virsh and lspci."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.stack import AGENT_USER, CONTROLLER_USER, NODE, Stack, assignment


def guest_with(system: Stack, name: str, *, running: bool = False) -> None:
    define(system.lab, name, guest_xml(name))
    if running:
        system.lab.virsh("start", name)
        wait_for_guest(system.lab, name, "GUEST up")
    system.wait_guest_listed(name)


def test_agent_has_net_admin_and_nothing_else(system: Stack) -> None:
    (agent,) = system.lab.run(["pgrep", "-f", "^python3 .*hostdev_operator agent"]).stdout.split()
    text = system.lab.read(f"/proc/{agent}/status")
    assert re.search(r"^CapBnd:\s+0000000000001000$", text, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0000000000001000$", text, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", text, re.MULTILINE)


def _numa_node(system: Stack, address: str) -> int | None:
    number = int(system.lab.sysfs(f"bus/pci/devices/{address}/numa_node"))
    return None if number < 0 else number


@pytest.mark.mission("D1", "D2", "D3", "D4")
def test_device_host_says_what_lspci_and_sysfs_say(system: Stack) -> None:
    status = system.get("devicehost", NODE)["status"]
    told = {d["address"]: d for d in status["devices"]}
    lines = system.lab.run("lspci -Dmmnn -k").stdout.splitlines()
    assert len(lines) == len(told)
    for line in lines:
        address = line.split()[0]
        _class, vendor, product = re.findall(r'"([^"]*) \[([0-9a-f]{4})\]"', line)[:3]
        entry = told[address]
        assert entry["class"][2:6] == _class[1]
        assert (entry["vendor"]["id"], entry["vendor"].get("name", "Vendor")) == (f"0x{vendor[1]}", vendor[0])
        assert (entry["product"]["id"], entry["product"].get("name", "Device")) == (f"0x{product[1]}", product[0])
        assert entry.get("driver") == system.lab.driver(address)
        assert entry.get("iommuGroup") == system.lab.iommu_group(address)
        assert entry.get("numaNode") == _numa_node(system, address)
        kind = "VFIO" if entry.get("driver") == "vfio-pci" else "HostDriver"
        assert entry.get("holder") == ({"kind": kind, "name": entry["driver"]} if "driver" in entry else None)
    assert {d["name"] for d in told.values()} == set(system.lab.virsh("nodedev-list", "--cap", "pci").split())
    groups = {g["number"]: {m["address"]: m["role"] for m in g["members"]} for g in status["groups"]}
    first = system.lab.find_devices("8086:100e")[0]
    group = groups[told[first]["iommuGroup"]]
    assert sorted(group) == system.lab.group_members(first)
    assert sorted(group.values()) == ["Bridge", "Endpoint", "Endpoint"]
    for pf in system.lab.find_devices("8086:10c9"):
        assert told[pf]["sriov"] == {"role": "PF", "totalVFs": 7, "numVFs": 0}
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "IOMMUReady": "True",
        "InterruptRemappingReady": "True",
        "VFIOReady": "True",
        "LibvirtReady": "True",
        "JournalReady": "True",
    }


@pytest.mark.mission("A1", "A2", "A3", "A5")
def test_assign_to_a_guest_that_is_off_start_it_and_release(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    guest_with(system, "first")
    plain = config_xml(system, "first")
    system.apply(assignment("first", domain="first", address=device))
    system.wait_condition("first", "Ready", "True")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "vfio-pci")
    assert source(device) in config_xml(system, "first")
    assert source(mate) not in config_xml(system, "first")
    assert "Kernel driver in use: vfio-pci" in lab.lspci_k(mate)
    assert system.condition("first", "Attached")["reason"] == "GuestShutOff"

    lab.virsh("start", "first")
    wait_for_guest(lab, "first", "plugged .* 8086:100e")
    system.wait_condition("first", "Attached", "True")
    assert source(device) in live_xml(system, "first")
    assert lab.driver(device) == "vfio-pci"

    system.delete("first")
    message = system.wait_condition("first", "Ready", "False", "GuestRunning")
    assert device in message
    assert "guest first" in message
    assert source(device) in config_xml(system, "first")
    lab.virsh("destroy", "first")
    system.wait_gone("first")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    for address in (device, mate):
        assert lab.run(f"ls /sys/bus/pci/devices/{address}/net").stdout.split()
        assert lab.sysfs(f"bus/pci/devices/{address}/driver_override") == "(null)"
    assert config_xml(system, "first") == plain
    events = system.plane.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").stdout.split()
    assert {"Bound", "Assigned", "GuestRunning", "Released"} <= set(events)


@pytest.mark.mission("A3")
def test_unmanaged_device_is_held_between_runs(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    guest_with(system, "unmanaged")
    system.apply(assignment("unmanaged", domain="unmanaged", address=device, managed=False, driver={"name": "vfio"}))
    system.wait_condition("unmanaged", "Ready", "True")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    xml = config_xml(system, "unmanaged")
    assert "managed='no'" in xml
    assert "<driver name='vfio'/>" in xml
    lab.virsh("start", "unmanaged")
    wait_for_guest(lab, "unmanaged", "plugged .* 8086:100e")
    lab.virsh("destroy", "unmanaged")
    system.wait_condition("unmanaged", "Attached", "False", "GuestShutOff")
    assert lab.driver(device) == "vfio-pci"
    system.delete("unmanaged")
    system.wait_gone("unmanaged")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


def test_running_guest_gets_it_at_its_next_boot_or_is_left_in_peace(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    guest_with(system, "busy", running=True)
    process = lab.run("pidof qemu-system-x86_64").stdout
    system.apply(assignment("busy", domain="busy", address=device, attach="NextBoot"))
    system.wait_condition("busy", "Ready", "True")
    assert "next boot" in system.condition("busy", "Attached")["message"]
    assert system.condition("busy", "Attached")["reason"] == "PendingGuestRestart"
    assert source(device) in config_xml(system, "busy")
    assert "<hostdev" not in live_xml(system, "busy")
    assert lab.driver(device) == "e1000"

    system.delete("busy")  # the running guest does not have it yet: nothing to wait for
    system.wait_gone("busy")
    assert "<hostdev" not in config_xml(system, "busy")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert lab.run("pidof qemu-system-x86_64").stdout == process

    system.apply(assignment("busy", domain="busy", address=device, attach="NextBoot"))
    system.wait_condition("busy", "Ready", "True")
    lab.virsh("destroy", "busy")
    lab.virsh("start", "busy")
    system.wait_condition("busy", "Attached", "True")
    wait_for_guest(lab, "busy", "plugged .* 8086:100e")


def test_guest_undefined_and_defined_again_behind_our_back(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    guest_with(system, "moody")
    uuid = lab.virsh("domuuid", "moody").strip()
    system.apply(assignment("moody", domain="moody", address=device))
    system.wait_condition("moody", "Ready", "True")

    lab.virsh("undefine", "moody")
    message = system.wait_condition("moody", "Ready", "False", "GuestNotFound")
    assert "moody" in message
    assert device in message
    assert lab.driver(mate) == "vfio-pci"

    define(lab, "moody", guest_xml("moody"))
    assert lab.virsh("domuuid", "moody").strip() != uuid
    message = system.wait_condition("moody", "Ready", "False", "GuestIdentityChanged")
    assert uuid in message
    assert "<hostdev" not in config_xml(system, "moody")

    lab.virsh("undefine", "moody")
    define(lab, "moody", guest_xml("moody", uuid=uuid))
    system.wait_condition("moody", "Ready", "True")
    assert source(device) in config_xml(system, "moody")

    define(lab, "moody", guest_xml("moody", uuid=uuid))  # an old XML file, without the device
    system.wait_condition("moody", "Ready", "False", "Drifted")
    assert "<hostdev" not in config_xml(system, "moody")
    system.patch("moody", {"spec": {"driftPolicy": "Correct"}})
    system.wait("the device in the XML again", lambda: source(device) in config_xml(system, "moody"))
    lab.virsh("undefine", "moody")
    system.delete("moody")
    system.wait_gone("moody")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


@pytest.mark.mission("A2")
def test_mate_for_another_guest_is_refused_until_the_group_is_free(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    guest_with(system, "one")
    guest_with(system, "two")
    system.apply(assignment("one", domain="one", address=device))
    system.wait_condition("one", "Ready", "True")
    system.apply(assignment("two", domain="two", address=mate))
    message = system.wait_condition("two", "Ready", "False", "GroupInUse")
    assert "default/one" in message
    assert mate in message
    assert "<hostdev" not in config_xml(system, "two")
    system.delete("one")
    system.wait_gone("one")
    system.wait_condition("two", "Ready", "True")
    assert source(mate) in config_xml(system, "two")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "e1000")


def test_driver_bound_by_hand_is_told_and_taken_again_if_that_is_asked_for(
    system: Stack, device: str, mate: str
) -> None:
    guest_with(system, "drift")
    system.apply(assignment("drift", domain="drift", address=device))
    system.wait_condition("drift", "Ready", "True")
    system.lab.virsh("nodedev-reattach", "pci_" + re.sub("[:.]", "_", mate))
    message = system.wait_condition("drift", "Ready", "False", "Drifted")
    assert f"detach {mate} from the host" in message
    assert (system.lab.driver(mate), source(device) in config_xml(system, "drift")) == ("e1000", True)
    patch = re.search("kubectl (patch deviceassignment .*?) --type merge -p '(.*?)'", message)
    assert patch
    system.plane.kubectl(*patch.group(1).split(), "--type=merge", "-p", patch.group(2))
    system.wait_condition("drift", "Ready", "True")
    assert system.lab.driver(mate) == "vfio-pci"
    remove_hostdev(system, "drift")
    system.wait("the XML as asked", lambda: source(device) in config_xml(system, "drift"))
    events = system.plane.kubectl("get", "events", "-o", "custom-columns=R:.reason,N:.involvedObject.name").stdout
    assert re.search(r"DriftCorrected +drift\b", events)


def remove_hostdev(system: Stack, guest: str) -> None:
    """Virsh edit: of which no event tells."""
    xml = system.lab.virsh("dumpxml", "--inactive", guest)
    system.lab.write("/tmp/edited.xml", re.sub("<hostdev.*?</hostdev>", "", xml, flags=re.DOTALL))
    system.lab.virsh("define", "/tmp/edited.xml")


def test_lost_journal_is_taken_up_from_the_status(system: Stack, device: str, mate: str) -> None:
    guest_with(system, "amnesia")
    system.apply(assignment("amnesia", domain="amnesia", address=device))
    system.wait_condition("amnesia", "Ready", "True")
    system.stop_agent()
    system.lab.run("rm /var/lib/hostdev-operator/assignments/*.json")
    agent = system.start_agent(arguments="--log-format json")
    system.delete("amnesia")
    system.wait_gone("amnesia")
    messages = [json.loads(line)["message"] for line in agent.log().splitlines() if line.startswith("{")]
    assert any("taking the record from its status" in m for m in messages)
    assert (system.lab.driver(device), system.lab.driver(mate)) == ("e1000", "e1000")
    assert "<hostdev" not in config_xml(system, "amnesia")


def test_writes_for_one_assignment(system: Stack, device: str) -> None:
    guest_with(system, "thrifty")
    known = len(system.plane.writes())
    system.apply(assignment("thrifty", domain="thrifty", address=device))
    system.wait_condition("thrifty", "Ready", "True")

    def told() -> bool:
        devices = system.get("devicehost", NODE)["status"]["devices"]
        return any(d["address"] == device and d.get("holder", {}).get("name") == "thrifty" for d in devices)

    system.wait("the DeviceHost to name the holder", told)
    ours = [w for w in system.plane.writes()[known:] if w.user in (AGENT_USER, CONTROLLER_USER)]
    assert len([w for w in ours if w.resource not in ("events", "leases")]) <= 4
