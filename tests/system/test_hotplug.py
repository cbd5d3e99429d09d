"""Hot plug and unplug of a running guest, judged by its own console, libvirt's XML and sysfs."""

from __future__ import annotations

import re
from typing import Literal

import pytest

from tests.lab.guests import define, guest_log, guest_xml, wait_for_guest
from tests.system.devices import SpareNvme
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.stack import Stack, assignment

CONVENTIONAL = "<controller type='pci' index='7' model='pcie-to-pci-bridge'/>"


def start(system: Stack, name: str, *, xml: str | None = None, refuse: bool = False) -> str:
    """Define and start a guest; the id of its QEMU process, to be sure later that it is the same run."""
    define(system.lab, name, xml or guest_xml(name, refuse=refuse))
    system.lab.virsh("start", name)
    wait_for_guest(system.lab, name, "GUEST up")
    system.wait_guest_listed(name)
    return system.lab.run(f"pgrep -f 'guest={name},'").stdout


@pytest.mark.mission("A1", "A4", "A5")
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_plugged_in_and_out_of_a_running_guest(
    system: Stack, device: str, mate: str, machine: Literal["q35", "pc"]
) -> None:
    lab = system.lab
    name = f"hot-{machine}"
    process = start(system, name, xml=guest_xml(name, machine=machine))
    system.apply(assignment(name, domain=name, address=device, attach="Live"))
    system.wait_condition(name, "Ready", "True")
    assert system.condition(name, "Attached")["reason"] == "InLiveXML"
    wait_for_guest(lab, name, "GUEST plugged .* 8086:100e")
    assert source(device) in live_xml(system, name)
    assert source(device) in config_xml(system, name)
    assert source(mate) not in live_xml(system, name)
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")

    system.delete(name)  # detach: WhenOff is the default
    assert "spec.detach" in system.wait_condition(name, "Ready", "False", "GuestRunning")
    assert "GUEST unplug requested" not in guest_log(lab, name)
    system.patch(name, {"spec": {"detach": "Live"}})
    system.wait_gone(name)
    wait_for_guest(lab, name, "GUEST gone")
    assert "<hostdev" not in live_xml(system, name)
    assert "<hostdev" not in config_xml(system, name)
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert lab.run(f"pgrep -f 'guest={name},'").stdout == process


def test_a_guest_that_does_not_let_go_is_asked_once_and_waited_for(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    start(system, "stubborn", refuse=True)
    system.apply(assignment("stubborn", domain="stubborn", address=device, detach="Live"))
    system.wait_condition("stubborn", "Attached", "True")
    system.delete("stubborn")
    message = system.wait_condition("stubborn", "Ready", "False", "UnplugPending")
    assert device in message
    assert source(device) in live_xml(system, "stubborn")
    assert source(device) in config_xml(system, "stubborn")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    define(lab, "passer-by", guest_xml("passer-by"))  # an event of the host is no reason to ask again
    system.wait_guest_listed("passer-by")
    assert len(re.findall("GUEST unplug requested", guest_log(lab, "stubborn"))) == 1
    lab.virsh("destroy", "stubborn")
    system.wait_gone("stubborn")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert "<hostdev" not in config_xml(system, "stubborn")


def test_a_guest_without_a_fitting_slot(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    start(system, "full", xml=guest_xml("full").replace(CONVENTIONAL, ""))
    records = lab.run("ls /var/lib/hostdev-operator/assignments").stdout
    system.apply(assignment("full", domain="full", address=device, attach="Live"))
    message = system.wait_condition("full", "Ready", "False", "NoGuestPCISlot")
    assert device in message
    assert "pcie-to-pci-bridge" in message
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert lab.run("ls /var/lib/hostdev-operator/assignments").stdout == records
    system.patch("full", {"spec": {"attach": "Auto"}})
    system.wait_condition("full", "Ready", "True")
    assert system.condition("full", "Attached")["reason"] == "NoGuestPCISlot"
    assert source(device) in config_xml(system, "full")
    assert "<hostdev" not in live_xml(system, "full")


@pytest.mark.mission("A2")
@pytest.mark.parametrize("mates", ["Auto", "Unassigned"])
def test_the_whole_group_goes_into_a_running_guest_and_out_again(
    system: Stack, device: str, mate: str, mates: str
) -> None:
    lab = system.lab
    start(system, "both")
    wanted = {"groupPolicy": "AssignAll", "mateAddress": mates, "managed": False, "attach": "Live", "detach": "Live"}
    system.apply(assignment("both", domain="both", address=device, **wanted))
    system.wait_condition("both", "Ready", "True")
    wait_for_guest(lab, "both", "GUEST plugged .* 8086:100e")
    for address in (device, mate):
        assert source(address) in live_xml(system, "both")
        assert source(address) in config_xml(system, "both")
    system.delete("both")
    system.wait_gone("both")
    seen = 2 if mates == "Auto" else 1
    assert len(re.findall("GUEST plugged .* 8086:100e", guest_log(lab, "both"))) == seen
    assert len(re.findall("GUEST gone", guest_log(lab, "both"))) == seen
    assert "<hostdev" not in live_xml(system, "both") + config_xml(system, "both")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


def test_taken_out_by_hand_it_is_plugged_in_again(system: Stack, device: str) -> None:
    lab = system.lab
    start(system, "touched")
    system.apply(assignment("touched", domain="touched", address=device, driftPolicy="Correct"))
    system.wait_condition("touched", "Attached", "True")
    (hostdev,) = re.findall("<hostdev.*?</hostdev>", live_xml(system, "touched"), re.DOTALL)
    lab.write("/tmp/hostdev.xml", hostdev)
    lab.virsh("detach-device", "touched", "/tmp/hostdev.xml", "--live")
    wait_for_guest(lab, "touched", "GUEST gone")
    system.wait("plugged twice", lambda: len(re.findall("GUEST plugged .* 8086:100e", guest_log(lab, "touched"))) == 2)
    system.wait_condition("touched", "Attached", "True")


def test_a_device_that_is_torn_out_of_the_host_leaves_its_running_guest(system: Stack) -> None:
    lab = system.lab
    with SpareNvme(lab) as spare:
        address = spare.plug("spare", "torn")
        process = start(system, "torn")
        system.apply(assignment("torn", domain="torn", address=address))
        system.wait_condition("torn", "Attached", "True")
        wait_for_guest(lab, "torn", "GUEST plugged .* 1b36:0010")
        spare.unplug()
        assert address in system.wait_condition("torn", "Ready", "False", "DeviceNotFound")
        wait_for_guest(lab, "torn", "GUEST gone")
        assert source(address) not in live_xml(system, "torn")
        assert lab.run("pgrep -f 'guest=torn,'").stdout == process

        assert spare.plug("spare", "torn") == address  # the same card again
        system.wait_condition("torn", "Ready", "True")
        system.wait_condition("torn", "Attached", "True")
        spare.unplug()
        system.wait_condition("torn", "Ready", "False", "DeviceNotFound")
        system.delete("torn")
        system.wait_gone("torn")
        assert "<hostdev" not in config_xml(system, "torn") + live_xml(system, "torn")
