"""The plans of assignments and pools in words: what is done, and which field of the object asks for it."""

from __future__ import annotations

from dataclasses import replace

from .actions import (
    AddController,
    AddHostdev,
    AddInterface,
    DetachDriver,
    DropSavedImage,
    PlugHostdev,
    PlugInterface,
    RemoveHostdev,
    RemoveInterface,
    UnplugHostdev,
    UnplugInterface,
)
from .checks import Refusal
from .described import Described, Step, described
from .descriptions import Purpose, describe
from .foreseen import foreseen
from .intent import Goal, Intent
from .model import Observation
from .plan import Plan
from .pool import PoolWish
from .pool_actions import (
    AutostartNetwork,
    ConfigureVf,
    DefineNetwork,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
)
from .pool_network import PoolCase
from .pool_plan import PoolPlan
from .pool_source import pf_meant

_PLUGS = {PlugHostdev.__name__: AddHostdev.__name__, PlugInterface.__name__: AddInterface.__name__}
_OTHERWISE = "it stands there otherwise than it is asked for"
_ANEW = "attach: Live: libvirt cannot change a VF's MAC address, VLAN or profile while a guest has it"


def in_words(plan: Plan, goal: Goal, host: Observation) -> Described:
    """An assignment's plan."""
    purpose = _purpose(goal)
    return described(_later_starts(tuple(describe(action, host, purpose) for action in plan.actions)))


def _later_starts(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """What the plan itself plugs into the running guest, that need not be restarted for."""
    plugged = {(_PLUGS[s.action], s.device) for s in steps if s.action in _PLUGS}
    return tuple(replace(s, disruption="None") if (s.action, s.device) in plugged else s for s in steps)


def _purpose(goal: Goal) -> Purpose:
    kept = "the guest is to have it at each start"
    why: dict[type, str] = {
        AddHostdev: kept,
        AddInterface: kept,
        RemoveHostdev: _OTHERWISE,
        RemoveInterface: _OTHERWISE,
        PlugHostdev: f"attach: {goal.attach}, and the guest runs",
        PlugInterface: f"attach: {goal.attach}, and the guest runs",
        UnplugHostdev: _ANEW,
        UnplugInterface: _ANEW,
        DropSavedImage: "savedImage: Drop, and the image does not have it",
    }
    if not isinstance(goal, Intent):
        return Purpose(goal.thing, None, why)
    why[ConfigureVf] = "spec.network asks for it, or does so no more"
    spare = f"spareHotplugPorts: {goal.spare_ports}" if goal.spare_ports else "the guest has no fitting slot left"
    why[AddController] = spare
    if goal.is_reservation:
        why[DetachDriver] = "a reservation: it is held for nobody"
    elif not goal.managed:
        why[DetachDriver] = "managed: false: it is held for the guest all the time"
    else:
        why[DetachDriver] = "the running guest gets several devices of the group, so libvirt must not move them"
    return Purpose(goal.thing, goal.address, why)


def pool_in_words(wish: PoolWish, host: Observation, first: PoolPlan) -> Described:
    """A pool's whole plan, from its first step."""
    steps = tuple(describe(action, then, _pool_purpose(wish, then)) for action, then in foreseen(wish, host, first))
    return described(step for i, step in enumerate(steps) if i == 0 or step.keys)


def step_in_words(wish: PoolWish, host: Observation, step: PoolPlan) -> Described:
    """One step alone."""
    purpose = _pool_purpose(wish, host)
    return described(describe(action, host, purpose) for action in step)


def _pool_purpose(wish: PoolWish, host: Observation) -> Purpose:
    spec = wish.spec
    network = f"libvirt hands the pool's VFs out by it ({wish.network_name})"
    why: dict[type, str] = {
        SetVfCount: f"numVFs: {spec.num_vfs}; the driver may interrupt the PF's link for a moment",
        SetAutoprobe: f"bindHostDriver: {str(spec.bind_host_driver).lower()}",
        SetLink: "linkUp: true",
        ConfigureVf: "vfSettings",
        DefineNetwork: network,
        StartNetwork: network,
        AutostartNetwork: network,
        StopNetwork: "nobody may get a VF while they are changed, and libvirt looks at its VFs at the start alone",
    }
    return Purpose(why=why, network=_hands_out(wish, host))


def _hands_out(wish: PoolWish, host: Observation) -> str:
    device = pf_meant(wish, host)
    if isinstance(device, Refusal):
        return ""
    case, asked = PoolCase(wish, host, device), wish.spec.network
    held = sorted(vf.vf_index or 0 for vf in case.vfs if vf.address in case.held)
    parts = [f"VFs {wish.spec.pf.vfs}" if wish.spec.pf.vfs else "all VFs", f" of {case.name}"]
    parts += [f" without {', '.join(map(str, held))}, which others have"] if held else []
    parts += [f"; VLAN {asked.vlan}"] if asked.vlan else []
    for group in asked.portgroups:
        vlan = f"VLAN {group.vlan}" if group.vlan else "no VLAN of its own"
        parts.append(f"; portgroup {group.name}: {vlan}{', the default one' if group.default else ''}")
    return "".join(parts)
