"""What takes long to build, in the user's cache folder: stages, each keyed by what it is made of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

Progress = Callable[[str], None]
"""Takes one line of progress, without a line end."""


class BuildError(RuntimeError):
    """A step failed; the message has the end of what it printed."""


def cache_folder() -> Path:
    """Under XDG_CACHE_HOME (default ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostdev-operator"


def stage(
    name: str,
    key: str,
    make: Callable[[Path], None],
    progress: Progress,
    *,
    anew: bool = False,
    lock: str | None = None,
) -> Path:
    """Return the stage's folder, made by ``make`` if it is not there: elsewhere, so that what has the name is complete.

    Several callers may ask at once: one builds, the others wait. ``anew``: it takes the place of one that is there.
    Stages of the same ``lock`` (default: of the same name) are not built beside each other.
    """
    final = cache_folder() / f"{name}-{key}"
    if final.is_dir() and not anew:
        return final
    with locked(lock or name, progress):
        if final.is_dir() and not anew:
            return final
        progress(f"building {name} in {cache_folder()} ...")
        began = time.monotonic()
        work = cache_folder() / f"building-{name}"
        shutil.rmtree(work, ignore_errors=True)  # left by a build that was killed
        work.mkdir()
        try:
            # World-readable: users of packages must be able to walk down to a root file system.
            work.chmod(0o755)
            make(work)
            shutil.rmtree(final, ignore_errors=True)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        progress(f"{name} built in {time.monotonic() - began:.0f} s")
    return final


@contextmanager
def locked(name: str, progress: Progress) -> Iterator[None]:
    """Hold an exclusive lock of the cache; the kernel releases it when this process ends, however it ends."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that builds {name}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def forget(latest: Path, kept: int) -> None:
    """Remove what a stage made of former inputs, but for a few: one that somebody works with may be among them."""
    latest.touch()
    name = latest.name.rpartition("-")[0]
    made = [path for path in latest.parent.iterdir() if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{16}}", path.name)]
    for old in sorted(made, key=lambda path: path.stat().st_mtime)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)


def digest_of(files: Iterable[Path], *texts: str) -> str:
    """A key: of names (in the repository), modes and contents of files, and of texts."""
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(REPOSITORY)} {os.access(path, os.X_OK)} {len(content)}\n".encode() + content)
    for text in texts:
        digest.update(f"{len(text)}\n{text}".encode())
    return digest.hexdigest()[:16]


def files_of(folder: Path) -> list[Path]:
    """All below it, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def run(command: Sequence[Path | str], name: str, environment: Mapping[str, str]) -> str:
    """Run a program in the repository; what it prints, which is shown only when it fails. Raises BuildError."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"{name} failed with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout
