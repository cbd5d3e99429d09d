"""What tests put into the agent's way, and take away again whatever happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.lab.host import LabHost
from tests.lab.process import Process
from tests.system.conftest import drivers, save_logs
from tests.system.stack import Stack

RECORDS = "/var/lib/hostdev-operator/assignments"
#: Of hostdev_operator.adapters.crash; the agent writes a line to it before each action.
BOUNDARY_LOG = "HOSTDEV_TEST_BOUNDARY_LOG"


@contextmanager
def as_before(stack: Stack, node: pytest.Item, *keep: str) -> Iterator[Stack]:
    """The system; afterwards every assignment but those to be kept is released, and all devices have their drivers."""
    before, records = drivers(stack.lab), stack.lab.run(f"ls {RECORDS}").stdout
    yield stack
    save_logs(stack, node)
    names = {body["metadata"]["name"] for body in stack.assignments()} - set(keep)
    for name in names:
        stack.delete(name)
    for name in names:
        stack.wait_gone(name)
    assert drivers(stack.lab) == before
    assert stack.lab.run(f"ls {RECORDS}").stdout == records


@contextmanager
def obstacle(lab: LabHost, make: str, undo: str) -> Iterator[None]:
    """What one shell command does to the host, and another one undoes."""
    lab.run(make)
    try:
        yield
    finally:
        lab.run(undo)


def read_only(folder: str) -> tuple[str, str]:
    """How a folder becomes read-only, and how it becomes writable again."""
    return f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}", f"umount {folder}"


@contextmanager
def process(lab: LabHost, command: list[str], name: str, ready: str) -> Iterator[Process]:
    """A process in the lab host that has printed ``ready``, until the end of the block or a kill before."""
    made = lab.spawn(command, name)
    loop = f"until grep -qF '{ready}' /share/logs/{made.log_file.name} 2> /dev/null; do sleep 0.1; done"
    try:
        lab.run(loop, timeout=60)
        yield made
    finally:
        made.kill()
        made.wait()


def nodedev(address: str) -> str:
    """Libvirt's name of a PCI device."""
    return "pci_" + re.sub("[:.]", "_", address)


@dataclass
class SteppedAgent:
    """An agent that can be stopped between two actions: its log of boundaries is a FIFO, and opening that waits."""

    stack: Stack
    fifo: str = "/tmp/boundaries"
    _drain: Process | None = None

    def start(self) -> None:
        """In place of the agent that runs."""
        self.stack.lab.run(f"rm -f {self.fifo}; mkfifo {self.fifo}")
        self._go_on()
        self.stack.restart_agent({BOUNDARY_LOG: self.fifo})

    def stop(self) -> None:
        """An ordinary agent again."""
        self.stack.restart_agent()
        self._hold()

    @contextmanager
    def held(self) -> Iterator[None]:
        """It waits at each boundary, from the next one on; afterwards it runs freely again."""
        self._hold()
        try:
            yield
        finally:
            self._go_on()

    def _hold(self) -> None:
        if self._drain:
            self._drain.kill()
            self._drain.wait()
            self._drain = None

    def _go_on(self) -> None:
        """Somebody reads all that it writes; as writer, too, so that he waits for nobody and does not end."""
        self._drain = self.stack.lab.spawn(f"exec 3<> {self.fifo}; exec cat <&3", "boundaries")

    def do(self, action: str) -> None:
        """Let it go on until it has tried an action (a part of its text), and waits before what comes next.

        What comes after the last action of a run is the boundary "status written".
        """
        line = ""
        while action not in line:
            line = self.stack.lab.run(["cat", self.fifo]).stdout
        agent = "$(pgrep -f '^python3 .*hostdev_operator agent')"
        waits = f"grep -qs -e fifo_open -e wait_for_partner /proc/{agent}/task/*/wchan"
        self.stack.lab.run(f"until {waits}; do sleep 0.1; done")
