"""The laboratory host is recorded; here its recording is seen as the host is there, and planned for in the same way."""

from __future__ import annotations

import json
from pathlib import Path

from hostdev_operator.adapters.recording import open_recording, read_head
from hostdev_operator.core.pci import PciAddress
from tests.lab.guests import define, guest_xml
from tests.system.snapshot import snapshot
from tests.system.stack import REPOSITORY, Stack, assignment

_STATE = "/var/lib/hostdev-operator"
_PROGRAM = "/opt/snapshot.py"
_ENVIRONMENT = "PYTHONPATH=/opt/hostdev-operator"


def record(system: Stack, *options: str) -> Path:
    """What `record` makes in the laboratory host."""
    name = "masked" if options else "lab"
    words = " ".join(options)
    system.lab.run(f"{_ENVIRONMENT} python3 -m hostdev_operator record -o /share/{name}.tar.zst {words}", timeout=120)
    return system.lab.machine.share / f"{name}.tar.zst"


def test_the_recorded_host_is_seen_and_planned_for_as_the_host_itself(system: Stack, device: str) -> None:
    """The recording is kept as build/lab.tar.zst: tests/recordings takes a copy, lab.tar.zst."""
    lab = system.lab
    lab.put(REPOSITORY / "tests/system/snapshot.py", _PROGRAM)
    define(lab, "patient", guest_xml("patient"))
    system.wait_guest_listed("patient")
    system.apply(assignment("recorded", domain="patient", address=device))
    system.wait_condition("recorded", "Ready", "True")
    there = lab.run(f"{_ENVIRONMENT} python3 {_PROGRAM} / {_STATE}", timeout=120).stdout
    path = record(system)
    with open_recording(path) as host:
        here = snapshot(host)
    assert json.loads(here) == json.loads(there)
    found = json.loads(here)
    assert len(found["seen"]["records"]) == 1
    # judged by the host: each function that sysfs has, with its driver
    for name in lab.run("ls /sys/bus/pci/devices").stdout.split():
        assert found["seen"]["devices"][name]["driver"] == (lab.driver(name) or None)
    assert read_head(path).versions["kernel"] == lab.run("uname -r").stdout.strip()
    (REPOSITORY / "build").mkdir(exist_ok=True)
    (REPOSITORY / "build/lab.tar.zst").write_bytes(path.read_bytes())


def test_masked_it_names_no_mac_and_no_uuid_of_the_laboratory(system: Stack) -> None:
    lab = system.lab
    define(lab, "patient", guest_xml("patient"))
    macs = lab.run("cat /sys/bus/pci/devices/*/net/*/address").stdout.split()
    uuid = lab.run("virsh -q domuuid patient").stdout.strip()
    with open_recording(record(system, "--mask")) as host:
        text = snapshot(host)
        devices = host.devices.devices()
    assert macs
    assert [value for value in (*macs, uuid) if value in text] == []
    assert {device.address for device in devices} == {
        PciAddress.parse(name) for name in lab.run("ls /sys/bus/pci/devices").stdout.split()
    }
