"""What the API server refuses of a Guest, and of where a device is to be in its guest."""

from __future__ import annotations

import pytest

from tests.cluster.admission import HOSTILE, Spec, change, manifest, refused, taken
from tests.cluster.controlplane import ControlPlane

FILE: Spec = {"file": "/var/lib/images/web.qcow2", "format": "qcow2"}
DEVICE: Spec = {"domain": {"name": "guest"}, "source": {"pci": {"address": "0000:01:00.0"}}}
POOL: Spec = {"domain": {"name": "guest"}, "source": {"pool": {"name": "fast"}}}


def guest(**spec: object) -> Spec:
    return {"nodeName": "n1", "memory": "1Gi", **spec}


def disk(**fields: object) -> Spec:
    return guest(disks=[fields])


def nic(**fields: object) -> Spec:
    return guest(networks=[fields])


@pytest.mark.parametrize(
    "spec",
    [
        guest(),
        guest(name="Web_1.x", machine="pc", firmware="EFI", vcpus=8, running=False, deletionPolicy="Undefine"),
        guest(disks=[FILE, {"block": "/dev/disk/by-id/x", "bus": "scsi"}, {"volume": {"pool": "p", "name": "v x"}}]),
        guest(networks=[{"network": "lan", "portgroup": "blue"}, {"bridge": "br0", "mac": "52:54:00:00:00:01"}]),
        guest(deviceAssignments=[{"namespace": "default", "name": "nic"}], domainXML="<domain/>"),
    ],
)
def test_good_guests_are_taken(plane: ControlPlane, spec: Spec) -> None:
    taken(plane, manifest("good", spec, "Guest"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (guest(memory="1G"), "spec.memory"),
        (guest(memory="0Gi"), "spec.memory"),
        (guest(vcpus=0), "spec.vcpus"),
        (guest(name=HOSTILE), "spec.name"),
        (guest(name="../../etc/passwd"), "spec.name"),
        (guest(name="-x"), "spec.name"),
        (guest(machine="microvm"), "spec.machine"),
        (disk(format="raw"), "one of file, block and volume"),
        (disk(file="/x", block="/dev/x"), "one of file, block and volume"),
        (disk(file="x.img"), "spec.disks[0].file"),
        (disk(file="/x", format="vmdk"), "spec.disks[0].format"),
        (nic(model="virtio"), "either network or bridge"),
        (nic(network="lan", bridge="br0"), "either network or bridge"),
        (nic(bridge="br0", portgroup="blue"), "a portgroup is of a network"),
        (nic(bridge="br0", mac="01:00:5e:00:00:01"), "multicast"),
        (nic(bridge="a/b"), "spec.networks[0].bridge"),
        (guest(domainXML="x" * 65537), "spec.domainXML"),
    ],
)
def test_bad_guests_are_refused(plane: ControlPlane, spec: Spec, words: str) -> None:
    refused(plane, manifest("bad", spec, "Guest"), words)


def test_a_long_name_needs_a_shorter_one(plane: ControlPlane) -> None:
    refused(plane, manifest("x" * 64, guest(), "Guest"), "spec.name must say the guest's name")
    taken(plane, manifest("x" * 64, guest(name="short"), "Guest"))


def test_node_and_name_stay(plane: ControlPlane) -> None:
    plane.kubectl("create", "-f", "-", stdin=manifest("stays", guest(), "Guest"))
    target = ("guest", "stays")
    change(plane, target, {"nodeName": "n2"}, "nodeName and name cannot be changed")
    change(plane, target, {"name": "other"}, "nodeName and name cannot be changed")
    change(plane, target, {"vcpus": 2, "running": False})
    plane.kubectl("delete", "guest", "stays")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({**DEVICE, "guestAddress": "05:00.0"}, "in full and in lower case"),
        ({**DEVICE, "guestAddress": "0000:05:00.1"}, "set multifunction to true"),
        ({**DEVICE, "multifunction": True}, "say which one by guestAddress"),
        ({**DEVICE, "topology": "Keep", "spareHotplugPorts": 1}, "leave one of them out"),
        ({**DEVICE, "spareHotplugPorts": 33}, "spec.spareHotplugPorts"),
        ({**POOL, "guestAddress": "0000:05:00.0"}, "with source.pool"),
        ({**DEVICE, "adopt": True, "topology": "Keep"}, "with adopt"),
        ({**DEVICE, "savedImage": "Update"}, "spec.savedImage"),
    ],
)
def test_places_that_make_no_sense_are_refused(plane: ControlPlane, spec: Spec, words: str) -> None:
    refused(plane, manifest("bad", spec), words)


def test_good_places_are_taken(plane: ControlPlane) -> None:
    taken(plane, manifest("good", {**DEVICE, "guestAddress": "0000:05:00.1", "multifunction": True}))
    taken(plane, manifest("good", {**DEVICE, "spareHotplugPorts": 4, "savedImage": "Drop"}))
