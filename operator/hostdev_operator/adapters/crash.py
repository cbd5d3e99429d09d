"""Ends the process at a boundary, as a crash would: a switch that only tests set."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

#: ``<phase>:<n>``: SIGKILL at the n-th boundary of that phase (from 1) in this process.
EXIT_AT = "HOSTDEV_TEST_EXIT_AT"
#: File to which the name of each boundary is appended as it is passed.
BOUNDARY_LOG = "HOSTDEV_TEST_BOUNDARY_LOG"


def boundary_from_environment() -> Callable[[str], None]:
    """The boundary function of ports.Host: does nothing unless a test set one of the variables."""
    exit_at, log = os.environ.get(EXIT_AT), os.environ.get(BOUNDARY_LOG)
    if not exit_at and not log:
        return lambda _name: None
    phase, _, number = (exit_at or "none:0").partition(":")
    counts: Counter[str] = Counter()

    def boundary(name: str) -> None:
        current = name.partition(":")[0]
        counts[current] += 1
        if log:
            with Path(log).open("a") as file:
                file.write(f"{current}:{counts[current]} {name}\n")
        if current == phase and counts[current] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    return boundary
