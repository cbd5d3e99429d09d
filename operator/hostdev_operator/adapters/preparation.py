"""HostPreparation of ports.py: what the kernel says, and the files of agent and host's unit for each other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..core import reasons
from ..core.errors import HostError
from ..core.preparation import BootFacts
from .boot_facts import BootSource
from .journal import replace_durably

REQUEST, ANSWER = "prepare.conf", "prepare.result"
_LONGEST = 65536


class UnitFiles:
    """In the state directory."""

    def __init__(self, host_root: Path, state_dir: Path) -> None:
        self._source = BootSource(host_root)
        self._request, self._answer = state_dir / REQUEST, state_dir / ANSWER

    def facts(self) -> BootFacts:
        """What the kernel says now."""
        return self._source.facts()

    def request(self) -> str | None:
        """The text that stands."""
        return _read(self._request)

    def ask(self, text: str) -> None:
        """A new file in the old one's place: the host's unit is started by that."""
        try:
            replace_durably(self._request, text)
        except OSError as error:
            raise HostError(reasons.STATE_DIRECTORY_FAILED, f"{self._request} could not be written: {error}") from error

    def answer(self) -> str | None:
        """What the unit has left last."""
        return _read(self._answer)


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(reasons.STATE_DIRECTORY_FAILED, f"{path} cannot be read: {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError(reasons.STATE_DIRECTORY_FAILED, f"{path} is no file: move it away")
        return os.read(descriptor, _LONGEST).decode(errors="replace")
    finally:
        os.close(descriptor)
