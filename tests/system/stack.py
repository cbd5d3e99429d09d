"""The whole system: control plane and controller on this machine, the agent in the laboratory host.

Agent and controller run with the roles that manifests/base ships; the agent's token is bound to a pod on its node, as
a kubelet would give it. The administrator's token is the tests' own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import processes
from tests.cluster.controlplane import ControlPlane
from tests.lab.host import LabHost
from tests.lab.process import Process

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "hostdev-system"
NODE = "lab"
AGENT_USER = f"system:serviceaccount:{NAMESPACE}:hostdev-agent"
CONTROLLER_USER = f"system:serviceaccount:{NAMESPACE}:hostdev-controller"

_KUBECONFIG = "/etc/hostdev-operator/kubeconfig"
_SOURCE = "/opt/hostdev-operator"
_PREPARED = "/opt/prepared_agent.py"
#: What the DaemonSet's securityContext gives: uid 0, NET_ADMIN, no new privileges, nothing else.
_PRIVILEGES = "setpriv --bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs"


class StackError(AssertionError):
    """Something that was waited for did not come; the message has what was seen instead."""


@dataclass(frozen=True)
class PreparedAgent:
    """It starts when the file ``go`` appears in the lab host."""

    process: Process
    go: str


@dataclass
class Stack:
    """Control plane, controller, laboratory host and agent.

    Another node of the same cluster is another stack: its own host and ``node``, ``install_agent`` and ``start_agent``.
    """

    plane: ControlPlane
    lab: LabHost
    folder: Path
    node: str = NODE
    agent: Process | None = None
    _controller: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _controllers_kubeconfig: Path | None = field(default=None, repr=False)
    _prepared: int = 0

    @classmethod
    def start(cls, folder: Path, lab: LabHost, plane: ControlPlane) -> Self:
        """Install CRDs and roles, start the controller, put the code into the lab host and start the agent."""
        stack = cls(plane, lab, folder)
        stack.install()
        stack.start_controller()
        stack.start_agent()
        return stack

    def install(self) -> None:
        """`kubectl apply -k manifests/base`, and the agent's kubeconfig and code in the lab host.

        The namespace default is allowed everything before the policies are there, which take effect a moment later.
        """
        self.plane.allow("default")
        self.plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "manifests/base"))
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self.install_agent()

    def install_agent(self) -> None:
        """The agent's kubeconfig and code in the lab host."""
        self.put_kubeconfig(self.node, _KUBECONFIG)
        self.lab.put_python(REPOSITORY / "operator", _SOURCE)
        self.lab.put(REPOSITORY / "tests/system/prepared_agent.py", _PREPARED)

    def put_kubeconfig(self, node: str, path: str) -> None:
        """Into the lab host, with a token that is good for this node alone."""
        token = self.plane.pod_bound_token(NAMESPACE, "hostdev-agent", f"agent-{node}", node)
        self.lab.put(self.plane.kubeconfig(f"agent-{node}", token, self.plane.guest_url), path)

    # -- programs -----------------------------------------------------------------------------------------------

    def start_controller(self) -> None:
        """Run the controller on this machine. Its token is made once: the API server may be away by now."""
        if self._controllers_kubeconfig is None:
            token = self.plane.service_account_token(NAMESPACE, "hostdev-controller")
            self._controllers_kubeconfig = self.plane.kubeconfig("controller", token)
        kubeconfig = str(self._controllers_kubeconfig)
        environment = {**os.environ, "KUBECONFIG": kubeconfig, "PYTHONPATH": str(REPOSITORY / "operator")}
        with self.controller_log.open("ab") as log:
            self._controller = processes.die_with_parent(
                [sys.executable, "-m", "hostdev_operator", "controller", "--probe-port", "0"],
                cwd=self.folder,
                env=environment,
                stdout=log,
            )

    @property
    def controller_log(self) -> Path:
        """What the controller printed."""
        return self.folder / "controller.log"

    def stop_controller(self) -> None:
        """End the controller in order."""
        if self._controller:
            processes.end(self._controller, 20)
            self._controller = None

    def start_agent(self, environment: Mapping[str, str] | None = None, arguments: str = "") -> Process:
        """Run the agent in the lab host with the DaemonSet's privileges, and no more."""
        self.agent = self._spawn_agent(f"-m hostdev_operator agent --node-name {self.node} {arguments}", environment)
        return self.agent

    def prepare_agent(self, environment: Mapping[str, str] | None = None) -> PreparedAgent:
        """An agent that has loaded its code and waits for the word to start: saves 10 s after each crash."""
        self._prepared += 1
        go = f"/tmp/agent-{self._prepared}.go"
        process = self._spawn_agent(f"{_PREPARED} {go} agent --node-name {self.node}", environment)
        return PreparedAgent(process, go)

    def start_prepared(self, prepared: PreparedAgent) -> Process:
        """Let it run."""
        self.lab.write(prepared.go, "")
        self.agent = prepared.process
        return self.agent

    def _spawn_agent(self, python_arguments: str, environment: Mapping[str, str] | None) -> Process:
        variables = {"KUBECONFIG": _KUBECONFIG, "PYTHONPATH": _SOURCE, **(environment or {})}
        return self.lab.spawn(f"exec {_PRIVILEGES} python3 {python_arguments}", "agent", variables)

    def stop_agent(self) -> None:
        """End the agent in order, so that it gives its lock up."""
        if self.agent and self.agent.alive():
            self.agent.kill(15)
            self.agent.wait(60)

    def restart_agent(self, environment: Mapping[str, str] | None = None) -> Process:
        """End the agent and start a new one."""
        self.stop_agent()
        return self.start_agent(environment)

    def revive(self) -> None:
        """After the laboratory was lost: its power off and on, and an agent; its disks are those of a power cut."""
        self.lab.power_cut()
        self.lab.power_on()
        self.install_agent()
        self.start_agent()

    def stop(self) -> None:
        """End the controller; lab and control plane belong to whoever made them."""
        self.stop_controller()

    def __enter__(self) -> Self:
        """The running system."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End what was started here."""
        self.stop()

    # -- resources ----------------------------------------------------------------------------------------------

    def apply(self, manifest: str) -> None:
        """`kubectl apply -f -`."""
        self.plane.kubectl("apply", "-f", "-", stdin=manifest)

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object of ours, or None."""
        scope = "/namespaces/default" if kind == "deviceassignment" else ""
        return self.plane.read(f"/apis/hostdev.dev/v1alpha1{scope}/{kind}s/{name}")

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object of ours, which must exist."""
        body = self.find(kind, name)
        if body is None:
            raise StackError(f"there is no {kind} {name}\n{self.describe()}")
        return body

    def exists(self, kind: str, name: str) -> bool:
        """Whether the object is there."""
        return self.find(kind, name) is not None

    def assignments(self) -> list[dict[str, Any]]:
        """All of them."""
        body = self.plane.read("/apis/hostdev.dev/v1alpha1/deviceassignments") or {}
        return list(body.get("items", []))

    def pools(self) -> list[dict[str, Any]]:
        """All VFPools."""
        body = self.plane.read("/apis/hostdev.dev/v1alpha1/vfpools") or {}
        return list(body.get("items", []))

    def guests(self) -> list[dict[str, Any]]:
        """All Guests."""
        body = self.plane.read("/apis/hostdev.dev/v1alpha1/guests") or {}
        return list(body.get("items", []))

    def host_condition(self, kind: str) -> str | None:
        """The status of one of the DeviceHost's conditions."""
        conditions = self.get("devicehost", self.node).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == kind), None)

    def delete(self, name: str) -> None:
        """Ask for the deletion of an assignment, without waiting for it."""
        self.plane.kubectl("delete", "deviceassignment", name, "--wait=false")

    def remove(self, kind: str, name: str, seconds: float = 120) -> None:
        """Delete an object, and wait until it is gone for good."""
        self.plane.kubectl("delete", kind, name, "--wait=false")
        self.wait(f"{kind} {name} to be gone", lambda: not self.exists(kind, name), seconds)

    def patch(self, name: str, change: dict[str, Any], kind: str = "deviceassignment") -> None:
        """`kubectl patch --type merge`."""
        self.plane.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(change))

    def condition(self, name: str, kind: str = "Ready", of: str = "deviceassignment") -> dict[str, str]:
        """One condition of an object; empty if it is not there."""
        body = self.find(of, name) or {}
        conditions = body.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def wait(self, what: str, test: Callable[[], object], seconds: float = 120) -> None:
        """Wait until a test is true, looking several times a second; StackError with what there was instead."""
        deadline = time.monotonic() + seconds
        while not test():
            if time.monotonic() > deadline:
                self.lab.run("true", timeout=30)  # one that does not answer is the reason
                raise StackError(f"not within {seconds:.0f} s: {what}\n{self.describe()}")
            if self._controller and self._controller.poll() is not None:
                if "the Lease is lost" in self.controller_log.read_text()[-3000:]:
                    self.start_controller()  # as a kubelet does: it ends when the API server is away for long
                    continue
                raise StackError(f"the controller ended:\n{self.controller_log.read_text()[-3000:]}")
            time.sleep(0.1)

    def wait_condition(self, name: str, kind: str, status: str, reason: str | None = None, seconds: float = 120) -> str:
        """Wait until a condition is as stated; returns its message."""

        def test() -> bool:
            found = self.condition(name, kind)
            return found.get("status") == status and reason in (None, found.get("reason"))

        self.wait(f"{name}: {kind}={status} {reason or ''}", test, seconds)
        return self.condition(name, kind).get("message", "")

    def wait_guest(self, name: str, reason: str, kind: str = "Ready", seconds: float = 120) -> str:
        """Wait until a Guest's condition has a reason; returns its message."""
        what = f"Guest {name}: {kind}: {reason}"
        self.wait(what, lambda: self.condition(name, kind, "guest").get("reason") == reason, seconds)
        return self.condition(name, kind, "guest").get("message", "")

    def wait_gone(self, name: str, seconds: float = 120) -> None:
        """Wait until an assignment is deleted for good."""
        self.wait(f"{name} to be gone", lambda: not self.exists("deviceassignment", name), seconds)

    def wait_host(self, seconds: float = 180) -> dict[str, Any]:
        """Wait until the node's DeviceHost is written; returns its status."""
        self.wait("the DeviceHost", lambda: (self.find("devicehost", self.node) or {}).get("status"), seconds)
        status: dict[str, Any] = self.get("devicehost", self.node)["status"]
        return status

    def wait_guest_listed(self, name: str, seconds: float = 180) -> None:
        """Wait until the DeviceHost lists a guest."""

        def test() -> bool:
            guests = self.get("devicehost", self.node).get("status", {}).get("guests", [])
            return any(g["name"] == name for g in guests)

        self.wait(f"guest {name} in the DeviceHost", test, seconds)

    def describe(self) -> str:
        """Everything that explains a failure: the end of both logs, the guests as libvirt sees them, objects."""
        agent = self.agent.log()[-6000:] if self.agent else ""
        controller = self.controller_log.read_text()[-2000:] if self.controller_log.exists() else ""
        guests = self.lab.run("timeout 20 virsh list --all", check=False).stdout
        kinds = "deviceassignments,vfpools,nodevfpools,guests"
        objects = self.plane.kubectl("get", kinds, "-A", "-o", "yaml", check=False).stdout
        return f"--- agent\n{agent}\n--- controller\n{controller}\n--- guests\n{guests}\n--- objects\n{objects}"


def assignment(name: str, *, domain: str | None = None, address: str | None = None, **spec: Any) -> str:
    """A DeviceAssignment as kubectl takes it; ``spec`` are more fields, named as on the wire."""
    source = {"source": {"pci": {"address": address}}} if address else {}
    guest = {"domain": {"name": domain}} if domain else {}
    body = {
        "apiVersion": "hostdev.dev/v1alpha1",
        "kind": "DeviceAssignment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**guest, **source, **spec},
    }
    return json.dumps(body)
