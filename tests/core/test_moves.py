"""When an assignment leaves a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core.model import Observation
from hostdev_operator.core.moves import has_left
from hostdev_operator.core.settings import Settings
from tests.core.hosts import GUESTS
from tests.core.nics import configured, pool_host
from tests.fakes.samples import DB, WEB, wish

POOL: dict[str, Any] = {"source": {"pool": {"name": "pool-a"}}}


def without(host: Observation, uuid: str) -> Observation:
    return replace(host, guests=tuple(g for g in host.guests if g.uuid != uuid))


def copied(host: Observation) -> Observation:
    """Guest db has a copy of web's NIC, alias and all; web is gone."""
    web, db = host.guest(WEB), host.guest(DB)
    assert web
    assert db
    return replace(host, guests=(replace(db, nics=web.nics),))


GONE = without(configured(), WEB)


def test_nothing_of_a_pools_nic_is_left_once_the_guest_is_gone() -> None:
    assert {g.uuid for g in GUESTS} >= {WEB, DB}
    assert has_left(wish(**POOL), GONE)


@pytest.mark.parametrize(
    ("host", "more"),
    [
        (configured(), POOL),
        (pool_host(), POOL),
        (without(GONE, DB), {}),  # a device
        (GONE, {**POOL, "nodeName": "n1"}),
        (copied(configured()), POOL),
        (replace(GONE, settings=Settings(paused=True)), POOL),
    ],
    ids=["it has the NIC", "it is there without", "of a device", "of this node", "its NIC is there", "paused"],
)
def test_else_it_stays(host: Observation, more: dict[str, Any]) -> None:
    assert not has_left(wish(**more), host)
