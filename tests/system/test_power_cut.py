"""The laboratory host loses its power at boundaries of assign and release.

Its disk is ext4; what was not synced is lost. The agent ends itself at the boundary, and the power is cut then. When
the host is up again and the agent runs, the end is as if nothing had happened.
"""

from __future__ import annotations

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.stack import Stack
from tests.system.test_sigkill import COLD, EXIT_AT, SIGKILLED, Killing, Scenario

WHOLE = Scenario("whole", running=False, boundaries=7, spec={"managed": False, "groupPolicy": "AssignAll"})


def cut(killing: Killing, point: str) -> None:
    """One power cut at a point such as 'assign:3', from and to a known state."""
    system = killing.system
    system.restart_agent({EXIT_AT: point})
    agent = system.agent
    assert agent is not None
    phase = point.partition(":")[0]
    if phase == "assign":
        killing.assign()
    else:
        system.delete("killed")
    code = agent.wait(90)
    system.lab.power_cut()
    assert code == SIGKILLED, f"{point} was not hit"
    system.lab.power_on()
    system.start_agent()
    if phase == "assign":
        system.wait_condition("killed", "Ready", "True", seconds=180)
        # Ready can be from before the cut: the host has booted since, with all its drivers
        system.wait(f"{point}: assigned again", lambda: killing.state() == killing.assigned, seconds=180)
    else:
        system.wait_gone("killed", seconds=180)
        assert killing.state() == killing.released, point


def prepare(system: Stack, device: str, mate: str, scenario: Scenario) -> tuple[Killing, list[str], list[str]]:
    """A guest that is off, and the points of both phases with what they are before."""
    define(system.lab, "killed", guest_xml("killed"))
    system.wait_guest_listed("killed")
    killing = Killing(system, device, mate, scenario)
    lines = killing.undisturbed()
    assigns, releases = ([x for x in lines if x.startswith(p)] for p in ("assign", "release"))
    assert len(assigns) == len(releases) == scenario.boundaries, lines
    return killing, assigns, releases


def test_power_cut_when_the_group_is_half_taken_and_half_given_back(system: Stack, device: str, mate: str) -> None:
    killing, assigns, releases = prepare(system, device, mate, COLD)
    cut(killing, next(x.split()[0] for x in assigns if "before: add" in x))
    cut(killing, next(x.split()[0] for x in releases if "before: return" in x))


@pytest.mark.long
def test_power_cut_at_every_boundary(system: Stack, device: str, mate: str) -> None:
    killing, assigns, releases = prepare(system, device, mate, WHOLE)
    for pair in zip(assigns, releases, strict=True):
        for line in pair:
            cut(killing, line.split()[0])
