"""The installation in the kind cluster: what a user does with it, and what the simulated hosts say of it themselves."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.kind.cluster import CONTROL_PLANE, SYSTEM, WORKER, Body, Kind
from tests.e2e.kind.recorded import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
#: The guests of each node's host. The second one of the worker is named by examples/by-numbers.yaml.
GUESTS: Mapping[str, Mapping[str, str]] = {
    WORKER: {"web": "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11", "db": "22222222-2222-4222-8222-222222222222"},
    CONTROL_PLANE: {"mail": "33333333-3333-4333-8333-333333333333"},
}
_PROGRAM = ("/opt/hostdev-operator/bin/python", "-IB", "-m", "hostdev_operator")


class Installation:
    """What is installed from ``overlay``, a folder."""

    def __init__(self, kind: Kind, overlay: Path) -> None:
        self.kind = kind
        self.overlay = overlay

    def install(self) -> None:
        """As docs/install.md says, and wait until all of it is ready."""
        self.kind.kubectl("apply", "-k", str(self.overlay))
        for node in GUESTS:
            label = "hostdev.node-restriction.kubernetes.io/agent=enabled"
            self.kind.kubectl("label", "--overwrite", "node", node, label)
        self.kind.kubectl("label", "--overwrite", "namespace", "default", "hostdev.dev/assignments=allowed")
        everything = ("hostdev.dev/guests=*", "hostdev.dev/pools=*")
        self.kind.kubectl("annotate", "--overwrite", "namespace", "default", *everything)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Agents and controllers, of the version that was applied last."""
        for workload in ("daemonset/hostdev-agent", "deployment/hostdev-controller"):
            self.kind.kubectl("-n", SYSTEM, "rollout", "status", workload, "--timeout=300s")

    def agent(self, node: str) -> Body:
        """The pod of a node's agent, as long as there is one."""
        label, field = "app.kubernetes.io/component=agent", f"spec.nodeName={node}"
        pods = self.kind.items("pods", "-n", SYSTEM, "-l", label, "--field-selector", field)
        return next(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])

    def simulation(self, node: str, *words: str, stdin: str = "") -> str:
        """What the command `simulation` prints in the agent's pod."""
        pod = self.agent(node)["metadata"]["name"]
        command = ("exec", "-i", "-n", SYSTEM, pod, "--", *_PROGRAM, "simulation", "--state-dir", "/state", *words)
        return self.kind.kubectl(*command, stdin=stdin).stdout

    def host(self, node: str = WORKER) -> Body:
        """The simulated host as it is, and not as a status says."""
        found: Body = json.loads(self.simulation(node, "show"))
        return found

    def drivers(self, *addresses: str, node: str = WORKER) -> list[str | None]:
        """The drivers of these devices."""
        devices = self.host(node)["devices"]
        return [devices[address]["driver"] for address in addresses]

    def apply(self, example: str) -> None:
        """An example, with this cluster's worker in the place of the node that it names."""
        self.kind.kubectl("apply", "-f", "-", stdin=self.text(example))

    def text(self, example: str) -> str:
        """Of an example, as `apply` takes it."""
        text = (EXAMPLES / f"{example}.yaml").read_text()
        return re.sub(r"(?m)^(kind: DeviceHost\nmetadata:\n  name|.*nodeName|.*hostname): lab$", rf"\1: {WORKER}", text)

    def wait_for(self, what: str, reason: str, condition: str = "Ready", namespace: str = "default") -> Body:
        """Until the condition of an object, "KIND/NAME", has this reason; the condition."""
        found: list[Body] = []

        def fits() -> bool:
            conditions = (self.kind.get("-n", namespace, what) or {}).get("status", {}).get("conditions", [])
            found[:] = [one for one in conditions if one["type"] == condition]
            return bool(found) and found[0]["reason"] == reason

        self.kind.wait(f"{condition} of {what} is {reason}", fits)
        return found[0]

    def wait_until_gone(self, what: str, namespace: str = "default") -> None:
        """Until there is no such object."""
        self.kind.wait(f"{what} is gone", lambda: self.kind.get("-n", namespace, what) is None)

    def follow(self, message: str) -> None:
        """Run the command that a condition's message names as the next step."""
        named = re.search(r"kubectl .*? -p '[^']*'", message)
        assert named, message
        self.kind.kubectl(*shlex.split(named[0])[1:])

    def done_again(self, name: str, guest: str, address: str) -> None:
        """On the worker's host, which has begun again as it was recorded, and so without the device in the guest.

        The agent takes that for its own unfinished work, or for drift, which is said, with the command that mends it.
        """

        def has_it() -> bool:
            found: list[str] = self.host()["guests"][guest]["config"]
            return found == [address]

        def drifted() -> bool:
            conditions = (self.kind.get("deviceassignment", name) or {}).get("status", {}).get("conditions", [])
            return any(one["reason"] == "Drifted" for one in conditions)

        self.kind.wait(f"{name} is done again, or drifted", lambda: has_it() or drifted())
        if not has_it():
            self.follow(self.wait_for(f"deviceassignment/{name}", "Drifted")["message"])
        self.wait_for(f"deviceassignment/{name}", "Assigned")
        assert has_it()

    def uid(self, name: str) -> str:
        """Of an assignment."""
        body = self.kind.get("deviceassignment", name)
        assert body
        found: str = body["metadata"]["uid"]
        return found

    def events(self, uid: str) -> set[str]:
        """The reasons of what was told of this object, and of no former one of its name."""
        field = f"involvedObject.uid={uid}"
        return {event["reason"] for event in self.kind.items("events", "-A", "--field-selector", field)}

    def wait_for_events(self, uid: str, *reasons: str) -> None:
        """Until all of this was told of this object."""
        self.kind.wait(f"events {reasons}", lambda: set(reasons) <= self.events(uid))

    def clean(self) -> None:
        """Guests are shut off and let go, objects are deleted; all must be as it was recorded then."""
        for node, guests in GUESTS.items():
            running = self.host(node)["guests"]
            for name in guests:
                if running[name]["running"]:
                    self.simulation(node, "stop", name)
        self.kind.kubectl("delete", "deviceassignments", "--all", "-A", "--timeout=120s")
        self.kind.kubectl("delete", "vfpools", "--all", "--timeout=120s")
        assert self.kind.items("nodevfpools") == []
