"""The two kinds of assignments behind one interface: a device of the host, and a VF of a pool.

observe -> plan -> apply -> report is the same for both (reconcile/assignment.py), and so is the release (release.py).
What differs is what is planned, what that depends on, what must be locked, and what the status says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from ..api.drift import GuestSettledStatus
from .assignment_status import Outcome, assignment_status
from .drift import device_standing, nic_standing
from .intent import Goal, Intent, NicIntent, Wish
from .model import Observation
from .nic_plan import decide_nic, nic_inputs, nic_withdrawal
from .nic_status import nic_status
from .pci import PciAddress
from .plan import Decision, Plan, decide, inputs, is_half_done
from .record import Record
from .release import withdrawal

G = TypeVar("G", bound=Goal)


@dataclass(frozen=True)
class Kind(Generic[G]):
    """What the engine asks of a kind.

    ``decide``: what the assignment means here, and its plan. ``withdrawal``: what must not stay in a guest's persistent
    XML, since its next start would do harm. ``inputs``: all that this depends on. ``is_half_done``:
    whether it was begun and the guest has nothing of it, so that a refusal undoes it (the plugs of this very run do not
    count). ``locks``: the names of what must not be changed by anybody else meanwhile, beside the guest. ``status``:
    the agent's part of the status. ``standing``: what is told of it when nothing is left to do.
    """

    decide: Callable[[Wish, Observation], Decision[G]]
    withdrawal: Callable[[Wish, Observation], Plan]
    inputs: Callable[[G, Observation], tuple[object, ...]]
    is_half_done: Callable[[G, Observation, frozenset[PciAddress]], bool]
    locks: Callable[[G, Observation], frozenset[str]]
    status: Callable[[Wish, G | None, Observation, Outcome], DeviceAssignmentStatus]
    standing: Callable[[G, DeviceAssignmentSpec, Observation], GuestSettledStatus | None]


def kind_of(wish: Wish) -> Kind[Any]:
    """By the assignment's source."""
    return POOL_NIC if wish.spec.source.pool else DEVICE


def group_lock(group: int | None) -> str:
    """An IOMMU group: it is claimed as a whole."""
    return f"group/{group}"


def pf_lock(pf: PciAddress) -> str:
    """A PF: its number of VFs, and their settings."""
    return f"pf/{pf}"


def network_lock(name: str | None) -> str:
    """A libvirt network: which of its VFs are free."""
    return f"network/{name}"


def domain_lock(uuid: str | None) -> str:
    """A guest."""
    return f"domain/{uuid}"


def _device_locks(intent: Intent, host: Observation) -> frozenset[str]:
    device = host.devices.get(intent.address)
    names = {group_lock(device.iommu_group if device else None)}
    if intent.nic and device and device.physfn:
        names.add(pf_lock(device.physfn))
    return frozenset(names)


def _nic_locks(intent: NicIntent, _host: Observation) -> frozenset[str]:
    return frozenset({network_lock(intent.network)})


def _never(_intent: NicIntent, _host: Observation, _plugged: frozenset[PciAddress]) -> bool:
    """Of the host nothing is claimed, and a new NIC is written into the XML as the last thing."""
    return False


def _device_withdrawal(wish: Wish, host: Observation) -> Plan:
    return Plan() if wish.spec.adopt else withdrawal(wish.uid, host)


def _device_status(wish: Wish, intent: Intent | None, host: Observation, outcome: Outcome) -> DeviceAssignmentStatus:
    return assignment_status(wish, intent or _recorded(wish, host), host, outcome)


def _recorded(wish: Wish, host: Observation) -> Intent | None:
    """For the report: the recorded device, if it is the one that is there."""
    record: Record | None = host.records.get(wish.uid)
    device = host.devices.get(record.address) if record else None
    if record is None or device is None or (record.identity and not record.identity.same(device.identity)):
        return None
    return wish.intent(record.address)


DEVICE: Kind[Intent] = Kind(
    decide, _device_withdrawal, inputs, is_half_done, _device_locks, _device_status, device_standing
)
POOL_NIC: Kind[NicIntent] = Kind(decide_nic, nic_withdrawal, nic_inputs, _never, _nic_locks, nic_status, nic_standing)
