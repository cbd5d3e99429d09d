"""The agent's part of the status of an assignment that names a pool."""

from __future__ import annotations

from ..api.common import Condition
from ..api.deviceassignment import DeviceAssignmentStatus
from ..api.network import NicStatus
from .assignment_status import Outcome, View, conditions_of_guest, device_status, guest_status, other_nic
from .checks import Refusal
from .conditions import GROUP_READY, PLANNED, condition
from .intent import NicIntent, Wish
from .model import Observation
from .nic_plan import NicCase, cannot_be_plugged, nic_intent, no_vf


class _NicView(View):
    def __init__(self, wish: Wish, host: Observation, outcome: Outcome) -> None:
        super().__init__(wish, host, outcome)
        self.case = NicCase(nic_intent(wish, host), host)

    @property
    def name(self) -> str:
        return self.case.intent.thing

    def missing(self, *, live: bool) -> bool:
        return self.case.live is None if live else not self.case.configured

    def pending(self) -> str | None:
        case = self.case
        return other_nic(case.guest, case.live, case.wanted, case.vlan) if case.pending and case.guest else None

    def cannot_plug(self) -> Refusal | None:
        return cannot_be_plugged(self.case)

    def cannot_start(self) -> Refusal | None:
        return no_vf(self.case)

    @property
    def alias(self) -> str | None:
        nic = self.case.config or self.case.live
        return nic.alias if nic and self.case.intent.adopt else self.case.intent.alias


def nic_status(wish: Wish, _intent: NicIntent | None, host: Observation, outcome: Outcome) -> DeviceAssignmentStatus:
    """The status without node, guest UUID and times: those are stamped by whoever writes it."""
    view = _NicView(wish, host, outcome)
    case = view.case
    vf = host.devices.get(case.live.address) if case.live and case.live.address else None
    return DeviceAssignmentStatus(
        device=device_status(vf) if vf else None,
        guest=guest_status(view, case.config is not None, case.live is not None),
        network=_network(view),
        conditions=_conditions(view),
    )


def _network(view: _NicView) -> NicStatus | None:
    """The NIC that the guest has, or gets; absent while it has none, and of one that could not be adopted.

    Of one that was adopted this is how it is known again: deleting the object takes out no other.
    """
    case = view.case
    refused = view.outcome.refused is not None and view.wish.nic_seen is None  # one that was adopted stays so
    if (case.config is None and case.live is None) or (case.intent.adopt and (case.adoption or refused)):
        return None
    return NicStatus(
        name=case.intent.network,
        portgroup=case.intent.portgroup,
        mac=case.wanted.mac,
        vlan=case.vlan,
        pending=case.pending,
    )


def _conditions(view: _NicView) -> tuple[Condition, ...]:
    pool, refused = view.case.intent.pool, view.outcome.refused
    planned = (
        condition(PLANNED, False, refused.reason, refused.message)
        if refused
        else condition(PLANNED, True, "ChecksPassed", "every check passed")
    )
    text = f"no IOMMU group is claimed: at each start of the guest libvirt gives it a free VF of pool {pool}"
    group = condition(GROUP_READY, True, "NotNeeded", text)
    done = f"guest {view.guest_name} has a NIC of pool {pool} in its persistent XML"
    done += ", which was left as it is" if view.case.intent.adopt else ""
    return conditions_of_guest(view, (planned, group), done)
