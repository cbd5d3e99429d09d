"""A crash at any point leads to the same end."""

from __future__ import annotations

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import NIC, assignment, small_host
from tests.reconcile.running import Engine, count_boundaries, without_plan


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def assigned_already() -> Engine:
    engine = Engine(small_host())
    engine.run(assignment(managed=False))
    engine.boundaries.clear()
    return engine


ASSIGN_BOUNDARIES = count_boundaries(lambda: (Engine(small_host()), assignment(managed=False)))
RELEASE_BOUNDARIES = count_boundaries(lambda: (assigned_already(), assignment(managed=False, deleting=True)))


def test_there_is_a_boundary_around_every_change() -> None:
    assert ASSIGN_BOUNDARIES == 5  # record, two drivers, hostdev, done
    assert RELEASE_BOUNDARIES == 5  # hostdev, two drivers, record, done


@pytest.mark.parametrize("boundary", range(1, ASSIGN_BOUNDARIES + 1))
def test_a_crash_at_any_point_of_an_assignment_leads_to_the_same_end(boundary: int) -> None:
    undisturbed = Engine(small_host())
    expected = undisturbed.run(assignment(managed=False))
    crashed = Engine(small_host(), crash_at=boundary)
    assert without_plan(crashed.run_through_crashes(assignment(managed=False))) == without_plan(expected)
    assert crashed.host.state() == undisturbed.host.state()


@pytest.mark.parametrize("boundary", range(1, ASSIGN_BOUNDARIES + 1))
def test_a_crash_at_any_point_of_an_assignment_can_be_released(boundary: int) -> None:
    before = small_host().state()
    crashed = Engine(small_host(), crash_at=boundary)
    crashed.run_through_crashes(assignment(managed=False, deleting=False))
    assert crashed.run(assignment(managed=False, deleting=True)).released
    assert crashed.host.state() == before


@pytest.mark.parametrize("boundary", range(1, RELEASE_BOUNDARIES + 1))
def test_a_crash_at_any_point_of_a_release_leads_to_the_same_end(boundary: int) -> None:
    before = small_host().state()
    crashed = assigned_already()
    crashed.crash_at = boundary
    assert crashed.run_through_crashes(assignment(managed=False, deleting=True)).released
    assert crashed.host.state() == before


@pytest.mark.parametrize("boundary", range(1, 9))
def test_a_crash_in_a_rollback_leaves_nothing_behind(boundary: int) -> None:
    before = small_host().state()
    crashed = Engine(small_host(), crash_at=boundary)
    crashed.host.fail("add_hostdev", reasons.NO_GUEST_PCI_SLOT, times=2)
    crashed.run_through_crashes(assignment(managed=False))
    assert len(crashed.boundaries) >= boundary
    assert crashed.host.state() == before


def test_the_steady_state_has_no_boundary(engine: Engine) -> None:
    engine.run(assignment())
    engine.boundaries.clear()
    engine.run(assignment())
    assert engine.boundaries == []
    assert NIC in engine.host.devices
