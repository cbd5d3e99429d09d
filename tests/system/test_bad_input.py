"""Bad input ends in a condition that names object, device, holder and next step; host and guests stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.guests import define, guest_xml, hostdev_xml
from tests.system.conftest import E1000, clean, drivers
from tests.system.stack import NODE, Stack, assignment


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
        extra = {"nodeName": "elsewhere"} if name == "no-node" else {}
        stack.apply(assignment(name, domain=domains.get(name, "victim"), address=address, **extra))
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


@pytest.mark.mission("D4")
def test_a_guest_that_virsh_made_is_named_as_holder(refusals: Refusals) -> None:
    devices = refusals.stack.get("devicehost", NODE)["status"]["devices"]
    held = next(d for d in devices if d["address"] == refusals.addresses["held"])
    assert held["holder"] == {"kind": "Guest", "name": "holder"}


def test_host_and_guests_are_as_before(refusals: Refusals) -> None:
    assert _host(refusals.stack) == refusals.before
    warnings = refusals.stack.plane.kubectl(
        "get", "events", "--field-selector=type=Warning", "-o", "jsonpath={range .items[*]}{.reason} {end}"
    )
    assert {"NotAssignable", "HostCritical", "DeviceInUse", "GroupInUse", "GuestNotFound"} <= set(
        warnings.stdout.split()
    )
