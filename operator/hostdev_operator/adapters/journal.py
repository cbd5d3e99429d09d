"""The journal: one small JSON file for each assignment under the state directory, replaced atomically and fsynced."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ..core import reasons
from ..core.errors import HostError
from ..core.record import Record

_UID = re.compile(r"[0-9a-zA-Z-]{1,64}")


class Journal:
    """RecordStore of ports.py, and the lock that keeps a second agent from the same node."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._folder = state_dir / "assignments"
        self._lock: int | None = None
        self._writes = 0
        self._read: tuple[tuple[int, int], Mapping[str, Record]] | None = None

    def open(self) -> None:
        """Make the folder and take the lock; HostError if another agent has it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"another agent works on {self._state_dir}: one node has one agent; stop the other one",
            ) from error
        except OSError as error:
            raise HostError(reasons.STATE_DIRECTORY_FAILED, f"cannot use {self._state_dir}: {error}") from error

    def load(self) -> Mapping[str, Record]:
        """All records. One that cannot be read is an error: its devices would look free.

        They are read again after each write of ours, and when somebody else has changed the folder. Its time alone
        would not do: two writes can fall into one tick of the kernel's clock.
        """
        records = {}
        path = self._folder
        try:
            version = self._writes, self._folder.stat().st_mtime_ns
            known = self._read
            if known and known[0] == version:
                return known[1]
            for path in sorted(self._folder.glob("*.json")):
                record = Record.from_json(path.read_text())
                records[record.uid] = record
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"the record {path} cannot be read ({error!r}); move it away if its assignment does not exist any more",
            ) from error
        self._read = (version, MappingProxyType(records))
        return self._read[1]

    def save(self, record: Record) -> None:
        """Write to a new file, fsync it, rename it over the old one, fsync the folder."""
        path = self._path(record.uid)
        partial = path.with_suffix(".partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(record.to_json())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            self._writes += 1
            self._sync_folder()
        except OSError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"the record of {record.owner} could not be written to {path} ({error}); nothing was changed for it",
            ) from error

    def drop(self, uid: str) -> None:
        """Remove the file and fsync the folder."""
        try:
            self._path(uid).unlink(missing_ok=True)
            self._writes += 1
            self._sync_folder()
        except OSError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED, f"the record of {uid} could not be removed: {error}"
            ) from error

    def _path(self, uid: str) -> Path:
        if not _UID.fullmatch(uid):
            raise HostError(reasons.STATE_DIRECTORY_FAILED, f"{uid!r} is not a UID")
        return self._folder / f"{uid}.json"

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
