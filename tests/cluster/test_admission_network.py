"""What the API server refuses of a guest's NIC: spec.network, and VFs of a pool."""

from __future__ import annotations

import pytest

from tests.cluster.admission import HOSTILE, Spec, change, manifest, refused, report, taken
from tests.cluster.controlplane import ControlPlane

VF: Spec = {"domain": {"name": "guest"}, "source": {"match": {"pfMAC": "52:54:00:00:00:01", "vfIndex": 0}}}
POOL: Spec = {"domain": {"name": "guest"}, "source": {"pool": {"name": "fast"}}}
MAC = "52:54:00:00:00:0a"


def nic(**network: object) -> Spec:
    return {**VF, "network": network}


def pooled(**network: object) -> Spec:
    return {**POOL, "network": network}


def pool(**fields: object) -> Spec:
    return {**POOL, "source": {"pool": fields}}


@pytest.mark.parametrize(
    "spec",
    [
        nic(),
        nic(mac=MAC, vlan=1, trust=True, spoofCheck=False, linkState="Enable", minTxRate=0, maxTxRate=100),
        nic(mac=MAC.upper(), vlan=4094),
        nic(virtualPort={"profileID": "finance"}),
        nic(mac=MAC, virtualPort={"type": "802.1Qbh", "profileID": "a-b_c.d:e"}),
        nic(minTxRate=500, maxTxRate=0),
        POOL,
        pool(name="fast", portgroup="finance"),
        {**POOL, "nodeName": "n1", "attach": "Live", "detach": "Live", "driver": {"name": "vfio"}},
        {**POOL, "managed": True, "groupPolicy": "DetachUnused", "mateAddress": "Auto"},
        pooled(mac=MAC, vlan=43),
        pooled(virtualPort={"profileID": "finance"}),
    ],
)
def test_good_input_is_taken(plane: ControlPlane, spec: Spec) -> None:
    taken(plane, manifest("good", spec))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (nic(mac="01:00:5e:00:00:01"), "this is a multicast MAC address, which no NIC can have: the second digit"),
        (nic(mac="5F:54:00:00:00:01"), "this is a multicast MAC address"),
        (nic(mac="ff:ff:ff:ff:ff:ff"), "this is a multicast MAC address"),
        (nic(mac="00:00:00:00:00:00"), "this MAC address is all zero"),
        (nic(mac="52-54-00-00-00-01"), "a MAC address is six pairs"),
        (nic(mac="52:54:00:00:00"), "a MAC address is six pairs"),
        (nic(mac="52:54:00:00:00:1\n"), "a MAC address is six pairs"),
        (nic(mac="52:54:00:00:00:01:02"), "may not be more than 17"),
        (nic(mac=HOSTILE), "a MAC address is six pairs"),
        (nic(vlan=0), "spec.network.vlan"),
        (nic(vlan=4095), "spec.network.vlan"),
        (nic(vlan=-1), "spec.network.vlan"),
        (nic(vlan="42"), "spec.network.vlan"),
        (nic(vlan=[42, 43]), "spec.network.vlan"),
        (nic(vlan={"trunk": True, "tags": [42, 43]}), "spec.network.vlan"),
        (nic(vlan=42, virtualPort={"profileID": "finance"}), "give either vlan or virtualPort"),
        (
            nic(virtualPort={"type": "802.1Qbg", "profileID": "x"}),
            "virtualPort.type must be 802.1Qbh: libvirt takes no",
        ),
        (nic(virtualPort={"type": "openvswitch", "profileID": "x"}), "virtualPort.type must be 802.1Qbh"),
        (nic(virtualPort={}), "spec.network.virtualPort.profileID: Required"),
        (nic(virtualPort={"profileID": ""}), "spec.network.virtualPort.profileID"),
        (nic(virtualPort={"profileID": HOSTILE}), "spec.network.virtualPort.profileID"),
        (nic(virtualPort={"profileID": "x" * 40}), "may not be more than 39"),
        (nic(minTxRate=200, maxTxRate=100), "minTxRate must not be above maxTxRate"),
        (nic(maxTxRate=-1), "spec.network.maxTxRate"),
        (nic(maxTxRate=4294967296), "spec.network.maxTxRate"),
        (nic(linkState="Up"), "spec.network.linkState"),
        (nic(trust="yes"), "spec.network.trust"),
        (nic(qos=1), "unknown field"),
        (pool(), "spec.source.pool.name: Required"),
        (pool(name=""), "spec.source.pool.name"),
        (pool(name="Fast"), "spec.source.pool.name"),
        (pool(name="fast.n1"), "spec.source.pool.name"),
        (pool(name="-fast"), "spec.source.pool.name"),
        (pool(name="fast\n"), "spec.source.pool.name"),
        (pool(name="f" * 64), "may not be more than 63"),
        (pool(name=HOSTILE), "spec.source.pool.name"),
        (pool(name="fast", portgroup=""), "spec.source.pool.portgroup"),
        (pool(name="fast", portgroup=HOSTILE), "spec.source.pool.portgroup"),
        (pool(name="fast", portgroup="../x"), "spec.source.pool.portgroup"),
        ({"source": POOL["source"], "nodeName": "n1"}, "a pool has no reservations: name the guest"),
        ({**POOL, "groupPolicy": "RequireFree"}, "groupPolicy and mateAddress are about the IOMMU group"),
        ({**POOL, "groupPolicy": "AssignAll"}, "groupPolicy and mateAddress are about the IOMMU group"),
        (
            {**POOL, "groupPolicy": "AssignAll", "mateAddress": "Unassigned"},
            "groupPolicy and mateAddress are about the IOMMU group",
        ),
        ({**POOL, "managed": False}, "leave it out with source.pool, where libvirt takes any free VF at each start"),
        *(
            (pooled(**{setting: value}), "of a pool's VFs stand in the VFPool (spec.vfSettings)")
            for setting, value in (
                ("trust", False),
                ("spoofCheck", True),
                ("linkState", "Auto"),
                ("minTxRate", 0),
                ("maxTxRate", 0),
            )
        ),
    ],
)
def test_bad_input_is_refused_with_the_reason(plane: ControlPlane, spec: Spec, words: str) -> None:
    refused(plane, manifest("bad", spec), words)


