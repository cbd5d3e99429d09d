"""The state directory on a disk that can fill up, go read-only and lose power: what was not fsynced is lost then.

The real journal (adapters/journal.py) works on it. Files are in a real folder, best one in memory; what a power cut
would leave is kept beside it: of a file what its last fsync wrote, of a folder the names of its last fsync (fsync(2):
"Calling fsync() does not necessarily ensure that the entry in the directory containing the file has also
reached disk").
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PosixPath
from random import Random
from typing import Any


class Disk:
    """Stands in for ``os`` in the journal's module; everything that it does not know is os's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[int, bytes] = {}  # by inode
        self._names: dict[str, dict[str, int]] = {}  # folder -> name -> inode
        self.trouble: int | None = None  # ENOSPC, EROFS or EIO
        self.hits = 0
        self.path = _on(self)(folder)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """A new file needs space, any file that is to be written a writable disk."""
        if flags & os.O_CREAT and self.trouble:
            self.fail(self.trouble)
        return os.open(path, flags, mode)

    def fsync(self, descriptor: int) -> None:
        """What is on the disk from now on."""
        if self.trouble == errno.EIO:
            self.fail(errno.EIO)
        found = os.fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if stat.S_ISDIR(found.st_mode):
            self._names[str(path)] = {e.name: e.inode() for e in os.scandir(path) if e.is_file()}
        else:
            self._contents[found.st_ino] = path.read_bytes()

    def fail(self, number: int) -> None:
        """As the kernel says it."""
        self.hits += 1
        raise OSError(number, os.strerror(number))

    def durable(self, kind: str, uid: str) -> str | None:
        """What a power cut now would leave of a record; None if nothing."""
        inode = self._names.get(str(self._folder / kind), {}).get(f"{uid}.json")
        return self._contents.get(inode, b"").decode() if inode is not None else None

    def power_cut(self, chance: Random) -> None:
        """The newest names may have reached the disk all the same, without what is in the files."""
        for folder in sorted(p for p in self._folder.rglob("*") if p.is_dir()):
            now = {e.name: e.inode() for e in os.scandir(folder) if e.is_file()}
            names = self._names.get(str(folder), {})
            left = now if chance.random() < 0.5 else names
            kept = {name: self._contents.get(inode, b"") for name, inode in left.items()}
            for name in now:
                (folder / name).unlink()
            for name, content in kept.items():
                (folder / name).write_bytes(content)
            self._names[str(folder)] = {}
            for entry in os.scandir(folder):
                self._contents[entry.inode()] = kept[entry.name]
                self._names[str(folder)][entry.name] = entry.inode()


def _on(disk: Disk) -> type[PosixPath]:
    """Paths on this disk."""

    class DiskPath(PosixPath):
        def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
            if disk.trouble == errno.EROFS:
                disk.fail(errno.EROFS)
            super().unlink(missing_ok)

    return DiskPath
