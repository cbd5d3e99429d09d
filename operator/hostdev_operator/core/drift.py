"""Drift: what stood as asked, and was changed by somebody else since.

What is to be done is drift if it was done before, in the same boot of the host, and what is asked for is the same. Not
everything that has to be done again is: libvirt gives managed devices to the host whenever a guest stops, and drivers
forget settings of a VF that a guest has had.
"""

from __future__ import annotations

import json
from hashlib import sha256

from pydantic import BaseModel

from ..api.drift import GuestSettledStatus, PoolSettledStatus, SettledStatus
from .actions import (
    UNPLUGS,
    Action,
    AddController,
    DetachDriver,
    DropSavedImage,
    PlugHostdev,
    PlugInterface,
    UnplugHostdev,
    UnplugInterface,
    WriteRecord,
    plugged,
)
from .checks import Case, Refusal, to_be_plugged
from .intent import Intent, NicIntent
from .model import Guest, Observation
from .nic_plan import NicCase, network_is_active, portgroup_is_known
from .pci import PciAddress
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
from .pool_checks import no_other_pool_is_in_the_way
from .pool_network import PoolCase
from .pool_plan import PoolPlan
from .pool_source import pf_meant

_DIGEST = 32
#: Fields of spec that say nothing of what the host is to be like.
_HOW = {"detach", "release_policy", "approval", "approved_plan", "drift_policy"}


def device_standing(intent: Intent, spec: BaseModel, host: Observation) -> GuestSettledStatus | None:
    """What counts as settled now, if nothing is left to do; None where the device, its record or its guest is missing.

    A guest or device that comes back later begins anew.
    """
    record = host.records.get(intent.uid)
    device = host.devices.get(intent.address)
    guest = host.guest(intent.domain_uuid) if intent.domain_uuid else None
    if record is None or device is None or (intent.domain_uuid and (guest is None or not guest.persistent)):
        return None
    others = {r.address for uid, r in host.records.items() if uid != intent.uid}
    mates = sorted(str(m.address) for m in host.mates(device) if m.address not in others)
    has_all = guest is not None and guest.active and not to_be_plugged(Case(intent, record, host))
    return GuestSettledStatus(
        wanted=_digest(_asked(spec), str(intent.address), mates),
        boot_id=host.platform.boot_id,
        run=guest.run if guest and has_all else None,
    )


def nic_standing(intent: NicIntent, spec: BaseModel, host: Observation) -> GuestSettledStatus | None:
    """The same of a pool's NIC; None also where the network or its portgroup is missing."""
    case = NicCase(intent, host)
    guest = case.guest
    if guest is None or not guest.persistent or network_is_active(case) or portgroup_is_known(case):
        return None
    return GuestSettledStatus(
        wanted=_digest(_asked(spec), intent.network, case.vlan),
        boot_id=host.platform.boot_id,
        run=guest.run if case.live else None,
    )


def pool_standing(wish: PoolWish, host: Observation) -> PoolSettledStatus | None:
    """The same of a pool; None where its PF or its record is missing, or another pool is in its way.

    Pools of one PF stop each other's networks for a change of its VFs. Of VFs that somebody else makes
    (externallyManaged) any number will do.
    """
    device = pf_meant(wish, host)
    if isinstance(device, Refusal) or wish.uid not in host.pool_records:
        return None
    case = PoolCase(wish, host, device)
    if no_other_pool_is_in_the_way(case):
        return None
    there = device.num_vfs if wish.spec.externally_managed else None
    return PoolSettledStatus(
        wanted=_digest(_asked(wish.spec), str(device.address), case.pf.netdev, there),
        boot_id=host.platform.boot_id,
        left_out=_left_out(case),
    )


def pool_stood(before: PoolSettledStatus | None, now: PoolSettledStatus | None) -> PoolSettledStatus | None:
    """What is kept of it while something is left to do; None where ``now`` is.

    Its network is changed for the VFs that others have, and that may wait for guests: we do that, and nobody else.
    """
    if before is None or now is None or not stood(before, now) or before.left_out == now.left_out:
        return before if now is not None else None
    return before.model_copy(update={"left_out": None})


