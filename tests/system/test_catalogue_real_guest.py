"""Rows of the failure catalogue that nothing else here makes happen, on a guest that runs: told, and healed.

One guest serves all tests but the first. Its PCI Express ports take no hot plug; its conventional bus does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.system.conftest import clean
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.obstacles import SteppedAgent, as_before, nodedev, obstacle, process
from tests.system.stack import Stack, assignment

GUEST, COLD = "fixed", "cold"
LIVE = {"attach": "Live", "detach": "Live"}
FIXED = guest_xml(GUEST).replace("-root-port'/>", "-root-port'><target hotplug='off'/></controller>")
#: libvirtd may not raise limits, and what it starts may not open what is closed to root.
WEAK = "prlimit --memlock=8388608 setpriv --bounding-set=-sys_resource,-ipc_lock,-dac_override,-dac_read_search"
CARD = "1b36:0005"


@pytest.fixture(scope="module")
def pf(stack: Stack) -> str:
    return stack.lab.find_devices("8086:10c9")[0]


@pytest.fixture(scope="module")
def guest(stack: Stack, pf: str) -> Iterator[str]:
    """It runs with the PF, by the assignment "cold", on a port that takes no hot plug."""
    define(stack.lab, GUEST, FIXED)
    stack.wait_guest_listed(GUEST)
    stack.apply(assignment(COLD, domain=GUEST, address=pf, detach="Live"))
    stack.wait_condition(COLD, "Ready", "True")
    stack.lab.virsh("start", GUEST)
    wait_for_guest(stack.lab, GUEST, "plugged .* 8086:10c9")
    yield GUEST
    clean(stack)


@pytest.fixture(scope="module")
def agent(stack: Stack) -> Iterator[SteppedAgent]:
    made = SteppedAgent(stack)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def host(stack: Stack, guest: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    with as_before(stack, request.node, COLD) as made:
        yield made


def plugged(host: Stack, name: str, device: str, guest: str = GUEST) -> None:
    """Wait until the running guest has the device, judged by libvirt."""
    host.wait_condition(name, "Ready", "True")
    assert source(device) in live_xml(host, guest)
    assert source(device) in config_xml(host, guest)


def refused(host: Stack, name: str, reason: str, *words: str, guest: str = GUEST) -> None:
    """Wait until it is told why the running guest has not got the device."""
    message = host.wait_condition(name, "Ready", "False", reason)
    for word in words:
        assert word in message
    device = host.get("deviceassignment", name)["spec"]["source"]["pci"]["address"]
    assert source(device) not in live_xml(host, guest)


def test_libvirtd_and_qemu_may_not_do_what_vfio_needs(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "poor", guest_xml("poor"))
    with obstacle(lab, f"lab-libvirtd stop; {WEAK} lab-libvirtd start", "lab-libvirtd stop; lab-libvirtd start"):
        lab.virsh("start", "poor")
        wait_for_guest(lab, "poor", "GUEST up")
        system.wait_guest_listed("poor")
        system.apply(assignment("poor", domain="poor", address=device, **LIVE))
        refused(system, "poor", "MemlockExceeded", device, "cannot limit locked memory", guest="poor")
        assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    with obstacle(lab, "chmod 000 /dev/vfio/vfio", "chmod 666 /dev/vfio/vfio"):
        system.patch("poor", {"spec": {"detach": "WhenOff"}})  # the limit shows nowhere: ask again
        refused(system, "poor", "PermissionDenied", device, "/dev/vfio/vfio", "Permission denied", guest="poor")
    plugged(system, "poor", device, "poor")
    limit = lab.run("prlimit --memlock --noheadings --output SOFT --pid $(cat /run/libvirt/qemu/poor.pid)").stdout
    assert int(limit) > 8388608


def test_vfio_group_that_another_process_has_open(host: Stack, device: str, mate: str) -> None:
    lab, group = host.lab, host.lab.iommu_group(device)
    hold = f"import time; group = open('/dev/vfio/{group}', 'rb'); print('open', flush=True); time.sleep(1e6)"
    with obstacle(lab, f"virsh nodedev-detach {nodedev(mate)}", f"virsh nodedev-reattach {nodedev(mate)}"):
        with process(lab, ["python3", "-c", hold], "holder", "open"):
            host.apply(assignment("busy", domain=GUEST, address=device, **LIVE))
            refused(host, "busy", "VFIOGroupBusy", device, f"/dev/vfio/{group}", "Device or resource busy")
            host.wait("the device on its driver", lambda: lab.driver(device) == "e1000")
        plugged(host, "busy", device)
        host.delete("busy")
        host.wait_gone("busy")


def test_taken_out_by_hand_again_and_again(host: Stack, device: str) -> None:
    """Each time it comes back later, until the delay is long enough to be seen."""
    lab = host.lab
    host.apply(assignment("touched", domain=GUEST, address=device, driftPolicy="Correct", **LIVE))
    plugged(host, "touched", device)
    hostdevs = re.findall("<hostdev.*?</hostdev>", live_xml(host, GUEST), re.DOTALL)
    lab.write("/tmp/hostdev.xml", next(x for x in hostdevs if source(device) in x))

    def waits() -> str | None:
        told = host.condition("touched")
        return told["message"] if told["reason"] == "DriftsAgain" else None

    message: str | None = None
    for _ in range(8):
        lab.virsh("detach-device", GUEST, "/tmp/hostdev.xml", "--live", check=False)  # it may still be going out
        host.wait("what comes of it", lambda: waits() or source(device) in live_xml(host, GUEST))
        message = message or waits()
        if message:
            break
    assert message
    for word in (device, "somebody else changes it back", "set spec.driftPolicy to Report"):
        assert word in message
    plugged(host, "touched", device)


@contextmanager
def spare_card(lab: LabHost) -> Iterator[tuple[str, str]]:
    """A card that no driver of the host knows, in a free slot: its address, and its root port's."""
    lab.qmp.execute("device_add", driver="pci-testdev", id="card", bus="spare")
    try:
        path = lab.run(
            f"until lspci -Dn -d {CARD} | grep -q .; do sleep 0.1; done; lspci -Dn -d {CARD}"
        ).stdout.split()[0]
        lab.run(f"until [ -e /sys/bus/pci/devices/{path}/iommu_group ]; do sleep 0.1; done")
        yield path, lab.run(f"basename $(dirname $(readlink -f /sys/bus/pci/devices/{path}))").stdout.strip()
    finally:
        lab.qmp.execute("device_del", id="card")
        lab.run(f"while lspci -Dn -d {CARD} | grep -q .; do sleep 0.1; done")


