"""Recordings as files: a tar packed by zstd, or a folder. The same tree makes the same bytes."""

from __future__ import annotations

import io
import posixpath
import tarfile
from pathlib import Path

from ..core.recording import Entry, Link, RecordingError, Tree

_LEVEL = 9
#: Of what is unpacked. A host with a thousand guests makes 30 MB.
_LARGEST = 1 << 30


def pack(tree: Tree) -> bytes:
    """A .tar.zst: sorted by path, owner 0, time 0."""
    import zstandard

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, entry in sorted(tree.items()):
            member = tarfile.TarInfo(path)
            member.mode = 0o644
            content = b""
            if isinstance(entry, Link):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
            elif entry is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                content = entry
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return zstandard.ZstdCompressor(level=_LEVEL).compress(packed.getvalue())


def unpack(packed: bytes) -> dict[str, Entry]:
    """What ``pack`` was given. RecordingError if it is no such archive, or one that would leave its folder."""
    import zstandard

    tree: dict[str, Entry] = {}
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            plain = stream.read(_LARGEST)
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    tree[member.name] = content.read()
                elif member.issym():
                    tree[member.name] = Link(member.linkname)
                elif member.isdir():
                    tree[member.name] = None
                else:
                    raise RecordingError(f"{member.name} is no file, folder or symbolic link")
    except (zstandard.ZstdError, tarfile.TarError) as error:
        raise RecordingError(f"this is no recording: {error}") from error
    for path, entry in tree.items():
        _stays_inside(path, path)
        if isinstance(entry, Link):
            _stays_inside(path, posixpath.join(posixpath.dirname(path), entry.target))
    return tree


def _stays_inside(path: str, target: str) -> None:
    """A recording may come from anybody: it must not write or read beside the folder into which it is unpacked."""
    if target.startswith("/") or posixpath.normpath(target).split("/")[0] == "..":
        raise RecordingError(f"{path} leads out of the recording")


def write_folder(tree: Tree, folder: Path) -> None:
    """Unpack into a folder. Links come last: nothing is ever written through one."""
    for path, entry in sorted(tree.items()):
        place = folder / path
        if entry is None:
            place.mkdir(parents=True, exist_ok=True)
        elif not isinstance(entry, Link):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(entry)
    for path, entry in sorted(tree.items()):
        if isinstance(entry, Link):
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(entry.target)
