"""The journal: small JSON files of assignments, pools and approvals, replaced atomically and fsynced."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Protocol, Self, TypeVar

from ..core import reasons
from ..core.approval import Approval
from ..core.boot_file import boot_file
from ..core.errors import HostError
from ..core.pool import PoolRecord
from ..core.record import Record

_UID = re.compile(r"[0-9a-zA-Z-]{1,64}")
BOOT_FILE = "sriov.conf"


class Recorded(Protocol):
    """What all kinds of records have. ``owner`` is whose record it is, in messages."""

    @property
    def uid(self) -> str:
        """The object's UID."""

    @property
    def owner(self) -> str:
        """Whose record it is."""

    def to_json(self) -> str:
        """The file's text."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the file's text; ValueError, TypeError or KeyError if it is not one."""


R = TypeVar("R", bound=Recorded)


class Records(Generic[R]):
    """Store of ports.py: the records of one kind, each a file in one folder."""

    def __init__(self, folder: Path, kind: type[R]) -> None:
        self.folder = folder
        self._kind = kind
        self._writes = 0
        self._read: tuple[tuple[int, int], Mapping[str, R]] | None = None

    def load(self) -> Mapping[str, R]:
        """All records. One that cannot be read is an error: its devices would look free.

        They are read again after each write of ours, and when somebody else has changed the folder. Its time alone
        would not do: two writes can fall into one tick of the kernel's clock.
        """
        records = {}
        path = self.folder
        try:
            version = self._writes, self.folder.stat().st_mtime_ns
            known = self._read
            if known and known[0] == version:
                return known[1]
            for path in sorted(self.folder.glob("*.json")):
                record = self._kind.from_json(path.read_text())
                records[record.uid] = record
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"the record {path} cannot be read ({error!r}); move it away if its object does not exist any more",
            ) from error
        self._read = (version, MappingProxyType(records))
        return self._read[1]

    def save(self, record: R) -> None:
        """Write to a new file, fsync it, rename it over the old one, fsync the folder."""
        path = self._path(record.uid)
        try:
            replace_durably(path, record.to_json())
        except OSError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"the record of {record.owner} could not be written to {path} ({error}); nothing was changed for it;"
                " look for a full disk or a read-only mount (df -h, findmnt)",
            ) from error
        finally:
            self._writes += 1

    def drop(self, uid: str) -> None:
        """Remove the file and fsync the folder."""
        path = self._path(uid)
        try:
            remove_durably(path)
        except OSError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED, f"the record of {uid} could not be removed: {error}"
            ) from error
        finally:
            self._writes += 1

    def _path(self, uid: str) -> Path:
        if not _UID.fullmatch(uid):
            raise HostError(reasons.STATE_DIRECTORY_FAILED, f"{uid!r} is not a UID")
        return self.folder / f"{uid}.json"


class ReadOnlyRecords(Generic[R]):
    """The same to be looked at alone, without the agent's lock; without their folder there are none.

    ``why`` is what a HostError says to whoever would change them.
    """

    def __init__(self, records: Records[R], why: str) -> None:
        self._records = records
        self._why = why

    def load(self) -> Mapping[str, R]:
        """As Records.load."""
        return self._records.load() if self._records.folder.is_dir() else MappingProxyType({})

    def save(self, _record: R) -> None:
        """Refused."""
        raise HostError(reasons.PERMISSION_DENIED, self._why)

    def drop(self, _uid: str) -> None:
        """Refused."""
        raise HostError(reasons.PERMISSION_DENIED, self._why)


class PoolRecords(Records[PoolRecord]):
    """The records of pools; beside them the text that the host's boot unit reads."""

    def __init__(self, folder: Path, boot_path: Path) -> None:
        super().__init__(folder, PoolRecord)
        self._boot_path = boot_path

    def save(self, record: PoolRecord) -> None:
        """The record first: the boot unit makes nothing that no record tells of."""
        super().save(record)
        self._write_boot_file(self.load().values())

    def drop(self, uid: str) -> None:
        """The record last, for the same reason."""
        records = self.load()
        if uid in records:
            self._write_boot_file(record for record in records.values() if record.uid != uid)
        super().drop(uid)

    def mend_boot_file(self) -> None:
        """What a crash between the two has left undone. Nothing is written on a host without pools."""
        with suppress(HostError):  # whoever needs the records is told
            if self.load() or self._boot_path.exists():
                self._write_boot_file(self.load().values())

    def _write_boot_file(self, records: Iterable[PoolRecord]) -> None:
        text = boot_file(records)
        try:
            if not self._boot_path.exists() or self._boot_path.read_text() != text:
                replace_durably(self._boot_path, text)
        except (OSError, ValueError) as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED, f"{self._boot_path} could not be written: {error}"
            ) from error


class Journal:
    """All kinds of records, and the lock that keeps a second agent from the same node."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock: int | None = None
        self.assignments = Records(state_dir / "assignments", Record)
        self.pools = PoolRecords(state_dir / "pools", state_dir / BOOT_FILE)
        self.approvals = Records(state_dir / "approvals", Approval)

    def open(self) -> None:
        """Make the folders and take the lock; HostError if another agent has it."""
        try:
            for name in ("assignments", "pools", "approvals"):
                (self._state_dir / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(
                reasons.STATE_DIRECTORY_FAILED,
                f"another agent works on {self._state_dir}: one node has one agent; stop the other one",
            ) from error
        except OSError as error:
            raise HostError(reasons.STATE_DIRECTORY_FAILED, f"cannot use {self._state_dir}: {error}") from error
        self.pools.mend_boot_file()


def replace_durably(path: Path, text: str) -> None:
    """When this returns, a power cut leaves the new text; before, the old one. OSError leaves the old one, too."""
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _sync(path.parent)


def remove_durably(path: Path) -> None:
    """When this returns, no power cut brings it back; nothing to do if it is not there."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
