"""The images of the laboratory host, built once into a cache that is keyed by what they are made of.

Three stages, each with its own key, so that a small change is cheap: the Debian root file system (minutes),
the base disk with our own init, command daemon and test guest (under a minute), the agent's Python packages.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from image.cache import REPOSITORY, Progress, digest_of, files_of, run, stage

LAB = Path(__file__).resolve().parent
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


@dataclass(frozen=True)
class Image:
    """The files that a laboratory host boots from. None of them is ever written to."""

    kernel: Path
    initrd: Path
    base_disk: Path
    site_disk: Path
    rootfs: Path


def ensure(progress: Progress = print) -> Image:
    """Return the images, after building what is missing. Needs root and, for a build, the package registries.

    Several callers may ask at once: one builds, the others wait. Raises BuildError when a script fails.
    """
    _script([SCRIPTS / "machine-packages.sh"], "machine packages")
    recipe = [SCRIPTS / name for name in ("rootfs.sh", "packages.txt", "initrd-init")]
    rootfs = _stage("rootfs", digest_of(recipe), lambda out: [SCRIPTS / "rootfs.sh", out], progress)
    programs = [LAB / "command_daemon.py", LAB / "local_apic.py"]
    own = [SCRIPTS / "disk.sh", *programs, *files_of(SCRIPTS / "root"), *files_of(LAB / "guest")]
    key = digest_of(own, rootfs.name, CPU, KERNEL_ARGS)
    disk = _stage("disk", key, lambda out: [SCRIPTS / "disk.sh", rootfs, out], progress)
    lock = _filtered_lock()
    key = digest_of([SCRIPTS / "site.sh", SCRIPTS / "compile.sh"], rootfs.name, lock)

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

    A stage of its own, built in seconds and only for those who ask. Raises BuildError.
    """
    rootfs = image.rootfs.parent
    recipe = [SCRIPTS / name for name in ("linux-guest.sh", "linux-guest-init", "unpack-kernel.py")]
    key = digest_of(recipe, rootfs.name)
    return _stage("linux-guest", key, lambda out: [SCRIPTS / "linux-guest.sh", rootfs, out], progress)


def ensure_grub(image: Image, arguments: str, progress: Progress = print) -> tuple[Image, Path]:
    """Return the same image with kernel and GRUB on its base disk, and a disk that starts GRUB from there.

    ``arguments`` stand on the kernel's command line, and in /etc/default/grub. A stage of its own, built in seconds and
    only for those who ask. Raises BuildError.
    """
    rootfs, disk = image.rootfs.parent, image.base_disk.parent
    key = digest_of([SCRIPTS / "grub.sh"], rootfs.name, disk.name, arguments)

    def make(out: Path) -> None:
        command = [SCRIPTS / "grub.sh", rootfs, image.base_disk, out]
        run(command, "laboratory: grub", {"LAB_GRUB_ARGS": arguments})

    made = stage("lab-grub", key, make, progress)
    return replace(image, base_disk=made / "root.img"), made / "boot.img"


def compile_python(image: Image, folder: Path, remote: str) -> None:
    """Write bytecode beside all Python files of a folder that will stand at `remote` in the laboratory host.

    Emulated, each start of a process would compile them anew for seconds. Raises BuildError.
    """
    _script([SCRIPTS / "compile.sh", image.rootfs.parent, folder, remote], f"bytecode for {remote}")


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
    """A stage that one script makes."""
    return stage(f"lab-{name}", key, lambda out: _script(command(out), name), progress)


def _script(command: Sequence[Path | str], name: str) -> None:
    run(command, f"laboratory: {name}", {"LAB_CPU": CPU, "LAB_KERNEL_ARGS": KERNEL_ARGS})


def _python_with_pip() -> str:
    """Find an interpreter that has pip: ours, or the system's for a virtual environment without it."""
    ours = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return sys.executable if ours.returncode == 0 else "python3"


if __name__ == "__main__":
    ensure(lambda line: print(line, flush=True))
