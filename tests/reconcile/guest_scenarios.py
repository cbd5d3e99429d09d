"""Scenarios of test_catalogue.py for guests that are made from Guests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hostdev_operator.api.guest import GuestSpec, GuestStatus
from hostdev_operator.core.conditions import find
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.guests import BoundGuest, GuestReconciler
from hostdev_operator.reconcile.locks import NamedLocks
from hostdev_operator.reconcile.looker import Looker
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports
from tests.fakes.samples import NODE, assignment
from tests.reconcile.running import Engine

GUEST_UID = "0e1c54d6-0000-4000-8000-00000000a0e5"
POOL_NETWORK = "<network><name>lan</name><forward mode='hostdev' managed='yes'><pf dev='eth9'/></forward></network>"

Scenario = Callable[[Engine], str]


def bound_guest(**spec: Any) -> BoundGuest:
    """A Guest that its node has taken up."""
    full = {"nodeName": NODE, "memory": "1Gi", "name": "new", **spec}
    status = GuestStatus(node_name=NODE)
    return BoundGuest(GUEST_UID, "new", 1, deleting=False, spec=GuestSpec.model_validate(full), status=status)


class Guests:
    """The reconciler on a host. ``waits``: what its assignments say."""

    def __init__(self, host: FakeHost, settings: Settings, waits: str | None = None) -> None:
        self.host = host
        self.clock = FakeClock()
        real = ports(host, self.clock)
        looker = Looker(real, Context(lambda: settings))
        self.reconciler = GuestReconciler(real, looker, NamedLocks(), lambda _wish: waits)

    def run(self, obj: BoundGuest | None = None, **spec: Any) -> str:
        """The reason of Ready after one run."""
        result = self.reconciler.reconcile(obj or bound_guest(**spec))
        ready = find(result.status.conditions, "Ready")
        return ready.reason if ready else ""


def guest(waits: str | None = None, *, manual: bool = False, **spec: Any) -> Scenario:
    """One run on the sample host."""
    return lambda engine: Guests(engine.host, Settings(manual=manual), waits).run(**spec)


def network_of_a_pool(engine: Engine) -> str:
    engine.host.networks.define(POOL_NETWORK)
    return Guests(engine.host, Settings()).run(networks=[{"network": "lan"}])


def network_in_domain_xml(engine: Engine) -> str:
    engine.host.networks.define(POOL_NETWORK)
    nic = "<interface type='network'><source network='lan'/></interface>"
    return Guests(engine.host, Settings()).run(domainXML=f"<domain><devices>{nic}</devices></domain>")


def stops(engine: Engine) -> str:
    guests = Guests(engine.host, Settings())
    assert guests.run() == "AsAsked"
    engine.host.stop(GUEST_UID)
    return guests.run()


def shuts_down(engine: Engine) -> str:
    guests = Guests(engine.host, Settings())
    assert guests.run() == "AsAsked"
    engine.host.guests[GUEST_UID].manner = "is silent"
    return guests.run(running=False)


def has_devices(engine: Engine) -> str:
    guests = Guests(engine.host, Settings())
    assert guests.run(running=False) == "AsAsked"
    engine.run(assignment(guest=GUEST_UID))
    gone = replace(bound_guest(running=False, deletionPolicy="Undefine"), deleting=True)
    reason = guests.run(gone)
    engine.run(assignment(guest=GUEST_UID, deleting=True, generation=2))
    return reason


GUEST_SCENARIOS: dict[str, Scenario] = {
    "GuestExists": guest(name="web"),
    "DomainXMLUnusable": guest(domainXML="<domain><name>x</name></domain>"),
    "PoolNeedsAssignment": network_of_a_pool,
    "ApprovalUnsupported": guest(manual=True),
    "AssignmentsNotReady": guest("DeviceAssignment default/nic is not Ready yet"),
    "GuestStops": stops,
    "ShuttingDown": shuts_down,
    "GuestHasDevices": has_devices,
}
