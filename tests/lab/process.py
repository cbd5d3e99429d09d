"""A long-running process in the laboratory host, such as the agent."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.channel import Channel, LabError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Process:
    """Made by LabHost.spawn. It ends with the laboratory's power; its log is on this machine and stays."""

    name: str
    log_file: Path
    _token: str
    _channel: Channel

    def alive(self) -> bool:
        """Whether it still runs; False as well when the laboratory is off or was started anew."""
        try:
            reply = self._channel.request("wait", token=self._token, timeout=0)
        except LabError:
            return False
        return bool(reply["known"]) and reply["returncode"] is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the whole process group; nothing happens when it has ended. LabError when off."""
        self._channel.request("kill", token=self._token, signal=int(number))

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end, in seconds; return the code (negative: a signal). LabError at the timeout."""
        reply = self._channel.request("wait", token=self._token, timeout=timeout)
        if not reply["known"]:
            msg = f"{self.name}: the laboratory host was started anew, the return code is lost"
            raise LabError(msg)
        if reply["returncode"] is None:
            msg = f"{self.name} still runs after {timeout} s; the end of its log:\n{self.log()[-3000:]}"
            raise LabError(msg)
        return int(reply["returncode"])

    def log(self) -> str:
        """All that it has printed so far, both streams in order."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""
