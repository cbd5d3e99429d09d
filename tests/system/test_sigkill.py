"""The real agent ends itself by SIGKILL at each boundary of assign and of release; the end is as if it had not."""

from __future__ import annotations

import re

from tests.lab.guests import define, guest_xml
from tests.system.stack import Stack, assignment

EXIT_AT = "HOSTDEV_TEST_EXIT_AT"
BOUNDARY_LOG = "HOSTDEV_TEST_BOUNDARY_LOG"
LOG = "/tmp/boundaries"
SIGKILLED = -9


def _boundaries(system: Stack, phase: str) -> int:
    """How many boundaries of a phase the running agent has passed, by its own log of them."""
    lines = system.lab.run(f"cat {LOG}").stdout.splitlines()
    return max(int(re.match(r"\w+:(\d+)", line)[1]) for line in lines if line.startswith(phase))  # type: ignore[index]


def _state(system: Stack, device: str, mate: str) -> tuple[object, ...]:
    lab = system.lab
    xml = re.sub("ua-hostdev-[0-9a-f-]+", "ALIAS", lab.virsh("dumpxml", "killed", "--inactive"))
    records = len(lab.run("ls /var/lib/hostdev-operator/assignments").stdout.split())
    return lab.driver(device), lab.driver(mate), xml, records


def _assign(system: Stack, device: str) -> None:
    system.apply(assignment("killed", domain="killed", address=device, extra="managed: false"))


def _undisturbed(system: Stack, device: str, mate: str) -> tuple[tuple[object, ...], tuple[object, ...], int, int]:
    """One run without a crash: both end states, and the number of boundaries of both phases."""
    system.lab.run(f"rm -f {LOG}")
    system.restart_agent({BOUNDARY_LOG: LOG})
    _assign(system, device)
    system.wait_condition("killed", "Ready", "True")
    system.wait("the last boundary", lambda: "assign: status written" in system.lab.read(LOG))
    assigned, assign_count = _state(system, device, mate), _boundaries(system, "assign")
    system.delete("killed")
    system.wait_gone("killed")
    return assigned, _state(system, device, mate), assign_count, _boundaries(system, "release")


def test_sigkill_at_every_boundary(system: Stack, device: str, mate: str) -> None:
    define(system.lab, "killed", guest_xml("killed"))
    system.wait_guest_listed("killed")
    assigned, released, assigns, releases = _undisturbed(system, device, mate)
    assert (assigned[0], assigned[1], assigned[3]) == ("vfio-pci", "vfio-pci", 1)
    assert (released[0], released[1], released[3]) == ("e1000", "e1000", 0)
    # Before each of four actions, after the last, after the write to the API server. A round below has one of each.
    assert assigns == releases == 6

    # One start of the agent serves two crashes: it finishes what the one before left, then meets its own end.
    crashes = [f"{phase}:{n}" for n in range(1, assigns + 1) for phase in ("assign", "release")]
    system.stop_agent()
    upcoming = system.prepare_agent({EXIT_AT: crashes[0]})
    for crash, after in zip(crashes, [*crashes[1:], None], strict=True):
        agent = system.start_prepared(upcoming)
        upcoming = system.prepare_agent({EXIT_AT: after} if after else {})
        if crash.startswith("assign"):
            system.wait_gone("killed")
            assert _state(system, device, mate) == released, f"before {crash}"
            _assign(system, device)
        else:
            system.wait_condition("killed", "Ready", "True")
            assert _state(system, device, mate) == assigned, f"before {crash}"
            system.delete("killed")
        assert agent.wait(90) == SIGKILLED, f"{crash} was not hit"
    system.start_prepared(upcoming)
    system.wait_gone("killed")
    assert _state(system, device, mate) == released
