"""Bad input ends in a condition that names object, device, holder and next step; host and guests stay as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.guests import define, guest_xml, hostdev_xml
from tests.system.conftest import drivers
from tests.system.stack import NODE, Stack, assignment


@pytest.fixture
def guest(system: Stack) -> Iterator[str]:
    """A guest that is off. Afterwards neither a driver nor any guest's XML has changed."""
    define(system.lab, "victim", guest_xml("victim"))
    system.wait_guest_listed("victim")
    before = _host(system)
    yield "victim"
    assert _host(system) == before


def _host(system: Stack) -> tuple[str, str]:
    xml = system.lab.run("for g in $(virsh -q list --all --name | grep victim); do virsh dumpxml $g; done").stdout
    return drivers(system.lab), xml


def refused(system: Stack, guest: str, address: str, reason: str) -> str:
    """The message of the refusal."""
    system.apply(assignment("bad", domain=guest, address=address))
    return system.wait_condition("bad", "Ready", "False", reason)


def controller_of(system: Stack, device: str) -> str:
    """The PCI address in a device's path in sysfs."""
    return system.lab.run(
        f"readlink -f {device} | grep -oE '[0-9a-f]{{4}}:[0-9a-f]{{2}}:[0-9a-f]{{2}}.[0-7]' | tail -1"
    ).stdout.strip()


def test_bridge(system: Stack, guest: str) -> None:
    (bridge,) = system.lab.find_devices("1b36:000e")
    message = refused(system, guest, bridge, "NotAssignable")
    assert bridge in message
    assert "name an endpoint" in message


def test_missing_device(system: Stack, guest: str) -> None:
    message = refused(system, guest, "0000:7f:00.0", "DeviceNotFound")
    assert "0000:7f:00.0" in message
    assert "lspci" in message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/sys/class/block/$(basename $(findmnt -no SOURCE /))", "mounted on /"),
        ("/sys/class/net/$(ip -o route get 10.0.2.2 | grep -oP 'dev \\K\\S+')", "a network of the host"),
        ("/sys/class/drm/card0", "console"),
    ],
    ids=["root disk", "node address", "console"],
)
def test_device_that_the_host_needs(system: Stack, guest: str, path: str, words: str) -> None:
    address = controller_of(system, path)
    message = refused(system, guest, address, "HostCritical")
    assert address in message
    assert words in message


def test_default_route_and_swap_come_and_go(system: Stack, guest: str, device: str, mate: str) -> None:
    lab = system.lab
    nic = lab.run(f"ls /sys/bus/pci/devices/{mate}/net").stdout.strip()
    lab.run(f"ip link set {nic} up && ip route add default dev {nic}")
    lab.run("mkswap -q /dev/nvme0n1 && swapon /dev/nvme0n1")
    try:
        message = refused(system, guest, device, "HostCritical")
        assert f"{mate} [8086:100e], a group mate of {device}," in message
        assert f"the default route over {nic}" in message
        (nvme,) = lab.find_devices("1b36:0010")
        system.apply(assignment("swap", domain=guest, address=nvme))
        assert "the swap space /dev/nvme0n1" in system.wait_condition("swap", "Ready", "False", "HostCritical")
    finally:
        lab.run(f"swapoff /dev/nvme0n1; ip route del default dev {nic}; ip link set {nic} down")
    system.wait_condition("bad", "Ready", "True")  # it heals by itself when the route is gone
    for name in ("bad", "swap"):
        system.delete(name)
        system.wait_gone(name)


def test_guest_that_does_not_exist(system: Stack, guest: str, device: str) -> None:
    message = refused(system, "nobody", device, "GuestNotFound")
    assert "'nobody'" in message
    assert not system.get("deviceassignment", "bad")["metadata"].get("finalizers")


def test_node_that_does_not_exist(system: Stack, guest: str, device: str) -> None:
    system.apply(assignment("bad", domain=guest, address=device, extra="nodeName: elsewhere"))
    assert "elsewhere" in system.wait_condition("bad", "Ready", "False", "NodeNotFound")


