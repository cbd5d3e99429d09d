"""The manifests that a user has who upgrades."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from hostdev_operator import __version__
from tests.e2e.kind.recorded import REPOSITORY

#: What today's manifests have and, as long as there is no release, those made up here do not.
NEW_FIELD = "driftPolicy"
NEW_POLICIES = "admission-nodes.yaml"


def write_previous(folder: Path) -> tuple[Path, str]:
    """Write them below the folder; returns their development overlay, and the tag that they give to the image.

    They are those of the latest release, by its git tag. There is none yet: until then they are today's, without a
    field of a CRD, without the policies for nodes, with one controller, and with another tag.
    """
    folder.mkdir()
    found = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    if found.returncode == 0:
        tag = found.stdout.decode().strip()
        archive = _git("archive", tag, "crds", "manifests").stdout
        subprocess.run(["tar", "-xC", str(folder)], input=archive, check=True)
        version = tag.removeprefix("v")
    else:
        _make_up(folder)
        version = "0.0.1"
    return folder / "manifests/overlays/development", version


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, check=False)


def _make_up(folder: Path) -> None:
    for name in ("crds", "manifests"):
        shutil.copytree(REPOSITORY / name, folder / name)
    crd = folder / "crds/hostdev.dev_deviceassignments.yaml"
    body = yaml.safe_load(crd.read_text())
    for version in body["spec"]["versions"]:
        del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][NEW_FIELD]
    crd.write_text(yaml.safe_dump(body))
    base = folder / "manifests/base"
    _change(base / "kustomization.yaml", f"  - {NEW_POLICIES}\n", "")
    _change(base / "controller.yaml", "replicas: 2", "replicas: 1")
    for overlay in ("default", "development"):
        path = folder / "manifests/overlays" / overlay / "kustomization.yaml"
        _change(path, f"newTag: {__version__}", "newTag: 0.0.1")


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new))
