"""What the API server refuses of VFPools and NodeVFPools, and how it shows them."""

from __future__ import annotations

import pytest

from tests.cluster.admission import HOSTILE, Spec, change, manifest, refused, report, taken
from tests.cluster.controlplane import ControlPlane

PF: Spec = {"name": "ens1f0"}
GOOD: Spec = {"pf": PF, "numVFs": 7}
LAN, FINANCE = {"name": "lan", "default": True}, {"name": "finance", "vlan": 42}
READY = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def pf(**fields: object) -> Spec:
    return {**GOOD, "pf": fields}


def network(**fields: object) -> Spec:
    return {**GOOD, "network": fields}


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        pf(mac="52:54:00:10:00:01"),
        pf(mac="52:54:00:10:00:0A"),
        pf(address="0000:01:00.0"),
        pf(address="pci_0000_01_00_0"),
        pf(vendor="0x8086", device="0x10c9"),
        pf(name="enp1s0f0np0", vfs="0-6"),
        pf(name="eth.0_a-b", vfs="3-3"),
        {"pf": PF, "externallyManaged": True},
        {"pf": {**PF, "vfs": "8-15"}, "externallyManaged": True},
        {**GOOD, "nodeSelector": {"kubernetes.io/hostname": "n1", "pools": ""}, "linkUp": True, "bindHostDriver": True},
        {**GOOD, "vfSettings": {"trust": True, "spoofCheck": False, "linkState": "Auto", "maxTxRate": 100}},
        {"pf": PF, "numVFs": 1024},
        network(name="passthrough", vlan=42, portgroups=[LAN, FINANCE], adopt="Replace"),
        network(portgroups=[]),
    ],
)
def test_good_input_is_taken(plane: ControlPlane, spec: Spec) -> None:
    taken(plane, manifest("good", spec, "VFPool"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"numVFs": 7}, "spec.pf: Required"),
        (pf(), "say which PF"),
        (pf(vfs="0-3"), "say which PF"),
        (pf(name=HOSTILE), "spec.pf.name"),
        (pf(name="../../x"), "spec.pf.name"),
        (pf(name="."), "spec.pf.name"),
        (pf(name="e" * 16), "may not be more than 15"),
        (pf(mac="53:54:00:10:00:01"), "this is a multicast MAC address"),
        (pf(mac="00:00:00:00:00:00"), "this MAC address is all zero"),
        (pf(mac=HOSTILE), "a MAC address is six pairs"),
        (pf(address="eth0"), "address must be in lspci's form"),
        (pf(address=HOSTILE), "address must be in lspci's form"),
        (pf(vendor="8086"), "spec.pf.vendor"),
        (pf(device="0x10C9\n"), "spec.pf.device"),
        (pf(name="ens1f0", vfs="3"), "spec.pf.vfs"),
        (pf(name="ens1f0", vfs="3-"), "spec.pf.vfs"),
        (pf(name="ens1f0", vfs=HOSTILE), "spec.pf.vfs"),
        (pf(name="ens1f0", vfs="4-3"), "vfs is a range from the first to the last index"),
        (pf(name="ens1f0", vfs="10-9"), "vfs is a range from the first to the last index"),
        (pf(name="ens1f0", vfs="0-7"), "its last index must be below numVFs"),
        (pf(name="ens1f0", vfs="10-20"), "its last index must be below numVFs"),
        ({"pf": PF}, "say how many VFs the PF shall have (numVFs), or that somebody else makes them"),
        ({**GOOD, "externallyManaged": True}, "not both"),
        ({"pf": PF, "numVFs": 0}, "spec.numVFs"),
        ({"pf": PF, "numVFs": -1}, "spec.numVFs"),
        ({"pf": PF, "numVFs": 1025}, "spec.numVFs"),
        ({"pf": PF, "numVFs": "7"}, "spec.numVFs"),
        (network(name=HOSTILE), "spec.network.name"),
        (network(name="../../etc/passwd"), "spec.network.name"),
        (network(name="a/b"), "spec.network.name"),
        (network(name="..", vlan=1), "spec.network.name"),
        (network(name=""), "spec.network.name"),
        (network(name="n" * 65), "may not be more than 64"),
        (network(vlan=0), "spec.network.vlan"),
        (network(vlan=4095), "spec.network.vlan"),
        (network(vlan=[42, 43]), "spec.network.vlan"),
        (network(portgroups=[{"vlan": 42}]), "spec.network.portgroups[0].name: Required"),
        (network(portgroups=[{"name": HOSTILE}]), "spec.network.portgroups[0].name"),
        (network(portgroups=[{"name": "a", "vlan": 4095}]), "spec.network.portgroups[0].vlan"),
        (network(portgroups=[{"name": "a", "trunk": True}]), "unknown field"),
        (network(portgroups=[FINANCE, FINANCE]), "Duplicate value"),
        (network(portgroups=[LAN, {**FINANCE, "default": True}]), "only one portgroup can be the default one"),
        (network(portgroups=[{"name": f"p{n}"} for n in range(65)]), "must have at most 64 items"),
        (network(adopt="Always"), "spec.network.adopt"),
        ({**GOOD, "vfSettings": {"minTxRate": 2, "maxTxRate": 1}}, "minTxRate must not be above maxTxRate"),
        ({**GOOD, "vfSettings": {"mac": "52:54:00:10:00:01"}}, "unknown field"),
        ({**GOOD, "nodeSelector": {"pools": HOSTILE}}, "spec.nodeSelector"),
        ({**GOOD, "nodeSelector": {"pools": "x" * 64}}, "spec.nodeSelector"),
        ({**GOOD, "nodeSelector": {HOSTILE: "x"}}, "a key of nodeSelector is a label of nodes"),
        ({**GOOD, "nodeSelector": {"a/b/c": "x"}}, "a key of nodeSelector is a label of nodes"),
        ({**GOOD, "nodeSelector": {"k" * 318: "x"}}, "a key of nodeSelector is a label of nodes"),
        ({**GOOD, "nodeSelector": {"": "x"}}, "a key of nodeSelector is a label of nodes"),
        ({**GOOD, "nodeSelector": {f"l{n}": "x" for n in range(17)}}, "spec.nodeSelector"),
    ],
)
def test_bad_input_is_refused_with_the_reason(plane: ControlPlane, spec: Spec, words: str) -> None:
    refused(plane, manifest("bad", spec, "VFPool"), words)