def test_what_is_in_network_can_be_changed_while_it_is_bound(plane: ControlPlane) -> None:
    target = ("deviceassignment", "nic")
    plane.kubectl("create", "-f", "-", stdin=manifest("nic", nic(mac=MAC, vlan=42)))
    report(plane, target, {"nodeName": "n1"})
    change(plane, target, {"network": {"mac": "52:54:00:00:00:0b", "vlan": 43, "trust": True}})
    change(plane, target, {"network": {"mac": None, "vlan": None, "virtualPort": {"profileID": "finance"}}})
    change(plane, target, {"network": {"vlan": 42}}, "give either vlan or virtualPort")
    change(plane, target, {"network": None}, "a bound assignment keeps or lacks network")
    change(plane, target, {"source": {"match": {"vfIndex": 1}}}, "of a bound assignment only")
    plane.kubectl("delete", *target)


def test_a_device_does_not_become_a_nic_while_it_is_bound(plane: ControlPlane) -> None:
    target = ("deviceassignment", "device")
    plane.kubectl("create", "-f", "-", stdin=manifest("device", nic()))
    change(plane, target, {"network": None})
    report(plane, target, {"nodeName": "n1"})
    change(plane, target, {"network": {}}, "a bound assignment keeps or lacks network")
    report(plane, target, {"nodeName": None})
    change(plane, target, {"network": {}})
    plane.kubectl("delete", *target)


def test_of_a_pool_network_can_come_and_go_and_the_pool_stays(plane: ControlPlane) -> None:
    target = ("deviceassignment", "pooled")
    plane.kubectl("create", "-f", "-", stdin=manifest("pooled", pool(name="fast", portgroup="lan")))
    report(plane, target, {"nodeName": "n1"})
    change(plane, target, {"network": {"mac": MAC}})
    change(plane, target, {"network": None})
    for other in ({"name": "slow"}, {"portgroup": "finance"}, {"portgroup": None}):
        change(plane, target, {"source": {"pool": other}}, "of a bound assignment only")
    plane.kubectl("delete", *target)


def test_the_nic_and_the_settings_from_before_are_kept_in_status(plane: ControlPlane) -> None:
    target = ("deviceassignment", "told")
    plane.kubectl("create", "-f", "-", stdin=manifest("told", pooled(mac=MAC)))
    before = {"mac": "00:00:00:00:00:00", "vlan": 0, "trust": False, "spoofCheck": True, "linkState": "auto"}
    record: dict[str, object] = {
        "sequence": 1,
        "address": "0000:01:10.0",
        "managed": True,
        "groupPolicy": "DetachUnused",
        "vf": before,
    }
    nic_status = {"name": "fast", "portgroup": "finance", "mac": MAC, "vlan": 42, "pending": True}
    report(plane, target, {"network": nic_status, "record": record})
    record["adopted"] = False  # by default
    shown = plane.read("/apis/hostdev.dev/v1alpha1/namespaces/default/deviceassignments/told")
    assert shown
    assert shown["status"] == {"network": nic_status, "record": record}
    plane.kubectl("delete", *target)
