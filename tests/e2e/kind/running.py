"""Where the cluster runs: in a docker of our own, or, with KIND=plain, in the one that runs on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from image import build
from image.cache import Progress
from tests.cluster import binaries
from tests.e2e.kind import parts
from tests.e2e.kind.cluster import Kind, plain
from tests.e2e.kind.dockerd import Dockerd

_IMAGE = "hostdev-kind-node:tests"


@contextlib.contextmanager
def running(progress: Progress) -> Iterator[Kind]:
    """A cluster with the project's image on both nodes. Nothing of it is left afterwards."""
    image = build.ensure(progress)
    with tempfile.TemporaryDirectory(prefix="hostdev-kind-") as made:
        folder = Path(made)
        with contextlib.ExitStack() as stack:
            kind = _plain(folder, progress) if plain() else stack.enter_context(_own(folder, progress))
            kind.create()
            if plain():  # our own docker takes everything along
                stack.callback(kind.delete)
            kind.load(image.archive)
            yield kind


def _plain(folder: Path, progress: Progress) -> Kind:
    kind = shutil.which("kind") or str(parts.kind(progress) / "kind")
    kubectl = shutil.which("kubectl") or str(binaries.ensure(progress) / "kubectl")
    return Kind(kind, kubectl, folder, os.environ.get("KIND_NODE_IMAGE"), os.environ, [])


@contextlib.contextmanager
def _own(folder: Path, progress: Progress) -> Iterator[Kind]:
    archive = parts.node_archive(progress)
    programs = binaries.ensure_all(progress)[0]
    place = folder / "docker"
    place.mkdir()
    with Dockerd(place) as docker:
        kind = Kind(
            str(parts.kind(progress) / "kind"),
            str(programs / "kubectl"),
            folder,
            _IMAGE,
            docker.environment(),
            docker.inside(),
        )
        settings = ("ENV container=docker", 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]')
        changes = [word for setting in settings for word in ("--change", setting)]
        kind.docker("import", *changes, str(archive), _IMAGE)
        yield kind
