"""A MAC address that another assignment has is not given to a NIC that stands."""

from __future__ import annotations

from typing import Literal

from hostdev_operator.api.common import Condition
from hostdev_operator.api.deviceassignment import DeviceAssignmentStatus
from hostdev_operator.api.network import NicStatus
from tests.fakes.samples import assignment

ASKED, HAS = "02:00:00:00:00:02", "02:00:00:00:00:01"


def wished(accepted: Literal["True", "False"], generation: int) -> str | None:
    made = assignment(network={"mac": ASKED})
    verdict = Condition(type="Accepted", status=accepted, reason="x", observed_generation=generation)
    status = DeviceAssignmentStatus(
        domain_uuid=made.status.domain_uuid, network=NicStatus(name="n", mac=HAS), conditions=(verdict,)
    )
    wish = made.__class__(**{**vars(made), "status": status, "generation": 2}).wish()
    return wish.spec.network.mac if wish.spec.network else None


def test_a_new_mac_counts_when_the_controller_has_said_yes_to_it() -> None:
    assert wished("True", 2) == ASKED
    assert wished("True", 1) == HAS  # it has not judged yet
    assert wished("False", 2) == HAS
