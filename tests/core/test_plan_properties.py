"""Any host, any wish: what a plan does is complete, ordered, and can be given back from any point."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    Action,
    AddHostdev,
    DetachDriver,
    DropRecord,
    HostdevXml,
    PlugHostdev,
    RemoveHostdev,
    ReturnDriver,
    UnplugHostdev,
    WriteRecord,
)
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.intent import ASSIGN_ALL, AUTO, DETACH_UNUSED, LIVE, NEXT_BOOT, REQUIRE_FREE, Intent
from hostdev_operator.core.model import VFIO_DRIVER, Observation, Role
from hostdev_operator.core.plan import Plan, plan_assign
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.record import Member
from hostdev_operator.core.release import Manner, plan_release
from tests.core.hosts import GUESTS, IDENTITIES, actions_of, carry_out, guest, observation, with_guest
from tests.core.plans import ALIAS, refusal_of
from tests.fakes.samples import DB, MATE, NIC, UID, WEB, device, intent, port

DRIVERS = st.sampled_from(["e1000e", "nvme", "snd_hda_intel", VFIO_DRIVER, None])


@st.composite
def hosts(draw: st.DrawFn) -> Observation:
    devices = []
    for group in range(1, draw(st.integers(1, 3)) + 1):
        if draw(st.booleans()):
            devices.append(port(f"0000:00:{group:02x}.0", group))
        for function in range(draw(st.integers(1, 4))):
            devices.append(device(f"0000:{group:02x}:00.{function}", draw(DRIVERS), group))  # noqa: PERF401
    guests = (guest(active=draw(st.booleans())), guest(DB, "db", active=draw(st.booleans())))
    return observation(devices, guests)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Observation, Intent]:
    """A host, and what is wanted of it; what RequireFree refuses is not wanted."""
    host = draw(hosts())
    endpoints = [a for a, d in host.devices.items() if d.role is Role.ENDPOINT]
    wanted = intent(
        draw(st.sampled_from(endpoints)),
        guest=draw(st.sampled_from([WEB, DB, None])),
        managed=draw(st.booleans()),
        group_policy=draw(st.sampled_from([DETACH_UNUSED, ASSIGN_ALL, REQUIRE_FREE])),
        unassigned_mates=draw(st.booleans()),
        attach=draw(st.sampled_from([AUTO, LIVE, NEXT_BOOT])),
    )
    if wanted.is_reservation:
        wanted = replace(wanted, managed=False)
    if isinstance(plan_assign(wanted, host), Refusal):
        assert refusal_of(plan_assign(wanted, host)).reason is reasons.GROUP_NOT_FREE
        wanted = replace(wanted, group_policy=DETACH_UNUSED)
    return host, wanted


def given_back(host: Observation) -> Observation:
    """The host after a hot release; a guest whose devices libvirt would give back one by one is shut off before."""
    plan = plan_release(UID, host, Manner(live=True))
    if isinstance(plan, Refusal):
        assert plan.reason is reasons.GROUP_IN_USE
        assert sum(h.managed for g in host.guests for h in g.live) > 1
        for g in host.guests:
            host = with_guest(host, g.uuid, live=())
        plan = plan_release(UID, host, Manner(live=True))
    return carry_out(actions_of(plan), host)


@given(wishes())
def test_whatever_was_assigned_is_given_back_exactly(wish: tuple[Observation, Intent]) -> None:
    host, wanted = wish
    after = carry_out(actions_of(plan_assign(wanted, host)), host)
    assert given_back(after) == host


@given(wishes())
def test_an_assignment_that_was_carried_out_needs_nothing_more(wish: tuple[Observation, Intent]) -> None:
    host, wanted = wish
    after = carry_out(actions_of(plan_assign(wanted, host)), host)
    assert plan_assign(wanted, after) == Plan()


@given(wishes(), st.data())
def test_from_any_point_on_the_way_it_goes_on_to_the_same_end(
    wish: tuple[Observation, Intent], data: st.DataObject
) -> None:
    host, wanted = wish
    actions = actions_of(plan_assign(wanted, host))
    half = carry_out(actions[: data.draw(st.integers(0, len(actions)))], host)
    assert carry_out(actions_of(plan_assign(wanted, half)), half) == carry_out(actions, host)


@given(wishes(), st.data())
def test_from_any_point_on_the_way_the_host_can_be_given_back(
    wish: tuple[Observation, Intent], data: st.DataObject
) -> None:
    host, wanted = wish
    actions = actions_of(plan_assign(wanted, host))
    half = carry_out(actions[: data.draw(st.integers(0, len(actions)))], host)
    assert given_back(half) == host


@given(wishes())
def test_a_plan_records_first_and_gives_nothing_to_a_guest_before_its_group_is_held(
    wish: tuple[Observation, Intent],
) -> None:
    host, wanted = wish
    actions = actions_of(plan_assign(wanted, host))
    assert isinstance(actions[0], WriteRecord)
    assert sum(isinstance(a, WriteRecord) for a in actions) == 1
    for number, action in enumerate(actions):
        now = carry_out(actions[:number], host)
        if isinstance(action, DetachDriver):
            assert now.devices[action.address].role is Role.ENDPOINT
            recorded = now.records[UID].member(action.address)
            assert recorded == Member(action.address, action.identity, action.driver or None)
        if isinstance(action, (PlugHostdev, AddHostdev)):
            claimed = now.devices[action.hostdev.address]
            others = {a.hostdev.address for a in actions if isinstance(a, (PlugHostdev, AddHostdev))}
            assert [m for m in now.mates(claimed) if m.on_host_driver and m.address not in others] == []
            assert action.hostdev.managed or claimed.driver == VFIO_DRIVER


@given(wishes())
def test_a_release_goes_out_of_the_guest_then_out_of_its_xml_and_forgets_last(
    wish: tuple[Observation, Intent],
) -> None:
    host, wanted = wish
    after = carry_out(actions_of(plan_assign(wanted, host)), host)
    plan = plan_release(UID, after, Manner(live=True))
    if isinstance(plan, Refusal):
        return
    order = [UnplugHostdev, RemoveHostdev, ReturnDriver, DropRecord]
    kinds = [order.index(type(a)) for a in plan.actions]
    assert kinds == sorted(kinds)
    assert kinds.count(3) == 1


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (DetachDriver(NIC, "e1000e", device(NIC).identity), ("detach", str(NIC), "e1000e", VFIO_DRIVER)),
        (ReturnDriver(NIC, None, IDENTITIES[NIC]), (str(NIC), "had no driver")),
        (AddHostdev(WEB, HostdevXml(NIC, ALIAS, managed=True), device(NIC).identity), ("persistent", str(NIC), WEB)),
        (PlugHostdev(WEB, HostdevXml(NIC, ALIAS, managed=True), device(NIC).identity), ("running", str(NIC), WEB)),
        (UnplugHostdev(WEB, NIC, None), ("running", str(NIC), WEB)),
        (RemoveHostdev(WEB, NIC, None), ("persistent", str(NIC), WEB)),
        (DropRecord(UID), (UID,)),
    ],
)
def test_actions_say_what_they_do(action: Action, words: tuple[str, ...]) -> None:
    assert [w for w in words if w not in str(action)] == []


def test_a_refusal_carries_a_row_of_the_catalogue() -> None:
    refusal = refusal_of(plan_assign(intent(), replace(observation(guests=GUESTS), guests=())))
    assert isinstance(refusal.reason, Reason)
    assert MATE in observation().devices
