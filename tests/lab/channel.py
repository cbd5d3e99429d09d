"""The way into the laboratory host: a client of the command daemon, and the errors that it raises."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Beyond a command's own deadline: the daemon waits 5 s for a killed process, and emulation is slow.
REPLY_GRACE = 30.0

Command = str | Sequence[str]


class LabError(RuntimeError):
    """The laboratory itself does not work: it did not boot, is off, or its command daemon does not answer."""


class LabLostError(LabError):
    """A laboratory host that is on does not answer any more, or has ended while it was asked."""


class LabCommandError(LabError):
    """A command failed in the laboratory host. What it printed is in the message and in the attributes."""

    def __init__(self, command: Command, returncode: int | None, stdout: str, stderr: str, why: str) -> None:
        self.command = command
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(f"{why}: {command!r}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")


class LabCommandTimeoutError(LabCommandError):
    """A command ran into its timeout and was killed with its process group (or hangs in the kernel)."""


def argv_of(command: Command) -> list[str]:
    """Text goes to bash, a sequence is run as it is."""
    return ["bash", "-c", command] if isinstance(command, str) else list(command)


@dataclass(frozen=True)
class Channel:
    """Requests to the command daemon; safe to use from several threads, since each has its own connection."""

    port: int

    def request(self, operation: str, *, timeout: float = 60, **arguments: object) -> dict[str, Any]:
        """Send a request and wait for the reply, in seconds. Raises LabLostError without one, LabError for an error."""
        line = json.dumps({"operation": operation, "timeout": timeout, **arguments}).encode() + b"\n"
        try:
            address = ("127.0.0.1", self.port)
            with socket.create_connection(address, timeout=timeout + REPLY_GRACE) as connection:
                connection.sendall(line)
                with connection.makefile("rb") as stream:
                    answer = stream.readline()
        except OSError as error:
            msg = f"the laboratory host did not answer {operation!r}: {error}"
            raise LabLostError(msg) from error
        if not answer:
            msg = f"the laboratory host closed the connection during {operation!r}: power cut or daemon ended"
            raise LabLostError(msg)
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            msg = f"{operation!r} failed in the laboratory host: {reply['error']}"
            raise LabError(msg)
        return reply

    def run(
        self, command: Command, *, timeout: float, check: bool, stdin: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, see LabHost.run."""
        reply = self.request("run", argv=argv_of(command), timeout=timeout, stdin=stdin)
        code, stdout, stderr = reply["returncode"], reply["stdout"], reply["stderr"]
        if reply["timed_out"]:
            why = f"not finished after {timeout} s" + (", and cannot be killed" if code is None else "")
            raise LabCommandTimeoutError(command, code, stdout, stderr, why)
        if check and code != 0:
            raise LabCommandError(command, code, stdout, stderr, f"returned {code}")
        return subprocess.CompletedProcess(command, code, stdout, stderr)

    def spawn(self, command: Command, log: str, environment: Mapping[str, str]) -> str:
        """Start a long-running process; returns the token by which it is known from now on."""
        reply = self.request("spawn", argv=argv_of(command), log=log, env=dict(environment))
        return str(reply["token"])

    def put(self, path: str, content: bytes, mode: int | None = None) -> None:
        """Write a file in the laboratory host; its folder is made."""
        self.request("put", path=path, data=base64.b64encode(content).decode(), mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file in the laboratory host."""
        return base64.b64decode(self.request("get", path=path)["data"])
