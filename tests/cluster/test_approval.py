"""Approving at the real API server: by another field manager than the one of the rest, of objects that are bound."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hostdev_operator.api import API_VERSION
from hostdev_operator.ports import Body
from tests.adapters.test_plan_command import command
from tests.cluster.admission import Spec, change, manifest, refused, report, taken
from tests.cluster.controlplane import ControlPlane
from tests.fakes.samples import assignment, small_host
from tests.reconcile.pool_running import Pools, node_pool
from tests.reconcile.running import Engine

HASH, OTHER = "0123456789abcdef0123456789abcdef", "f" * 32
GOOD: Spec = {"domain": {"name": "web"}, "source": {"pci": {"address": "0000:01:00.0"}}, "approval": "Manual"}
POOL: Spec = {"pf": {"name": "ens1f0"}, "numVFs": 7, "approval": "Manual"}
NODES = ("n1.example.com", "n2")


def applied(plane: ControlPlane, manager: str, text: str) -> Body:
    """Kubectl apply --server-side by a field manager; the object. A conflict is an error."""
    arguments = ("apply", "--server-side", f"--field-manager={manager}", "-f", "-", "-o", "json")
    body: Body = json.loads(plane.kubectl(*arguments, stdin=text).stdout)
    return body


def test_the_approver_is_another_one_than_who_wrote_the_rest(plane: ControlPlane) -> None:
    applied(plane, "gitops", manifest("asking", GOOD))
    report(plane, ("deviceassignment", "asking"), {"nodeName": "n7"})
    approved = applied(plane, "approver", manifest("asking", {"approvedPlan": HASH}))
    assert approved["spec"]["approvedPlan"] == HASH
    again = applied(plane, "gitops", manifest("asking", {**GOOD, "attach": "NextBoot"}))
    assert again["spec"]["approvedPlan"] == HASH, "it is the approver's"
    assert again["spec"]["attach"] == "NextBoot"
    approved = applied(plane, "approver", manifest("asking", {"approvedPlan": OTHER}))
    assert approved["spec"]["approvedPlan"] == OTHER
    plane.kubectl("delete", "deviceassignment", "asking")


def test_the_command_of_the_message_approves(plane: ControlPlane) -> None:
    engine = Engine(small_host())
    message = engine.run(assignment(approval="Manual")).status.conditions[0].message
    plane.kubectl("create", "-f", "-", stdin=manifest("nic", GOOD))
    report(plane, ("deviceassignment", "nic"), {"nodeName": "n1", "domainUUID": "11111111-1111-4111-8111-111111111111"})
    found = re.search(r"kubectl (patch deviceassignment nic -n default) --type merge -p '(.*?)'", message)
    assert found
    plane.kubectl(*found.group(1).split(), "--type", "merge", "-p", found.group(2))
    approved = json.loads(plane.kubectl("get", "deviceassignment", "nic", "-o", "json").stdout)["spec"]["approvedPlan"]
    assert approved in message
    plane.kubectl("delete", "deviceassignment", "nic")


def test_a_bound_assignment_can_be_made_manual_and_approved(plane: ControlPlane) -> None:
    target = ("deviceassignment", "bound-approval")
    plane.kubectl("create", "-f", "-", stdin=manifest("bound-approval", {**GOOD, "approval": "Automatic"}))
    report(plane, target, {"nodeName": "n7"})
    change(plane, target, {"approval": "Manual"})
    change(plane, target, {"approvedPlan": HASH})
    change(plane, target, {"approvedPlan": None})
    plane.kubectl("delete", *target)


@pytest.mark.parametrize("wrong", ["", "x", HASH[:-1], HASH + "0", HASH.upper(), '"><x'])
def test_what_is_no_hash_is_refused(plane: ControlPlane, wrong: str) -> None:
    refused(plane, manifest("bad", {**GOOD, "approvedPlan": wrong}), "spec.approvedPlan")
    refused(plane, manifest("bad", {**POOL, "approvedPlans": {"n1": wrong}}, "VFPool"), "spec.approvedPlans.n1")


def test_a_word_that_is_none_is_refused(plane: ControlPlane) -> None:
    refused(plane, manifest("bad", {**GOOD, "approval": "manual"}), "spec.approval: Unsupported value")
    taken(plane, manifest("n1", {"approval": "Manual"}, "DeviceHost"))
    refused(plane, manifest("n1", {"approval": "Never"}, "DeviceHost"), "spec.approval: Unsupported value")


def test_nodes_of_a_pool_are_approved_one_by_one_and_by_several(plane: ControlPlane) -> None:
    applied(plane, "gitops", manifest("many", POOL, "VFPool"))
    for number, node in enumerate(NODES):
        change(plane, ("vfpool", "many"), {"approvedPlans": {node: f"{number:032x}"}})
    body = applied(plane, "gitops", manifest("many", {**POOL, "linkUp": True}, "VFPool"))
    assert body["spec"]["approvedPlans"] == {NODES[0]: f"{0:032x}", NODES[1]: f"{1:032x}"}
    body = applied(plane, "approver", manifest("many", {"approvedPlans": {"n3": HASH}}, "VFPool"))
    assert sorted(body["spec"]["approvedPlans"]) == sorted((*NODES, "n3"))
    plane.kubectl("delete", "vfpool", "many")


def test_the_api_server_keeps_a_plan_as_it_is_reported(plane: ControlPlane) -> None:
    engine, pools = Engine(small_host()), Pools()
    assigned = engine.run(assignment(managed=False, approval="Manual")).status.plan
    assert assigned
    first = assigned.hash
    engine.host.start("11111111-1111-4111-8111-111111111111")
    changed = engine.run(assignment(managed=False, approval="Manual", approvedPlan=first)).status.plan
    pooled = pools.run(node_pool(approval="Manual", vfSettings={"trust": True})).status.plan
    assert changed
    assert changed.approved
    assert pooled
    plane.kubectl("create", "-f", "-", stdin=manifest("planned", GOOD))
    spec = {**POOL, "poolName": "planned", "nodeName": "n1"}
    plane.kubectl("create", "-f", "-", stdin=manifest("planned.n1", spec, "NodeVFPool"))
    for target, plan in ((("deviceassignment", "planned"), changed), (("nodevfpool", "planned.n1"), pooled)):
        report(plane, target, {"plan": plan.wire()})
        found = json.loads(plane.kubectl("get", *target, "-o", "json").stdout)
        assert found["apiVersion"] == API_VERSION
        assert found["status"]["plan"] == plan.wire()
        plane.kubectl("delete", *target)


def test_the_plan_command_takes_what_the_cluster_says(plane: ControlPlane, tmp_path: Path) -> None:
    operator = Path(__file__).resolve().parents[2] / "operator"
    source = {"pci": {"address": "0000:04:00.0"}}
    spec: Spec = {"domain": {"name": "db"}, "source": source, "attach": "NextBoot", "approval": "Manual"}
    file = tmp_path / "wanted.json"
    file.write_text(manifest("wanted", spec))
    kubeconfig = ("--kubeconfig", str(plane.admin_kubeconfig), "-o", "json")
    arguments = [sys.executable, "-m", "hostdev_operator", *command(tmp_path), *kubeconfig, "-f", str(file)]

    def planned() -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": str(operator)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        (told,) = json.loads(done.stdout)
        return dict(told)

    new = planned()
    assert "awaitingApproval" in new
    plane.kubectl("create", "-f", str(file))
    plane.kubectl("create", "-f", "-", stdin=manifest("n1", {"approval": "Manual"}, "DeviceHost"))
    there = planned()
    assert there["plan"] == new["plan"]
    assert "DeviceHost n1 has spec.approval Manual" in there["awaitingApproval"]["message"]
    change(plane, ("deviceassignment", "wanted"), {"approvedPlan": new["plan"]["hash"]})
    assert "awaitingApproval" not in planned()
    plane.kubectl("delete", "deviceassignment", "wanted")
    plane.kubectl("delete", "devicehost", "n1")
