"""The real agent ends itself by SIGKILL at boundaries of assign and of release; the end is as if it had not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.system.crashes import NAME, Cycle, of_device
from tests.system.stack import Stack

COLD: dict[str, Any] = {"managed": False}
HOT = {**COLD, "groupPolicy": "AssignAll", "attach": "Live", "detach": "Live"}
#: Boundaries of both phases: before each action, after the last, after the write to the API server.
OF_COLD, OF_HOT = 2 * 6, 2 * 9


def cycle(system: Stack, device: str, mate: str, *, running: bool, **spec: Any) -> Cycle:
    define(system.lab, NAME, guest_xml(NAME))
    system.wait_guest_listed(NAME)
    if running:
        system.lab.virsh("start", NAME)
        wait_for_guest(system.lab, NAME, "GUEST up")
    return of_device(system, device, mate, **spec)


def test_sigkill_around_the_drivers(system: Stack, device: str, mate: str) -> None:
    assert cycle(system, device, mate, running=False, **COLD).crash("e1000") == 4


@pytest.mark.long
def test_sigkill_at_every_boundary(system: Stack, device: str, mate: str) -> None:
    assert cycle(system, device, mate, running=False, **COLD).crash() == OF_COLD


def test_sigkill_around_plug_and_unplug(system: Stack, device: str, mate: str) -> None:
    assert cycle(system, device, mate, running=True, **HOT).crash("plug") >= 4


@pytest.mark.long
def test_sigkill_at_every_boundary_of_a_running_guest(system: Stack, device: str, mate: str) -> None:
    assert cycle(system, device, mate, running=True, **HOT).crash() == OF_HOT
