"""Runs of random operations and faults, what they found, and how a run that found something is made short.

A run is given by its seed alone, or by its list of steps; both give the same each time.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hostdev_operator.adapters import journal
from hostdev_operator.reconcile import observe
from tests.chaos.disk import Disk
from tests.chaos.invariants import Watch
from tests.chaos.operations import OPERATIONS, Step
from tests.chaos.parts import NO_BUSY_LOOP, ChaosLoop, InPlace, Runaway
from tests.chaos.quiet import give_all_back, put_right, quiet
from tests.chaos.samples import node
from tests.chaos.world import World

#: Journal and the like are in memory, where there is such a folder: a run writes thousands of small files.
_MEMORY = Path("/dev/shm")


@dataclass
class Outcome:
    """What came out of one run, or of many."""

    operations: int = 0
    runs: int = 0
    by_name: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """The sum."""
        self.operations += other.operations
        self.runs += other.runs
        for name in ("by_name", "hits", "checked"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


def run(steps: Sequence[Step], seed: str) -> Outcome:
    """One run on a new node. It ends at the first violation."""
    with ExitStack() as stack:
        where = str(_MEMORY) if _MEMORY.is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", dir=where)))
        disk = Disk(folder)
        stack.enter_context(patch.object(journal, "os", disk))
        stack.enter_context(patch.object(observe, "_side", InPlace()))
        runner = stack.enter_context(asyncio.Runner(loop_factory=ChaosLoop))
        loop = runner.get_loop()
        assert isinstance(loop, ChaosLoop)
        world = World(loop, node(), disk, seed)
        outcome = Outcome(runs=1, hits=world.hits, checked=world.checked, violations=world.violations)
        quieted = logging.getLogger("hostdev_operator")
        before, quieted.propagate = quieted.propagate, False
        try:
            runner.run(_run(world, steps, outcome))
        except Runaway:
            world.violate(NO_BUSY_LOOP, f"the last calls: {world.host.calls[-3:]}, writes: {world.cluster.writes[-3:]}")
            world.end()
        finally:
            quieted.propagate = before
            world.hits["state directory failed"] = disk.hits
    return outcome


async def _run(world: World, steps: Sequence[Step], outcome: Outcome) -> None:
    watch = Watch(world)
    world.start()
    await asyncio.sleep(1.0)
    try:
        for step in steps:
            if step.name == "quiet":
                await quiet(world, watch)
            elif OPERATIONS[step.name].perform(world, **step.arguments):
                world.meddled |= OPERATIONS[step.name].meddles
                outcome.operations += 1
                outcome.by_name[step.name] += 1
            await asyncio.sleep(step.wait)
            watch.after_step()
            if world.violations:
                return
        await put_right(world)
        await give_all_back(world, watch)
    finally:
        world.end()


def shortened(steps: Sequence[Step], seed: str, tries: int = 400) -> list[Step]:
    """Fewer steps that break the same invariant: parts are left out, big ones first (delta debugging)."""
    broken = {invariant for invariant, _ in run(steps, seed).violations}
    kept = list(steps)
    size = max(1, len(kept) // 2)
    while tries > 0:
        at, gone = 0, False
        while at < len(kept) and tries > 0:
            less = kept[:at] + kept[at + size :]
            tries -= 1
            if broken & {invariant for invariant, _ in run(less, seed).violations}:
                kept, gone = less, True
            else:
                at += size
        if size == 1 and not gone:
            break
        size = max(1, size // 2)
    return kept
