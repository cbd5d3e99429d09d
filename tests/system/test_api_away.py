"""The API server is away for minutes: longer than any connection or watch lives."""

from __future__ import annotations

import time

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.stack import Stack, assignment

MINUTES = 4


@pytest.mark.long
def test_the_api_server_is_away_for_minutes_and_back(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define(lab, "steady", guest_xml("steady"))
    system.wait_guest_listed("steady")
    system.apply(assignment("steady", domain="steady", address=device, driftPolicy="Correct"))
    system.wait_condition("steady", "Ready", "True")
    agent = lab.run("pgrep -o -f 'hostdev_operator agent'").stdout
    system.plane.stop_apiserver()
    try:
        until = time.monotonic() + 60 * MINUTES
        while (
            time.monotonic() < until
        ):  # its claim is kept all the time, whatever others do: put right after growing delays
            assert lab.driver(mate) == "vfio-pci"
            lab.virsh("nodedev-reattach", "pci_" + mate.replace(":", "_").replace(".", "_"), check=False)
            system.wait("the mate on vfio-pci", lambda: lab.driver(mate) == "vfio-pci")
            time.sleep(10)
    finally:
        system.plane.start_apiserver()
    define(lab, "newcomer", guest_xml("newcomer"))
    system.wait_guest_listed("newcomer", 180)
    system.delete("steady")  # what was asked for after the outage is done by the same agent
    system.wait_gone("steady", 180)
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    assert lab.run("pgrep -o -f 'hostdev_operator agent'").stdout == agent