@pytest.mark.parametrize("name", ["a.b", "p" * 64])
def test_the_name_of_a_pool_is_a_dns_label(plane: ControlPlane, name: str) -> None:
    refused(plane, manifest(name, GOOD, "VFPool"), "a pool's name is a DNS label, of at most 63 characters")
    taken(plane, manifest(name, {**GOOD, "poolName": "a", "nodeName": "b"}, "NodeVFPool"))


def test_the_longest_name_of_a_pool_is_taken(plane: ControlPlane) -> None:
    taken(plane, manifest("p" * 63, GOOD, "VFPool"))


def test_of_a_pool_pf_and_network_name_stay_and_the_rest_can_change(plane: ControlPlane) -> None:
    target = ("vfpool", "kept")
    plane.kubectl("create", "-f", "-", stdin=manifest("kept", {**pf(name="ens1f0", vfs="0-3")}, "VFPool"))
    for other in ({"name": "ens1f1"}, {"vfs": "0-4"}, {"vfs": None}, {"mac": "52:54:00:10:00:01"}):
        change(plane, target, {"pf": other}, "pf cannot be changed: delete the pool and make a new one")
    change(plane, target, {"network": {"name": "other"}}, "network.name cannot be changed")
    change(plane, target, {"numVFs": 3}, "its last index must be below numVFs")
    change(plane, target, {"numVFs": 4, "linkUp": True, "bindHostDriver": True, "nodeSelector": {"a/B_c": "b"}})
    change(plane, target, {"network": {"vlan": 7, "portgroups": [LAN, FINANCE], "adopt": "Replace"}})
    change(plane, target, {"vfSettings": {"trust": True}})
    change(plane, target, {"numVFs": None, "externallyManaged": True})
    plane.kubectl("delete", *target)
    plane.kubectl("create", "-f", "-", stdin=manifest("kept", network(name="a"), "VFPool"))
    for name in ("b", None):
        change(plane, target, {"network": {"name": name}}, "network.name cannot be changed")
    change(plane, target, {"network": None}, "network.name cannot be changed")
    plane.kubectl("delete", *target)


