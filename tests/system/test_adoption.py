"""Guests and a network that virsh has made: taken over and left again, and nothing of them or of the host has changed.

Judged by virsh, sysfs, ip link, the kernel's uevents, libvirt's device events, and libvirtd's own log of its calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.guests import define, guest_xml, hostdev_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.lab.process import Process
from tests.system.conftest import clean
from tests.system.pools import IGB, PfView, pool_condition
from tests.system.stack import NODE, Stack, assignment
from tests.system.untouched import Uevents, calls_logged, changing_calls, log_size, snapshot

PLAIN, VF, POOLED = "plain", "single", "pooled"
GUESTS = (PLAIN, VF, POOLED)
NETWORK = "byhand"
VF_MAC, POOL_MAC = "52:54:00:40:00:01", "52:54:00:40:00:02"
EVENTS = Path(__file__).parent / "device_events.py"


@dataclass
class ByHand:
    """A host that an administrator has set up before the agent came."""

    system: Stack
    pf: PfView
    plain: str

    @property
    def lab(self) -> LabHost:
        return self.system.lab

    def snapshot(self) -> dict[str, str]:
        """All that must stay, byte by byte."""
        return snapshot(self.lab, GUESTS, NETWORK)


def vf_xml(address: str) -> str:
    source = re.search("<source>.*</source>", hostdev_xml(address))
    assert source
    inside = source[0].replace("<address ", "<address type='pci' ")
    return (
        f"<interface type='hostdev' managed='yes'><mac address='{VF_MAC}'/>{inside}"
        "<vlan><tag id='42'/></vlan></interface>"
    )


def network_xml(vfs: list[str]) -> str:
    addresses = ""
    for vf in vfs:
        domain, bus, slot, function = re.split("[:.]", vf)
        addresses += f"<address type='pci' domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
    group = "<portgroup name='finance'><vlan><tag id='43'/></vlan></portgroup>"
    forward = f"<forward mode='hostdev' managed='yes'>{addresses}</forward>"
    return f"<network><name>{NETWORK}</name>{forward}{group}</network>"


_POOLED_SOURCE = f"<source network='{NETWORK}' portgroup='finance'/>"
POOLED_XML = f"<interface type='network'><mac address='{POOL_MAC}'/>{_POOLED_SOURCE}</interface>"


@pytest.fixture
def logged(system: Stack) -> Iterator[None]:
    """Libvirtd tells of calls, and no agent runs."""
    system.stop_agent()
    with calls_logged(system.lab):
        yield


@pytest.fixture
def by_hand(system: Stack, logged: None) -> Iterator[ByHand]:
    """Without an agent: four VFs, a network of two of them, and three guests, two of which run."""
    lab = system.lab
    pf = PfView(lab, lab.find_devices(IGB)[0])
    plain = lab.find_devices(IGB)[1]
    try:
        lab.run(
            f"echo 0 > {pf.folder}/sriov_drivers_autoprobe; echo 4 > {pf.folder}/sriov_numvfs;"
            f" ip link set {pf.netdev} up"
        )
        lab.run(f"until [ $(cat /sys/class/net/{pf.netdev}/carrier) = 1 ]; do sleep 0.1; done", timeout=60)
        vfs = pf.vfs()
        lab.write("/tmp/network.xml", network_xml(vfs[2:]))
        lab.virsh("net-define", "/tmp/network.xml")
        lab.virsh("net-autostart", NETWORK)
        lab.virsh("net-start", NETWORK)
        define(lab, PLAIN, guest_xml(PLAIN, hostdevs=[plain]))
        define(lab, VF, guest_xml(VF, extra_devices=vf_xml(vfs[0])))
        define(lab, POOLED, guest_xml(POOLED, extra_devices=POOLED_XML))
        for name, card in ((PLAIN, "8086:10c9"), (POOLED, "8086:10ca")):
            lab.virsh("start", name)
            wait_for_guest(lab, name, f"GUEST plugged .* {card}")
        yield ByHand(system, pf, plain)
    finally:
        if not lab.lost:
            clean(system)
            lab.run(f"virsh -q net-destroy {NETWORK}; virsh -q net-undefine {NETWORK}", check=False)
            lab.run(
                f"ip link set {pf.netdev} down; echo 0 > {pf.folder}/sriov_numvfs;"
                f" echo 1 > {pf.folder}/sriov_drivers_autoprobe"
            )
            system.plane.kubectl("delete", "node", NODE, "--ignore-not-found")


def listen(system: Stack, guest: str) -> Process:
    """Libvirt's device events of a guest."""
    system.lab.put(EVENTS, "/tmp/device_events.py")
    process = system.lab.spawn(["python3", "/tmp/device_events.py", guest], f"events-{guest}")
    system.wait("the events", lambda: "listening" in process.log())
    return process


