"""What is measured on the whole system: one control plane, one lab host, our programs and others' in turn."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.bench.bed import Bed, gone, ready
from tests.bench.figures import Times, at_most, at_most_times, figure
from tests.bench.watch import Test, Watch
from tests.lab.guests import define, guest_xml
from tests.system.stack import NODE, Stack, assignment

RUNS, STARTS = 11, 3
GUEST, NAME = "bench", "bench"
E1000 = "8086:100e"
FILES = ("virsh_assign.sh", "virsh_release.sh", "floor.py")
SCRIPT = "virsh script"
FLOOR = "its libvirt calls alone"


class Bench:
    """The running system and its two group mates."""

    def __init__(self, stack: Stack) -> None:
        self.bed = Bed(stack, *FILES)
        self.stack, self.lab = stack, stack.lab
        self.device, self.mate = self.lab.find_devices(E1000)
        self.driver = self.lab.driver(self.mate) or ""

    def figures(self) -> list[dict[str, Any]]:
        """All of them, in the order of the table."""
        with (
            Watch(self.stack.plane, "deviceassignments") as assignments,
            Watch(self.stack.plane, "devicehosts") as hosts,
        ):
            starts = [self._start(hosts) for _ in range(STARTS)]
            define(self.lab, GUEST, guest_xml(GUEST))
            self.stack.wait_guest_listed(GUEST)
            found = self._assign_figures(assignments)
            found.append(figure("start of the agent to the DeviceHost's first status", "s", starts))
            return [*found, *self._foreign_figures(hosts)]

    # -- assign and release -------------------------------------------------------------------------------------

    def _assign_figures(self, watch: Watch) -> list[dict[str, Any]]:
        """In turn, so that whatever slows the machine down slows all of them down."""
        times: dict[str, Times] = {key: [] for key in ("a", "r", "script a", "script r", "floor a", "floor r", "MB")}
        for _ in range(RUNS):
            times["a"].append(self._assign(watch))
            times["MB"].append(self.bed.resident_megabytes())
            times["r"].append(self._release(watch))
            with self.bed.agent_asleep():
                times["script a"].append(self._script("virsh_assign.sh", self.device, self.mate))
                times["script r"].append(self._script("virsh_release.sh", self.device, self.mate, self.driver))
                floor = self.bed.run(["python3", "/tmp/floor.py", GUEST, self.device, self.mate, self.driver])
            times["floor a"].append(json.loads(floor)["assign"])
            times["floor r"].append(json.loads(floor)["release"])
        goal = at_most_times(0.9)
        assign, release = "assign: kubectl apply to Ready", "release: kubectl delete to gone"
        return [
            figure(assign, "s", times["a"], (SCRIPT, times["script a"]), goal),
            figure(release, "s", times["r"], (SCRIPT, times["script r"]), goal),
            figure(f"{assign}, beside the floor", "s", times["a"], (FLOOR, times["floor a"])),
            figure(f"{release}, beside the floor", "s", times["r"], (FLOOR, times["floor r"])),
            figure("resident memory of the agent at work", "MB", times["MB"], goal=at_most(100, "MB")),
        ]

    def _assign(self, watch: Watch) -> float:
        """From the start of kubectl to the arrival of Ready=True."""
        self.bed.settle()
        manifest = assignment(NAME, domain=GUEST, address=self.device)
        began = time.monotonic()
        self.stack.apply(manifest)
        seen = watch.wait("Ready=True", began, ready)
        if self.lab.driver(self.mate) != "vfio-pci" or "<hostdev" not in self.lab.virsh("dumpxml", GUEST):
            raise SystemExit("bench: Ready, but the host is not as it should be")
        return seen - began

    def _release(self, watch: Watch) -> float:
        """From the start of kubectl to the arrival of the object's end."""
        self.bed.settle()
        began = time.monotonic()
        self.stack.delete(NAME)
        seen = watch.wait("the object to be gone", began, gone)
        if self.lab.driver(self.mate) != self.driver or "<hostdev" in self.lab.virsh("dumpxml", GUEST):
            raise SystemExit("bench: released, but the host is not as it was")
        return seen - began

    def _script(self, name: str, *addresses: str) -> float:
        return self.bed.timed("bash", f"/tmp/{name}", GUEST, *addresses)

    # -- the agent itself ---------------------------------------------------------------------------------------

    def _start(self, watch: Watch) -> float:
        """From the start of the process (its files are in the page cache) to a DeviceHost with a status."""
        self.stack.stop_agent()
        self.stack.plane.kubectl("delete", "devicehost", NODE)
        began = time.monotonic()
        self.stack.start_agent()

        def written(kind: str, body: dict[str, Any]) -> bool:
            return kind != "DELETED" and bool(body.get("status", {}).get("devices"))

        return watch.wait("the DeviceHost", began, written) - began

    # -- what others do on the host -----------------------------------------------------------------------------

    def _foreign_figures(self, watch: Watch) -> list[dict[str, Any]]:
        """From the return of virsh in the lab host to the DeviceHost that shows what it did."""
        drivers: Times = []
        guests: Times = []
        node_device = "pci_" + re.sub("[:.]", "_", self.mate)
        for number in range(RUNS):
            drivers.append(self._foreign(watch, ["nodedev-detach", node_device], self._mate_has("vfio-pci")))
            self._undo("nodedev-reattach", node_device, self._mate_has(self.driver))
            name = f"foreign{number}"
            self.lab.write(f"/tmp/{name}.xml", guest_xml(name))
            guests.append(self._foreign(watch, ["define", f"/tmp/{name}.xml"], _lists(name)))
            self._undo("undefine", name, _lists(name, listed=False))
        goal = at_most(1, "s")
        return [
            figure("foreign change to status: a driver (nodedev-detach)", "s", drivers, goal=goal),
            figure("foreign change to status: a guest (define)", "s", guests, goal=goal),
        ]

    def _undo(self, command: str, what: str, shows: Test) -> None:
        """Undone and reported: the next change must not be seen in an old report."""
        self.lab.virsh(command, what)
        self.stack.wait(f"the DeviceHost after {command}", lambda: shows("", self.stack.get("devicehost", NODE)))
        self.bed.settle()

    def _mate_has(self, driver: str) -> Test:
        def test(_kind: str, body: dict[str, Any]) -> bool:
            devices = body.get("status", {}).get("devices", [])
            return any(d["address"] == self.mate and d.get("driver") == driver for d in devices)

        return test

    def _foreign(self, watch: Watch, command: list[str], shows: Test) -> float:
        began = time.monotonic()
        self.lab.virsh(*command)
        returned = time.monotonic()
        return max(0.0, watch.wait(f"the DeviceHost after virsh {command[0]}", began, shows) - returned)


def _lists(guest: str, *, listed: bool = True) -> Test:
    def test(_kind: str, body: dict[str, Any]) -> bool:
        return any(g["name"] == guest for g in body.get("status", {}).get("guests", [])) == listed

    return test
