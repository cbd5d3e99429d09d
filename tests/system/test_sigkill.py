"""The real agent ends itself by SIGKILL at boundaries of assign and of release; the end is as if it had not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.stack import Stack, assignment

EXIT_AT = "HOSTDEV_TEST_EXIT_AT"
BOUNDARY_LOG = "HOSTDEV_TEST_BOUNDARY_LOG"
LOG = "/tmp/boundaries"
SIGKILLED = -9


@dataclass(frozen=True)
class Scenario:
    """What is assigned, and whether the guest runs meanwhile; ``boundaries`` of each of the two phases."""

    name: str
    running: bool
    boundaries: int
    spec: dict[str, object]


# Before each action, after the last, after the write to the API server.
COLD = Scenario("cold", running=False, boundaries=6, spec={"managed": False})
HOT = Scenario(
    "hot",
    running=True,
    boundaries=9,
    spec={"managed": False, "groupPolicy": "AssignAll", "attach": "Live", "detach": "Live"},
)


@dataclass
class Killing:
    """One scenario on the running system."""

    system: Stack
    device: str
    mate: str
    scenario: Scenario

    def state(self) -> tuple[object, ...]:
        """What must be the same with and without crashes."""
        lab = self.system.lab
        texts = [lab.virsh("dumpxml", "killed", "--inactive")]
        if self.scenario.running:
            texts += re.findall("<hostdev.*?</source>", lab.virsh("dumpxml", "killed"), re.DOTALL)
        xml = re.sub("ua-hostdev-[0-9a-f-]+", "ALIAS", "\n".join(texts))
        records = len(lab.run("ls /var/lib/hostdev-operator/assignments").stdout.split())
        return lab.driver(self.device), lab.driver(self.mate), xml, records

    def assign(self) -> None:
        """Ask for it."""
        self.system.apply(assignment("killed", domain="killed", address=self.device, **self.scenario.spec))

    def undisturbed(self) -> list[str]:
        """One run without a crash; its boundaries as the agent logs them: 'assign:1 assign: before: ...'."""
        system = self.system
        system.lab.run(f"rm -f {LOG}")
        system.restart_agent({BOUNDARY_LOG: LOG})
        self.assign()
        system.wait_condition("killed", "Ready", "True")
        system.wait("the last boundary", lambda: "assign: status written" in system.lab.read(LOG))
        self.assigned = self.state()
        system.delete("killed")
        system.wait_gone("killed")
        self.released = self.state()
        return system.lab.read(LOG).splitlines()

    def crash_at_each(self, crashes: list[str]) -> None:
        """One start of the agent serves two crashes: it finishes what the one before left, then meets its own end."""
        system = self.system
        system.stop_agent()
        upcoming = system.prepare_agent({EXIT_AT: crashes[0]})
        for crash, after in zip(crashes, [*crashes[1:], None], strict=True):
            agent = system.start_prepared(upcoming)
            upcoming = system.prepare_agent({EXIT_AT: after} if after else {})
            if crash.startswith("assign"):
                system.wait_gone("killed")
                assert self.state() == self.released, f"before {crash}"
                self.assign()
            else:
                system.wait_condition("killed", "Ready", "True")
                assert self.state() == self.assigned, f"before {crash}"
                system.delete("killed")
            assert agent.wait(90) == SIGKILLED, f"{crash} was not hit"
        system.start_prepared(upcoming)
        system.wait_gone("killed")
        assert self.state() == self.released


def kill(system: Stack, device: str, mate: str, scenario: Scenario, wanted: Callable[[str], bool]) -> None:
    """Crash at all boundaries whose line in the log is wanted, in turn of assign and release."""
    define(system.lab, "killed", guest_xml("killed"))
    system.wait_guest_listed("killed")
    if scenario.running:
        system.lab.virsh("start", "killed")
        wait_for_guest(system.lab, "killed", "GUEST up")
    killing = Killing(system, device, mate, scenario)
    lines = killing.undisturbed()
    assert (killing.assigned[0], killing.assigned[1], killing.assigned[3]) == ("vfio-pci", "vfio-pci", 1)
    assert (killing.released[0], killing.released[1], killing.released[3]) == ("e1000", "e1000", 0)
    points = {p: [x.split()[0] for x in lines if x.startswith(p) and wanted(x)] for p in ("assign", "release")}
    every = {p: sum(x.startswith(p) for x in lines) for p in points}
    assert every == {"assign": scenario.boundaries, "release": scenario.boundaries}, lines
    killing.crash_at_each([point for pair in zip(*points.values(), strict=True) for point in pair])


def test_sigkill_at_every_boundary(system: Stack, device: str, mate: str) -> None:
    kill(system, device, mate, COLD, lambda _line: True)


def test_sigkill_around_plug_and_unplug(system: Stack, device: str, mate: str) -> None:
    kill(system, device, mate, HOT, lambda line: "plug" in line)


@pytest.mark.long
def test_sigkill_at_every_boundary_of_a_running_guest(system: Stack, device: str, mate: str) -> None:
    kill(system, device, mate, HOT, lambda _line: True)
