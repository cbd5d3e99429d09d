"""What all measurements in the lab host need: its clock, and an agent that is at rest, or asleep."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.host import LabHost
from tests.system.stack import Stack

FOLDER = Path(__file__).resolve().parent
# Kernel ticks (1/100 s) of the agent's processor time in half a second: below it, it is at rest.
QUIET_TICKS = 3
# An agent that has slept for long has lost its connection to libvirt; it looks for one every two seconds.
RECONNECT_SECONDS = 3.0


class Bed:
    """The running system."""

    def __init__(self, stack: Stack, *files: str) -> None:
        self.stack = stack
        self.lab: LabHost = stack.lab
        for file in files:
            self.lab.put(FOLDER / file, f"/tmp/{file}")

    def run(self, command: list[str]) -> str:
        """In the lab host; LabCommandError if it fails."""
        return self.lab.run(command).stdout

    def timed(self, *command: str) -> float:
        """Seconds, taken in the lab host around the command alone: the way into the lab host is the test's."""
        script = 'a=$EPOCHREALTIME; "$@" > /dev/null || exit; b=$EPOCHREALTIME; echo $a $b'
        began, ended = self.run(["bash", "-c", script, "-", *command]).split()
        return float(ended) - float(began)

    def agent_pid(self) -> str:
        """In the lab host."""
        return self.run(["pgrep", "-o", "-f", "hostdev_operator agent"]).strip()

    def resident_megabytes(self) -> float:
        """Of the agent."""
        found = re.search(r"VmRSS:\s+(\d+) kB", self.lab.read(f"/proc/{self.agent_pid()}/status"))
        return int(found[1]) * 1024 / 1e6 if found else float("inf")

    def beside_agent(self, *command: str) -> tuple[float, float]:
        """Seconds that a command takes in the lab host, and the agent's processor seconds meanwhile, to 1/100."""
        stat = f"/proc/{self.agent_pid()}/stat"
        script = (
            f't() {{ set -- $(< {stat}); echo $((${{14}} + ${{15}})); }}; p=$(t); a=$EPOCHREALTIME; "$@" > /dev/null'
            " || exit; b=$EPOCHREALTIME; q=$(t); echo $a $b $p $q"
        )
        began, ended, before, after = map(float, self.run(["bash", "-c", script, "-", *command]).split())
        return ended - began, (after - before) / 100

    def settle(self) -> None:
        """Wait until the agent has looked at what was done before: hardly any processor time in half a second."""
        stat = f"/proc/{self.agent_pid()}/stat"
        script = f"t() {{ set -- $(cat {stat}); echo $((${{14}} + ${{15}})); }}; a=$(t); sleep 0.5; echo $(($(t) - a))"
        deadline = time.monotonic() + 60
        while int(self.run(["bash", "-c", script])) >= QUIET_TICKS:
            if time.monotonic() > deadline:
                raise SystemExit("bench: the agent does not come to rest")

    @contextmanager
    def agent_asleep(self, *, for_long: bool = False) -> Iterator[None]:
        """While the references run: an administrator's host has no agent that works beside virsh."""
        self.settle()
        if self.stack.agent is None:
            raise SystemExit("bench: there is no agent")
        self.stack.agent.kill(signal.SIGSTOP)
        try:
            yield
        finally:
            self.stack.agent.kill(signal.SIGCONT)
        if for_long:
            time.sleep(RECONNECT_SECONDS)


def ready(_kind: str, body: dict[str, Any]) -> bool:
    """Whether an object's condition Ready is true."""
    conditions = body.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def gone(kind: str, _body: dict[str, Any]) -> bool:
    """Whether the event is an object's end."""
    return kind == "DELETED"