def test_a_pool_is_shown_with_its_nodes_and_vfs(plane: ControlPlane) -> None:
    plane.kubectl("create", "-f", "-", stdin=manifest("shown", GOOD, "VFPool"))
    counts = {"total": 14, "allocated": 3, "free": 11}
    report(plane, ("vfpool", "shown"), {"nodes": 2, "nodesReady": 1, "counts": counts, "conditions": [READY]})
    header, line = plane.kubectl("get", "hdp").stdout.splitlines()
    assert header.split() == ["NAME", "NODES", "NODESREADY", "TOTAL", "ALLOCATED", "FREE", "READY", "REASON", "AGE"]
    assert line.split()[:-1] == ["shown", "2", "1", "14", "3", "11", "True", "Ready"]
    assert "vfpool.hostdev.dev/shown" in plane.kubectl("get", "hostdev", "-o", "name").stdout
    plane.kubectl("delete", "vfpool", "shown")


# -- one pool on one node --------------------------------------------------------------------------------------------

NODE: Spec = {**GOOD, "poolName": "fast", "nodeName": "n1"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (NODE, None),
        ({**NODE, "poolName": HOSTILE}, "spec.poolName"),
        ({**NODE, "poolName": "fast.n1"}, "spec.poolName"),
        ({**NODE, "nodeName": ""}, "spec.nodeName"),
        (GOOD, "Required"),
        ({**NODE, "numVFs": None}, "say how many VFs the PF shall have"),
        ({**NODE, "pf": {"name": "ens1f0", "vfs": "0-7"}}, "its last index must be below numVFs"),
        ({**NODE, "nodeSelector": {}}, "unknown field"),
    ],
)
def test_what_may_be_said_of_a_pool_on_a_node(plane: ControlPlane, spec: Spec, words: str | None) -> None:
    text = manifest("fast.n1", spec, "NodeVFPool")
    if words is None:
        taken(plane, text)
    else:
        refused(plane, text, words)


def test_a_pool_on_a_node_stays_there(plane: ControlPlane) -> None:
    target = ("nodevfpool", "fast.n1")
    plane.kubectl("create", "-f", "-", stdin=manifest("fast.n1", NODE, "NodeVFPool"))
    change(plane, target, {"poolName": "slow"}, "poolName and nodeName cannot be changed")
    change(plane, target, {"nodeName": "n2"}, "poolName and nodeName cannot be changed")
    change(plane, target, {"pf": {"name": "ens1f1"}}, "pf cannot be changed")
    change(plane, target, {"network": {"name": "other"}}, "network.name cannot be changed")
    change(plane, target, {"numVFs": 5})
    plane.kubectl("delete", *target)


def test_an_agent_selects_the_pools_of_its_node_and_their_status_is_kept(plane: ControlPlane) -> None:
    for node in ("n1", "n2"):
        text = manifest(f"fast.{node}", {**NODE, "nodeName": node}, "NodeVFPool")
        plane.kubectl("create", "-f", "-", stdin=text)
    uuid = "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"
    identity = {
        **dict.fromkeys(("vendorId", "productId", "subsystemVendorId", "subsystemProductId"), "0x8086"),
        "function": 0,
        "slotPath": "0000:00/1c.0/00.0",
    }
    status: Spec = {
        "nodeName": "n1",
        "pf": {"address": "0000:01:00.0", "name": "ens1f0", "up": True, "totalVFs": 7, "numVFs": 7},
        "vfs": [{"index": n, "address": f"0000:01:10.{n}", "vlan": 0, "holder": "guest web"} for n in range(7)],
        "counts": {"total": 7, "allocated": 7, "free": 0},
        "network": {"name": "fast", "uuid": uuid, "active": True, "autostart": True, "connections": 7},
        "record": {
            "sequence": 3,
            "pf": "0000:01:00.0",
            "identity": identity,
            "numVFsBefore": 0,
            "autoprobeBefore": True,
            "upBefore": False,
            "numVFs": 7,
            "autoprobe": False,
            "linkUp": False,
            "networkName": "fast",
            "networkUUID": uuid,
            "adopted": False,
            "vfsBefore": [{"index": 0, "trust": False, "linkState": "auto"}],
        },
        "conditions": [READY],
    }
    report(plane, ("nodevfpool", "fast.n1"), status)
    header, line = plane.kubectl("get", "hdnp", "--field-selector=spec.nodeName=n1").stdout.splitlines()
    columns = "NAME POOL NODE PF TOTAL ALLOCATED FREE NETWORKACTIVE READY REASON AGE"
    assert header.split() == columns.split()
    assert line.split()[:-1] == ["fast.n1", "fast", "n1", "ens1f0", "7", "7", "0", "true", "True", "Ready"]
    shown = plane.read("/apis/hostdev.dev/v1alpha1/nodevfpools/fast.n1")
    assert shown
    assert shown["status"] == status
    plane.kubectl("delete", "nodevfpool", "fast.n1", "fast.n2")
