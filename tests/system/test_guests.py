"""Guests: made from objects, started when their devices are ready, changed, shut down, undefined. Judged by virsh."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.guests import KERNEL, define, guest_xml, log_path, wait_for_guest
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.stack import NODE, Stack, assignment

DISK = "/var/tmp/guest.img"
#: What the laboratory needs beside: an emulated processor, and the test guest's kernel with its console.
XML = f"""<domain type='qemu'>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{KERNEL}</kernel><cmdline>answer</cmdline></os>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <devices>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{log_path("made")}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>"""


def guest(**spec: Any) -> str:
    """The Guest `made`, as kubectl takes it."""
    full = {"nodeName": NODE, "memory": "64Mi", "domainXML": XML, **spec}
    body = {"apiVersion": "hostdev.dev/v1alpha1", "kind": "Guest", "metadata": {"name": "made"}, "spec": full}
    return json.dumps(body)


def state(system: Stack) -> str:
    return system.lab.virsh("domstate", "made").strip()


@pytest.mark.mission("A6")
def test_one_apply_makes_a_guest_that_boots_with_its_device(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    lab.run(f"truncate -s 1M {DISK}")
    wanted = {
        "disks": [{"file": DISK}],
        "deviceAssignments": [{"namespace": "default", "name": "made"}],
        "deletionPolicy": "Undefine",
    }
    both = [json.loads(guest(**wanted)), json.loads(assignment("made", domain="made", address=device))]
    system.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": both}))
    wait_for_guest(lab, "made", "GUEST plugged .* 8086:100e", timeout=180)
    system.wait_guest("made", "AsAsked")
    assert lab.virsh("domuuid", "made").strip() == system.get("guest", "made")["metadata"]["uid"]
    assert source(device) in live_xml(system, "made")
    assert DISK in lab.virsh("domblklist", "made")
    assert lab.driver(mate) == "vfio-pci"

    system.patch("made", {"spec": {"vcpus": 2}}, "guest")
    system.wait_guest("made", "PendingGuestRestart", "Running")
    assert (">2</vcpu>" in config_xml(system, "made"), ">2</vcpu>" in live_xml(system, "made")) == (True, False)
    assert source(device) in config_xml(system, "made")

    system.plane.kubectl("delete", "guest", "made", "--wait=false")
    assert "virsh destroy made" in system.wait_guest("made", "ShuttingDown")  # the test guest has no ear for ACPI
    assert state(system) == "running"
    lab.virsh("destroy", "made")
    assert device in system.wait_guest("made", "GuestHasDevices")
    system.delete("made")
    system.wait_gone("made")
    system.wait("the Guest to be gone", lambda: not system.exists("guest", "made"))
    assert "made" not in lab.virsh("list", "--all", "--name").split()
    assert lab.run(f"stat -c %s {DISK}").stdout.strip() == "1048576"
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


@pytest.mark.mission("A6", part=True)
def test_what_keeps_one_from_being_made_or_started(system: Stack) -> None:
    lab = system.lab
    define(lab, "made", guest_xml("made"))
    before = config_xml(system, "made")
    system.patch(NODE, {"spec": {"approval": "Manual"}}, "devicehost")
    system.apply(guest())
    assert "virsh undefine made" in system.wait_guest("made", "GuestExists")
    assert config_xml(system, "made") == before
    lab.virsh("undefine", "made")
    system.wait_guest("made", "ApprovalUnsupported")
    system.patch("made", {"spec": {"domainXML": "<domain><uuid/></domain>"}}, "guest")
    assert "<uuid>" in system.wait_guest("made", "DomainXMLUnusable")
    lab.write("/tmp/vfs.xml", "<network><name>vfs</name><forward mode='hostdev'><pf dev='none0'/></forward></network>")
    lab.virsh("net-define", "/tmp/vfs.xml")
    system.patch("made", {"spec": {"domainXML": XML, "networks": [{"network": "vfs"}]}}, "guest")
    assert "source.pool" in system.wait_guest("made", "PoolNeedsAssignment")
    lab.virsh("net-undefine", "vfs")
    system.patch(NODE, {"spec": {"approval": "Automatic"}}, "devicehost")
    named = [{"namespace": "default", "name": "nobody"}]
    system.patch("made", {"spec": {"networks": [], "deviceAssignments": named}}, "guest")
    assert "default/nobody" in system.wait_guest("made", "AssignmentsNotReady")
    assert state(system) == "shut off"

    system.patch("made", {"spec": {"deviceAssignments": []}}, "guest")
    system.wait_guest("made", "AsAsked")
    lab.virsh("destroy", "made")
    system.wait_guest("made", "GuestStops")
    system.wait_guest("made", "AsAsked", seconds=180)
    assert state(system) == "running"
    system.remove("guest", "made")
    assert state(system) == "running"  # deletionPolicy: Keep
