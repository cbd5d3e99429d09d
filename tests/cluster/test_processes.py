"""No program of the control plane outlives the test run; needs no control plane."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.cluster import processes

PATIENCE_SECONDS = 30.0

PARENT = """
import pathlib, subprocess, time
from tests.cluster.processes import die_with_parent
child = die_with_parent(["sleep", "600"], cwd=pathlib.Path("/"), stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
time.sleep(600)
"""


def runs(pid: int) -> bool:
    """Tell whether the process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_stays_behind_when_the_test_run_is_killed() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert runs(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(child)


def test_a_child_that_would_end_with_a_thread_is_refused() -> None:
    refusals: list[str] = []

    def start() -> None:
        try:
            processes.die_with_parent(["sleep", "600"], cwd=Path("/"), stdout=subprocess.DEVNULL)
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert refusals == ["sleep must be started from the main thread: it would end with this one"]


def test_a_process_that_ignores_termination_is_killed() -> None:
    command = [sys.executable, "-c", STUBBORN]
    process = processes.die_with_parent(command, cwd=Path("/"), stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        processes.end(process, seconds=0.2)
    assert process.returncode == -signal.SIGKILL
