"""The command daemon of the laboratory host: runs what the tests send it, as root. Standard library only.

One JSON object on one line per TCP connection in, one out; each connection has its own thread. It runs inside
the lab (started by image/root/lab/init) and is reachable from this machine's loopback alone.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socketserver
import subprocess
import threading
from pathlib import Path
from typing import Any

PORT = 4000

Request = dict[str, Any]
Reply = dict[str, Any]

# Popen objects by token. A token is random, so one from before a power cut can never name a newer process.
_spawned: dict[str, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


def _wait(process: subprocess.Popen[bytes], timeout: float | None) -> int | None:
    """Wait for the process, in seconds; None when it still runs. A pidfd wakes at once, Popen.wait polls."""
    with _lock:
        if process.poll() is not None:
            return process.returncode
        descriptor = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(None if timeout is None else max(0, round(timeout * 1000)))
    finally:
        os.close(descriptor)
    with _lock:
        return process.poll()


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _memory_file(content: bytes = b"") -> int:
    descriptor = os.memfd_create("lab")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _content(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


def run(request: Request) -> Reply:
    """Run a command to its end. Output goes to memory files: a pipe would wait for daemons left behind."""
    streams = [_memory_file((request["stdin"] or "").encode()), _memory_file(), _memory_file()]
    try:
        process = subprocess.Popen(
            request["argv"], stdin=streams[0], stdout=streams[1], stderr=streams[2], start_new_session=True
        )
        code = _wait(process, request["timeout"])
        timed_out = code is None
        if timed_out:
            _kill_group(process.pid, signal.SIGKILL)
            # A process that hangs in the kernel does not die; the caller gets its answer all the same.
            code = _wait(process, 5)
        return {
            "returncode": code,
            "timed_out": timed_out,
            "stdout": _content(streams[1]),
            "stderr": _content(streams[2]),
        }
    finally:
        for stream in streams:
            os.close(stream)


def spawn(request: Request) -> Reply:
    """Start a process in a session of its own, with both outputs appended to a log file."""
    log = Path(request["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **request["env"]},
        )
    token = os.urandom(8).hex()
    _spawned[token] = process
    return {"token": token, "pid": process.pid}


def wait(request: Request) -> Reply:
    """Wait for a spawned process: its return code, or null when it still runs after the timeout."""
    process = _spawned.get(request["token"])
    if process is None:
        return {"known": False, "returncode": None}
    return {"known": True, "returncode": _wait(process, request["timeout"])}


def kill(request: Request) -> Reply:
    """Send a signal to the process group of a spawned process; one that has ended is no error."""
    process = _spawned.get(request["token"])
    if process is not None and _wait(process, 0) is None:
        _kill_group(process.pid, request["signal"])
    return {}


def put(request: Request) -> Reply:
    """Write a file in place, so that it works in sysfs as well; its folder is made."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(request["data"]))
    if request["mode"] is not None:
        path.chmod(request["mode"])
    return {}


def get(request: Request) -> Reply:
    """Read a file."""
    return {"data": base64.b64encode(Path(request["path"]).read_bytes()).decode()}


OPERATIONS = {f.__name__: f for f in (run, spawn, wait, kill, put, get)}


class Handler(socketserver.StreamRequestHandler):
    """Answers one request; whatever goes wrong becomes an answer, so that the daemon lives on."""

    def handle(self) -> None:
        """Read one line, do it, write one line."""
        line = self.rfile.readline()
        if not line:
            return
        try:
            request = json.loads(line)
            reply = OPERATIONS[request["operation"]](request)
        except Exception as error:  # noqa: BLE001 - the test that asked must see it
            reply = {"error": f"{type(error).__name__}: {error}"}
        self.wfile.write(json.dumps(reply).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """One thread for each connection; an ended daemon's port can be taken again at once."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Serve for ever. The kernel's out-of-memory killer must not choose the tests' only way in."""
    Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
    with Server(("0.0.0.0", PORT), Handler) as server:  # noqa: S104 - the management network alone
        server.serve_forever()


if __name__ == "__main__":
    main()
