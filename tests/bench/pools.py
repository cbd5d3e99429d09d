"""VF pools in the lab: making one beside scripts that do the same, and what the agent costs a guest's start."""

from __future__ import annotations

import time
from typing import Any

from tests.bench.bed import Bed, gone, ready
from tests.bench.figures import Times, at_most_more, at_most_times, figure
from tests.bench.watch import Watch
from tests.lab.guests import define, guest_xml
from tests.system.pools import IGB, PfView, from_pool, pool
from tests.system.stack import Stack

RUNS, STARTS = 5, 25
VFS = 7
POOL = GUEST = "benchpool"
FILES = ("virsh_pool.sh", "virsh_pool_release.sh")
PROBING, NO_PROBING = "script, host driver probes", "script, probing off"


class PoolBench:
    """The running system and one PF, which has no VFs and is down before and after each run."""

    def __init__(self, stack: Stack) -> None:
        self.bed = Bed(stack, *FILES)
        self.stack, self.lab = stack, stack.lab
        self.pf = PfView(self.lab, self.lab.find_devices(IGB)[0])
        self.netdev = self.pf.netdev

    def figures(self) -> list[dict[str, Any]]:
        """All of them, in the order of the table."""
        with Watch(self.stack.plane, "vfpools") as pools:
            found = self._pool_figures(pools)
            return [*found, *self._start_figures(pools)]

    # -- making and giving back ---------------------------------------------------------------------------------

    def _pool_figures(self, watch: Watch) -> list[dict[str, Any]]:
        """In turn, so that whatever slows the machine down slows all of them down."""
        made: dict[str, Times] = {"ours": [], PROBING: [], NO_PROBING: []}
        back: dict[str, Times] = {"ours": [], PROBING: [], NO_PROBING: []}
        for _ in range(RUNS):
            made["ours"].append(self._make(watch))
            back["ours"].append(self._give_back(watch))
            for script, probe in ((PROBING, "1"), (NO_PROBING, "0")):
                with self.bed.agent_asleep(for_long=True):
                    made[script].append(self._script("virsh_pool.sh", self.netdev, str(VFS), POOL, probe))
                    self._must(VFS, f"after {script}")
                    back[script].append(self._script("virsh_pool_release.sh", self.netdev, POOL))
                    self._must(0, f"after {script} was undone")
        make, release = f"pool of {VFS} VFs: kubectl apply to Ready", f"pool of {VFS} VFs: kubectl delete to gone"
        return [
            figure(make, "s", made["ours"], (PROBING, made[PROBING]), at_most_times(0.2)),
            figure(make, "s", made["ours"], (NO_PROBING, made[NO_PROBING]), at_most_times(1.5)),
            figure(release, "s", back["ours"], (PROBING, back[PROBING])),
            figure(release, "s", back["ours"], (NO_PROBING, back[NO_PROBING])),
        ]

    def _make(self, watch: Watch) -> float:
        """From the start of kubectl to the arrival of Ready=True of the VFPool."""
        self.bed.settle()
        manifest = pool(POOL, self.netdev, VFS, linkUp=True)
        began = time.monotonic()
        self.stack.apply(manifest)
        seen = watch.wait("Ready=True of the pool", began, ready)
        self._must(VFS, "Ready")
        return seen - began

    def _give_back(self, watch: Watch) -> float:
        """From the start of kubectl to the arrival of the VFPool's end."""
        self.bed.settle()
        began = time.monotonic()
        self.stack.plane.kubectl("delete", "vfpool", POOL, "--wait=false")
        seen = watch.wait("the pool to be gone", began, gone)
        self._must(0, "deleted")
        return seen - began

    def _script(self, name: str, *arguments: str) -> float:
        return self.bed.timed("bash", f"/tmp/{name}", *arguments)

    def _must(self, vfs: int, when: str) -> None:
        """All of it is there, or nothing."""
        active = POOL in self.lab.virsh("net-list", "--name").split()
        if (self.pf.num_vfs, self.pf.up, active) != (vfs, vfs > 0, vfs > 0):
            raise SystemExit(f"bench: pool {when}, but the host is not as it should be")

    # -- a guest's start ----------------------------------------------------------------------------------------

    def _start_figures(self, watch: Watch) -> list[dict[str, Any]]:
        """The same guest with a NIC of the pool, started with the agent at work and asleep, in turn."""
        self._make(watch)
        define(self.lab, GUEST, guest_xml(GUEST))
        self.stack.wait_guest_listed(GUEST)
        self.stack.apply(from_pool(GUEST, POOL))
        self.stack.wait_condition(GUEST, "Ready", "True")
        awake: Times = []
        asleep: Times = []
        work: Times = []
        rest: Times = []
        for _ in range(STARTS):
            self.bed.settle()
            self._start(awake, work)
            self.bed.settle()
            rest.append(self.bed.beside_agent("sleep", f"{awake[-1] / 1000:.2f}")[1] * 1000)
            with self.bed.agent_asleep():
                self._start(asleep)
        self.stack.delete(GUEST)
        self.stack.wait_gone(GUEST)
        self.lab.virsh("undefine", GUEST)
        self._give_back(watch)
        name, others = "virsh start of a guest with a NIC of the pool", ("the agent asleep", asleep)
        return [
            figure(name, "ms", awake, others, at_most_more(50, "ms")),
            figure(
                "the agent's processor time until that returns", "ms", work, ("at rest", rest), at_most_more(50, "ms")
            ),
        ]

    def _start(self, times: Times, work: Times | None = None) -> None:
        """Milliseconds of the start, and of the agent's processor time; the guest is off again afterwards."""
        took, busy = self.bed.beside_agent("virsh", "-q", "start", GUEST)
        times.append(took * 1000)
        if work is not None:
            work.append(busy * 1000)
        if "<interface type='hostdev'" not in self.lab.virsh("dumpxml", GUEST):
            raise SystemExit("bench: the guest runs, but has no VF of the pool")
        self.lab.virsh("destroy", GUEST)
