"""Child processes that never outlive the test run."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: the child may only do the least between fork and exec.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes] = subprocess.STDOUT,
) -> subprocess.Popen[bytes]:
    """Start ``command`` so that the kernel kills it when this process dies, even by SIGKILL.

    It gets a session of its own: Ctrl-C reaches pytest alone, which then ends its children in order.
    Raises RuntimeError outside the main thread, since the kernel takes the end of the *thread* that forked
    for the parent's death (prctl(2), PR_SET_PDEATHSIG): a worker thread's child would vanish within a test.
    """
    if threading.current_thread() is not threading.main_thread():
        message = f"{command[0]} must be started from the main thread: it would end with this one"
        raise RuntimeError(message)
    parent = os.getpid()

    def ask_for_signal() -> None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the request above was made.
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=ask_for_signal,  # noqa: PLW1509 - the hook takes no lock: one system call, no import
    )


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Terminate ``process`` and reap it; kill it when it is still there after ``seconds``."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