def test_device_of_a_guest_made_with_virsh(system: Stack, guest: str, device: str, mate: str) -> None:
    define(system.lab, "victim2", guest_xml("victim2", hostdevs=[hostdev_xml(device)]))
    system.wait_guest_listed("victim2")
    try:
        message = refused(system, guest, device, "DeviceInUse")
        assert "victim2 (defined)" in message
        assert device in message
        system.apply(assignment("mate", domain=guest, address=mate))
        message = system.wait_condition("mate", "Ready", "False", "GroupInUse")
        assert "victim2 (defined)" in message
        assert f"{device} [8086:100e]" in message
        system.apply(assignment("same", domain="victim2", address=device))
        assert "did not put there" in system.wait_condition("same", "Ready", "False", "DeviceInUse")
        assert "ua-hostdev" not in system.lab.virsh("dumpxml", "victim2")
    finally:
        for name in ("bad", "mate", "same"):
            system.plane.kubectl("delete", "deviceassignment", name, "--ignore-not-found")
        system.lab.virsh("undefine", "victim2")


def test_disk_and_macvtap_of_another_guest(system: Stack, guest: str) -> None:
    pf = system.lab.find_devices("8086:10c9")[0]
    nic = system.lab.run(f"ls /sys/bus/pci/devices/{pf}/net").stdout.strip()
    devices = (
        "<disk type='block' device='disk'><source dev='/dev/nvme0n1'/><target dev='vda' bus='virtio'/></disk>"
        f"<interface type='direct'><source dev='{nic}' mode='bridge'/><model type='e1000'/></interface>"
    )
    define(system.lab, "victim2", guest_xml("victim2", extra_devices=devices))
    system.wait_guest_listed("victim2")
    try:
        message = refused(system, guest, pf, "HostCritical")
        assert f"carries {nic}, which guest victim2 uses" in message
        (nvme,) = system.lab.find_devices("1b36:0010")
        system.apply(assignment("disk", domain=guest, address=nvme))
        message = system.wait_condition("disk", "Ready", "False", "HostCritical")
        assert "carries the disk /dev/nvme0n1 of guest victim2" in message
    finally:
        for name in ("bad", "disk"):
            system.plane.kubectl("delete", "deviceassignment", name, "--ignore-not-found")
        system.lab.virsh("undefine", "victim2")


def test_libvirtd_down_at_start_and_back(system: Stack, guest: str, device: str) -> None:
    system.stop_agent()
    system.lab.stop_libvirtd()
    system.start_agent()
    system.apply(assignment("late", domain=guest, address=device))
    message = system.wait_condition("late", "Ready", "False", "LibvirtUnavailable")
    assert "qemu:///system" in message
    host = "jsonpath={.status.conditions[?(@.type=='LibvirtReady')].status}"

    def ready() -> str:
        return system.plane.kubectl("get", "devicehost", NODE, "-o", host).stdout

    system.wait("LibvirtReady=False", lambda: ready() == "False")
    system.lab.start_libvirtd()
    system.wait_condition("late", "Ready", "True")
    system.wait("LibvirtReady=True", lambda: ready() == "True")
    system.delete("late")
    system.wait_gone("late")


def test_libvirtd_killed_in_the_middle(system: Stack, guest: str, device: str, mate: str) -> None:
    system.apply(assignment("middle", domain=guest, address=device, extra="managed: false"))
    system.lab.run("until ls /var/lib/hostdev-operator/assignments | grep -q json; do sleep 0.02; done", timeout=60)
    system.lab.kill_libvirtd()
    system.lab.start_libvirtd()
    system.wait_condition("middle", "Ready", "True")
    assert (system.lab.driver(device), system.lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    system.delete("middle")
    system.lab.kill_libvirtd()
    system.lab.start_libvirtd()
    system.wait_gone("middle")
