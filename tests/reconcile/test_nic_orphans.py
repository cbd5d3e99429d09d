"""NICs of pools whose assignment is gone without a release: given back when the administrator says so."""

from __future__ import annotations

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.orphans import Orphan, foreign_nics
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports
from tests.fakes.samples import UID, WEB
from tests.reconcile.nic_running import make_pool, nics, of_pool, vf_host
from tests.reconcile.running import Engine


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    made = Engine(host)
    make_pool(host, made)
    return made


def nobody() -> tuple[Wish, ...]:
    return ()


def orphans(host: FakeHost) -> tuple[Orphan, ...]:
    return foreign_nics(observe(ports(host, FakeClock()), Context(Settings, nobody)), frozenset())


def test_a_nic_is_taken_out_of_its_guest(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(of_pool())
    (orphan,) = orphans(host)
    assert (orphan.uid, orphan.guest) == (UID, "web")
    assert engine.reconciler.release_orphan(orphan) is None
    assert (host.state(), orphans(host)) == (before, ())


def test_a_running_guest_keeps_its_nic_and_is_never_asked(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    engine.run(of_pool(detach="Live"))
    host.calls.clear()
    (orphan,) = orphans(host)
    assert orphan.address == nics(host, live=True)[0].address
    for _ in range(2):
        waits = engine.reconciler.release_orphan(orphan)
        assert waits
        assert waits.reason is reasons.GUEST_RUNNING
    assert host.calls == []
    host.stop(WEB)
    assert engine.reconciler.release_orphan(orphan) is None
    assert nics(host) == ()


def test_it_waits_while_the_node_is_paused(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    engine.settings = Settings(paused=True)
    waits = engine.reconciler.release_orphan(orphans(host)[0])
    assert waits
    assert waits.reason is reasons.PAUSED
    assert nics(host)


def test_what_libvirt_refuses_is_not_asked_for_at_every_event(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    (orphan,) = orphans(host)
    host.fail("remove_interface", reasons.LIBVIRT_ERROR)
    asked: list[str] = []
    host.hook = lambda call: asked.append(call) if call.startswith("remove_interface") else None
    for _ in range(2):
        failed = engine.reconciler.release_orphan(orphan)
        assert failed
        assert failed.reason is reasons.LIBVIRT_ERROR
    tries = len(asked)
    engine.clock.seconds += 1000.0
    assert engine.reconciler.release_orphan(orphan) is None
    assert len(asked) == 2 * tries
