"""The laboratory host loses its power at boundaries of devices and of pools.

Its disk is ext4; what was not synced is lost. The agent ends itself at the boundary, and the power is cut then. When
the host is up again and the agent runs, the end is as if nothing had happened.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.crashes import NAME, Cycle, of_device, of_pool
from tests.system.stack import Stack

WHOLE = {"managed": False, "groupPolicy": "AssignAll"}
#: Boundaries of both phases.
OF_WHOLE = 2 * 7


def cycle(system: Stack, device: str, mate: str, **spec: Any) -> Cycle:
    """A guest that is off."""
    define(system.lab, NAME, guest_xml(NAME))
    system.wait_guest_listed(NAME)
    return of_device(system, device, mate, **spec)


def test_power_cut_when_the_group_is_half_taken_and_half_given_back(system: Stack, device: str, mate: str) -> None:
    assert cycle(system, device, mate, managed=False).cut_power("before: add", "before: return") == 2


@pytest.mark.long
def test_power_cut_when_the_vfs_are_made_and_when_they_go(system: Stack) -> None:
    assert of_pool(system).cut_power("before: define network", "before: set sriov_numvfs") == 2


@pytest.mark.long
def test_power_cut_at_every_boundary(system: Stack, device: str, mate: str) -> None:
    assert cycle(system, device, mate, **WHOLE).cut_power() == OF_WHOLE


@pytest.mark.long
def test_power_cut_at_every_boundary_of_a_pool(system: Stack) -> None:
    assert of_pool(system).cut_power() > 16
