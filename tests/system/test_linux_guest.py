"""Hot plug and unplug as a guest with a kernel and drivers sees them. Its boot takes minutes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.guests import define, guest_log, install_linux_guest, linux_guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.lab.process import Process
from tests.system.inspect_guest import config_xml, live_xml
from tests.system.stack import Stack, assignment

GUEST = "linux"
BOOT_SECONDS = 1800
PLUG_SECONDS = 120
EVENTS = Path(__file__).parent / "device_events.py"


def watch_events(lab: LabHost) -> Process:
    """Libvirt's events of the guest's devices, from now on, in its log."""
    lab.put(EVENTS, "/tmp/device_events.py")
    process = lab.spawn(["python3", "/tmp/device_events.py", GUEST], "device-events")
    wait_for_event(lab, process, "listening")
    return process


def wait_for_event(lab: LabHost, events: Process, text: str) -> None:
    log = f"/share/logs/{events.log_file.name}"
    lab.run(["bash", "-c", 'until grep -qxF "$1" "$2"; do sleep 0.1; done', "-", text, log], timeout=PLUG_SECONDS)


@pytest.mark.long
def test_a_running_linux_gets_the_nic_and_lets_it_go(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    install_linux_guest(lab)
    define(lab, GUEST, linux_guest_xml(GUEST))
    system.wait_guest_listed(GUEST)
    lab.virsh("start", GUEST)
    wait_for_guest(lab, GUEST, "GUEST up", timeout=BOOT_SECONDS)
    events = watch_events(lab)

    system.apply(assignment("linux", domain=GUEST, address=device, attach="Live", detach="Live"))
    system.wait_condition("linux", "Ready", "True")
    console = wait_for_guest(lab, GUEST, "GUEST driver .* e1000", timeout=PLUG_SECONDS)
    seen = re.search(r"GUEST plugged (\S+) 8086:100e", console)
    assert seen, console
    place = seen[1]
    assert f"GUEST driver {place} e1000" in console
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")

    alias = system.get("deviceassignment", "linux")["status"]["guest"]["alias"]
    system.delete("linux")
    system.wait_gone("linux")
    wait_for_event(lab, events, f"removed {alias}")
    assert f"GUEST gone {place}" in wait_for_guest(lab, GUEST, f"GUEST gone {place}", timeout=PLUG_SECONDS)
    assert "<hostdev" not in live_xml(system, GUEST) + config_xml(system, GUEST)
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert "Oops" not in guest_log(lab, GUEST)
    events.kill(15)
