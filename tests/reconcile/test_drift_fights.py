"""What is changed again and again, whatever driftPolicy says, is done again after growing delays."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.reasons import Retry
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import PF
from tests.fakes.samples import MATE, WEB, assignment
from tests.reconcile.nic_running import config, of_vf, vf_host
from tests.reconcile.running import Engine, message, ready
from tests.reconcile.test_drift import OFF, RUNNING, SETTLED, ByHand, network, settle


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def trusted(host: FakeHost) -> Assignment:
    return of_vf(host, **network(trust=True))


def distrust(host: FakeHost) -> None:
    host.sriov.configure(PF, 0, VfConfig(trust=False))


#: What may be nobody's doing, and is not told as drift, as in CHANGES.
UNTOLD: dict[str, tuple[Callable[[FakeHost], Assignment], bool, ByHand]] = {
    "settings of a VF": (trusted, OFF, distrust),
    "settings of a VF that a guest has": (trusted, RUNNING, distrust),
    "a managed mate": (
        lambda _: assignment(groupPolicy="AssignAll"),
        OFF,
        lambda host: host.bind(MATE, "snd_hda_intel"),
    ),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_nor_is_who_changes_what_may_be_nobodys_doing(name: str, host: FakeHost, engine: Engine) -> None:
    wish, running, by_hand = UNTOLD[name]
    obj = wish(host)
    settle(engine, obj, running=running)
    start, done = engine.clock.seconds, 0
    for second in range(100):
        by_hand(host)
        state = host.state()
        engine.clock.seconds = start + second - 1000.0
        result = engine.run(obj)
        assert result.corrected is None
        done += host.state() != state
    assert (ready(result), result.retry) == (("False", "DriftsAgain"), Retry.BACKOFF)
    assert "driftPolicy" not in message(result)
    assert 2 <= done <= 8


def test_a_guest_that_is_started_again_and_again_is_no_fight(host: FakeHost, engine: Engine) -> None:
    obj = of_vf(host, **network(trust=True))
    settle(engine, obj)
    for _ in range(20):
        host.start(WEB)
        for _ in range(2):
            engine.clock.seconds -= 1000.0
            assert ready(engine.run(obj)) == SETTLED
        host.stop(WEB)
        host.sriov.configure(PF, 0, VfConfig(trust=False))
    engine.clock.seconds -= 1000.0
    assert ready(engine.run(obj)) == SETTLED
    assert config(host, 0).trust is True


def test_who_changes_it_again_and_again_is_not_fought(host: FakeHost, engine: Engine) -> None:
    obj = assignment(driftPolicy="Correct")
    engine.run(obj)
    start = engine.clock.seconds
    times = []
    for second in range(400):
        if host.drivers()[MATE] == VFIO_DRIVER:
            times.append(second)
            host.bind(MATE, "snd_hda_intel")
        engine.clock.seconds = start + second - 1000.0
        result = engine.run(obj)
        if host.drivers()[MATE] != VFIO_DRIVER:
            assert (ready(result), result.retry) == (("False", "DriftsAgain"), Retry.BACKOFF)
            assert f"detach {MATE}" in message(result)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 64
    engine.clock.seconds += 3600.0
    assert engine.run(obj).corrected
    host.bind(MATE, "snd_hda_intel")
    engine.clock.seconds += 3600.0
    assert engine.run(obj).corrected
