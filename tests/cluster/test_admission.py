"""What the API server refuses by itself, with the CRDs that are shipped: nothing wrong is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane

CRDS = Path(__file__).resolve().parents[2] / "crds"
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
GOOD = {"domain": {"name": "guest"}, "source": {"pci": {"address": "0000:01:00.0"}}}

RESERVATION = {"source": GOOD["source"], "nodeName": "n1"}
FOR_GUESTS_ALONE: tuple[dict[str, object], ...] = (
    {"attach": "Live"},
    {"attach": "NextBoot"},
    {"detach": "Live"},
    {"driver": {"name": "vfio"}},
)


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    control_plane.kubectl("apply", "--server-side", "-k", str(CRDS))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return control_plane


def manifest(name: str, spec: dict[str, object]) -> str:
    meta = {"name": name, "namespace": "default"}
    return json.dumps(
        {"apiVersion": "hostdev.dev/v1alpha1", "kind": "DeviceAssignment", "metadata": meta, "spec": spec}
    )


def pci(**fields: object) -> dict[str, object]:
    return {"domain": {"name": "guest"}, "source": {"pci": fields}}


def match(**fields: object) -> dict[str, object]:
    return {"domain": {"name": "guest"}, "source": {"match": fields}}


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        pci(address="01:00.0"),
        pci(address="10000:e1:00.0"),
        pci(address="pci_0000_01_00_0"),
        pci(bus=1, slot=0, function=0),
        pci(domain="0x0", bus="0x1f", slot="0x1F", function="0x7"),
        {**GOOD, "domain": {"uuid": "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"}},
        {**GOOD, "driver": {"name": "vfio"}, "managed": False, "nodeName": "n1", "groupPolicy": "DetachUnused"},
        {**GOOD, "groupPolicy": "AssignAll", "mateAddress": "Unassigned", "attach": "Live", "detach": "Live"},
        {**GOOD, "groupPolicy": "RequireFree", "attach": "NextBoot"},
        RESERVATION,
        {**RESERVATION, "managed": False, "attach": "Auto", "detach": "WhenOff", "groupPolicy": "RequireFree"},
        match(vendor="0x8086", device="0x10c9"),
        match(pfMAC="52:54:00:00:00:01", vfIndex=3),
        match(**{"class": "0x0200"}, numaNode=0, any=True),
        match(serial="labnvme", slotPath="0000:00/1c.0/00.0"),
    ],
)
def test_good_input_is_taken(plane: ControlPlane, spec: dict[str, object]) -> None:
    result = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest("good", spec))
    assert "created (server dry run)" in result.stdout


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (pci(address="0000:01:20.0"), "address must be in lspci's form (0000:01:00.0) or libvirt's"),
        (pci(address="not an address"), "address must be in lspci's form"),
        (pci(address="0000:01:00.0\n"), "address must be in lspci's form"),
        (pci(address="0" * 100), "may not be more than 24"),
        (pci(address="0000:01:00.0", bus=1, slot=0, function=0), "give the device once"),
        (pci(bus=1, slot=0), "give the device once"),
        (pci(), "give the device once"),
        (pci(bus="10", slot=0, function=0), "spec.source.pci.bus"),
        (pci(bus=256, slot=0, function=0), "spec.source.pci.bus"),
        (pci(bus=-1, slot=0, function=0), "spec.source.pci.bus"),
        (pci(bus=1, slot="0x20", function=0), "spec.source.pci.slot"),
        (pci(bus=1, slot=1, function=8), "spec.source.pci.function"),
        ({**GOOD, "source": {}}, "name the device once"),
        ({**GOOD, "source": {"pci": {"address": "01:00.0"}, "match": {"vendor": "0x8086"}}}, "name the device once"),
        ({**GOOD, "source": {"pool": "fast"}}, "unknown field"),
        (match(any=True), "say what to match"),
        (match(vendor="8086"), "spec.source.match.vendor"),
        (match(vendor="0x8086", vfIndex=1), "a VF is named by both"),
        (match(pfMAC="52:54:00:00:00:0A", vfIndex=1), "spec.source.match.pfMAC"),
        (match(**{"class": "0x020"}), "spec.source.match.class"),
        ({**GOOD, "domain": {}}, "name the guest once"),
        ({**GOOD, "domain": {"name": "a", "uuid": "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"}}, "name the guest once"),
        ({**GOOD, "domain": {"name": ""}}, "spec.domain.name"),
        ({**GOOD, "domain": {"uuid": "4A9B"}}, "spec.domain.uuid"),
        ({"source": GOOD["source"]}, "name the guest (spec.domain), or, for a reservation, the node"),
        ({**GOOD, "driver": {"name": "kvm"}}, "the kvm driver does not exist any more"),
        ({**GOOD, "groupPolicy": "AssignSome"}, "spec.groupPolicy"),
        ({**GOOD, "attach": "Now"}, "spec.attach"),
        ({**GOOD, "detach": "Now"}, "spec.detach"),
        ({**GOOD, "mateAddress": "Unassigned"}, "set groupPolicy to AssignAll"),
        ({"source": GOOD["source"], "nodeName": "n1", "groupPolicy": "AssignAll"}, "AssignAll needs a guest"),
        *(({**RESERVATION, **more}, "a reservation (no spec.domain) has none") for more in FOR_GUESTS_ALONE),
        ({**GOOD, "nodeName": ""}, "spec.nodeName"),
    ],
)
def test_bad_input_is_refused_with_the_reason(plane: ControlPlane, spec: dict[str, object], words: str) -> None:
    result = plane.kubectl("create", "-f", "-", stdin=manifest("bad", spec), check=False)
    assert result.returncode != 0
    assert words in result.stderr
    assert not plane.kubectl("get", "deviceassignment", "bad", "--ignore-not-found").stdout


def test_bound_assignment_cannot_be_changed(plane: ControlPlane) -> None:
    plane.kubectl("create", "-f", "-", stdin=manifest("bound", {**GOOD, "nodeName": "n7"}))
    change = ("patch", "deviceassignment", "bound", "--type=merge", "-p")
    plane.kubectl(*change, '{"spec":{"managed":false}}')
    status = '{"status":{"nodeName":"n7"}}'
    plane.kubectl("patch", "deviceassignment", "bound", "--subresource=status", "--type=merge", "-p", status)
    for spec in (
        {"managed": True},
        {"domain": {"name": "other"}},
        {"source": {"pci": {"address": "0000:02:00.0"}}},
        {"nodeName": "n8"},
        {"nodeName": None},
        {"driver": {"name": "vfio"}},
        {"groupPolicy": "AssignAll"},
        {"domain": None},
    ):
        result = plane.kubectl(*change, json.dumps({"spec": spec}), check=False)
        assert "of a bound assignment only attach and detach can be changed" in result.stderr, spec
    plane.kubectl(*change, '{"spec":{"attach":"NextBoot","detach":"Live"}}')
    found = plane.kubectl("get", "deviceassignments", "--field-selector=status.nodeName=n7", "-o", "name").stdout
    assert found.split() == ["deviceassignment.hostdev.dev/bound"]
    plane.kubectl("delete", "deviceassignment", "bound")


def test_every_field_is_explained(plane: ControlPlane) -> None:
    for kind in ("deviceassignment", "devicehost"):
        text = plane.kubectl("explain", kind, "--recursive").stdout
        assert "<empty>" not in text
        for field in ("spec.source.pci", "status.conditions") if kind == "deviceassignment" else ("status.devices",):
            assert "DESCRIPTION" in plane.kubectl("explain", f"{kind}.{field}").stdout


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"paused": True, "criticalOverrides": [{"device": "0000:01:00.0", "reason": "second uplink"}]}, None),
        ({"releaseOrphans": ["4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"]}, None),
        ({"criticalOverrides": [{"device": "0000:01:00.0"}]}, "reason"),
        ({"criticalOverrides": [{"device": "eth0", "reason": "x"}]}, "device is an address in lspci's form"),
        ({"criticalOverrides": [{"device": "0000:01:00.0", "reason": "x"}] * 2}, "Duplicate"),
        ({"paused": "yes"}, "spec.paused"),
    ],
)
def test_what_may_be_said_of_a_node(plane: ControlPlane, spec: dict[str, object], words: str | None) -> None:
    text = json.dumps(
        {"apiVersion": "hostdev.dev/v1alpha1", "kind": "DeviceHost", "metadata": {"name": "n1"}, "spec": spec}
    )
    result = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=text, check=False)
    if words is None:
        assert "created (server dry run)" in result.stdout, result.stderr
    else:
        assert words in result.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_taken(plane: ControlPlane, example: Path) -> None:
    result = plane.kubectl("create", "--dry-run=server", "-f", str(example))
    assert "created (server dry run)" in result.stdout
