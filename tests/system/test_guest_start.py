"""A guest that is defined after its assignment, and libvirt's hook, which has a guest wait for its device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.guests import KERNEL, define, guest_xml, log_path, wait_for_guest
from tests.lab.host import LabHost
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.pools import IGB
from tests.system.stack import REPOSITORY, Stack, assignment

IMAGE = "/var/tmp/made.img"
#: With a disk that has nothing on it: the test guest is a kernel.
VIRT_INSTALL = (
    "virt-install --connect qemu:///system --virt-type qemu --name made --memory 64 --vcpus 1 --cpu qemu64"
    f" --osinfo detect=off,require=off --import --disk path={IMAGE},format=raw,bus=virtio --network none"
    f" --graphics none --noautoconsole --memballoon none --serial file,path={log_path('made')}"
    f" --boot kernel={KERNEL},kernel_args=answer --host-device"
)
HOOK, FOLDER = "/etc/libvirt/hooks/qemu.d/hostdev-guest-ready", "/var/lib/hostdev-operator/guest-start"


@pytest.fixture
def no_hook(system: Stack) -> Iterator[None]:
    """It is not installed yet; afterwards it is not there any more."""
    yield
    if not system.lab.lost:
        system.lab.run(f"rm -rf {HOOK} {FOLDER}")
        restart_libvirt(system.lab)


def install(lab: LabHost) -> None:
    """As docs/host.md says."""
    lab.put(REPOSITORY / "manifests/host/hostdev-guest-ready", "/tmp/hostdev-guest-ready")
    lab.run(f"install -D -m 755 /tmp/hostdev-guest-ready {HOOK}; install -d -m 700 {FOLDER}")
    restart_libvirt(lab)


def restart_libvirt(lab: LabHost) -> None:
    lab.run("lab-libvirtd stop; lab-libvirtd start", timeout=120)


@pytest.mark.mission("A6", part=True)
def test_one_that_is_defined_later_gets_its_device_and_another_waits_for_it(
    system: Stack, device: str, mate: str, no_hook: None
) -> None:
    lab = system.lab
    system.apply(assignment("late", domain="late", address=device, requireAtStart=True))
    system.wait_condition("late", "Accepted", "False", "GuestNotFound")
    define(lab, "late", guest_xml("late"))
    system.wait_condition("late", "Ready", "False", "StartHookMissing")
    assert source(device) in config_xml(system, "late")
    install(lab)
    system.wait_condition("late", "Ready", "True")

    define(lab, "waiting", guest_xml("waiting"))
    system.apply(assignment("waiting", domain="waiting", address=device, requireAtStart=True))
    system.wait_condition("waiting", "Ready", "False", "DeviceInUse")
    system.wait("the file for the hook", lambda: lab.run(f"ls {FOLDER}").stdout)
    refused = lab.run("virsh start waiting", check=False)
    assert refused.returncode != 0
    assert "must not start without its device yet: default/waiting: DeviceInUse" in refused.stderr
    assert lab.virsh("domstate", "waiting").strip() == "shut off"
    lab.virsh("start", "late")  # nobody else is held up, and the first boot has the device
    wait_for_guest(lab, "late", "GUEST plugged .* 8086:100e")

    lab.virsh("destroy", "late")
    system.delete("late")
    system.wait_gone("late")
    system.wait_condition("waiting", "Ready", "True")
    lab.virsh("start", "waiting")
    wait_for_guest(lab, "waiting", "GUEST plugged .* 8086:100e")
    assert lab.run(f"ls {FOLDER}").stdout == ""
    lab.virsh("destroy", "waiting")
    system.delete("waiting")
    system.wait_gone("waiting")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


@pytest.mark.mission("A6")
def test_one_that_virt_install_has_made_with_a_device_is_adopted_and_released(system: Stack) -> None:
    lab = system.lab
    address = lab.find_devices(IGB)[0]
    lab.run(f"truncate -s 1M {IMAGE}; {VIRT_INSTALL} {address}", timeout=300)
    wait_for_guest(lab, "made", f"GUEST plugged .* {IGB}")
    before = config_xml(system, "made"), live_xml(system, "made")
    system.apply(assignment("made", domain="made", address=address, adopt=True))
    system.wait_condition("made", "Ready", "True", "Adopted")
    assert (config_xml(system, "made"), live_xml(system, "made")) == before
    assert lab.driver(address) == "vfio-pci"

    system.delete("made")
    assert address in system.wait_condition("made", "Ready", "False", "GuestRunning")
    lab.virsh("destroy", "made")
    system.wait_gone("made")
    assert source(address) not in config_xml(system, "made")
    assert lab.driver(address) == "igb"
