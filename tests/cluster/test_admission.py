"""What the API server refuses by itself, with the CRDs that are shipped: nothing wrong is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cluster.admission import Spec, change, manifest, refused, report, taken
from tests.cluster.controlplane import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
GOOD: Spec = {"domain": {"name": "guest"}, "source": {"pci": {"address": "0000:01:00.0"}}}

RESERVATION: Spec = {"source": GOOD["source"], "nodeName": "n1"}
FOR_GUESTS_ALONE: tuple[Spec, ...] = (
    {"requireAtStart": True},
    {"attach": "Live"},
    {"attach": "NextBoot"},
    {"detach": "Live"},
    {"driver": {"name": "vfio"}},
    {"network": {}},
)


def pci(**fields: object) -> Spec:
    return {"domain": {"name": "guest"}, "source": {"pci": fields}}


def match(**fields: object) -> Spec:
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
        match(pfMAC="52:54:00:00:00:0A", vfIndex=0),
        match(**{"class": "0x0200"}, numaNode=0, any=True),
        match(serial="labnvme", slotPath="0000:00/1c.0/00.0"),
    ],
)
def test_good_input_is_taken(plane: ControlPlane, spec: Spec) -> None:
    taken(plane, manifest("good", spec))


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
        ({**GOOD, "source": {"pci": {"address": "01:00.0"}, "pool": {"name": "fast"}}}, "name the device once"),
        ({**GOOD, "source": {"match": {"vendor": "0x8086"}, "pool": {"name": "fast"}}}, "name the device once"),
        ({**GOOD, "source": {"anything": {}}}, "unknown field"),
        (match(any=True), "say what to match"),
        (match(vendor="8086"), "spec.source.match.vendor"),
        (match(vendor="0x8086", vfIndex=1), "a VF is named by both"),
        (match(pfMAC="53:54:00:00:00:0a", vfIndex=1), "this is a multicast MAC address"),
        (match(pfMAC="525400000001", vfIndex=1), "a MAC address is six pairs"),
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
def test_bad_input_is_refused_with_the_reason(plane: ControlPlane, spec: Spec, words: str) -> None:
    refused(plane, manifest("bad", spec), words)


def test_bound_assignment_cannot_be_changed(plane: ControlPlane) -> None:
    bound = ("deviceassignment", "bound")
    plane.kubectl("create", "-f", "-", stdin=manifest("bound", {**GOOD, "nodeName": "n7"}))
    change(plane, bound, {"managed": False})
    report(plane, bound, {"nodeName": "n7"})
    specs: tuple[Spec, ...] = (
        {"managed": True},
        {"domain": {"name": "other"}},
        {"source": {"pci": {"address": "0000:02:00.0"}}},
        {"source": {"pci": None, "pool": {"name": "fast"}}},
        {"nodeName": "n8"},
        {"nodeName": None},
        {"driver": {"name": "vfio"}},
        {"groupPolicy": "AssignAll"},
        {"domain": None},
        {"guestAddress": "0000:05:00.0"},
    )
    for spec in specs:
        change(plane, bound, spec, "of a bound assignment only attach, detach, topology, spareHotplugPorts, network,")
    change(plane, bound, {"attach": "NextBoot", "detach": "Live", "requireAtStart": True})
    change(plane, bound, {"topology": "Auto", "spareHotplugPorts": 2, "savedImage": "Drop"})
    found = plane.kubectl("get", "deviceassignments", "--field-selector=status.nodeName=n7", "-o", "name").stdout
    assert found.split() == ["deviceassignment.hostdev.dev/bound"]
    plane.kubectl("delete", *bound)


def test_nor_can_one_whose_guest_is_looked_for_on_other_nodes(plane: ControlPlane) -> None:
    left = ("deviceassignment", "left")
    plane.kubectl("create", "-f", "-", stdin=manifest("left", GOOD))
    report(plane, left, {"domainUUID": "11111111-1111-4111-8111-111111111111"})
    change(plane, left, {"domain": {"name": "other"}}, "of a bound assignment only")
    change(plane, left, {"attach": "NextBoot"})
    plane.kubectl("delete", *left)


def test_every_field_is_explained(plane: ControlPlane) -> None:
    fields = {
        "deviceassignment": ("spec.source.pool", "spec.network.mac", "status.conditions", "status.network"),
        "devicehost": ("status.devices",),
        "vfpool": ("spec.nodeSelector", "spec.network.portgroups", "status.counts"),
        "nodevfpool": ("spec.pf.vfs", "status.vfs.holder"),
    }
    for kind, shown in fields.items():
        assert "<empty>" not in plane.kubectl("explain", kind, "--recursive").stdout
        for field in shown:
            assert "DESCRIPTION" in plane.kubectl("explain", f"{kind}.{field}").stdout


PREPARATION = {
    "mode": "Apply",
    "iommu": "Required",
    "vfioModules": "AtBoot",
    "unsafeInterrupts": {"risk": "Accepted", "reason": "trusted guests"},
    "earlyBinding": ["0000:01:00.0"],
}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"paused": True, "criticalOverrides": [{"device": "0000:01:00.0", "reason": "second uplink"}]}, None),
        ({"releaseOrphans": ["4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"]}, None),
        ({"criticalOverrides": [{"device": "0000:01:00.0"}]}, "reason"),
        ({"criticalOverrides": [{"device": "eth0", "reason": "x"}]}, "device is an address in lspci's form"),
        ({"criticalOverrides": [{"device": "0000:01:00.0", "reason": "x"}] * 2}, "Duplicate"),
        ({"paused": "yes"}, "spec.paused"),
        ({"preparation": PREPARATION}, None),
        ({"preparation": {}}, None),
        ({"preparation": {"mode": "Force"}}, "preparation.mode"),
        ({"preparation": {"unsafeInterrupts": {"risk": "Accepted"}}}, "reason"),
        ({"preparation": {"unsafeInterrupts": {"risk": "Accepted", "reason": ""}}}, "reason"),
        ({"preparation": {"unsafeInterrupts": {"reason": "trusted"}}}, "risk"),
        ({"preparation": {"earlyBinding": ["eth0"]}}, "a device is an address in lspci's form"),
        ({"preparation": {"earlyBinding": ["0000:01:00.0"] * 2}}, "Duplicate"),
    ],
)
def test_what_may_be_said_of_a_node(plane: ControlPlane, spec: Spec, words: str | None) -> None:
    text = manifest("n1", spec, "DeviceHost")
    if words is None:
        taken(plane, text)
    else:
        refused(plane, text, words)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_taken(plane: ControlPlane, example: Path) -> None:
    objects = list(yaml.safe_load_all(example.read_text()))
    result = plane.kubectl("create", "--dry-run=server", "-f", str(example))
    assert result.stdout.count("created (server dry run)") == len(objects)
