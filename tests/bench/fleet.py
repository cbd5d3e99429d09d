"""`make bench-fleet`: a fleet of nodes on the real API server, with the real controller; their agents are played.

Figures go to build/fleet.json and a table. FLEET_NODES and FLEET_EACH change the fleet's size (1000 nodes with 10
assignments each).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.bench.figures import at_most, at_most_times, figure, table
from tests.bench.fleet_api import Api, Bound, assignment, device_host, node_name
from tests.cluster import binaries, processes
from tests.cluster.controlplane import ControlPlane

REPOSITORY = Path(__file__).resolve().parents[2]
RESULT = REPOSITORY / "build/fleet.json"
NODES, EACH = int(os.environ.get("FLEET_NODES", "1000")), int(os.environ.get("FLEET_EACH", "10"))
SMALL = 10
CONTROLLER = "system:serviceaccount:hostdev-system:hostdev-controller"
IDLE_SECONDS = 60.0
_WATCHED_SECONDS = 15.0
#: Creating and binding are limited by the API server, on a machine that may be busy.
_DEADLINE = 1800.0


class Controller:
    """The real one, as a process of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        token = plane.service_account_token("hostdev-system", "hostdev-controller")
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig("controller", token)),
            "PYTHONPATH": str(REPOSITORY / "operator"),
        }
        self._folder = plane.folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        with (self._folder / "controller.log").open("ab") as log:
            self._process = processes.die_with_parent(
                [sys.executable, "-m", "hostdev_operator", "controller", "--probe-port", "0"],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End it in order, so that it gives its Lease up."""
        if self._process:
            processes.end(self._process, 30)

    def _proc(self, name: str) -> str:
        assert self._process
        return Path(f"/proc/{self._process.pid}/{name}").read_text()

    @property
    def megabytes(self) -> float:
        """Its largest resident memory so far."""
        line = next(line for line in self._proc("status").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def populate(api: Api, nodes: Iterable[int]) -> float:
    """Nodes with their DeviceHosts, then their assignments; the seconds that the latter took."""
    numbers = list(nodes)
    await api.all(api.node(node_name(n), device_host(n, EACH)) for n in numbers)
    began = time.monotonic()
    await api.all(api.create(assignment(n, g)) for n in numbers for g in range(EACH))
    return time.monotonic() - began


async def bytes_of_an_agent(api: Api, others: Iterable[int]) -> int:
    """What the agent of node 0 is sent: its lists, and its watches while agents of other nodes report."""
    async with api.agent_of(node_name(0)) as counted:
        await api.all(api.report(n) for n in others)
        await asyncio.sleep(_WATCHED_SECONDS)
        return counted.bytes


@asynccontextmanager
async def watching(api: Api) -> AsyncIterator[Bound]:
    """Which assignments are bound."""
    bound = Bound()
    task = asyncio.create_task(api.watch_bindings(bound))
    try:
        yield bound
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def within(wait: Awaitable[None]) -> float:
    """The seconds that it took."""
    began = time.monotonic()
    await asyncio.wait_for(wait, _DEADLINE)
    return time.monotonic() - began


async def measure(plane: ControlPlane) -> list[dict[str, Any]]:
    """First a small cluster, then the fleet."""
    async with Api.of(plane) as api, watching(api) as bound:
        await populate(api, range(SMALL))
        with Controller(plane):
            await within(bound.reach(SMALL * EACH))
            few = await bytes_of_an_agent(api, range(1, SMALL))
        created = await populate(api, range(SMALL, NODES))
        with Controller(plane) as controller:
            seconds = await within(bound.reach(NODES * EACH))
            cpu, memory = controller.cpu_seconds, controller.megabytes
            many = await bytes_of_an_agent(api, range(1, NODES))
            single = [await within(_one_more(api, bound, number)) * 1000 for number in range(7)]
            await asyncio.sleep(5.0)
            before = time.time()
            await asyncio.sleep(IDLE_SECONDS)
            idle = [w for w in plane.writes(before, CONTROLLER) if w.resource != "leases"]
    fleet = f"{NODES} nodes with {EACH} assignments each"
    rest = (NODES - SMALL) * EACH
    return [
        figure(
            f"what an agent is sent by lists and watches: {fleet}",
            "KB",
            [many / 1000],
            (f"{SMALL} nodes", [few / 1000]),
            at_most_times(1.05),
        ),
        figure(f"binding {rest} assignments: {fleet}", "s", [seconds], ("creating them", [created])),
        figure("processor time of the controller for it", "s", [cpu]),
        figure("largest memory of the controller", "MB", [memory], goal=at_most(700, "MB")),
        figure(f"one more assignment: create to bound: {fleet}", "ms", single),
        figure(
            f"writes in {IDLE_SECONDS:.0f} s at idle, but the Lease", "writes", [len(idle)], goal=at_most(0, "writes")
        ),
    ]


async def _one_more(api: Api, bound: Bound, number: int) -> None:
    wanted = assignment(number, 0, f"more-{number}")
    wanted["spec"]["source"] = {"pci": {"address": "0000:7f:00.0"}}
    await api.create(wanted)
    await bound.named(wanted["metadata"]["name"])


def main() -> int:
    """Measure, write build/fleet.json, print the table; 1 if a goal is missed."""
    programs = binaries.ensure()
    with (
        tempfile.TemporaryDirectory(prefix="hostdev-fleet-") as name,
        ControlPlane.start(Path(name) / "control-plane", programs) as plane,
    ):
        plane.allow("default")
        plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "manifests/base"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        figures = asyncio.run(measure(plane))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    print(table(figures))
    return 0 if all(f["holds"] for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
