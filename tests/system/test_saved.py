"""A guest that virsh has saved: its next start resumes the image, whatever its persistent XML says by then."""

from __future__ import annotations

import pytest

from tests.lab.guests import wait_for_guest
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.stack import Stack, assignment
from tests.system.test_hotplug import start


@pytest.mark.mission("N4")
def test_one_that_was_saved_before_is_resumed_without_the_device_and_given_it_then(
    system: Stack, device: str, mate: str
) -> None:
    lab = system.lab
    start(system, "saved")
    lab.virsh("managedsave", "saved")
    system.apply(assignment("saved", domain="saved", address=device, detach="Live"))
    message = system.wait_condition("saved", "Attached", "False", "GuestSaved")
    assert "virsh managedsave-remove saved" in message
    system.wait_condition("saved", "Ready", "True")
    assert source(device) in config_xml(system, "saved")
    assert source(device) not in lab.virsh("managedsave-dumpxml", "saved")

    lab.virsh("start", "saved")
    system.wait_condition("saved", "Attached", "True")
    wait_for_guest(lab, "saved", "GUEST plugged .* 8086:100e")
    assert source(device) in live_xml(system, "saved")
    refused = lab.run("virsh managedsave saved", check=False)
    assert refused.returncode != 0  # libvirt saves no guest with such a device
    assert "hostdev" in refused.stderr or "VFIO" in refused.stderr
    system.delete("saved")
    system.wait_gone("saved")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


@pytest.mark.mission("N4")
def test_an_image_is_dropped_if_that_is_asked_for(system: Stack, device: str) -> None:
    lab = system.lab
    start(system, "dropped")
    lab.virsh("managedsave", "dropped")
    system.apply(assignment("dropped", domain="dropped", address=device))
    assert "spec.savedImage: Drop" in system.wait_condition("dropped", "Attached", "False", "GuestSaved")
    assert "dropped" in lab.virsh("list", "--all", "--with-managed-save", "--name")
    system.apply(assignment("dropped", domain="dropped", address=device, savedImage="Drop"))
    system.wait_condition("dropped", "Attached", "False", "GuestShutOff")
    assert "dropped" not in lab.virsh("list", "--all", "--with-managed-save", "--name")
    lab.virsh("start", "dropped")
    wait_for_guest(lab, "dropped", "GUEST plugged .* 8086:100e")
    system.wait_condition("dropped", "Attached", "True")
