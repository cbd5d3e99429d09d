"""The real agent ends itself by SIGKILL at boundaries of a pool, and of a NIC from it; the end is as if it had not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.pools import IGB, PfView, from_pool, pool, pool_condition
from tests.system.stack import NODE, Stack
from tests.system.test_sigkill import BOUNDARY_LOG, EXIT_AT, LOG, SIGKILLED

#: The last boundaries of the two phases.
ENDS = ("status written", "cleared")
STATE = "/var/lib/hostdev-operator"
NAME = "killed"


@dataclass
class Cycle:
    """What is made and given back again, and how both are seen; ``phases`` name its boundaries."""

    system: Stack
    phases: tuple[str, str]
    make: Callable[[], None]
    wait_made: Callable[[], None]
    remove: Callable[[], None]
    wait_gone: Callable[[], None]
    state: Callable[[], object]

    def undisturbed(self) -> tuple[list[str], object, object]:
        """The boundaries of one run without a crash, and how the host is between and after."""
        system, last = self.system, [f"{phase}: {end}" for phase, end in zip(self.phases, ENDS, strict=True)]
        system.lab.run(f"rm -f {LOG}")
        system.restart_agent({BOUNDARY_LOG: LOG})
        self.make()
        self.wait_made()
        system.wait("the last boundary", lambda: last[0] in system.lab.read(LOG))
        made = self.state()
        self.remove()
        self.wait_gone()
        system.wait("the last boundary", lambda: last[1] in system.lab.read(LOG))
        return system.lab.read(LOG).splitlines(), made, self.state()

    def crash(self, wanted: str = "") -> int:
        """At the boundaries of both phases with a word, one of each in turn; the shorter one is passed through again.

        An agent finishes what the one before left, and meets its own end in the other phase, which it counts from 1.
        Returns the number of crashes.
        """
        system = self.system
        lines, made, gone = self.undisturbed()
        assert made != gone
        system.stop_agent()
        ends = zip(self.phases, ENDS, strict=True)
        making, giving = (points(lines, phase, end, wanted) for phase, end in ends)
        most = max(len(making), len(giving))
        crashes = [each[n % len(each)] for n in range(most) for each in (making, giving)]
        upcoming = system.prepare_agent({EXIT_AT: crashes[0]})
        for number, (crash, after) in enumerate(zip(crashes, [*crashes[1:], None], strict=True)):
            agent = system.start_prepared(upcoming)
            upcoming = system.prepare_agent({EXIT_AT: after} if after else {})
            if number % 2 == 0:
                self.wait_gone()
                assert self.state() == gone, f"before {crash}"
                self.make()
            else:
                self.wait_made()
                assert self.state() == made, f"before {crash}"
                self.remove()
            assert agent.wait(120) == SIGKILLED, f"{crash} was not hit"
        system.start_prepared(upcoming)
        self.wait_gone()
        assert self.state() == gone
        return len(crashes)


def of_pool(system: Stack) -> Cycle:
    """A pool of two VFs that are trusted, with a portgroup; its PF was down."""
    pf = PfView(system.lab, system.lab.find_devices(IGB)[0])
    netdev = pf.netdev
    spec: dict[str, Any] = {
        "linkUp": True,
        "vfSettings": {"trust": True},
        "network": {"portgroups": [{"name": "red", "vlan": 42}]},
    }

    def state() -> object:
        lab = system.lab
        networks = lab.virsh("net-list", "--all", "--name").split()
        xml = "".join(lab.virsh("net-dumpxml", "--inactive", name) for name in networks)
        return (
            (pf.num_vfs, pf.autoprobe, pf.up, re.findall("trust (on|off)", pf.link())),
            [lab.driver(vf) for vf in pf.vfs()] if pf.num_vfs else [],
            re.sub("<uuid>.*?</uuid>", "", xml),
            lab.virsh("net-list", "--autostart", "--name").split(),
            len(lab.run(f"ls {STATE}/pools").stdout.split()),
            lab.run(f"cat {STATE}/sriov.conf").stdout,
        )

    def gone() -> None:
        system.wait("the pool to be gone", lambda: not system.exists("vfpool", NAME), 180)

    return Cycle(
        system,
        ("pool", "pool release"),
        make=lambda: system.apply(pool(NAME, netdev, 2, **spec)),
        wait_made=lambda: _ready(system),
        remove=lambda: _delete(system),
        wait_gone=gone,
        state=state,
    )


def _ready(system: Stack) -> None:
    pool_condition(system, f"{NAME}.{NODE}", "True")


def _delete(system: Stack) -> None:
    system.plane.kubectl("delete", "vfpool", NAME, "--wait=false")


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


def points(lines: list[str], phase: str, end: str, wanted: str) -> list[str]:
    """Of lines such as "pool:3 pool: before: start network lan", up to the first end of the phase: "pool:3"."""
    found = []
    for line in lines:
        if line.startswith(f"{phase}:"):
            found += [line.partition(f" {phase}:")[0]] if wanted in line else []
            if line.endswith(end):
                assert found, lines
                return found
    raise AssertionError(lines)


def test_sigkill_around_the_vfs_of_a_pool(system: Stack) -> None:
    assert of_pool(system).crash("sriov_numvfs") >= 2


@pytest.mark.long
def test_sigkill_at_every_boundary_of_a_pool(system: Stack) -> None:
    assert of_pool(system).crash() > 16


def test_sigkill_at_every_boundary_of_a_nic(system: Stack) -> None:
    whole = of_pool(system)
    whole.make()
    whole.wait_made()
    define(system.lab, "user", guest_xml("user"))
    system.wait_guest_listed("user")
    assert of_nic(system).crash() >= 6
