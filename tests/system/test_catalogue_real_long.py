"""Rows of the failure catalogue that take minutes: what the kernel does not end, and what another firmware does."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.system import firmware
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.obstacles import process
from tests.system.stack import Stack, assignment

#: The agent gives a change of a driver 120 s.
BLOCKED_SECONDS = 400
HOLD = Path(__file__).parent / "hold_vfio.py"
IGB = "8086:10c9"
#: Of the lab host's BIOS, and so reserved already.
BASE, LIMIT = 0xF0000, 0xF0FFF


@pytest.mark.long
def test_driver_changes_that_do_not_return(system: Stack, device: str, mate: str) -> None:
    lab, pf = system.lab, system.lab.find_devices(IGB)[0]
    for name in ("blocked", "free"):
        define(lab, name, guest_xml(name))
        system.wait_guest_listed(name)
    nic = lab.run(f"ls /sys/bus/pci/devices/{mate}/net").stdout.strip()
    # its LED blinks, and so long the kernel keeps the interface, and with it the driver
    with process(lab, ["bash", "-c", f"echo blinks; exec ethtool -p {nic}"], "blink", "blinks") as blink:
        lab.run("until grep -qs dev_ethtool /proc/$(pgrep -x ethtool)/wchan; do sleep 0.1; done")
        system.apply(assignment("blocked", domain="blocked", address=device, managed=False))
        message = system.wait_condition("blocked", "Ready", "False", "DetachBlocked", BLOCKED_SECONDS)
        assert mate in message
        assert f"unregister_netdevice: waiting for {nic}" in lab.run("dmesg").stdout
        system.apply(assignment("free", domain="free", address=pf))  # others go on
        system.wait_condition("free", "Ready", "True")
        assert source(pf) in config_xml(system, "free")
        blink.kill()
        system.wait_condition("blocked", "Ready", "True")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")

    lab.put(HOLD, "/tmp/hold_vfio.py")
    command = ["python3", "/tmp/hold_vfio.py", str(lab.iommu_group(mate)), mate]
    with process(lab, command, "hold", "open") as holder:
        system.delete("blocked")
        message = system.wait_condition("blocked", "Ready", "False", "ReattachBlocked", BLOCKED_SECONDS)
        assert mate in message
        assert f"{mate}: No device request channel registered, blocked until released" in lab.run("dmesg").stdout
        holder.kill()
        system.wait_gone("blocked")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


def initrd_with_reserved_memory(stack: Stack, folder: Path) -> Path:
    """The lab host's, with its own DMAR table and one RMRR more: for its second SR-IOV card."""
    lab = stack.lab
    dmar = base64.b64decode(lab.run("base64 -w0 /sys/firmware/acpi/tables/DMAR").stdout)
    way = lab.run(f"readlink -f /sys/bus/pci/devices/{lab.find_devices(IGB)[1]}").stdout.strip()
    table = firmware.with_reserved_memory(dmar, firmware.hops(way), BASE, LIMIT)
    firmware.initrd_with(table, lab.machine.image.initrd, folder / "initrd")
    return folder / "initrd"


@pytest.mark.long
def test_host_without_interrupt_remapping_whose_firmware_keeps_memory(stack: Stack, tmp_path: Path) -> None:
    initrd = initrd_with_reserved_memory(stack, tmp_path)
    with (
        ControlPlane.start(tmp_path / "control-plane", binaries.ensure()) as plane,
        LabHost.boot(tmp_path / "lab", kernel_args="intremap=off", extra_qemu=["-initrd", str(initrd)]) as lab,
        Stack.start(tmp_path, lab, plane) as system,
    ):
        system.wait_host()
        first, second = lab.find_devices(IGB)
        define(lab, "guest", guest_xml("guest"))
        system.wait_guest_listed("guest")
        assert system.host_condition("InterruptRemappingReady") == "False"
        system.apply(assignment("first", domain="guest", address=first))
        message = system.wait_condition("first", "Ready", "False", "InterruptRemappingUnavailable")
        for word in (first, "allow_unsafe_interrupts", "firmware"):
            assert word in message
        assert "<hostdev" not in config_xml(system, "guest")
        lab.write("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y")
        system.wait_condition("first", "Ready", "True")
        lab.virsh("start", "guest")
        wait_for_guest(lab, "guest", f"plugged .* {IGB}")

        system.apply(assignment("second", domain="guest", address=second, attach="Live"))
        message = system.wait_condition("second", "Ready", "False", "FirmwareReservedMemory")
        assert second in message
        assert f"{second}: Firmware has requested this device have a 1:1" in lab.run("dmesg").stdout
        system.wait("the second card on its driver", lambda: lab.driver(second) == "igb")
        assert source(second) not in live_xml(system, "guest") + config_xml(system, "guest")
        system.delete("second")
        system.wait_gone("second")
