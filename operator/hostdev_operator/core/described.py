"""A plan in words: its steps as status shows them, and the hash by which it is approved.

The words have no UIDs, times or numbers of IOMMU groups, so a plan that is made from a file, before the object exists,
or after a reboot, has the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256

from ..api.plan import MOST_ACTIONS, Disruption, PlanAction
from .pci import PciAddress
from .pool_use import listed

_HASH, _TEXT = 32, 1024


@dataclass(frozen=True)
class Step:
    """One action in words. ``indices``: of the VFs that it configures; successive ones are told as one step.

    ``keys`` name what it does, whatever was before: what is left of an approved plan is known by them. Our own notes of
    what is claimed already have none. ``hidden`` is what the hash covers beyond the words, such as the device's
    fingerprint.
    """

    action: str
    summary: str
    device: PciAddress | None = None
    before: str = ""
    after: str = ""
    reason: str = ""
    disruption: Disruption = "None"
    indices: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    hidden: str = ""

    def status(self) -> PlanAction:
        """As status shows it."""
        return PlanAction(
            action=self.action,
            summary=self.full_summary[:_TEXT],
            device=str(self.device) if self.device else None,
            before=self.before[:_TEXT],
            after=self.after[:_TEXT],
            reason=self.reason[:_TEXT],
            disruption=self.disruption,
        )

    @property
    def full_summary(self) -> str:
        """The summary, with the VFs that it is about."""
        return f"{self.summary} {_ranges(self.indices)} of {self.device}" if self.indices else self.summary


@dataclass(frozen=True)
class Described:
    """A plan in words."""

    steps: tuple[Step, ...]

    @property
    def keys(self) -> frozenset[str]:
        """What all of it does."""
        return frozenset(key for step in self.steps for key in step.keys)

    @property
    def in_short(self) -> str:
        """Its first actions, in one line."""
        return listed([step.full_summary for step in self.steps])

    def hash(self, node: str, number: int) -> str:
        """Stable against all but what is done, to which device, and what is there before.

        ``number`` counts the approved plans of the object that were carried out: none is approved twice.
        """
        told = [[step.status().wire(), step.keys, step.hidden] for step in self.steps]
        return sha256(json.dumps([node, number, told], sort_keys=True).encode()).hexdigest()[:_HASH]

    def actions(self) -> tuple[PlanAction, ...]:
        """As status shows them; the last row says so if there are more."""
        rows = tuple(step.status() for step in self.steps[:MOST_ACTIONS])
        if len(self.steps) <= MOST_ACTIONS:
            return rows
        more = len(self.steps) - MOST_ACTIONS + 1
        return (*rows[:-1], PlanAction(action="More", summary=f"and {more} more actions"))


def described(steps: Iterable[Step]) -> Described:
    """The plan of these steps; successive ones that do the same to several VFs of one PF become one."""
    found: list[Step] = []
    for step in steps:
        last = found[-1] if found else None
        if last and last.indices and replace(step, indices=last.indices, keys=last.keys) == last:
            found[-1] = replace(last, indices=last.indices + step.indices, keys=last.keys + step.keys)
        else:
            found.append(step)
    return Described(tuple(found))


def key_of(*parts: str) -> str:
    """A name for what an action does."""
    return sha256(json.dumps(parts).encode()).hexdigest()[:_HASH]


def _ranges(indices: tuple[int, ...]) -> str:
    """VF 3; VFs 0-3, 5."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"VF {text}" if len(indices) == 1 else f"VFs {text}"
