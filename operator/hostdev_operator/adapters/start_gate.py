"""StartGate of ports.py: small files in the state directory, which libvirt's hook reads."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..core import reasons
from ..core.errors import HostError
from ..core.start_gate import RENEWED_SECONDS, file_name, text, uid_of
from .files import read_text
from .journal import remove_durably, replace_durably

FOLDER = "guest-start"


@dataclass(frozen=True)
class _Closed:
    """One of our files, and the seconds since the host's boot when it was written."""

    name: str
    owner: str
    why: str
    written: int


class GateFiles:
    """In a folder that whoever installs the hook has made. Thread-safe.

    What stands is remembered, so that the same again costs no system call.
    """

    def __init__(self, host_root: Path, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        self._proc = str(host_root / "proc")
        self._lock = threading.Lock()
        self._closed: dict[str, _Closed] = {}  # by the assignment's UID; nothing of a former process
        self._files: dict[str, str] | None = None  # all of ours, and whose they are; None before the first look

    def installed(self) -> bool:
        """Whether the folder is there."""
        return self._folder.is_dir()

    def close(self, uid: str, domain_uuid: str, owner: str, why: str) -> None:
        """The same again writes nothing."""
        with self._lock, _told(self._folder):
            name, known = file_name(domain_uuid, uid), self._closed.get(uid)
            if known is None or (known.name, known.owner, known.why) != (name, owner, why):
                self._write(uid, name, owner, why)
                self._remove(uid, but=name)

    def open(self, uid: str) -> None:
        """Nothing is looked for where nothing was closed."""
        with self._lock, _told(self._folder):
            self._remove(uid)

    def keep(self, uids: Collection[str]) -> None:
        """Files that grow old are written anew; those of assignments that are not among ``uids`` are removed."""
        with self._lock, _told(self._folder):
            for uid in set(self._ours().values()) - set(uids):
                self._remove(uid)
            now = self._uptime() if self._closed else 0
            for uid, file in list(self._closed.items()):
                if now - file.written >= RENEWED_SECONDS:
                    self._write(uid, file.name, file.owner, file.why)

    def _write(self, uid: str, name: str, owner: str, why: str) -> None:
        ours, now = self._ours(), self._uptime()
        boot_id = read_text(f"{self._proc}/sys/kernel/random/boot_id")
        replace_durably(self._folder / name, text(boot_id, now, owner, why))
        ours[name] = uid
        self._closed[uid] = _Closed(name, owner, why, now)

    def _remove(self, uid: str, but: str | None = None) -> None:
        """Its files; ``but`` is the one that stays."""
        if but is None:
            self._closed.pop(uid, None)
        ours = self._ours()
        for name in [n for n, whose in ours.items() if whose == uid and n != but]:
            with suppress(FileNotFoundError):  # the folder itself, if the hook was uninstalled
                remove_durably(self._folder / name)
            del ours[name]

    def _ours(self) -> dict[str, str]:
        if self._files is None:
            names = os.listdir(self._folder) if self._folder.is_dir() else []  # noqa: PTH208 - names alone
            self._files = {name: uid for name in names if (uid := uid_of(name))}
        return self._files

    def _uptime(self) -> int:
        return int(float(read_text(f"{self._proc}/uptime").split()[0]))


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise HostError(
            reasons.STATE_DIRECTORY_FAILED,
            f"what libvirt's hook is to be told could not be written to {folder} ({error}); look for a full disk or a"
            " read-only mount (df -h, findmnt)",
        ) from error
