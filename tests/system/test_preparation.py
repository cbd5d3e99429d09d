"""A host is prepared by its DeviceHost, rebooted, and the preparation is taken back: docs/host.md.

The one host is Intel's, and its firmware starts GRUB from a disk: what its kernel is told stands in grub.cfg alone. It
has systemd and the units, as an administrator installs them. The other one is AMD's, without interrupt remapping, and
without systemd, which would take half a minute: there the test starts the script, as the units would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.system.conftest import E1000, LOGS
from tests.system.guide import IOMMU, MANIFESTS, UNSAFE
from tests.system.inspect_guest import config_xml, source
from tests.system.stack import NODE, REPOSITORY, Stack, assignment

WORD = "intel_iommu=on"
HOST = REPOSITORY / "manifests/host"
DROP_IN = "/etc/default/grub.d/zz-hostdev-prepare.cfg"
UNITS = ("hostdev-prepare.service", "hostdev-prepare.path", "hostdev-prepare-boot.service")
PARAMETER = "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
BOOT_CONFIGURATION = "cat /boot/grub/grub.cfg /etc/default/grub; ls -A /etc/default /etc/modprobe.d /etc/modules-load.d"


@contextmanager
def host(folder: Path, **machine: Any) -> Iterator[Stack]:
    """Control plane, controller, agent and such a host."""
    with (
        ControlPlane.start(folder / "control-plane", binaries.ensure()) as plane,
        LabHost.boot(folder / "lab", **machine) as lab,
        Stack.start(folder, lab, plane) as made,
    ):
        made.wait_host()
        try:
            yield made
        except BaseException:
            lab.collect_logs(LOGS / folder.name)
            raise


def install_script(lab: LabHost) -> None:
    """As docs/host.md says."""
    lab.put(HOST / "hostdev-prepare", "/usr/local/sbin/hostdev-prepare")
    lab.put(HOST / "hostdev-prepare-words", "/usr/local/lib/hostdev-operator/hostdev-prepare-words")


def install_units(lab: LabHost) -> None:
    """The same, with them."""
    install_script(lab)
    for unit in UNITS:
        lab.put(HOST / unit, f"/etc/systemd/system/{unit}")
    lab.run("systemctl daemon-reload; systemctl enable --now hostdev-prepare.path hostdev-prepare.service", timeout=300)
    lab.run("systemctl enable hostdev-prepare-boot.service")


def prepare(stack: Stack, **preparation: object) -> None:
    """`kubectl patch devicehost`."""
    nothing = dict.fromkeys(("mode", "iommu", "vfioModules", "earlyBinding", "unsafeInterrupts"))
    stack.patch(NODE, {"spec": {"preparation": {**nothing, **preparation}}}, "devicehost")


def condition(stack: Stack, kind: str) -> dict[str, str]:
    conditions = stack.get("devicehost", NODE).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def wait_for(stack: Stack, kind: str, status: str, reason: str) -> str:
    """A condition of the DeviceHost; its message."""

    def test() -> bool:
        found = condition(stack, kind)
        return (found.get("status"), found.get("reason")) == (status, reason)

    try:
        stack.wait(f"{kind}={status} {reason}", test, 300)
    except AssertionError as error:
        answer = stack.lab.run("tail -n +1 /var/lib/hostdev-operator/prepare.*", check=False).stdout
        raise AssertionError(f"{condition(stack, kind)}\n{answer}\n{error}") from error
    return condition(stack, kind)["message"]


def command_line(lab: LabHost) -> list[str]:
    """What the kernel was told."""
    return lab.read("/proc/cmdline").split()


def first_entry(configuration: str) -> list[str]:
    """What GRUB tells the kernel of the usual entry."""
    words = next(line for line in configuration.splitlines() if line.startswith("\tlinux\t")).split()
    return [f"BOOT_IMAGE={words[1]}", *words[2:]]


def reboot(stack: Stack) -> None:
    """By hand, as always. GRUB reads the disk as it stands, without its journal: so it is written out before."""
    stack.stop_agent()
    stack.lab.run("sync; echo u > /proc/sysrq-trigger; until grep -q ' / ext4 ro' /proc/mounts; do sleep 0.2; done")
    stack.lab.power_cut()
    stack.lab.power_on()
    stack.lab.run("udevadm settle --timeout=120", timeout=150)  # libvirtd does not wait for all drivers


@pytest.mark.mission("H3")
@pytest.mark.mission("H1", part=True)
def test_an_intel_host_is_prepared_and_taken_back(tmp_path: Path) -> None:
    with host(tmp_path, grub=True, iommu=False, systemd=True) as stack:
        lab = stack.lab
        lab.run("update-grub", timeout=300)  # as the installer of a real host has done
        assert WORD not in command_line(lab)
        assert lab.run("ls /sys/kernel/iommu_groups").stdout == ""
        before = lab.run(BOOT_CONFIGURATION).stdout
        told = first_entry(before)
        early = lab.find_devices(E1000)[1]

        prepare(stack, iommu="Required")
        message = wait_for(stack, "Prepared", "False", "NotPrepared")
        assert f"GRUB_CMDLINE_LINUX {WORD}" in message
        assert "update-grub" in message
        stack.apply(MANIFESTS[IOMMU])
        assert "docs/host.md" in wait_for(stack, "Prepared", "False", "PreparationUnitMissing")
        assert lab.run(BOOT_CONFIGURATION).stdout == before
        install_units(lab)

        lab.run('cp -p /etc/default/grub /root/grub; echo "GRUB_X=\'" >> /etc/default/grub')
        prepare(stack, iommu="Required", mode="Apply", vfioModules="AtBoot", earlyBinding=[early])
        assert "sh -n" in wait_for(stack, "Prepared", "False", "PreparationFailed")
        lab.run("cp -p /root/grub /etc/default/grub; systemctl restart hostdev-prepare", timeout=300)
        assert WORD in wait_for(stack, "Prepared", "False", "RebootRequired")
        assert WORD in wait_for(stack, "RebootRequired", "True", "RebootRequired")
        since = condition(stack, "RebootRequired")["lastTransitionTime"]
        assert WORD in lab.read(DROP_IN)
        assert lab.driver(early) == "e1000"
        assert WORD not in command_line(lab)

        reboot(stack)
        stack.start_agent()
        wait_for(stack, "RebootRequired", "False", "NothingPending")
        assert condition(stack, "RebootRequired")["lastTransitionTime"] > since
        wait_for(stack, "Prepared", "True", "HostPrepared")
        wait_for(stack, "IOMMUReady", "True", "IOMMUEnabled")
        assert [word for word in command_line(lab) if word != WORD] == told
        assert lab.run("ls /sys/kernel/iommu_groups").stdout
        assert lab.driver(early) == "vfio-pci"
        assert f"e1000 {early}" not in lab.run("dmesg").stdout

        stack.patch(NODE, {"spec": None}, "devicehost")
        assert "was taken off" in wait_for(stack, "RebootRequired", "True", "RebootRequired")
        reboot(stack)
        assert command_line(lab) == told
        assert lab.run(BOOT_CONFIGURATION).stdout == before
        assert lab.driver(early) == "e1000"
        assert lab.run("ls -A /etc/hostdev-prepare", check=False).stdout == ""


@pytest.mark.mission("H2")
@pytest.mark.mission("H1", part=True)
def test_an_amd_host_without_interrupt_remapping(tmp_path: Path) -> None:
    """Refused, then accepted for a reason that an administrator gives, at once and for each boot."""
    with host(tmp_path, board="amd", kernel_args="amd_iommu=on") as stack:
        lab = stack.lab
        assert "amd_iommu=on" in command_line(lab)
        assert "ivhd0" in lab.run("ls /sys/class/iommu").stdout
        assert lab.sysfs(PARAMETER) == "N"
        define(lab, "trusted", guest_xml("trusted"))
        stack.wait_guest_listed("trusted")
        device, mate = lab.find_devices(E1000)
        stack.apply(assignment("nic", domain="trusted", address=device))
        message = stack.wait_condition("nic", "Ready", "False", "InterruptRemappingUnavailable")
        assert "spec.preparation.unsafeInterrupts" in message
        assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")

        install_script(lab)
        lab.run("hostdev-prepare")
        stack.apply(MANIFESTS[UNSAFE])
        wait_for(stack, "Prepared", "Unknown", "PreparationPending")
        lab.run("hostdev-prepare")
        wait_for(stack, "Prepared", "True", "HostPrepared")
        assert "all guests are ours" in wait_for(stack, "UnsafeInterrupts", "True", "UnsafeInterruptsAccepted")
        wait_for(stack, "InterruptRemappingReady", "False", "UnsafeInterruptsAllowed")
        assert lab.sysfs(PARAMETER) == "Y"
        assert "allow_unsafe_interrupts=1" in lab.read("/etc/modprobe.d/hostdev-prepare.conf")
        stack.wait_condition("nic", "Ready", "True")
        assert source(device) in config_xml(stack, "trusted")
        lab.virsh("start", "trusted")
        wait_for_guest(lab, "trusted", "GUEST up")
        stack.wait_condition("nic", "Attached", "True")
        assert lab.driver(device) == "vfio-pci"
        group = lab.iommu_group(device)
        assert f"/dev/vfio/{group}" in lab.run("ls -l /proc/$(cat /run/libvirt/qemu/trusted.pid)/fd").stdout

        lab.virsh("destroy", "trusted")
        stack.delete("nic")
        stack.wait_gone("nic")
        stack.patch(NODE, {"spec": None}, "devicehost")
        stack.wait("the request", lambda: "unsafe" not in lab.read("/var/lib/hostdev-operator/prepare.conf"))
        lab.run("hostdev-prepare")
        wait_for(stack, "InterruptRemappingReady", "False", "InterruptRemappingUnavailable")
        assert lab.sysfs(PARAMETER) == "N"
        assert lab.run("ls /etc/modprobe.d/hostdev-prepare.conf", check=False).returncode != 0