def _left_out(case: PoolCase) -> tuple[str, ...]:
    return tuple(sorted(map(str, case.held)))


def _asked(spec: BaseModel) -> object:
    """Without what has its default, so that an agent of another version, with more fields, has the same digest."""
    return spec.model_dump(mode="json", exclude=_HOW, exclude_defaults=True)


def _digest(*parts: object) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_DIGEST]


def stood(before: SettledStatus | None, now: SettledStatus | None) -> bool:
    """Whether what is asked for stood before, in this boot of the host."""
    return before is not None and now is not None and (before.wanted, before.boot_id) == (now.wanted, now.boot_id)


# -- assignments ------------------------------------------------------------------------------------------------------


def is_drift(
    plan: Plan, before: GuestSettledStatus | None, now: GuestSettledStatus | None, guest: Guest | None
) -> bool:
    """Whether something of the plan was done before, and undone by somebody else."""
    if before is None or not stood(before, now):
        return False
    had_it = before.run is not None and guest is not None and guest.run == before.run
    moved = plugged(plan.actions) | _managed(guest)
    return any(_undone(action, had_it=had_it, moved=moved) for action in plan.actions)


def is_done_again(before: GuestSettledStatus | None, now: GuestSettledStatus | None, guest: Guest | None) -> bool:
    """Whether a plan does what was done before, drift or not, and no run of the guest has ended since.

    The end of one is what moves drivers and settings with nobody's doing.
    """
    if before is None or not stood(before, now):
        return False
    return before.run is None or (guest is not None and guest.run == before.run)


def _undone(action: Action, *, had_it: bool, moved: frozenset[PciAddress]) -> bool:
    """``moved``: what libvirt itself, or the plan's own plug, takes from the host's driver and gives back."""
    match action:
        case WriteRecord() | ConfigureVf():
            return False
        case AddController() | DropSavedImage():  # another device has taken a spare port; the guest was saved
            return False
        case PlugHostdev() | PlugInterface():
            return had_it
        case DetachDriver():
            return action.address not in moved
        case _:
            return True


def _managed(guest: Guest | None) -> frozenset[PciAddress]:
    return frozenset(h.address for h in (*guest.config, *guest.live) if h.managed) if guest else frozenset()


def without_unplugs(plan: Plan) -> Plan:
    """What can be put right without taking anything from a running guest."""
    out = {_thing(a) for a in plan.actions if isinstance(a, UNPLUGS)}
    return Plan(tuple(a for a in plan.actions if _thing(a) not in out))


def _thing(action: Action) -> object:
    """What a running guest gets or loses by it; the action itself for those that are of something else."""
    match action:
        case UnplugHostdev():
            return action.address
        case PlugHostdev():
            return action.hostdev.address
        case UnplugInterface():
            return action.alias
        case PlugInterface():
            return action.interface.alias
        case _:
            return action


# -- pools ------------------------------------------------------------------------------------------------------------


def is_pool_drift(plan: PoolPlan, wish: PoolWish, before: PoolSettledStatus | None, host: Observation) -> bool:
    """The same of a pool's step. Its network changes by itself as others take VFs, or give them back."""
    now = pool_standing(wish, host)
    device = pf_meant(wish, host)
    if before is None or now is None or isinstance(device, Refusal) or not stood(before, now):
        return False
    case = PoolCase(wish, host, device)
    if case.count_differs or any(isinstance(a, (SetVfCount, SetAutoprobe, SetLink)) for a in plan):
        return True
    if not any(isinstance(a, (DefineNetwork, AutostartNetwork, StartNetwork, StopNetwork)) for a in plan):
        return False
    network = case.network
    stands = network is not None and network.active and network.autostart
    return not stands or now.left_out == before.left_out
