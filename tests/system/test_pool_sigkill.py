"""The real agent ends itself by SIGKILL at boundaries of a pool, and of a NIC from it; the end is as if it had not."""

from __future__ import annotations

import re

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.crashes import NAME, Cycle, of_pool
from tests.system.pools import from_pool
from tests.system.stack import Stack


def of_nic(system: Stack) -> Cycle:
    """A NIC of a pool that is there, for a guest that is off."""

    def ready() -> None:
        system.wait_condition("user", "Ready", "True")

    return Cycle(
        system,
        ("assign", "release"),
        make=lambda: system.apply(from_pool("user", NAME, network={"mac": "02:00:00:00:00:07", "vlan": 9})),
        wait_made=ready,
        remove=lambda: system.delete("user"),
        wait_gone=lambda: system.wait_gone("user"),
        state=lambda: re.sub("ua-hostdev-[0-9a-f-]+", "ALIAS", system.lab.virsh("dumpxml", "user", "--inactive")),
    )


def test_sigkill_around_the_vfs_of_a_pool(system: Stack) -> None:
    assert of_pool(system).crash("sriov_numvfs") >= 2


@pytest.mark.long
def test_sigkill_at_every_boundary_of_a_pool(system: Stack) -> None:
    assert of_pool(system).crash() > 16


@pytest.mark.long
def test_sigkill_at_every_boundary_of_a_nic(system: Stack) -> None:
    whole = of_pool(system)
    whole.make()
    whole.wait_made()
    define(system.lab, "user", guest_xml("user"))
    system.wait_guest_listed("user")
    assert of_nic(system).crash() >= 6