def seen(system: Stack, name: str) -> bool:
    """Whether the agent has worked on the newest spec."""
    body = system.get("deviceassignment", name)
    return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])


def make_node(system: Stack) -> None:
    """The pool that import writes is for the node with this label; a kubelet would have made it."""
    meta = {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}
    system.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": meta}))


def run_import(system: Stack) -> tuple[str, dict[str, dict[str, Any]]]:
    command = f"cd /opt/hostdev-operator && python3 -m hostdev_operator import --node-name {NODE}"
    text = system.lab.run(command).stdout
    bodies = [body for body in yaml.safe_load_all(text) if body]
    return text, {body["metadata"]["name"]: body for body in bodies}


@pytest.mark.mission("A6", part=True)
def test_what_virsh_has_made_is_adopted_and_left_again_and_nothing_has_changed(by_hand: ByHand) -> None:
    system, lab = by_hand.system, by_hand.lab
    make_node(system)
    uevents = Uevents(system, by_hand.pf.address)
    events = [listen(system, name) for name in (PLAIN, POOLED)]
    before, size = by_hand.snapshot(), log_size(lab)

    # the agent is installed
    system.start_agent()
    for name in GUESTS:
        system.wait_guest_listed(name)
    assert by_hand.snapshot() == before

    # what the host has is imported
    text, bodies = run_import(system)
    assert "# Left out" not in text
    assert [body["kind"] for body in bodies.values()] == ["VFPool", *["DeviceAssignment"] * 3]
    assert by_hand.snapshot() == before
    system.apply(text)
    names = [name for name, body in bodies.items() if body["kind"] == "DeviceAssignment"]
    pool = next(name for name, body in bodies.items() if body["kind"] == "VFPool")
    pool_condition(system, f"{pool}.{NODE}", "True")
    for name in names:
        system.wait_condition(name, "Ready", "True", "Adopted")
    attached = {name: system.condition(name, "Attached")["status"] for name in names}
    assert sorted(attached.values()) == ["False", "True", "True"]
    assert by_hand.snapshot() == before

    # what does not fit is refused
    device: dict[str, Any] = {"domain": PLAIN, "adopt": True}
    system.apply(assignment("absent", address=by_hand.pf.vfs()[1], **device))
    system.wait_condition("absent", "Ready", "False", "NothingToAdopt")
    system.apply(assignment("unlike", address=by_hand.plain, managed=False, **device))
    assert "managed is yes there and no in spec" in system.wait_condition("unlike", "Ready", "False", "AdoptionDiffers")
    for name in ("absent", "unlike"):
        system.delete(name)
        system.wait_gone(name)

    # the agent is restarted, told that running guests should get what they lack, and everything is deleted
    system.restart_agent()
    for name in names:
        system.patch(name, {"spec": {"attach": "Live"}})
        system.wait(f"{name} to be seen again", partial(seen, system, name))
        system.wait_condition(name, "Ready", "True", "Adopted")
    for name in names:
        system.delete(name)
        system.wait_gone(name)
    system.remove("vfpool", pool)
    assert by_hand.snapshot() == before
    assert lab.run("ls /var/lib/hostdev-operator/{assignments,pools}/*.json", check=False).stdout == ""

    # and nobody has been asked for anything meanwhile
    assert changing_calls(lab, size) == []
    assert uevents.others() == []
    for process in events:
        assert process.log().split() == ["listening"]
        process.kill(15)
    uevents.stop()


def test_an_adopted_device_is_given_back_when_that_is_asked_for(by_hand: ByHand) -> None:
    """Return: out of the running guest and of its XML, and libvirt gives it to its driver."""
    system, lab = by_hand.system, by_hand.lab
    before = by_hand.snapshot()
    system.start_agent()
    system.wait_guest_listed(PLAIN)
    spec: dict[str, Any] = {"domain": PLAIN, "adopt": True, "detach": "Live"}
    system.apply(assignment("back", address=by_hand.plain, **spec))
    system.wait_condition("back", "Ready", "True", "Adopted")
    assert by_hand.snapshot() == before
    system.delete("back")
    system.wait_gone("back")
    wait_for_guest(lab, PLAIN, "GUEST gone")
    for text in (lab.virsh("dumpxml", PLAIN), lab.virsh("dumpxml", PLAIN, "--inactive")):
        assert "<hostdev" not in text
    assert lab.driver(by_hand.plain) == "igb"
