"""Bad input ends in a condition that names object, device, holder and next step; host and guests stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.guests import define, guest_xml, hostdev_xml
from tests.system.conftest import E1000, clean, drivers
from tests.system.stack import Stack, assignment


@dataclass(frozen=True)
class Refusals:
    """Many assignments that cannot be, made at once; ``before`` is what the host was like."""

    stack: Stack
    addresses: dict[str, str]
    before: tuple[str, str]

    def message(self, name: str, reason: str) -> str:
        """Wait until one of them is refused for this reason; the message."""
        return self.stack.wait_condition(name, "Ready", "False", reason)


def _host(stack: Stack) -> tuple[str, str]:
    """Which drivers are bound, and the XML of all guests."""
    xml = stack.lab.run("for g in $(virsh -q list --all --name); do virsh dumpxml $g; done").stdout
    return drivers(stack.lab), xml


def _controller_of(stack: Stack, device: str) -> str:
    """The PCI address in a device's path in sysfs."""
    pattern = "[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]"
    return stack.lab.run(f"readlink -f {device} | grep -oE '{pattern}' | tail -1").stdout.strip()


def _addresses(stack: Stack) -> dict[str, str]:
    """Name of the assignment -> the device that it asks for."""
    lab = stack.lab
    device, mate = lab.find_devices(E1000)
    return {
        "bridge": lab.find_devices("1b36:000e")[0],
        "missing": "0000:7f:00.0",
        "root-disk": _controller_of(stack, "/sys/class/block/$(basename $(findmnt -no SOURCE /))"),
        "node-address": _controller_of(stack, "/sys/class/net/$(ip -o route get 10.0.2.2 | grep -oP 'dev \\K\\S+')"),
        "console": _controller_of(stack, "/sys/class/drm/card0"),
        "held": device,
        "mate-held": mate,
        "by-hand": device,
        "macvtap": lab.find_devices("8086:10c9")[0],
        "block-disk": lab.find_devices("1b36:0010")[0],
        "no-guest": lab.find_devices("8086:10c9")[1],
        "no-node": lab.find_devices("8086:10c9")[1],
    }


@pytest.fixture(scope="module")
def refusals(stack: Stack) -> Iterator[Refusals]:
    """The guest "victim" is off; "holder", made with virsh, has one of the group's NICs, an NVMe disk and a macvtap."""
    lab, addresses = stack.lab, _addresses(stack)
    nic = lab.run(f"ls /sys/bus/pci/devices/{addresses['macvtap']}/net").stdout.strip()
    devices = (
        "<disk type='block' device='disk'><source dev='/dev/nvme0n1'/><target dev='vda' bus='virtio'/></disk>"
        f"<interface type='direct'><source dev='{nic}' mode='bridge'/><model type='e1000'/></interface>"
    )
    define(lab, "victim", guest_xml("victim"))
    define(lab, "holder", guest_xml("holder", hostdevs=[hostdev_xml(addresses["held"])], extra_devices=devices))
    for guest in ("victim", "holder"):
        stack.wait_guest_listed(guest)
    before = _host(stack)
    domains = {"no-guest": "nobody", "by-hand": "holder"}
    for name, address in addresses.items():
        extra = "nodeName: elsewhere" if name == "no-node" else ""
        stack.apply(assignment(name, domain=domains.get(name, "victim"), address=address, extra=extra))
    yield Refusals(stack, addresses, before)
    clean(stack)


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("bridge", "NotAssignable", ["Bridge", "name an endpoint"]),
        ("missing", "DeviceNotFound", ["lspci"]),
        ("root-disk", "HostCritical", ["mounted on /", "choose another device"]),
        ("node-address", "HostCritical", ["a network of the host", "choose another device"]),
        ("console", "HostCritical", ["console"]),
        ("held", "DeviceInUse", ["guest holder (defined)", "default/held", "virsh detach-device holder"]),
        ("mate-held", "GroupInUse", ["guest holder (defined)", "IOMMU group", "remove it there first"]),
        ("by-hand", "DeviceInUse", ["guest holder (defined)", "did not put there"]),
        ("macvtap", "HostCritical", ["which guest holder uses"]),
        ("block-disk", "HostCritical", ["carries the disk /dev/nvme0n1 of guest holder"]),
    ],
)
def test_refused_by_the_agent(refusals: Refusals, name: str, reason: str, words: list[str]) -> None:
    message = refusals.message(name, reason)
    for word in (refusals.addresses[name], *words):
        assert word in message


@pytest.mark.parametrize(
    ("name", "reason", "word"), [("no-guest", "GuestNotFound", "'nobody'"), ("no-node", "NodeNotFound", "'elsewhere'")]
)
def test_refused_by_the_controller(refusals: Refusals, name: str, reason: str, word: str) -> None:
    assert word in refusals.message(name, reason)
    assert not refusals.stack.get("deviceassignment", name)["metadata"].get("finalizers")


def test_host_and_guests_are_as_before(refusals: Refusals) -> None:
    assert _host(refusals.stack) == refusals.before
    warnings = refusals.stack.plane.kubectl(
        "get", "events", "--field-selector=type=Warning", "-o", "jsonpath={range .items[*]}{.reason} {end}"
    )
    assert {"NotAssignable", "HostCritical", "DeviceInUse", "GroupInUse", "GuestNotFound"} <= set(
        warnings.stdout.split()
    )


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
    return system.lab.run(request).stdout.split()[1]


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
    system.apply(assignment("middle", domain="middle", address=device, extra="managed: false"))
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
