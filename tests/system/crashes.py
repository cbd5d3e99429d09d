"""Crashes at boundaries: the agent ends itself there by SIGKILL, or the power goes; the end is as if it had not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.system.pools import IGB, PfView, pool, pool_condition
from tests.system.stack import NODE, Stack, assignment

_EXIT_AT = "HOSTDEV_TEST_EXIT_AT"
_BOUNDARY_LOG = "HOSTDEV_TEST_BOUNDARY_LOG"
_LOG = "/tmp/boundaries"
_SIGKILLED = -9
#: The last boundaries of the two phases.
_ENDS = ("status written", "cleared")
_STATE = "/var/lib/hostdev-operator"
#: A host that was cut off boots anew before anything goes on.
_BOOT_SECONDS = 240
#: Of what is made and given back.
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
        system, last = self.system, [f"{phase}: {end}" for phase, end in zip(self.phases, _ENDS, strict=True)]
        system.lab.run(f"rm -f {_LOG}")
        system.restart_agent({_BOUNDARY_LOG: _LOG})
        self.make()
        self.wait_made()
        system.wait("the last boundary", lambda: last[0] in system.lab.read(_LOG))
        made = self.state()
        self.remove()
        self.wait_gone()
        system.wait("the last boundary", lambda: last[1] in system.lab.read(_LOG))
        return system.lab.read(_LOG).splitlines(), made, self.state()

    def _crashes(self, wanted: str) -> tuple[list[str], object, object]:
        """The points of both phases with a word in turn, the shorter phase again from its start; and the two states."""
        lines, made, gone = self.undisturbed()
        assert made != gone
        making, giving = (points(lines, phase, end, wanted) for phase, end in zip(self.phases, _ENDS, strict=True))
        most = max(len(making), len(giving))
        return [each[n % len(each)] for n in range(most) for each in (making, giving)], made, gone

    def crash(self, wanted: str = "") -> int:
        """SIGKILL at the boundaries with a word; how many there were.

        An agent finishes what the one before left, and meets its own end in the other phase, which it counts from 1.
        """
        system = self.system
        crashes, made, gone = self._crashes(wanted)
        system.stop_agent()
        upcoming = system.prepare_agent({_EXIT_AT: crashes[0]})
        for number, (crash, after) in enumerate(zip(crashes, [*crashes[1:], None], strict=True)):
            agent = system.start_prepared(upcoming)
            upcoming = system.prepare_agent({_EXIT_AT: after} if after else {})
            if number % 2 == 0:
                self.wait_gone()
                assert self.state() == gone, f"before {crash}"
                self.make()
            else:
                self.wait_made()
                assert self.state() == made, f"before {crash}"
                self.remove()
            _assert_hit(agent.wait(120), crash)
        system.start_prepared(upcoming)
        self.wait_gone()
        assert self.state() == gone
        return len(crashes)

    def cut_power(self, *wanted: str) -> int:
        """The power goes at boundaries with these words, of the two phases in turn; without any, at each."""
        crashes, made, gone = self._crashes("") if not wanted else self._chosen(*wanted)
        for number, crash in enumerate(crashes):
            is_made = number % 2 == 0
            self._cut_at(crash, self.make if is_made else self.remove)
            (self.wait_made if is_made else self.wait_gone)()
            self._wait_state(made if is_made else gone, crash)
        return len(crashes)

    def _wait_state(self, wanted: object, crash: str) -> None:
        """Ready can be from before the cut: the host has booted since."""
        self.system.wait(f"{crash}: all as it was", lambda: self.state() == wanted, seconds=_BOOT_SECONDS)

    def _chosen(self, making: str, giving: str) -> tuple[list[str], object, object]:
        lines, made, gone = self.undisturbed()
        words = zip(self.phases, _ENDS, (making, giving), strict=True)
        return [points(lines, phase, end, word)[0] for phase, end, word in words], made, gone

    def _cut_at(self, crash: str, begin: Callable[[], None]) -> None:
        self.system.restart_agent({_EXIT_AT: crash})
        agent = self.system.agent
        assert agent is not None
        begin()
        code = agent.wait(120)
        self.system.lab.power_cut()
        _assert_hit(code, crash)
        self.system.lab.power_on()
        self.system.start_agent()


def _assert_hit(code: int, crash: str) -> None:
    assert code == _SIGKILLED, f"{crash} was not hit, the agent ended with {code}"


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


def of_device(system: Stack, device: str, mate: str, **spec: Any) -> Cycle:
    """A device for a guest that is defined, and runs or not."""

    def state() -> object:
        lab = system.lab
        texts = [lab.virsh("dumpxml", NAME, "--inactive")]
        if NAME in lab.virsh("list", "--name"):
            texts += re.findall("<hostdev.*?</source>", lab.virsh("dumpxml", NAME), re.DOTALL)
        xml = re.sub("ua-hostdev-[0-9a-f-]+", "ALIAS", "\n".join(texts))
        return lab.driver(device), lab.driver(mate), xml, _records(system, "assignments")

    def ready() -> None:
        system.wait_condition(NAME, "Ready", "True", seconds=_BOOT_SECONDS)

    return Cycle(
        system,
        ("assign", "release"),
        make=lambda: system.apply(assignment(NAME, domain=NAME, address=device, **spec)),
        wait_made=ready,
        remove=lambda: system.delete(NAME),
        wait_gone=lambda: system.wait_gone(NAME, seconds=_BOOT_SECONDS),
        state=state,
    )


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
            _records(system, "pools"),
            lab.run(f"cat {_STATE}/sriov.conf").stdout,
        )

    def ready() -> None:
        pool_condition(system, f"{NAME}.{NODE}", "True")

    def remove() -> None:
        system.plane.kubectl("delete", "vfpool", NAME, "--wait=false")

    def gone() -> None:
        system.wait("the pool to be gone", lambda: not system.exists("vfpool", NAME), _BOOT_SECONDS)

    return Cycle(
        system,
        ("pool", "pool release"),
        make=lambda: system.apply(pool(NAME, netdev, 2, **spec)),
        wait_made=ready,
        remove=remove,
        wait_gone=gone,
        state=state,
    )


def _records(system: Stack, kind: str) -> int:
    return len(system.lab.run(f"ls {_STATE}/{kind}").stdout.split())
