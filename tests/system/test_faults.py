"""What changes under way: the host's own needs, and a libvirtd that goes away."""

from __future__ import annotations

import re

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.stack import NODE, Stack, assignment


def test_default_route_and_swap_come_and_go(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "patient", guest_xml("patient"))
    system.wait_guest_listed("patient")
    nic = lab.run(f"ls /sys/bus/pci/devices/{mate}/net").stdout.strip()
    (nvme,) = lab.find_devices("1b36:0010")
    lab.run(f"ip link set {nic} up && ip route add default dev {nic}")
    lab.run("mkswap -q /dev/nvme0n1 && swapon /dev/nvme0n1")
    try:
        system.apply(assignment("route", domain="patient", address=device))
        system.apply(assignment("swap", domain="patient", address=nvme))
        message = system.wait_condition("route", "Ready", "False", "HostCritical")
        assert f"{mate} [8086:100e], a group mate of {device}," in message
        assert f"the default route over {nic}" in message
        assert "the swap space /dev/nvme0n1" in system.wait_condition("swap", "Ready", "False", "HostCritical")
        assert (lab.driver(device), lab.driver(mate), lab.driver(nvme)) == ("e1000", "e1000", "nvme")
    finally:
        lab.run(f"swapoff /dev/nvme0n1; ip route del default dev {nic}; ip link set {nic} down")
    system.wait_condition("route", "Ready", "True")  # it heals by itself when the route is gone


def probe(system: Stack, path: str) -> str:
    """The HTTP status of one of the agent's probes, as a kubelet on the node would see it."""
    request = f"exec 3<>/dev/tcp/127.0.0.1/9440; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    return (system.lab.run(request, check=False).stdout.split() or ["", "no answer"])[1]


def test_libvirtd_down_at_start_and_back(system: Stack, device: str) -> None:
    define(system.lab, "late", guest_xml("late"))
    system.wait_guest_listed("late")
    system.stop_agent()
    system.lab.stop_libvirtd()
    system.start_agent()
    system.apply(assignment("late", domain="late", address=device))
    message = system.wait_condition("late", "Ready", "False", "LibvirtUnavailable")
    assert "qemu:///system" in message
    system.wait("LibvirtReady=False", lambda: system.host_condition("LibvirtReady") == "False")
    assert probe(system, "/readyz") == "503"
    assert probe(system, "/healthz") == "200"
    system.lab.start_libvirtd()
    system.wait_condition("late", "Ready", "True")
    system.wait("LibvirtReady=True", lambda: system.host_condition("LibvirtReady") == "True")
    assert probe(system, "/readyz") == "200"


def test_libvirtd_killed_in_the_middle(system: Stack, device: str, mate: str) -> None:
    define(system.lab, "middle", guest_xml("middle"))
    system.wait_guest_listed("middle")
    system.apply(assignment("middle", domain="middle", address=device, managed=False))
    system.lab.run("until ls /var/lib/hostdev-operator/assignments | grep -q json; do sleep 0.02; done", timeout=60)
    system.lab.kill_libvirtd()
    system.lab.start_libvirtd()
    system.wait_condition("middle", "Ready", "True")
    assert (system.lab.driver(device), system.lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    system.delete("middle")
    system.lab.kill_libvirtd()
    system.lab.start_libvirtd()
    system.wait_gone("middle")
    assert (system.lab.driver(device), system.lab.driver(mate)) == ("e1000", "e1000")


HANGS = ("LibvirtUnavailable", "DetachBlocked")


def test_libvirtd_hangs_in_the_middle(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "hung", guest_xml("hung"))
    system.wait_guest_listed("hung")
    wait_for_record = "until ls /var/lib/hostdev-operator/assignments | grep -q json; do sleep 0.02; done"
    system.apply(assignment("hung", domain="hung", address=device, managed=False))
    try:
        lab.run(f"{wait_for_record}; kill -STOP $(pidof libvirtd)", timeout=60)
        # keepalive ends the connection, and with it the call; now and then libvirt leaves the call, until its deadline
        system.wait("why", lambda: system.condition("hung").get("reason") in HANGS, seconds=240)
        assert lab.run("ls /var/lib/hostdev-operator/assignments").stdout != ""
    finally:
        lab.run("kill -CONT $(pidof libvirtd)")
    system.wait_condition("hung", "Ready", "True")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")


def test_api_server_goes_away_and_comes_back(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    for name in ("before", "meanwhile"):
        define(lab, name, guest_xml(name))
        system.wait_guest_listed(name)
    system.apply(assignment("before", domain="before", address=device, driftPolicy="Correct"))
    system.wait_condition("before", "Ready", "True")
    system.plane.stop_apiserver()
    try:
        # what libvirt does meanwhile needs no API server: the guest starts, and its group stays whole
        lab.virsh("start", "before")
        wait_for_guest(lab, "before", "plugged .* 8086:100e")
        lab.virsh("nodedev-reattach", "pci_" + re.sub("[:.]", "_", mate), check=False)
        system.wait("the mate on vfio-pci", lambda: lab.driver(mate) == "vfio-pci")
        lab.virsh("undefine", "meanwhile")
        # an agent that is killed meanwhile, and one that starts meanwhile, leave all as it is
        if system.agent:
            system.agent.kill(9)
        system.start_agent()
        system.wait("the new agent", lambda: probe(system, "/healthz") == "200")
        assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    finally:
        system.plane.start_apiserver()
    system.wait_condition("before", "Attached", "True")

    def reported() -> bool:
        guests = system.get("devicehost", NODE)["status"]["guests"]
        return all(g["name"] != "meanwhile" for g in guests)

    system.wait("the report", reported)


def test_guest_killed_renamed_and_undefined(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "unlucky", guest_xml("unlucky"))
    system.wait_guest_listed("unlucky")
    system.apply(assignment("unlucky", domain="unlucky", address=device))
    system.wait_condition("unlucky", "Ready", "True")
    lab.virsh("start", "unlucky")
    system.wait_condition("unlucky", "Attached", "True")
    lab.run("pkill -KILL -f guest=unlucky,")
    system.wait_condition("unlucky", "Attached", "False", "GuestShutOff")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "vfio-pci")

    lab.virsh("domrename", "unlucky", "lucky")
    system.wait("the new name", lambda: system.get("deviceassignment", "unlucky")["status"]["guest"]["name"] == "lucky")
    assert system.condition("unlucky")["status"] == "True"
    lab.virsh("start", "lucky")
    system.wait_condition("unlucky", "Attached", "True")
    lab.virsh("undefine", "lucky")  # it runs on, and has no definition any more
    system.wait_condition("unlucky", "Ready", "False", "GuestTransient")
    system.delete("unlucky")
    system.wait_condition("unlucky", "Ready", "False", "GuestRunning")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    lab.virsh("destroy", "lucky")
    system.wait_gone("unlucky")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
