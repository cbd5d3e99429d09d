"""The operator as its users install it: `kubectl apply -k`, its pods on the lab host as a node of the cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from image import build
from image.cache import Progress
from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.daemonset.managers import Managers
from tests.daemonset.node import IMAGES, PROGRAMS, Node
from tests.lab.host import LabHost
from tests.system.stack import NAMESPACE, NODE, REPOSITORY, Stack

OVERLAY = str(REPOSITORY / "manifests/overlays/default")
LABEL = "hostdev.node-restriction.kubernetes.io/agent"
#: Until pods run under emulation, while the machine is busy with other tests.
SECONDS = 600.0
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"


@dataclass
class Installed(Stack):
    """What tests ask a running system, of pods instead of processes."""

    node_host: Node | None = None
    managers: Managers | None = None

    def install(self) -> None:
        """As the README says, without any change; then until everything runs."""
        self.plane.allow("default")
        self.apply_overlay()
        self.plane.kubectl("label", "--overwrite", "node", NODE, f"{LABEL}=enabled")
        self.wait_rolled_out()

    def apply_overlay(self) -> None:
        """The command of the README."""
        self.plane.kubectl("apply", "-k", OVERLAY)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Of the agent or of the controller."""
        found = self.plane.read(f"{_PODS}?labelSelector=app.kubernetes.io/component={component}") or {}
        return list(found.get("items", []))

    def agent_pod(self) -> dict[str, Any]:
        """The only one."""
        (pod,) = self.pods("agent")
        return pod

    def rolled_out(self) -> bool:
        """Whether the newest DaemonSet runs on the one node, and both controllers."""
        agents = self.plane.read(f"{_APPS}/daemonsets/hostdev-agent")
        controllers = self.plane.read(f"{_APPS}/deployments/hostdev-controller")
        if not agents or not controllers:
            return False
        told = agents.get("status", {})
        newest = told.get("observedGeneration") == agents["metadata"]["generation"]
        ready = told.get("updatedNumberScheduled") == told.get("numberReady") == 1
        return (
            newest
            and ready
            and controllers.get("status", {}).get("readyReplicas") == 2
            and len(self.pods("agent")) == 1
        )

    def wait_rolled_out(self) -> None:
        """Until all pods of the newest manifests are ready."""
        self.wait("the pods to be ready", self.rolled_out, SECONDS)

    def agent_pids(self) -> list[int]:
        """The agents' processes, by the lab host's own /proc."""
        return [int(pid) for pid in self.lab.run("pgrep -f 'hostdev_operator agent'", check=False).stdout.split()]

    def agent_log(self) -> str:
        """What agents have printed, of all their pods."""
        return self.lab.run(f"cat /var/log/pods/{NAMESPACE}_hostdev-agent-*/agent/*.log", check=False).stdout

    def describe(self) -> str:
        """Everything that explains a failure."""
        pods = self.plane.kubectl("describe", "pods", "-n", NAMESPACE, check=False).stdout[-12000:]
        logs = self.lab.run(f"tail -n 25 /var/log/pods/{NAMESPACE}_*/*/*.log", check=False).stdout[-12000:]
        kubelet = self.node_host.processes["kubelet"].log()[-4000:] if self.node_host else ""
        managers = self.managers.describe() if self.managers else ""
        kinds = "nodes,deviceassignments,vfpools,nodevfpools"
        objects = self.plane.kubectl("get", kinds, "-A", "-o", "yaml", check=False).stdout
        guests = self.lab.run("timeout 20 virsh list --all", check=False).stdout
        return f"--- pods\n{pods}\n--- logs\n{logs}\n--- kubelet\n{kubelet}\n{managers}\n{guests}\n{objects}"

    def revive(self) -> None:
        """After the laboratory was lost: its power off and on. Pods come back by themselves."""
        self.lab.power_cut()
        self.lab.power_on()
        assert self.node_host
        self.node_host.start()
        self.wait_rolled_out()

    def clean(self) -> None:
        """Guests off, everything released, guests undefined."""
        self.lab.run("for g in $(virsh -q list --name); do virsh -q destroy $g; done")
        for kind, there in (("deviceassignments", self.assignments), ("vfpools", self.pools)):
            if there():
                self.plane.kubectl("delete", kind, "--all", "--wait=false")
                self.wait(f"all {kind} to be gone", partial(_none, there), 300)
        self.lab.run("for g in $(virsh -q list --all --name); do virsh -q undefine $g; done")


@contextmanager
def cluster(folder: Path, progress: Progress = print) -> Iterator[Installed]:
    """Control plane, managers, and the lab host as its node; nothing is installed."""
    programs, nodes = binaries.ensure(progress), binaries.ensure_nodes(progress)
    shown = {"/share": folder / "share", PROGRAMS: nodes, IMAGES: build.ensure(progress).archive.parent}
    with (
        ControlPlane.start(folder / "control-plane", programs, nodes=(NODE,)) as plane,
        Managers(plane, nodes, folder) as managers,
        LabHost.boot(folder / "lab", share=shown) as lab,
    ):
        node = Node(lab, plane, NODE)
        node.start()
        made = Installed(plane, lab, folder, node_host=node, managers=managers)
        made.wait("the node to join", lambda: _ready(plane), SECONDS)
        yield made


def _none(there: Callable[[], list[Any]]) -> bool:
    return not there()


def _ready(plane: ControlPlane) -> bool:
    node = plane.read(f"/api/v1/nodes/{NODE}") or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def status_of(lab: LabHost, pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = lab.read(f"/proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def mounts_of(lab: LabHost, pid: int) -> dict[str, str]:
    """Mount point -> options, of a process's own mount namespace."""
    found = re.findall(r"^\S+ \S+ \S+ \S+ (\S+) (\S+)", lab.read(f"/proc/{pid}/mountinfo"), re.MULTILINE)
    return dict(found)


def uids(pods: list[dict[str, Any]]) -> set[str]:
    """Of pods."""
    return {pod["metadata"]["uid"] for pod in pods}
