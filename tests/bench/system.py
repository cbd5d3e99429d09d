"""What is measured on the whole system: one control plane, one lab host, our programs and others' in turn."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.figures import Times, at_most, at_most_times, figure
from tests.bench.watch import Test, Watch
from tests.lab.guests import define, guest_xml
from tests.lab.host import LabHost
from tests.system.stack import NODE, Stack, assignment

RUNS, STARTS = 7, 3
GUEST, NAME = "bench", "bench"
E1000 = "8086:100e"
FOLDER = Path(__file__).resolve().parent
FILES = ("virsh_assign.sh", "virsh_release.sh", "floor.py")
SCRIPT = "virsh script"
FLOOR = "its libvirt calls alone"
# Kernel ticks (1/100 s) of the agent's processor time in half a second: below it, it is at rest.
QUIET_TICKS = 3


class Bench:
    """The running system and its two group mates."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.lab: LabHost = stack.lab
        self.device, self.mate = self.lab.find_devices(E1000)
        self.driver = self.lab.driver(self.mate) or ""
        for file in FILES:
            self.lab.put(FOLDER / file, f"/tmp/{file}")

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
            times["MB"].append(self._resident_megabytes())
            times["r"].append(self._release(watch))
            with self._agent_asleep():
                times["script a"].append(self._script("virsh_assign.sh", self.device, self.mate))
                times["script r"].append(self._script("virsh_release.sh", self.device, self.mate, self.driver))
                floor = self._run(["python3", "/tmp/floor.py", GUEST, self.device, self.mate, self.driver])
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
        self._settle()
        manifest = assignment(NAME, domain=GUEST, address=self.device)
        began = time.monotonic()
        self.stack.apply(manifest)

        def ready(_kind: str, body: dict[str, Any]) -> bool:
            conditions = body.get("status", {}).get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        seen = watch.wait("Ready=True", began, ready)
        if self.lab.driver(self.mate) != "vfio-pci" or "<hostdev" not in self.lab.virsh("dumpxml", GUEST):
            raise SystemExit("bench: Ready, but the host is not as it should be")
        return seen - began

    def _release(self, watch: Watch) -> float:
        """From the start of kubectl to the arrival of the object's end."""
        self._settle()
        began = time.monotonic()
        self.stack.delete(NAME)
        seen = watch.wait("the object to be gone", began, lambda kind, _: kind == "DELETED")
        if self.lab.driver(self.mate) != self.driver or "<hostdev" in self.lab.virsh("dumpxml", GUEST):
            raise SystemExit("bench: released, but the host is not as it was")
        return seen - began

    def _script(self, name: str, *addresses: str) -> float:
        """Taken in the lab host, around the script alone: the way into the lab host is the test's, not virsh's."""
        timed = 'a=$EPOCHREALTIME; bash "$@" > /dev/null || exit; b=$EPOCHREALTIME; echo $a $b'
        began, ended = self._run(["bash", "-c", timed, "-", f"/tmp/{name}", GUEST, *addresses]).split()
        return float(ended) - float(began)

    def _run(self, command: list[str]) -> str:
        return self.lab.run(command).stdout

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

    def _agent_pid(self) -> str:
        return self._run(["pgrep", "-o", "-f", "hostdev_operator agent"]).strip()

    def _resident_megabytes(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", self.lab.read(f"/proc/{self._agent_pid()}/status"))
        return int(found[1]) * 1024 / 1e6 if found else float("inf")

    @contextmanager
    def _agent_asleep(self) -> Iterator[None]:
        """While the references run: an administrator's host has no agent that works beside virsh."""
        self._settle()
        if self.stack.agent is None:
            raise SystemExit("bench: there is no agent")
        self.stack.agent.kill(signal.SIGSTOP)
        try:
            yield
        finally:
            self.stack.agent.kill(signal.SIGCONT)

    def _settle(self) -> None:
        """Wait until the agent has looked at what was done before: hardly any processor time in half a second."""
        stat = f"/proc/{self._agent_pid()}/stat"
        script = f"t() {{ set -- $(cat {stat}); echo $((${{14}} + ${{15}})); }}; a=$(t); sleep 0.5; echo $(($(t) - a))"
        deadline = time.monotonic() + 60
        while int(self._run(["bash", "-c", script])) >= QUIET_TICKS:
            if time.monotonic() > deadline:
                raise SystemExit("bench: the agent does not come to rest")

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
        self._settle()

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
