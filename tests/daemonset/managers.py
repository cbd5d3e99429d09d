"""kube-controller-manager and kube-scheduler, beside the control plane: pods are made, placed, and cleared away."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import processes
from tests.cluster.controlplane import ControlPlane

#: What an installation needs: its workloads, tokens for pods, the deletion of namespaces and of what has no owner.
_CONTROLLERS = (
    *("daemonset", "deployment", "replicaset", "disruption", "serviceaccount", "root-ca-certificate-publisher"),
    *("namespace", "garbage-collector", "pod-garbage-collector", "node-lifecycle"),
)
_SECONDS = 10.0


class Managers:
    """They run while the block is entered that this is entered for; from the main thread."""

    def __init__(self, plane: ControlPlane, programs: Path, folder: Path) -> None:
        self._folder = folder
        common = [f"--kubeconfig={plane.admin_kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        self._commands = {
            "kube-scheduler": [str(programs / "kube-scheduler"), *common],
            "kube-controller-manager": [
                str(programs / "kube-controller-manager"),
                *common,
                f"--root-ca-file={plane.ca_file}",
                f"--controllers={','.join(f'{name}-controller' for name in _CONTROLLERS)}",
                # An emulated node on a busy machine may be late.
                "--node-monitor-grace-period=5m",
            ],
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start both."""
        for name, command in self._commands.items():
            with self.log(name).open("ab") as log:
                self._running.append(processes.die_with_parent(command, cwd=self._folder, stdout=log))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End both."""
        for process in self._running:
            processes.end(process, _SECONDS)

    def log(self, name: str) -> Path:
        """What one of them printed."""
        return self._folder / f"{name}.log"

    def describe(self) -> str:
        """The end of both logs."""
        return "".join(f"--- {name}\n{self.log(name).read_text()[-3000:]}\n" for name in self._commands)
