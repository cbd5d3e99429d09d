"""The programs of the test control plane (etcd, kube-apiserver, kubectl), and those that make nodes of machines.

Where ``KUBEBUILDER_ASSETS`` is set (the convention of controller-runtime's envtest) they are taken from
there. Otherwise they are built once from the Go modules pinned in ``control-plane/`` and kept in the user's
cache directory. The programs of nodes are always built.

``python -m tests.cluster.binaries`` prints the folder as its last line, with ``--nodes`` also that of the nodes'
programs; progress goes to standard error.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image.cache import Progress, stage

_SOURCES = Path(__file__).parent / "control-plane"
_VERSION_VARIABLES = "k8s.io/component-base/version"


@dataclass(frozen=True)
class _Program:
    """A program and how it is built; ``seconds`` was measured on two cores with nothing cached."""

    name: str
    package: str
    seconds: int


# kubectl comes after kube-apiserver: its time is what is left once the packages that they share are compiled.
_CONTROL_PLANE = (
    _Program("etcd", "./etcd", 80),
    _Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 350),
    _Program("kubectl", "k8s.io/kubernetes/cmd/kubectl", 35),
)
# Measured once the control plane's were built.
_NODES = (
    _Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", 100),
    _Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 80),
    _Program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 20),
    _Program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 20),
    _Program("kubeadm", "k8s.io/kubernetes/cmd/kubeadm", 20),
)


class BinariesError(RuntimeError):
    """The programs are missing and cannot be built; the message says what to do."""


def ensure(progress: Progress = print) -> Path:
    """Return the folder that holds etcd, kube-apiserver and kubectl, building them the first time.

    A first build takes minutes and needs Go and access to the Go modules; parallel callers wait for each
    other. Raises BinariesError when KUBEBUILDER_ASSETS lacks a program, when there is no ``go``, or when the
    build fails.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return _from_assets(Path(assets))
    return _built("control-plane", _CONTROL_PLANE, progress)


def ensure_nodes(progress: Progress = print) -> Path:
    """Return the folder that holds kubelet, kube-controller-manager, kube-scheduler, kube-proxy and kubeadm.

    As ensure does; they are of the same version as its programs.
    """
    return _built("nodes", _NODES, progress)


def ensure_all(progress: Progress = print) -> tuple[Path, Path]:
    """Return both folders, of one version: built here, whatever KUBEBUILDER_ASSETS says."""
    return _built("control-plane", _CONTROL_PLANE, progress), ensure_nodes(progress)


def _built(name: str, programs: Sequence[_Program], progress: Progress) -> Path:
    # One lock for both: whoever comes second finds the packages that they share compiled.
    return stage(name, _inputs_hash(), lambda out: _build(out, programs, progress), progress, lock="programs")


def _from_assets(folder: Path) -> Path:
    missing = [program.name for program in _CONTROL_PLANE if not os.access(folder / program.name, os.X_OK)]
    if missing:
        message = f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}; unset it to build from source"
        raise BinariesError(message)
    return folder


def _inputs_hash() -> str:
    """Hash all that decides what gets built, so that a changed pin or flag never finds the old programs."""
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.rglob("*")):
        if source.is_file():
            digest.update(f"{source.relative_to(_SOURCES)}\0{source.stat().st_size}\0".encode())
            digest.update(source.read_bytes())
    digest.update(repr((platform.machine(), _build_flags())).encode())
    return digest.hexdigest()[:16]


def _build_flags() -> list[str]:
    return ["-p", "2", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", _linker_flags()]


def _linker_flags() -> str:
    """Stamp the version: without it kube-apiserver calls itself v0.0.0 and its minor version is empty."""
    go_mod = (_SOURCES / "go.mod").read_text(encoding="utf-8")
    pin = re.search(r"^\s*(?:require )?k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)$", go_mod, re.MULTILINE)
    if pin is None:
        message = f"{_SOURCES / 'go.mod'} does not pin k8s.io/kubernetes"
        raise BinariesError(message)
    stamps = {"gitVersion": f"v{'.'.join(pin.groups())}", "gitMajor": pin[1], "gitMinor": pin[2]}
    return " ".join(["-s -w", *(f"-X {_VERSION_VARIABLES}.{key}={value}" for key, value in stamps.items())])


def _build(folder: Path, programs: Sequence[_Program], progress: Progress) -> None:
    go = shutil.which("go")
    if go is None:
        message = (
            "no `go` on PATH, and the test control plane is built with it: install Go 1.26 or newer, "
            "or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl"
        )
        raise BinariesError(message)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    minutes = sum(program.seconds for program in programs) // 60 + 1
    progress(f"once, about {minutes} minutes on two cores")
    for program in programs:
        progress(f"building {program.name} (about {program.seconds} s when nothing is cached)")
        begun = time.monotonic()
        _run([go, "build", *_build_flags(), "-o", str(folder / program.name), program.package], environment)
        progress(f"built {program.name} in {time.monotonic() - begun:.0f} s")


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    process = subprocess.run(
        command, cwd=_SOURCES, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if process.returncode != 0:
        tail = "\n".join(process.stdout.decode(errors="replace").splitlines()[-30:])
        message = f"{' '.join(command)} failed with {process.returncode}:\n{tail}"
        raise BinariesError(message)


def _main() -> None:
    try:
        print(ensure(_tell))
        if "--nodes" in sys.argv[1:]:
            print(ensure_nodes(_tell))
    except BinariesError as error:
        sys.exit(str(error))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    _main()
