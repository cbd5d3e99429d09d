"""What the tests of plans ask of a plan."""

from __future__ import annotations

from hostdev_operator.core.actions import AddHostdev, PlugHostdev
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Observation
from tests.core.hosts import actions_of
from tests.fakes.samples import UID, intent

ALIAS = intent().alias


def summary(plan: object) -> list[tuple[str, str]]:
    """Each action as its kind and the address that it touches."""
    shown = []
    for action in actions_of(plan):
        source = action.hostdev if isinstance(action, (AddHostdev, PlugHostdev)) else action
        shown.append((type(action).__name__, str(getattr(source, "address", ""))))
    return shown


def refusal_of(plan: object) -> Refusal:
    """The refusal that an answer must be."""
    assert isinstance(plan, Refusal), plan
    return plan


def member_drivers(host: Observation, uid: str = UID) -> dict[object, str | None]:
    """What the record says of each member."""
    return {m.address: m.driver for m in host.records[uid].members}