def test_card_that_answers_no_more(host: Stack) -> None:
    """Its port leads its bus elsewhere, so that all of it reads as ones."""
    lab = host.lab
    with spare_card(lab) as (card, port):
        buses = lab.run(f"setpci -s {port} PRIMARY_BUS.L").stdout.strip()
        dead = f"setpci -s {port} SECONDARY_BUS=f0 SUBORDINATE_BUS=f0"
        with obstacle(lab, dead, f"setpci -s {port} PRIMARY_BUS.L={buses}"):
            assert "Unknown header type 7f" in lab.run(["lspci", "-v", "-s", card]).stdout
            host.apply(assignment("dead", domain=GUEST, address=card, **LIVE))
            refused(host, "dead", "DeviceResetFailed", card, "header type")
        host.patch("dead", {"spec": {"attach": "Auto"}})  # it is never tried again by itself
        host.wait_condition("dead", "Attached", "True")
        wait_for_guest(lab, GUEST, f"plugged .* {CARD}")
        host.delete("dead")
        host.wait_gone("dead")


def test_driver_that_goes_away_between_look_and_act(host: Stack, agent: SteppedAgent, device: str, mate: str) -> None:
    with agent.held():
        host.apply(assignment("raced", domain=GUEST, address=device, attach="NextBoot", managed=False))
        agent.do("before: record")
        host.lab.run(f"echo {mate} > /sys/bus/pci/drivers/e1000/unbind")
        agent.do(f"before: detach {mate}")
        message = host.wait_condition("raced", "Ready", "False", "HostChanged")
        for word in (mate, "had driver e1000", "has none now"):
            assert word in message
        assert host.lab.driver(device) == "e1000"
    host.wait_condition("raced", "Ready", "True")
    assert (host.lab.driver(device), host.lab.driver(mate)) == ("vfio-pci", "vfio-pci")


def test_unmanaged_device_that_somebody_gives_back_before_the_plug(
    host: Stack, agent: SteppedAgent, device: str, mate: str
) -> None:
    with agent.held():
        host.apply(assignment("returned", domain=GUEST, address=device, managed=False, **LIVE))
        agent.do(f"before: detach {device}")
        assert host.lab.driver(device) == "vfio-pci"
        host.lab.virsh("nodedev-reattach", nodedev(device))
        agent.do("rollback: done")
        refused(host, "returned", "NotDetached", device, "must be manually detached from the host")
        assert (host.lab.driver(device), host.lab.driver(mate)) == ("e1000", "e1000")
    plugged(host, "returned", device)


def test_port_that_gives_nothing_back_while_the_guest_runs(stack: Stack, guest: str, pf: str) -> None:
    """The last one: the guest is off afterwards."""
    stack.delete(COLD)
    message = stack.wait_condition(COLD, "Ready", "False", "UnplugRejected")
    assert pf in message
    assert source(pf) in live_xml(stack, guest)
    assert source(pf) in config_xml(stack, guest)
    assert stack.lab.driver(pf) == "vfio-pci"
    stack.lab.virsh("destroy", guest)
    stack.wait_gone(COLD)
    assert source(pf) not in config_xml(stack, guest)
    assert stack.lab.driver(pf) == "igb"
