"""Small files and links of /sys and /proc, with few system calls: pathlib costs more than the calls themselves."""

# ruff: noqa: PTH100, PTH115, PTH116, PTH118, PTH120, PTH208
from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)
_CHUNK = 65536


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A file's descriptor, for reading."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_text(path: str) -> str:
    """A file of /sys (4096 bytes at most), without the newline at its end."""
    with opened(path) as descriptor:
        return os.read(descriptor, 4096).decode(errors="replace").strip()


def read_lines(path: str) -> list[str]:
    """All lines of a file of /proc, however long it is."""
    chunks = []
    with opened(path) as descriptor:
        while chunk := os.read(descriptor, _CHUNK):
            chunks.append(chunk)
    return b"".join(chunks).decode(errors="surrogateescape").splitlines()


def text_if_any(path: str) -> str:
    """A small file of /sys; empty if it is not there, or its device goes away."""
    try:
        return read_text(path)
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise


def listing(folder: str) -> list[str]:
    """What a folder holds; nothing if it is not there, or its device goes away."""
    try:
        return os.listdir(folder)
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def inode(path: str) -> int:
    """The inode number of what is there; OSError if nothing is."""
    return os.stat(path).st_ino


def exists(path: str) -> bool:
    """Whether something is there; OSError if that cannot be told."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def absolute(path: str | os.PathLike[str]) -> str:
    """The path from the root, without ``..``."""
    return os.path.abspath(path)


def link_name(link: str) -> str | None:
    """The last part of where a link leads; None if there is none."""
    try:
        return os.readlink(link).rsplit("/", 1)[-1]
    except OSError:
        return None


def link_target(link: str) -> str | None:
    """Where a link leads, as it says itself; None if there is no link."""
    try:
        return os.readlink(link)
    except OSError:
        return None


def resolve(link: str) -> str:
    """Where a link of /sys leads; itself if it is none. FileNotFoundError if nothing is there.

    One system call, and no look at each folder on the way: links of /sys lead to real folders.
    """
    try:
        target = os.readlink(link)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return link
    return os.path.normpath(os.path.join(os.path.dirname(link), target))
