"""Plans in words, and their hashes: the same for the same plan, whatever the order in which the host was read."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any, get_args

import pytest

from hostdev_operator.core.actions import Action
from hostdev_operator.core.described import Described
from hostdev_operator.core.descriptions import _DESCRIBE
from hostdev_operator.core.model import Guest, Hostdev, Observation
from hostdev_operator.core.plan import Plan, decide
from hostdev_operator.core.planned import in_words
from hostdev_operator.core.pool_actions import PoolAction
from hostdev_operator.core.slots import Slots
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.simulation.ports import ports
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, small_host, wish


def seen(**changes: Any) -> Observation:
    return replace(observe(ports(small_host()), Context()), **changes)


def words(host: Observation, **more: Any) -> Described:
    decision = decide(wish(**{"managed": False, **more}), host)
    assert decision.intent
    assert isinstance(decision.answer, Plan)
    return in_words(decision.answer, decision.intent, host)


def hash_of(host: Observation, **more: Any) -> str:
    return words(host, **more).hash("n1", 0)


BEFORE = hash_of(seen())


def test_every_action_has_words() -> None:
    assert set(_DESCRIBE) == {*get_args(Action), *get_args(PoolAction)}


def test_neither_order_nor_numbers_of_groups_nor_the_uid_change_the_hash() -> None:
    host = seen()
    mirrored = MappingProxyType(dict(list(host.devices.items())[::-1]))
    assert hash_of(replace(host, devices=mirrored, guests=host.guests[::-1], uses=host.uses[::-1])) == BEFORE
    renumbered = {a: replace(d, iommu_group=d.iommu_group + 7) for a, d in host.devices.items() if d.iommu_group}
    assert hash_of(replace(host, devices=MappingProxyType(renumbered))) == BEFORE
    assert hash_of(host, uid=OTHER_UID, created="2030-01-01T00:00:00Z", generation=9) == BEFORE
    assert hash_of(host, approval="Manual", approvedPlan="0" * 32) == BEFORE


@pytest.mark.parametrize(
    "changed",
    [
        lambda h: hash_of(with_device(h, serial="other", serial_source="DSN")),
        lambda h: hash_of(with_device(h, driver="igb")),
        lambda h: hash_of(h, guest=DB),
        lambda h: hash_of(h, address=MATE),
        lambda h: hash_of(h, address=LONER),
        lambda h: hash_of(h, groupPolicy="AssignAll"),
        lambda h: hash_of(h, managed=True),
        lambda h: words(h).hash("n2", 0),
        lambda h: words(h).hash("n1", 1),
    ],
)
def test_what_is_done_to_what_where_and_when_changes_it(changed: Any) -> None:
    assert changed(seen()) != BEFORE


def with_device(host: Observation, **changes: Any) -> Observation:
    return replace(host, devices=MappingProxyType({**host.devices, NIC: replace(host.devices[NIC], **changes)}))


def test_words_have_no_uid() -> None:
    told = str([step.status() for step in words(seen(), uid=OTHER_UID).steps])
    assert OTHER_UID not in told


def test_a_running_guest_must_be_restarted_for_what_is_not_plugged_in() -> None:
    def disruptions(**more: Any) -> dict[str, str]:
        guests = tuple(
            replace(g, active=True, run=1, slots=Slots(known=False)) if g.name == "web" else g for g in seen().guests
        )
        return {s.action: s.disruption for s in words(seen(guests=guests), address=LONER, **more).steps}

    assert disruptions(attach="NextBoot")["AddHostdev"] == "GuestRestart"
    plugged = disruptions(attach="Live", managed=True)
    assert plugged == {"WriteRecord": "None", "PlugHostdev": "HostDevice", "AddHostdev": "None"}


def test_a_guest_that_runs_with_it_needs_no_restart() -> None:
    host = seen()
    web = next(g for g in host.guests if g.name == "web")
    alias = f"ua-hostdev-{wish().uid}"
    runs = replace(web, active=True, run=1, live=(Hostdev(LONER, alias, managed=True),))
    assert isinstance(runs, Guest)
    told = words(replace(host, guests=(runs,)), address=LONER, managed=True, attach="NextBoot")
    assert {s.disruption for s in told.steps} == {"None"}
