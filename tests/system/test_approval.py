"""spec.approval Manual: nothing of the host is changed before the plan is approved; judged by sysfs and virsh."""

from __future__ import annotations

import re

from tests.lab.guests import define, guest_xml
from tests.system.inspect_guest import config_xml
from tests.system.stack import Stack, assignment


def test_nothing_is_changed_before_the_plan_is_approved(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "patient", guest_xml("patient"))
    system.wait_guest_listed("patient")
    before = config_xml(system, "patient")
    system.apply(assignment("asking", domain="patient", address=device, approval="Manual"))
    message = system.wait_condition("asking", "Ready", "False", "AwaitingApproval")
    plan = system.get("deviceassignment", "asking")["status"]["plan"]
    assert {device, mate} <= {action.get("device") for action in plan["actions"]}
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert config_xml(system, "patient") == before
    approve = re.search(r"kubectl (patch deviceassignment .*?) --type merge -p '(.*?)'", message)
    assert approve
    system.plane.kubectl(*approve.group(1).split(), "--type=merge", "-p", approve.group(2))
    system.wait_condition("asking", "Ready", "True")
    assert lab.driver(mate) == "vfio-pci"
    system.delete("asking")
    system.wait_gone("asking")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
