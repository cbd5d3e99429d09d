"""The laboratory is what the other tests take it for: a host with VT-d, SR-IOV, VFIO and libvirt."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import channel
from tests.lab.channel import LabCommandError, LabCommandTimeoutError, LabLostError
from tests.lab.guests import define, guest_xml, hostdev_xml, wait_for_guest

if TYPE_CHECKING:
    from tests.lab.host import LabHost

pytestmark = pytest.mark.lab

IGB = "8086:10c9"
E1000 = "8086:100e"
BRIDGE = "1b36:000e"


def nodedev(address: str) -> str:
    return "pci_" + address.replace(":", "_").replace(".", "_")


def test_commands_say_what_happened(lab: LabHost) -> None:
    assert lab.run("cat; echo error >&2", stdin="text").stdout == "text"
    with pytest.raises(LabCommandError, match="returned 3"):
        lab.run("exit 3")
    began = time.monotonic()
    lab.run("sleep 60 &")
    with pytest.raises(LabCommandTimeoutError):
        lab.run("sleep 60", timeout=0.5)
    assert time.monotonic() - began < 20


def test_spawned_process_has_a_log_and_a_return_code(lab: LabHost) -> None:
    script = "trap 'echo ending; exit 7' TERM; echo began; while :; do sleep 0.1; done"
    process = lab.spawn(script, name="trap")
    lab.run("until grep -q began /share/logs/trap.log; do sleep 0.1; done", timeout=20)
    assert process.alive()
    process.kill(signal.SIGTERM)
    assert process.wait(20) == 7
    assert not process.alive()
    assert "ending" in process.log()


def test_no_processor_is_left_with_an_interrupt_in_service(lab: LabHost) -> None:
    """What QEMU leaves there cannot be ordered, but the one who looks must be able to read the registers."""
    one_each_and_a_clock_each_and_main = 2 * 2 + 1
    threads = lab.run("ls /proc/$(pgrep -f local_apic.py$)/task").stdout.split()
    assert len(threads) == one_each_and_a_clock_each_and_main


def test_a_host_that_does_not_answer_is_told_with_its_processors(lab: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "REPLY_GRACE", 1)
    lab.qmp.execute("stop")
    try:
        with pytest.raises(LabLostError, match=r"(?s)CPU#0.*RIP=.*CPU#1.*LAB .* ready"):
            lab.run("true", timeout=1)
    finally:
        lab.qmp.execute("cont")
        lab.lost = ""
    assert lab.run("echo back").stdout == "back\n"


def test_iommu_groups(lab: LabHost) -> None:
    conventional = lab.find_devices(E1000)
    assert len(conventional) == 2
    assert sorted(lab.group_members(conventional[0])) == sorted([*lab.find_devices(BRIDGE), *conventional])
    for address in lab.find_devices(IGB):
        assert lab.group_members(address) == [address]
        assert lab.driver(address) == "igb"
        assert lab.sysfs(f"bus/pci/devices/{address}/sriov_totalvfs") == "7"


def test_interrupts_are_remapped(lab: LabHost) -> None:
    messages = lab.run("dmesg").stdout
    assert "DMAR-IR: Enabled IRQ remapping" in messages
    assert lab.sysfs("module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") == "N"


def test_nothing_can_leave_the_machine(lab: LabHost) -> None:
    assert lab.run("ip route show default; ip -6 route show default").stdout == ""


def test_libvirt_lists_the_devices_and_the_boot_display(lab: LabHost) -> None:
    names = lab.virsh("nodedev-list", "--cap", "pci").split()
    for address in [*lab.find_devices(IGB), *lab.find_devices(E1000)]:
        assert nodedev(address) in names
    (display,) = lab.find_devices("1234:1111")
    assert lab.sysfs(f"bus/pci/devices/{display}/boot_vga") == "1"


def test_guest_gets_a_device_and_lets_it_go(lab: LabHost) -> None:
    device, mate = lab.find_devices(E1000)
    define(lab, "plug", guest_xml("plug"))
    lab.virsh("start", "plug")
    wait_for_guest(lab, "plug", "GUEST up")
    lab.virsh("nodedev-detach", nodedev(mate))
    assert lab.driver(mate) == "vfio-pci"
    lab.write("/tmp/hostdev.xml", hostdev_xml(device))
    lab.virsh("attach-device", "plug", "/tmp/hostdev.xml", "--live")
    wait_for_guest(lab, "plug", "plugged .* 8086:100e")
    lab.virsh("detach-device", "plug", "/tmp/hostdev.xml", "--live")
    lab.run("while virsh dumpxml plug | grep -q '<hostdev'; do sleep 0.1; done", timeout=30)
    assert "ejected" in wait_for_guest(lab, "plug", "GUEST gone")
    lab.virsh("nodedev-reattach", nodedev(mate))
    assert [lab.driver(address) for address in (device, mate)] == ["e1000", "e1000"]


def test_guest_outlives_libvirtd(lab: LabHost) -> None:
    pid = lab.run("cat /run/libvirt/qemu/plug.pid").stdout
    lab.kill_libvirtd()
    with pytest.raises(LabCommandError):
        lab.virsh("list")
    lab.start_libvirtd()
    assert "running" in lab.virsh("domstate", "plug")
    lab.stop_libvirtd()
    lab.start_libvirtd()
    assert lab.run("cat /run/libvirt/qemu/plug.pid").stdout == pid
    assert "running" in lab.virsh("domstate", "plug")


def test_power_cut_keeps_only_what_was_synced(lab: LabHost) -> None:
    state = "/var/lib/hostdev-operator"
    lab.run(f"echo kept > {state}/synced && sync {state}/synced {state}")
    lab.run(f"echo lost > {state}/unsynced")
    lab.power_cut()
    lab.power_on()
    assert lab.read(f"{state}/synced") == "kept\n"
    assert lab.run(f"cat {state}/unsynced", check=False).stdout == ""
    assert lab.virsh("list", "--name").strip() == ""
    assert lab.virsh("list", "--all", "--name").strip() == "plug"
