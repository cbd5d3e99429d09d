"""The images of the laboratory host, built once into a cache that is keyed by what they are made of.

Three stages, each with its own key, so that a small change is cheap: the Debian root file system (minutes),
the base disk with our own init, command daemon and test guest (under a minute), the agent's Python packages.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LAB = Path(__file__).resolve().parent
REPOSITORY = LAB.parent.parent
SCRIPTS = LAB / "image"
LOCK_FILE = REPOSITORY / "requirements.lock"

# Packages that the laboratory takes from Debian, since their library must match the host's libvirt.
FROM_DEBIAN = frozenset({"libvirt-python"})

# How the laboratory is emulated. Five-level page tables would make each miss of the emulated TLB dearer.
CPU = "max,la57=off"
# Emulation has no speculation to mitigate and a stable clock, whose calibration takes a second. local_apic.py writes to
# a device's memory that the kernel uses.
KERNEL_ARGS = (
    "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off tsc=reliable no_timer_check "
    "lpj=6000000 nokaslr nowatchdog init_on_alloc=0 audit=0 apparmor=0 rcupdate.rcu_expedited=1 "
    "cryptomgr.notests iommu=pt iomem=relaxed"
)

Progress = Callable[[str], None]


class ImageError(RuntimeError):
    """A stage could not be built; the message ends with what its script printed."""


@dataclass(frozen=True)
class Image:
    """The files that a laboratory host boots from. None of them is ever written to."""

    kernel: Path
    initrd: Path
    base_disk: Path
    site_disk: Path
    rootfs: Path


def cache_folder() -> Path:
    """Where all built images are kept, under XDG_CACHE_HOME (default ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostdev-operator"


def ensure(progress: Progress = print) -> Image:
    """Return the images, after building what is missing. Needs root and, for a build, the package registries.

    Several callers may ask at once: one builds, the others wait. Raises ImageError when a script fails.
    """
    _script([SCRIPTS / "machine-packages.sh"], "machine packages")
    recipe = [SCRIPTS / name for name in ("rootfs.sh", "packages.txt", "initrd-init")]
    rootfs = _stage("rootfs", _digest(recipe), lambda out: [SCRIPTS / "rootfs.sh", out], progress)
    programs = [LAB / "command_daemon.py", LAB / "local_apic.py"]
    own = [SCRIPTS / "disk.sh", *programs, *_files(SCRIPTS / "root"), *_files(LAB / "guest")]
    key = _digest(own, rootfs.name, CPU, KERNEL_ARGS)
    disk = _stage("disk", key, lambda out: [SCRIPTS / "disk.sh", rootfs, out], progress)
    lock = _filtered_lock()
    key = _digest([SCRIPTS / "site.sh", SCRIPTS / "compile.sh"], rootfs.name, lock)

    def site_command(out: Path) -> list[Path | str]:
        (out / "requirements.txt").write_text(lock, encoding="utf-8")
        return [SCRIPTS / "site.sh", rootfs, out / "requirements.txt", _python_with_pip(), out]

    site = _stage("site", key, site_command, progress)
    return Image(
        kernel=rootfs / "vmlinuz",
        initrd=rootfs / "initrd",
        base_disk=disk / "base.img",
        site_disk=site / "site.img",
        rootfs=rootfs / "rootfs",
    )


def ensure_linux_guest(image: Image, progress: Progress = print) -> Path:
    """Return a folder with `vmlinux` and `initrd`: a Linux guest of the laboratory host's own kernel.

    A stage of its own, built in seconds and only for those who ask. Raises ImageError.
    """
    rootfs = image.rootfs.parent
    recipe = [SCRIPTS / name for name in ("linux-guest.sh", "linux-guest-init", "unpack-kernel.py")]
    key = _digest(recipe, rootfs.name)
    return _stage("linux-guest", key, lambda out: [SCRIPTS / "linux-guest.sh", rootfs, out], progress)


def compile_python(image: Image, folder: Path, remote: str) -> None:
    """Write bytecode beside all Python files of a folder that will stand at `remote` in the laboratory host.

    Emulated, each start of a process would compile them anew for seconds. Raises ImageError.
    """
    _script([SCRIPTS / "compile.sh", image.rootfs.parent, folder, remote], f"bytecode for {remote}")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(files: Iterable[Path], *texts: str) -> str:
    """Hash contents, modes and names; names are relative, so the place of the checkout is of no matter."""
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(LAB)} {os.access(path, os.X_OK)} {len(content)}\n".encode() + content)
    for text in texts:
        digest.update(f"{len(text)}\n{text}".encode())
    return digest.hexdigest()[:16]


def _filtered_lock() -> str:
    """Read the agent's lock file without comments and without the packages that come from Debian."""
    lines = (line for line in LOCK_FILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#"))
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    kept = [line for line in logical if line.strip() and _package_name(line) not in FROM_DEBIAN]
    return "\n".join(kept) + "\n"


def _package_name(requirement: str) -> str:
    found = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return re.sub(r"[-_.]+", "-", found.group(1)).lower() if found else ""


def _stage(name: str, key: str, command: Callable[[Path], Sequence[Path | str]], progress: Progress) -> Path:
    """Return the stage's folder. It is built elsewhere and then renamed: what has the name is complete."""
    final = cache_folder() / f"lab-{name}-{key}"
    if final.is_dir():
        return final
    with _locked(cache_folder() / f"lab-{name}.lock"):
        if final.is_dir():
            return final
        progress(f"laboratory: building {name} ...")
        began = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix=f"building-{name}-", dir=cache_folder()))
        try:
            # World-readable: packages' own users must be able to walk down to the root file system.
            work.chmod(0o755)
            _script(command(work), name)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        progress(f"laboratory: {name} built in {time.monotonic() - began:.0f} s")
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _script(command: Sequence[Path | str], name: str) -> None:
    """Run one of the shell scripts; its output is shown only when it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C.UTF-8", "LAB_CPU": CPU, "LAB_KERNEL_ARGS": KERNEL_ARGS},
        check=False,
    )
    if result.returncode != 0:
        msg = f"laboratory: {name} failed with {result.returncode}:\n{result.stdout[-4000:]}"
        raise ImageError(msg)


def _python_with_pip() -> str:
    """Find an interpreter that has pip: ours, or the system's for a virtual environment without it."""
    ours = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return sys.executable if ours.returncode == 0 else "python3"


if __name__ == "__main__":
    ensure(lambda line: print(line, flush=True))
