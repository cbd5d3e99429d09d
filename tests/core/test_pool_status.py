from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.api.vfpool import NodeVFPoolStatus, VfCounts
from hostdev_operator.core import reasons
from hostdev_operator.core.assignment_status import Outcome
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Observation
from hostdev_operator.core.pool_network import network_uuid
from hostdev_operator.core.pool_plan import plan_pool
from hostdev_operator.core.pool_published import pool_record_from_status, pool_record_status
from hostdev_operator.core.pool_status import old_pool_status_but, pool_status
from hostdev_operator.core.sriov import VfConfig
from tests.core.pool_hosts import (
    MAC,
    PF,
    POOL,
    has_plain,
    made,
    pool,
    settle,
    sriov_host,
    starts_on,
    vf_at,
    with_networks,
    with_pf,
    with_vfs,
    without_network,
)
from tests.fakes.samples import DB, WEB

MADE = made(sriov_host(), pool())


def status(host: Observation, outcome: Outcome | None = None, **more: Any) -> NodeVFPoolStatus:
    """As a run ends: with the refusal of the plan, if there is one."""
    wish = pool(**more)
    answer = plan_pool(wish, host)
    return pool_status(wish, host, outcome or Outcome(refused=answer if isinstance(answer, Refusal) else None))


def conditions(found: NodeVFPoolStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in found.conditions}


def test_a_pool_that_is_as_asked() -> None:
    found = status(starts_on(MADE, WEB, "net-a"))
    assert conditions(found) == {
        "Planned": ("True", "ChecksPassed"),
        "VFsReady": ("True", "VFsCreated"),
        "NetworkReady": ("True", "NetworkActive"),
        "Ready": ("True", "PoolReady"),
    }
    assert found.pf
    assert found.pf.wire() == {
        "address": str(PF), "name": "ens1", "mac": MAC, "up": True, "totalVFs": 7, "numVFs": 4,
    }  # fmt: skip
    assert found.vfs[0].wire() == {
        "index": 0, "address": str(vf_at(PF, 0)), "mac": "00:00:00:00:00:00", "vlan": 0, "holder": "guest web",
    }  # fmt: skip
    assert found.counts == VfCounts(total=4, allocated=1, free=3)
    assert found.network
    assert found.network.wire() == {
        "name": "net-a", "uuid": network_uuid(POOL), "active": True, "autostart": True, "connections": 1,
    }  # fmt: skip
    assert found.record == pool_record_status(MADE.pool_records[POOL])


def test_vfs_that_are_left_out_are_named() -> None:
    found = status(made(has_plain(sriov_host(4), DB, vf_at(PF, 2)), pool()))
    planned = next(c for c in found.conditions if c.type == "Planned")
    assert (planned.reason, "VF 2 (0000:01:10.4): guest db" in planned.message) == ("VFsLeftOut", True)
    assert next(c for c in found.conditions if c.type == "Ready").message == (
        "libvirt network net-a hands out 3 VFs of PF ens1 (0000:01:00.0)"
    )


def test_before_it_is_made_nothing_is_counted() -> None:
    found = status(sriov_host(4), Outcome())
    assert (found.vfs, found.counts, found.network, found.record) == (
        (),
        VfCounts(total=0, allocated=0, free=0),
        None,
        None,
    )
    assert conditions(found)["Ready"] == ("False", "PoolNotFound")
    empty = status(sriov_host(), Outcome())
    assert conditions(empty)["VFsReady"] == ("False", "VFsNotCreated")


def test_a_pf_that_is_not_there() -> None:
    found = status(sriov_host(), pf={"name": "ens9"})
    assert found.pf is None
    assert conditions(found) == {
        "Planned": ("False", "DeviceNotFound"),
        "VFsReady": ("False", "NotTried"),
        "NetworkReady": ("False", "NotTried"),
        "Ready": ("False", "DeviceNotFound"),
    }


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (with_networks(MADE, replace(MADE.networks["net-a"], active=False, running=None)), "PoolInactive"),
        (with_networks(MADE, replace(MADE.networks["net-a"], autostart=False)), "PoolInactive"),
        (without_network(MADE, "net-a"), "PoolNotFound"),
        (with_pf(MADE, PF, netdev="ens7"), "NetworkDiffers"),
    ],
)
def test_a_network_that_is_not_as_asked(host: Observation, expected: str) -> None:
    found = conditions(status(host, Outcome()))
    assert (found["NetworkReady"], found["Ready"]) == (("False", expected), ("False", expected))
    failed = Outcome(failed=Refusal(reasons.LIBVIRT_ERROR, "libvirt says no"))
    found = conditions(status(host, failed))
    assert (found["NetworkReady"], found["Ready"]) == (("False", "LibvirtError"), ("False", "LibvirtError"))


def test_what_waits_for_guests_is_pending() -> None:
    more: dict[str, Any] = {"network": {"vlan": 3}}
    host = settle(pool(**more), starts_on(MADE, WEB, "net-a"))
    assert conditions(status(host, **more)) == {
        "Planned": ("False", "PendingIdle"),
        "VFsReady": ("True", "VFsCreated"),
        "NetworkReady": ("False", "NotTried"),
        "Ready": ("False", "PendingIdle"),
    }
    assert conditions(status(host, Outcome(), **more))["NetworkReady"] == ("False", "PendingIdle")


def test_a_pf_that_is_down_is_not_ready_though_all_else_is() -> None:
    found = conditions(status(made(sriov_host(up=False), pool())))
    assert (found["VFsReady"][0], found["NetworkReady"][0], found["Ready"]) == ("True", "True", ("False", "PFDown"))


def test_vfs_that_are_gone() -> None:
    found = conditions(status(with_vfs(MADE, PF, 0), Outcome()))
    assert found["VFsReady"] == ("False", "VFsNotCreated")


def test_where_nothing_can_be_seen_the_old_status_stays_but_ready() -> None:
    old = status(MADE)
    found = old_pool_status_but(old, Outcome(failed=Refusal(reasons.LIBVIRT_UNAVAILABLE, "no answer")))
    assert conditions(found) == {**conditions(old), "Ready": ("False", "LibvirtUnavailable")}
    assert (found.vfs, found.record) == (old.vfs, old.record)


def test_the_record_survives_its_publication() -> None:
    record = replace(
        MADE.pool_records[POOL],
        vfs_before=MappingProxyType({1: VfConfig(trust=False, link_state="auto"), 0: VfConfig(max_tx_rate=0)}),
        adopted=True,
        sequence=7,
    )
    copy = pool_record_status(record)
    again = type(copy).model_validate(copy.wire())
    assert pool_record_from_status(again, POOL, "net-a") == replace(record, vfs_before=dict(record.vfs_before))


@pytest.mark.parametrize(("field", "value"), [("pf", "nonsense")])
def test_a_malformed_copy_is_a_value_error(field: str, value: str) -> None:
    copy = pool_record_status(MADE.pool_records[POOL]).model_copy(update={field: value})
    with pytest.raises(ValueError, match="nonsense"):
        pool_record_from_status(copy, POOL, "net-a")
