"""The container image, built once into the user's cache folder, keyed by all that it is made of.

``python -m image.build`` (``make image``) leaves it in ``build/image``: ``image.tar`` for ``docker load``, ``ctr images
import`` or ``kind load image-archive``, ``sbom.cdx.json``, and ``image.json`` with its name, id and size.

IMAGE_PULL=1 takes the Dockerfile's base from an image registry, as it is there now. Otherwise it is made of Debian
packages. IMAGE_FRESH=1 makes all of it anew, with what Debian has today. SOURCE_DATE_EPOCH is by default when the
image's sources were last committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from image.cache import REPOSITORY, BuildError, Progress, cache_folder, digest_of, forget, locked, run, stage

HERE = Path(__file__).resolve().parent
SUITE = "trixie"
#: What the image is made of, as .dockerignore lets it in, and what makes it.
SOURCES = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements.lock",
    "image",
    "operator",
)

#: Finished images in the cache, of 190 MB each.
_KEPT = 4


@dataclass(frozen=True)
class Image:
    """A built image. ``name`` has its tag; ``id`` is the digest of its configuration, which names all layers."""

    archive: Path
    sbom: Path
    name: str
    id: str
    bytes: int


def ensure(progress: Progress = print) -> Image:
    """Return the image of this tree, built if it is not there. Needs root and the package registries for that.

    Raises BuildError.
    """
    stamps, store = _stamps(), cache_folder() / "image-store"
    _tools(progress)
    base = _base(progress)
    with locked("image-store", progress):
        if _fresh():  # build.sh takes no layers from before then
            store.with_suffix(".epoch").unlink(missing_ok=True)
        # Made or pulled anew, the base may have other packages than before.
        made_of = base.with_suffix(".sha256").read_text() if base else _pull(store, stamps)
        key = digest_of(_files(), json.dumps(stamps), made_of)
        folder = stage("image", key, lambda out: _build(out, store, base, stamps), progress, anew=_fresh())
    forget(folder, _KEPT)
    return _image(folder)


def build_anew(out: Path, store: Path, progress: Progress = print) -> Image:
    """Build once more, into the folder ``out``, with nothing from before: ``store`` is a folder that is empty."""
    stamps = _stamps()
    _tools(progress)
    base = _base(progress)
    if base is None:
        _pull(store, stamps)
    _build(out, store, base, stamps)
    return _image(out)


def _fresh() -> bool:
    return bool(os.environ.get("IMAGE_FRESH"))


def _tools(progress: Progress) -> None:
    """On this machine: what is taken from the cache needs them as well, to be run."""
    with locked("image-tools", progress):
        run([HERE / "tools.sh"], "tools", {})


def _image(folder: Path) -> Image:
    made = json.loads((folder / "image.json").read_text())
    return Image(folder / "image.tar", folder / "sbom.cdx.json", made["name"], made["id"], made["bytes"])


def _base(progress: Progress) -> Path | None:
    """The archive of the base image; None: it is pulled."""
    if os.environ.get("IMAGE_PULL"):
        return None
    key = digest_of([HERE / "base.sh"], SUITE, platform.machine())

    def make(out: Path) -> None:
        run([HERE / "base.sh", SUITE, out], "base", {"SOURCE_DATE_EPOCH": "0"})
        with (out / "base.tar").open("rb") as stream:
            (out / "base.sha256").write_text(hashlib.file_digest(stream, "sha256").hexdigest())

    return stage("image-base", key, make, progress, anew=_fresh()) / "base.tar"


def _pull(store: Path, stamps: Mapping[str, str]) -> str:
    """The Dockerfile's base as the registry has it now, into the store; its ID."""
    return run([HERE / "pull.sh", store], "pull", stamps).split()[-1]


def _build(out: Path, store: Path, base: Path | None, stamps: Mapping[str, str]) -> None:
    command = [HERE / "build.sh", out, store, base or "pull", _sbom_tools()]
    run(command, "image", stamps)


def _sbom_tools() -> Path:
    """A Python environment with what requirements-sbom.lock names."""
    lock = HERE / "requirements-sbom.lock"

    def make(out: Path) -> None:
        run([sys.executable, "-m", "venv", out], "environment", {})
        run([out / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock], "SBOM tools", {})
        # The programs name their interpreter by its path, and the folder gets another name.
        for program in ("debsbom", "cyclonedx-py"):
            module = {"debsbom": "debsbom.cli", "cyclonedx-py": "cyclonedx_py"}[program]
            call = f'exec "$(dirname "$0")/python" -m {module} "$@"'
            (out / "bin" / program).write_text(f"#!/bin/sh\n{call}\n")

    return stage("image-sbom", digest_of([lock], sys.version), make, lambda _line: None)


def _stamps() -> dict[str, str]:
    """Version, revision and time. Only commits that touch the sources count, so that others change nothing."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    epoch, _, revision = _git("log", "-1", "--format=%ct %H", "--", *SOURCES).partition(" ")
    if revision and _git("status", "--porcelain", "--", *SOURCES):
        revision += "-dirty"
    return {
        "VERSION": project["version"],
        "REVISION": revision,
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or epoch or "0",
    }


def _git(*words: str) -> str:
    """Empty where there is no git or no repository: an unpacked release."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _files() -> list[Path]:
    found = [path for name in SOURCES for path in [REPOSITORY / name, *(REPOSITORY / name).rglob("*")]]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _main() -> None:
    try:
        image = ensure(lambda line: print(line, flush=True))
    except BuildError as error:
        sys.exit(str(error))
    shown = REPOSITORY / "build/image"
    shown.parent.mkdir(exist_ok=True)
    shown.unlink(missing_ok=True)
    shown.symlink_to(image.archive.parent)
    print(f"{image.name} {image.id}, {image.bytes / 1e6:.0f} MB: build/image/image.tar, build/image/sbom.cdx.json")


if __name__ == "__main__":
    _main()
