"""Draws the steps of a run. Each run has a theme, so that what belongs together meets more often than by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos import faults  # noqa: F401 - they are registered by it
from tests.chaos.operations import OPERATIONS, Step
from tests.chaos.samples import DEVICES, VFS

LENGTH = 40
QUIET_EVERY = 14
_WAITS = (0.0, 0.0, 0.3, 2.0, 12.0, 35.0)
_OF_POOLS = ("pool lan", "pool lan", "pool dmz", *(f"vf {vf}" for vf in VFS))


@dataclass(frozen=True)
class Theme:
    """Which operations are drawn more often, and which arguments; ``faults``: how much more often all faults are.

    ``meddling``: the same of what is changed by hand.
    """

    more: tuple[str, ...] = ()
    prefers: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    faults: float = 1.0
    meddling: float = 1.0


_REPORTS = {"assign": {"drift": ("Report",)}, "make_pool": {"drift": ("Report",)}}

THEMES = (
    Theme(),
    Theme(("assign", "start", "destroy", "delete", "redefine", "behave", "edit"), faults=0.0),
    Theme(("host_needs", "vfio_refuses", "call_fails"), {"assign": {"what": DEVICES}}, faults=0.5),
    Theme(("make_pool", "edit_pool", "start", "edit"), {"assign": {"what": _OF_POOLS}}, faults=0.3),
    Theme(("set_vf_by_hand", "delete", "delete_pool"), {"assign": {"what": _OF_POOLS}}, faults=0.5),
    Theme(("kill_agent_at", "cut_power_at", "unbind_hangs")),
    Theme(("etcd_is_restored", "etcd_is_saved", "api_goes_away", "writes_are_refused")),
    Theme(("libvirtd_stops", "libvirtd_restarts", "state_directory_fails", "call_fails")),
    Theme(("start", "destroy", "cut_power", "assign", "make_pool"), _REPORTS, faults=2.0, meddling=0.0),
    Theme(("assign", "make_pool"), {"assign": {"what": _OF_POOLS}}, faults=0.5, meddling=4.0),
)
_POOL = {"pool": "lan", "vfs": 3, "split": False, "trust": None, "link": True}
_ASSIGN = {"guest": "web", "attach": "Auto", "detach": "Live", "managed": True, "policy": "DetachUnused"}
#: How a run may begin: nothing; a pool of all VFs, perhaps with a guest on it, that shall become smaller; one that
#: leaves most of them; VFs that somebody made by hand; a device that vfio-pci does not bind; a reboot of what stood.
_BEGINNINGS: tuple[tuple[Step, ...], ...] = (
    (),
    (Step("make_pool", _POOL, 2.0),),
    (
        Step("make_pool", _POOL, 2.0),
        Step("assign", {**_ASSIGN, "slot": "a", "what": "pool lan"}, 0.3),
        Step("start", {"guest": "web", "told": True}, 0.3),
        Step("edit_pool", {"pool": "lan", "vfs": 2, "vlan": 42}, 2.0),
    ),
    (Step("make_pool", {**_POOL, "split": True}, 2.0),),
    (Step("set_vfs_by_hand", {"count": 4, "told": True}, 0.3), Step("set_link_by_hand", {"up": True}, 0.3)),
    (Step("vfio_refuses", {"address": DEVICES[1], "refuses": True}, 0.0),),
    (
        Step("make_pool", _POOL, 2.0),
        Step("assign", {**_ASSIGN, "slot": "a", "what": DEVICES[0], "managed": False}, 2.0),
        Step("cut_power", {}, 35.0),
        Step("quiet", {}, 0.0),
    ),
)


def steps_of(seed: str) -> list[Step]:
    """The run of a seed: any operations, and now and then all is well for a while."""
    chance = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    theme = chance.choice(THEMES)
    steps = list(chance.choice(_BEGINNINGS))
    names = list(OPERATIONS)
    weights = [_weight(name, theme) for name in names]
    for number in range(1, LENGTH + 1):
        (name,) = chance.choices(names, weights)
        choices = {**OPERATIONS[name].choices, **theme.prefers.get(name, {})}
        steps.append(Step(name, {k: chance.choice(list(v)) for k, v in choices.items()}, chance.choice(_WAITS)))
        if number % QUIET_EVERY == 0:
            steps.append(Step("quiet", {}, 0.0))
    return steps


def _weight(name: str, theme: Theme) -> float:
    operation = OPERATIONS[name]
    kind = (theme.faults if operation.fault else 1.0) * (theme.meddling if operation.meddles else 1.0)
    return operation.weight * kind * (3.0 if name in theme.more else 1.0)
