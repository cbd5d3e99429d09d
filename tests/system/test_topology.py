"""Where a guest gets its devices: slots, ports and bridges; functions of one slot. Judged by the guest and libvirt."""

from __future__ import annotations

import json
import re

import pytest

from image.cache import REPOSITORY
from tests.lab.guests import define, guest_xml, hostdev_xml, wait_for_guest
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.stack import Stack, assignment

IGB = "8086:10c9"
PORT = "<controller type='pci' index='{}' model='pcie-root-port'/>"
JUDGE = "/opt/topology_judge.py"


def controllers(xml: str) -> list[tuple[int, str]]:
    """Index and model of each PCI controller."""
    found = re.findall(r"<controller type='pci' index='(\d+)' model='([^']*)'", xml)
    return sorted((int(index), model) for index, model in found)


def ports(xml: str) -> list[int]:
    return [index for index, model in controllers(xml) if model == "pcie-root-port"]


def place(xml: str, address: str) -> str:
    """The <address> of the guest that a host device has."""
    (element,) = (e for e in re.findall("<hostdev.*?</hostdev>", xml, re.DOTALL) if source(address) in e)
    (found,) = re.findall(r"<address type='pci'.*?/>", element)
    return str(found)


@pytest.mark.mission("A4")
def test_two_functions_of_one_slot(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    igb = lab.find_devices(IGB)[0]
    define(lab, "multi", guest_xml("multi"))  # its bus 7 is a conventional one
    system.wait_guest_listed("multi")
    shared = {"multifunction": True}
    system.apply(assignment("one", domain="multi", address=mate, guestAddress="0000:07:05.1", **shared))
    assert "function 0" in system.wait_condition("one", "Ready", "False", "GuestAddressUnusable")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    system.apply(assignment("zero", domain="multi", address=device, guestAddress="0000:07:05.0", **shared))
    system.wait_condition("zero", "Ready", "True")
    system.wait_condition("one", "Ready", "True")
    system.apply(assignment("third", domain="multi", address=igb, guestAddress="0000:07:05.0"))
    assert device in system.wait_condition("third", "Ready", "False", "GuestAddressInUse")
    assert lab.driver(igb) == "igb"

    xml = config_xml(system, "multi")
    assert "slot='0x05' function='0x0' multifunction='on'" in place(xml, device)
    assert "slot='0x05' function='0x1'/>" in place(xml, mate)
    lab.virsh("start", "multi")
    wait_for_guest(lab, "multi", r"GUEST plugged ..:05\.0 8086:100e")
    wait_for_guest(lab, "multi", r"GUEST plugged ..:05\.1 8086:100e")
    assert place(live_xml(system, "multi"), mate) == place(xml, mate)

    late = assignment("late", domain="multi", address=igb, guestAddress="0000:02:00.0", attach="Live", **shared)
    system.apply(late)
    assert "one function" in system.wait_condition("late", "Ready", "False", "MultifunctionNeedsBoot")
    assert lab.driver(igb) == "igb"
    assert source(igb) not in config_xml(system, "multi")


@pytest.mark.mission("A8")
def test_a_guest_without_a_free_port_has_some_from_its_next_boot_on(system: Stack) -> None:
    lab = system.lab
    first, second = lab.find_devices(IGB)[:2]
    xml = re.sub(r"<controller type='pci' index='[1-7]'.*?/>", "", guest_xml("tight"))
    define(lab, "tight", xml)
    before = controllers(config_xml(system, "tight"))
    assert before == [(0, "pcie-root")]
    lab.virsh("start", "tight")
    wait_for_guest(lab, "tight", "GUEST up")
    system.wait_guest_listed("tight")
    system.apply(assignment("kept", domain="tight", address=first, topology="Keep"))
    assert "1 pcie-root-port" in system.wait_condition("kept", "Ready", "False", "NoGuestPCISlot")
    assert (lab.driver(first), controllers(config_xml(system, "tight"))) == ("igb", before)
    system.delete("kept")
    system.wait_gone("kept")

    system.apply(assignment("first", domain="tight", address=first, spareHotplugPorts=2))
    system.wait_condition("first", "Ready", "True")
    assert "next boot" in system.wait_condition("first", "Attached", "False", "NoGuestPCISlot")
    assert ports(live_xml(system, "tight")) == []
    assert len(ports(config_xml(system, "tight"))) == 3
    lab.virsh("destroy", "tight")
    lab.virsh("start", "tight")
    wait_for_guest(lab, "tight", f"GUEST plugged .* {IGB}")

    system.apply(assignment("second", domain="tight", address=second, attach="Live", detach="Live"))
    system.wait_condition("second", "Attached", "True")
    assert source(second) in live_xml(system, "tight")
    system.wait("two spare ports again", lambda: len(ports(config_xml(system, "tight"))) == 4)
    system.delete("second")
    system.wait_gone("second")
    lab.virsh("destroy", "tight")
    system.delete("first")
    system.wait_gone("first")
    assert controllers(config_xml(system, "tight")) == before
    assert (lab.driver(first), lab.driver(second)) == ("igb", "igb")


@pytest.mark.mission("A8")
@pytest.mark.mission("H4", part=True)
def test_a_full_conventional_bus_gets_a_bridge_of_ours(system: Stack, device: str, mate: str) -> None:
    """On q35 libvirt itself refuses the device that comes next."""
    lab = system.lab
    # devices that are not there, at an address of the host that no other test asks about
    taken = "".join(
        hostdev_xml(f"0000:7f:{slot:02x}.0").replace(
            "</hostdev>", f"<address type='pci' domain='0' bus='7' slot='{slot}' function='0'/></hostdev>"
        )
        for slot in range(1, 32)
    )
    define(lab, "crowd", guest_xml("crowd", extra_devices=taken))
    lab.write("/tmp/next.xml", hostdev_xml(device))
    assert "index must be larger" in lab.run("virsh attach-device crowd /tmp/next.xml --config", check=False).stderr
    system.wait_guest_listed("crowd")
    system.apply(assignment("next", domain="crowd", address=device))
    system.wait_condition("next", "Ready", "True")
    xml = config_xml(system, "crowd")
    assert [model for _, model in controllers(xml)].count("pcie-to-pci-bridge") == 2
    assert "bus='0x09' slot='0x01'" in place(xml, device)
    assert xml.count("bus='0x07'") == 31
    system.delete("next")
    system.wait_gone("next")
    assert [model for _, model in controllers(config_xml(system, "crowd"))].count("pcie-to-pci-bridge") == 1
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


@pytest.mark.mission("A8")
@pytest.mark.mission("H4", part=True)
def test_a_full_i440fx_is_refused_before_anything_is_detached(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    many = [f"0000:7f:{slot:02x}.0" for slot in range(2, 32)]
    taken = "".join(
        hostdev_xml(a).replace("</hostdev>", f"<address type='pci' domain='0' bus='0' slot='{s}'/></hostdev>")
        for s, a in enumerate(many, 2)
    )
    define(lab, "old", guest_xml("old", machine="pc", extra_devices=taken))
    system.wait_guest_listed("old")
    system.apply(assignment("none", domain="old", address=device))
    assert "all slots" in system.wait_condition("none", "Ready", "False", "NoGuestPCISlot")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


@pytest.mark.mission("A8")
def test_libvirt_takes_what_is_computed(system: Stack) -> None:
    lab = system.lab
    lab.put(REPOSITORY / "tests/lab/topology_judge.py", JUDGE)
    said = lab.run(f"PYTHONPATH=/opt/hostdev-operator python3 {JUDGE} 7 19", timeout=300).stdout
    answer = json.loads(said.splitlines()[-1])
    assert answer["faults"] == []
    assert {"pc full", "pc fits", "q35 fits"} <= answer["counts"].keys()
