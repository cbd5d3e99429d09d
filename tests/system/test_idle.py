"""No API writes at idle, by the API server's own audit log."""

from __future__ import annotations

import time

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.stack import AGENT_USER, CONTROLLER_USER, Stack, assignment

QUIET_SECONDS = 120
SETTLE_SECONDS = 8


def _writes(system: Stack) -> list[object]:
    ours = (AGENT_USER, CONTROLLER_USER)
    return [w for w in system.plane.writes() if w.user in ours and w.resource != "leases"]


def test_no_writes_with_one_ready_one_waiting_and_one_refused(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    igb = lab.find_devices("8086:10c9")[0]
    for name in ("ready", "waiting", "refused"):
        define(lab, name, guest_xml(name))
        system.wait_guest_listed(name)
    system.apply(assignment("ready", domain="ready", address=device))
    system.apply(assignment("waiting", domain="waiting", address=igb))
    system.wait_condition("ready", "Ready", "True")
    system.wait_condition("waiting", "Ready", "True")
    system.apply(assignment("refused", domain="refused", address=mate))
    system.apply(assignment("homeless", domain="nowhere", address=mate))
    system.wait_condition("refused", "Ready", "False", "GroupInUse")
    system.wait_condition("homeless", "Ready", "False", "GuestNotFound")
    lab.virsh("start", "waiting")
    wait_for_guest(lab, "waiting", "plugged .* 8086:10c9")
    system.wait_condition("waiting", "Attached", "True")
    system.delete("waiting")
    system.wait_condition("waiting", "Ready", "False", "GuestRunning")

    settled = [-1]

    def quiet() -> bool:
        """No write for some seconds: the last reports of what was just done are through."""
        now = len(_writes(system))
        time.sleep(SETTLE_SECONDS)
        settled[0] = len(_writes(system))
        return settled[0] == now

    system.wait("the last reports", quiet)
    time.sleep(QUIET_SECONDS)  # the issue is what happens in two minutes of nothing: nothing
    assert _writes(system)[settled[0] :] == []
