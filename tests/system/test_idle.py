"""No API writes at idle, by the API server's own audit log. While that host idles, another one is looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.audit import AuditEntry
from tests.cluster.controlplane import ControlPlane
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.system.conftest import E1000, clean, drivers
from tests.system.stack import AGENT_USER, CONTROLLER_USER, NODE, Stack, assignment

QUIET_SECONDS = 120
SETTLE_SECONDS = 8


def _writes(stack: Stack) -> list[AuditEntry]:
    ours = (AGENT_USER, CONTROLLER_USER)
    return [w for w in stack.plane.writes() if w.user in ours and w.resource != "leases"]


@dataclass(frozen=True)
class Idle:
    """A system that has settled: since when (time.monotonic), and how many writes it had made until then."""

    stack: Stack
    since: float
    writes: int


@pytest.fixture(scope="module")
def idle(stack: Stack) -> Iterator[Idle]:
    """One assignment ready, one waiting for its guest to be shut off, one refused by the agent, one not bound."""
    lab = stack.lab
    device, mate = lab.find_devices(E1000)
    for name in ("ready", "waiting", "refused"):
        define(lab, name, guest_xml(name))
        stack.wait_guest_listed(name)
    stack.apply(assignment("ready", domain="ready", address=device))
    stack.apply(assignment("waiting", domain="waiting", address=lab.find_devices("8086:10c9")[0]))
    stack.wait_condition("ready", "Ready", "True")
    stack.wait_condition("waiting", "Ready", "True")
    stack.apply(assignment("refused", domain="refused", address=mate))
    stack.apply(assignment("homeless", domain="nowhere", address=mate))
    stack.wait_condition("refused", "Ready", "False", "GroupInUse")
    stack.wait_condition("homeless", "Ready", "False", "GuestNotFound")
    lab.virsh("start", "waiting")
    wait_for_guest(lab, "waiting", "plugged .* 8086:10c9")
    stack.wait_condition("waiting", "Attached", "True")
    stack.delete("waiting")
    stack.wait_condition("waiting", "Ready", "False", "GuestRunning")

    def settled() -> bool:
        """No write for some seconds: the last reports of what was just done are through."""
        before = len(_writes(stack))
        time.sleep(SETTLE_SECONDS)
        return len(_writes(stack)) == before

    stack.wait("the last reports", settled)
    yield Idle(stack, time.monotonic(), len(_writes(stack)))
    clean(stack)


@pytest.mark.usefixtures("idle")
@pytest.mark.mission("H3", part=True)
def test_host_without_iommu(tmp_path: Path) -> None:
    with (
        ControlPlane.start(tmp_path / "control-plane", binaries.ensure()) as plane,
        LabHost.boot(tmp_path / "lab", iommu=False) as lab,
        Stack.start(tmp_path, lab, plane) as stack,
    ):
        conditions = {c["type"]: c for c in stack.wait_host()["conditions"]}
        assert conditions["IOMMUReady"]["status"] == "False"
        assert "intel_iommu=on" in conditions["IOMMUReady"]["message"]
        define(lab, "victim", guest_xml("victim"))
        stack.wait_guest_listed("victim")
        before = drivers(lab), lab.virsh("dumpxml", "victim")
        device = lab.find_devices(E1000)[0]
        stack.apply(assignment("bad", domain="victim", address=device))
        message = stack.wait_condition("bad", "Ready", "False", "IOMMUDisabled")
        assert device in message
        assert "VT-d" in message
        assert (drivers(lab), lab.virsh("dumpxml", "victim")) == before
        assert stack.get("devicehost", NODE)["status"]["groups"] == []


def test_no_writes_in_two_idle_minutes(idle: Idle) -> None:
    # What is shown is that nothing happens in two minutes of nothing, so this is a wait for time alone.
    time.sleep(max(0.0, idle.since + QUIET_SECONDS - time.monotonic()))
    assert _writes(idle.stack)[idle.writes :] == []
    conditions = {
        body["metadata"]["name"]: {c["type"]: c["reason"] for c in body["status"]["conditions"]}["Ready"]
        for body in idle.stack.assignments()
    }
    assert conditions == {
        "ready": "Assigned",
        "waiting": "GuestRunning",
        "refused": "GroupInUse",
        "homeless": "GuestNotFound",
    }
