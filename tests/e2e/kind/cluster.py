"""A kind cluster of two nodes, from its creation to its deletion, and what tests ask of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Body = dict[str, Any]

NAME = "hostdev"
CONTROL_PLANE = f"{NAME}-control-plane"
WORKER = f"{NAME}-worker"
SYSTEM = "hostdev-system"
_SECONDS = 300.0
#: Both nodes run everything. Nobody asks for names, so there is no CoreDNS. A node that is lost is noticed sooner.
_INIT = """
kind: InitConfiguration
nodeRegistration: {taints: []}
skipPhases: [preflight, addon/coredns]
"""
_CLUSTER = """
kind: ClusterConfiguration
controllerManager:
  extraArgs: [{name: node-monitor-grace-period, value: 20s}]
"""
_KUBELET = """
kind: KubeletConfiguration
failCgroupV1: false
"""


class CommandError(RuntimeError):
    """A command failed; the message has its words and what it printed."""


class Kind:
    """The cluster. ``image``: of its nodes; None: kind's own. ``inside``: words before a command in its network."""

    def __init__(
        self,
        kind: str,
        kubectl: str,
        folder: Path,
        image: str | None,
        environment: Mapping[str, str],
        inside: Sequence[str],
    ) -> None:
        self._kind = kind
        self._kubectl = kubectl
        self._folder = folder
        self._image = image
        self._environment = dict(environment)
        self._inside = list(inside)
        self._kubeconfig = folder / "kubeconfig"

    def create(self) -> None:
        """And wait until both nodes are ready. Raises CommandError."""
        network = {"disableDefaultCNI": True} if self._inside else {}
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane"}, {"role": "worker"}],
            "networking": {**network, "kubeProxyMode": "iptables"},
            "kubeadmConfigPatches": [_INIT, _CLUSTER, _KUBELET],
        }
        path = self._folder / "cluster.yaml"
        path.write_text(yaml.safe_dump(config))
        image = ["--image", self._image] if self._image else []
        self._run([self._kind, "create", "cluster", *self._named(), "--config", str(path), *image, "--wait", "300s"])

    def delete(self) -> None:
        """With its nodes."""
        self._run([self._kind, "delete", "cluster", *self._named()])

    def load(self, archive: Path) -> None:
        """Give both nodes an image."""
        self._run([self._kind, "load", "image-archive", str(archive), "--name", NAME])

    def docker(self, *words: str) -> str:
        """What docker prints."""
        return self._run(["docker", *words]).stdout

    def network(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in docker's network, where a fence is seen from; it may fail."""
        return self._run([*self._inside, *words], check=False)

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """As the cluster's administrator. Raises CommandError if it fails, unless ``check`` is False."""
        command = [*self._inside, self._kubectl, "--kubeconfig", str(self._kubeconfig), *words]
        return self._run(command, stdin=stdin, check=check)

    def get(self, *words: str) -> Body | None:
        """An object, or a list of objects; None if it is not there."""
        shown = self.kubectl("get", *words, "--ignore-not-found", "-o", "json").stdout
        body: Body | None = json.loads(shown) if shown else None
        return body

    def items(self, *words: str) -> list[Body]:
        """The objects of a list."""
        found: list[Body] = (self.get(*words) or {}).get("items", [])
        return found

    def wait(self, what: str, fits: Callable[[], bool], seconds: float = _SECONDS) -> None:
        """Until it is so."""
        deadline = time.monotonic() + seconds
        while not fits():
            if time.monotonic() > deadline:
                shown = self.kubectl("get", "nodes,pods,deviceassignments,vfpools", "-A", "-o", "wide", check=False)
                raise AssertionError(f"{what}: not so after {seconds:.0f} s\n{shown.stdout}\n{shown.stderr}")
            time.sleep(0.2)

    def _named(self) -> list[str]:
        return ["--name", NAME, "--kubeconfig", str(self._kubeconfig)]

    def _run(self, command: Sequence[str], stdin: str = "", *, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=2 * _SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            shown = f"{' '.join(command)} failed with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise CommandError(shown)
        return done


def plain() -> bool:
    """Whether the user's own docker and kind's own node image are taken."""
    return os.environ.get("KIND") == "plain"
