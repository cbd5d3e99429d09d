"""What the administrator says of a node: paused, overrides of the guard, release of orphans; and HostUsing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.inspect_guest import config_xml, source
from tests.system.stack import NODE, Stack, assignment


@pytest.fixture
def spec(system: Stack) -> Iterator[Stack]:
    """The system, whose DeviceHost has no spec again in the end."""
    yield system
    system.patch(NODE, {"spec": None}, "devicehost")
    system.wait("not paused", lambda: system.host_condition("Paused") is None)


def test_paused_nothing_is_changed(spec: Stack, device: str, mate: str) -> None:
    lab = spec.lab
    define(lab, "patient", guest_xml("patient"))
    spec.wait_guest_listed("patient")
    spec.apply(assignment("standing", domain="patient", address=lab.find_devices("8086:10c9")[0]))
    spec.wait_condition("standing", "Ready", "True")
    spec.patch(NODE, {"spec": {"paused": True}}, "devicehost")
    spec.wait("Paused", lambda: spec.host_condition("Paused") == "True")
    spec.apply(assignment("paused", domain="patient", address=device))
    assert "spec.paused" in spec.wait_condition("paused", "Ready", "False", "Paused")
    spec.delete("standing")
    spec.wait_condition("standing", "Ready", "False", "Paused")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    spec.restart_agent()  # it must know before it acts
    spec.apply(assignment("later", domain="patient", address=mate))
    spec.wait_condition("later", "Ready", "False", "Paused")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    spec.patch(NODE, {"spec": {"paused": False}}, "devicehost")
    spec.wait_condition("paused", "Ready", "True")  # the older one
    spec.wait_gone("standing")


@pytest.mark.mission("H4", part=True)
def test_a_guest_that_may_not_lock_its_memory(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "tight", guest_xml("tight"))
    lab.virsh("memtune", "tight", "--hard-limit", "32M", "--config")
    system.wait_guest_listed("tight")
    system.apply(assignment("tight", domain="tight", address=device))
    assert "32768 KiB" in system.wait_condition("tight", "Ready", "False", "MemlockExceeded")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    lab.virsh("memtune", "tight", "--hard-limit", "-1", "--config")
    system.wait_condition("tight", "Ready", "True")
    assert source(device) in config_xml(system, "tight")
    assert lab.driver(mate) == "vfio-pci"


@pytest.mark.mission("H4", part=True)
def test_a_guest_gets_no_more_devices_than_it_may_have(spec: Stack, device: str, mate: str) -> None:
    lab = spec.lab
    define(lab, "modest", guest_xml("modest"))
    spec.wait_guest_listed("modest")
    spec.patch(NODE, {"spec": {"limits": {"devicesPerGuest": 1}}}, "devicehost")
    first = lab.find_devices("8086:10c9")[0]
    spec.apply(assignment("first", domain="modest", address=first))
    spec.wait_condition("first", "Ready", "True")
    spec.apply(assignment("second", domain="modest", address=device))
    message = spec.wait_condition("second", "Ready", "False", "TooManyDevices")
    assert f"guest modest has 1 host devices, and this node allows a guest 1, so it cannot get {device}" in message
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    spec.patch(NODE, {"spec": {"limits": {"devicesPerGuest": 2}}}, "devicehost")
    spec.wait_condition("second", "Ready", "True")
    assert source(first) in config_xml(spec, "modest")
    assert source(device) in config_xml(spec, "modest")


def test_override_lifts_the_guard_for_the_listed_device_alone(spec: Stack, device: str, mate: str) -> None:
    lab = spec.lab
    define(lab, "patient", guest_xml("patient"))
    spec.wait_guest_listed("patient")
    nic = lab.run(f"ls /sys/bus/pci/devices/{mate}/net").stdout.strip()
    lab.run(f"ip link set {nic} up && ip addr add 192.0.2.1/24 dev {nic}")
    try:
        spec.apply(assignment("wanted", domain="patient", address=device))
        spec.wait_condition("wanted", "Ready", "False", "HostCritical")
        override = {"device": mate, "reason": "second uplink, tested"}
        spec.patch(NODE, {"spec": {"criticalOverrides": [override]}}, "devicehost")
        spec.wait_condition("wanted", "Ready", "True")
        assert lab.driver(mate) == "vfio-pci"
        spec.wait("CriticalOverrides", lambda: spec.host_condition("CriticalOverrides") == "True")
    finally:
        spec.delete("wanted")
        spec.wait_gone("wanted")
        lab.run(f"ip addr del 192.0.2.1/24 dev {nic} 2> /dev/null; ip link set {nic} down", check=False)


def test_host_begins_to_use_a_managed_device_between_two_runs(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "away", guest_xml("away"))
    system.wait_guest_listed("away")
    system.apply(assignment("away", domain="away", address=device))
    system.wait_condition("away", "Ready", "True")
    nic = lab.run(f"ls /sys/bus/pci/devices/{device}/net").stdout.strip()
    lab.run(f"ip link set {nic} up && ip addr add 192.0.2.2/24 dev {nic}")
    try:
        message = system.wait_condition("away", "Ready", "False", "HostUsing")
        assert f"guest away does not run with {device}" in message
    finally:
        lab.run(f"ip addr del 192.0.2.2/24 dev {nic}; ip link set {nic} down")
    system.wait_condition("away", "Ready", "True")
    assert source(device) in config_xml(system, "away")
    assert lab.driver(mate) == "vfio-pci"


def test_orphan_is_kept_until_its_release_is_asked_for(spec: Stack, device: str, mate: str) -> None:
    lab = spec.lab
    define(lab, "orphaned", guest_xml("orphaned"))
    spec.wait_guest_listed("orphaned")
    spec.apply(assignment("orphan", domain="orphaned", address=device))
    spec.wait_condition("orphan", "Ready", "True")
    lab.virsh("start", "orphaned")
    wait_for_guest(lab, "orphaned", "GUEST up")
    uid = spec.get("deviceassignment", "orphan")["metadata"]["uid"]
    # an etcd that was restored from a backup: the object is gone, and nobody has released anything
    spec.stop_agent()
    spec.stop_controller()
    spec.plane.kubectl("patch", "deviceassignment", "orphan", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    spec.delete("orphan")
    spec.wait_gone("orphan")
    spec.start_controller()
    spec.start_agent()

    def orphans() -> list[dict[str, str]]:
        return list(spec.get("devicehost", NODE)["status"].get("orphans", []))

    spec.wait("the orphan", lambda: [o["uid"] for o in orphans()] == [uid])
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    spec.patch(NODE, {"spec": {"releaseOrphans": [uid]}}, "devicehost")
    spec.wait("why it waits", lambda: "GuestRunning" in (orphans() or [{}])[0].get("message", ""))
    assert source(device) in config_xml(spec, "orphaned")
    lab.virsh("destroy", "orphaned")
    spec.wait("the orphan to be released", lambda: orphans() == [])
    assert "<hostdev" not in config_xml(spec, "orphaned")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
