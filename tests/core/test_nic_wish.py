"""What an assignment of a pool's VF means on a host, and what its fate depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core.kinds import DEVICE, POOL_NIC, kind_of
from hostdev_operator.core.model import Hostdev, Observation
from hostdev_operator.core.network import Network
from hostdev_operator.core.nic import words
from hostdev_operator.core.nic_plan import decide_nic, nic_inputs
from hostdev_operator.core.settings import Settings
from tests.core.hosts import with_guest
from tests.core.nics import DEFINITION, MAC, NETWORK, POOL, POOL_UID, RECORD, VF, nic_intent, pool_host
from tests.fakes.samples import DB, WEB, assignment, wish

Change = Callable[[Observation], Observation]
SOURCE: dict[str, Any] = {"source": {"pool": {"name": "pool-a", "portgroup": "blue"}}}


def test_a_wish_finds_the_network_that_its_pool_has_made() -> None:
    mine = assignment(**SOURCE, network={"vlan": 42}).wish()
    assert kind_of(mine) is POOL_NIC
    assert kind_of(wish(VF)) is DEVICE
    decision = decide_nic(mine, pool_host())
    assert decision.intent is not None
    assert (decision.intent.network, decision.intent.portgroup, decision.intent.nic.vlan) == ("net-a", "blue", 42)
    other = POOL.spec.network.model_copy(update={"name": "new"})
    renamed = replace(POOL, spec=POOL.spec.model_copy(update={"network": other}))
    made = decide_nic(mine, pool_host(pool_wishes=(renamed,))).intent
    asked = decide_nic(mine, pool_host(pool_wishes=(renamed,), pool_records=MappingProxyType({}))).intent
    assert made is not None
    assert asked is not None
    assert (made.network, asked.network) == ("net-a", "new")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: with_guest(h, WEB, run=3),
        lambda h: with_guest(h, DB, active=True, live=(Hostdev(VF),)),
        lambda h: replace(h, networks=MappingProxyType({"net-a": replace(NETWORK, active=False)})),
        lambda h: replace(h, pool_records=MappingProxyType({POOL_UID: replace(RECORD, sequence=2)})),
        lambda h: replace(h, settings=Settings(paused=True)),
        lambda h: replace(h, pfs=MappingProxyType({a: replace(pf, up=False) for a, pf in h.pfs.items()})),
    ],
)
def test_inputs_change_with_what_matters(change: Change) -> None:
    assert nic_inputs(nic_intent(), change(pool_host())) != nic_inputs(nic_intent(), pool_host())


def test_inputs_do_not_change_with_what_does_not_matter() -> None:
    host = with_guest(pool_host(), DB, active=True, run=5)
    other = Network("other", "x", running=DEFINITION)
    host = replace(host, networks=MappingProxyType({**host.networks, "other": other}))
    assert nic_inputs(nic_intent(), host) == nic_inputs(nic_intent(), pool_host())


def test_a_nic_is_told_with_all_that_is_asked_of_it() -> None:
    assert words(MAC, None, None) == f"MAC {MAC}, no VLAN"
    assert words(MAC, 42, None) == f"MAC {MAC}, VLAN 42"
    assert words(MAC, None, "finance") == f"MAC {MAC}, no VLAN, profile finance"
