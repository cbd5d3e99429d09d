"""A guest that is gone from the node: its NICs of pools may be bound anew, its devices may not."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.reasons import Retry
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import UID, WEB, assignment
from tests.reconcile.nic_running import SLOTS, make_pool, nics, of_pool, vf_host
from tests.reconcile.running import Engine, ready

#: Each run is 1000 s after the last one.
RUN = 1000.0


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    made = Engine(host)
    make_pool(host, made)
    return made


def test_it_is_told_at_once_and_left_after_a_while(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    host.undefine(WEB)
    told = engine.run(of_pool())
    assert (ready(told), told.left, told.retry) == (("False", "GuestNotFound"), False, Retry.SOON)
    engine.clock.seconds -= RUN - 9.9
    assert not engine.run(of_pool()).left
    engine.clock.seconds -= RUN - 0.2
    gone = engine.run(of_pool())
    assert (gone.left, gone.released) == (True, False)


def test_it_is_waited_for_anew_by_a_node_that_gets_it_back(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    host.undefine(WEB)
    engine.run(of_pool())
    assert engine.run(of_pool()).left
    assert not engine.run(of_pool()).left


def test_a_guest_that_is_defined_anew_has_not_moved(host: FakeHost, engine: Engine) -> None:
    for _ in range(3):
        engine.run(of_pool())
        assert [n.alias for n in nics(host)] == [f"ua-hostdev-{UID}"]
        host.undefine(WEB)
        assert not engine.run(of_pool()).left
        host.define(WEB, "web", SLOTS)


def test_a_guest_that_is_back_at_the_last_moment_keeps_it(host: FakeHost, engine: Engine) -> None:
    """A look that others have shared is too old for the decision."""
    engine.run(of_pool())
    host.undefine(WEB)
    engine.run(of_pool())
    looker = engine.reconciler._looker
    seen = looker.fresh()
    host.define(WEB, "web", SLOTS)
    with patch.object(looker, "shared", return_value=(seen, False)):
        assert not engine.run(of_pool()).left


def test_libvirt_that_does_not_answer_is_no_sign(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    host.down = True
    for _ in range(2):
        result = engine.run(of_pool())
        assert (ready(result)[1], result.left) == (reasons.LIBVIRT_UNAVAILABLE.name, False)


def test_a_device_stays_and_so_does_what_names_its_node(host: FakeHost, engine: Engine) -> None:
    for obj in (assignment(), of_pool(nodeName="n1")):
        engine.run(obj)
    host.undefine(WEB)
    for obj in (assignment(), of_pool(nodeName="n1")):
        for _ in range(3):
            result = engine.run(obj)
            assert (ready(result), result.left) == (("False", "GuestNotFound"), False)
