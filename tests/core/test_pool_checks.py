from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

import pytest

from hostdev_operator.core import pool_checks as checks
from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Observation, Use
from hostdev_operator.core.pool import PoolWish
from hostdev_operator.core.pool_checks import Check
from hostdev_operator.core.pool_network import PoolCase
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.settings import Settings
from tests.core.pool_hosts import (
    OTHER,
    PF,
    defined,
    has_plain,
    made,
    physical,
    pool,
    sriov_host,
    starts_on,
    vf_at,
    wishing,
    with_networks,
    with_pf,
    with_vfs,
)
from tests.fakes.samples import WEB

VF = vf_at(PF, 0)
GOOD = sriov_host(4)
EXTERNAL = pool(numVFs=None, externallyManaged=True)
OLDER = pool("old", OTHER, "2025-01-01T00:00:00Z")


def total(count: int) -> Observation:
    return replace(GOOD, devices=MappingProxyType({**GOOD.devices, PF: physical(total_vfs=count, num_vfs=4)}))


@dataclass(frozen=True)
class Row:
    """One refusal: the check alone, and what it says."""

    what: str
    wish: PoolWish
    host: Observation
    check: Check
    reason: Reason
    words: str


ROWS = [
    Row("no number of VFs", pool(numVFs=None), GOOD, checks.makes_sense, reasons.INVALID_SOURCE, "numVFs"),
    Row("both ways", pool(externallyManaged=True), GOOD, checks.makes_sense, reasons.INVALID_SOURCE, "externally"),
    Row("a range that ends before it begins", pool(pf={"name": "ens1", "vfs": "3-1"}), GOOD, checks.makes_sense,
        reasons.INVALID_SOURCE, "3-1 is no range"),
    Row("two default portgroups",
        pool(network={"portgroups": [{"name": "a", "default": True}, {"name": "b", "default": True}]}), GOOD,
        checks.makes_sense, reasons.INVALID_SOURCE, "only one portgroup"),
    Row("a PF that cannot", pool(), total(0), checks.vfs_can_be_had, reasons.SRIOV_UNSUPPORTED, "driver igb"),
    Row("too many", pool(numVFs=8), GOOD, checks.vfs_can_be_had, reasons.VF_COUNT_TOO_HIGH, "8 VFs, and PF ens1"),
    Row("a range beyond", pool(pf={"name": "ens1", "vfs": "2-4"}), GOOD, checks.vfs_can_be_had,
        reasons.VF_COUNT_TOO_HIGH, "the last one is 3"),
    Row("an older pool", pool(), wishing(GOOD, OLDER), checks.no_other_pool_is_in_the_way, reasons.POOL_CONFLICT,
        "pool net-a waits for pool old"),
    Row("no netdev", pool(), with_pf(GOOD, PF, netdev=None), checks.pf_has_a_netdev, reasons.PF_DOWN, "driver igb"),
    Row("nobody makes VFs", EXTERNAL, with_vfs(GOOD, PF, 0), checks.somebody_made_the_vfs, reasons.VFS_NOT_CREATED,
        "has no VFs"),
    Row("another network", pool(), with_networks(GOOD, defined("net-a", pf="x")), checks.network_can_be_had,
        reasons.NETWORK_DIFFERS, "the VFs of x"),
    Row("another network with guests", pool(network={"adopt": "Replace"}),
        with_networks(GOOD, replace(defined("net-a", pf="x", active=True), connections=1)), checks.network_can_be_had,
        reasons.PENDING_IDLE, "1 NICs of running guests"),
    Row("a network that has the PF", pool(), with_networks(sriov_host(), defined("b", pf="ens1")), checks.a_vf_is_left,
        reasons.VFS_IN_USE, "network b hands out all VFs"),
    Row("all VFs with others", pool(), has_plain(sriov_host(1), WEB, VF), checks.a_vf_is_left, reasons.VFS_IN_USE,
        f"VF 0 ({VF}): guest web has it in its persistent XML"),
    Row("the host's uplink", pool(), replace(GOOD, uses=(Use(PF, "carries a route"),)), checks.pf_can_be_spared,
        reasons.HOST_CRITICAL, "carries a route"),
    Row("unknown use", pool(), replace(GOOD, unknown_use="no /proc"), checks.pf_can_be_spared,
        reasons.HOST_USE_UNKNOWN, "no /proc"),
    Row("a VF in use", pool(), has_plain(GOOD, WEB, VF), checks.vfs_are_unused, reasons.VFS_IN_USE, "guest web"),
    Row("another network's VFs", pool(), with_networks(GOOD, defined("b", addresses=(VF,))), checks.vfs_are_unused,
        reasons.VFS_IN_USE, "network b hands them out"),
    Row("a guest on the network", pool(), starts_on(made(GOOD, pool()), WEB, "net-a"), checks.vfs_are_unused,
        reasons.VFS_IN_USE, "guest web runs with it"),
    Row("paused", pool(), replace(GOOD, settings=Settings(paused=True)), checks.not_paused, reasons.PAUSED, "paused"),
    Row("a PF that hangs", pool(), replace(GOOD, blocked=frozenset({PF})), checks.not_blocked, reasons.DETACH_BLOCKED,
        "has not returned"),
    Row("a VF that hangs", pool(), replace(GOOD, blocked=frozenset({VF})), checks.not_blocked, reasons.DETACH_BLOCKED,
        "one of its VFs"),
    Row("a PF that is down", pool(), with_pf(GOOD, PF, up=False), checks.pf_is_up, reasons.PF_DOWN, "linkUp: true"),
]  # fmt: skip


def case(wish: PoolWish, host: Observation) -> PoolCase:
    return PoolCase(wish, host, host.devices[PF])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_check_refuses_with_its_reason_and_names_what_is_in_the_way(row: Row) -> None:
    answer = row.check(case(row.wish, row.host))
    assert isinstance(answer, Refusal)
    assert answer.reason is row.reason
    assert row.words in answer.message
    assert row.wish.name in answer.message or "PF ens1" in answer.message


ALL = (*checks.SUBJECTS, *checks.COUNT, *checks.CHANGE, checks.pf_is_up)


@pytest.mark.parametrize("check", ALL, ids=lambda check: str(check.__name__))
def test_a_good_host_passes_every_check(check: Callable[[PoolCase], Refusal | None]) -> None:
    assert check(case(pool(), GOOD)) is None
    assert check(case(pool(), made(GOOD, pool()))) is None


def test_every_check_has_a_row() -> None:
    assert {row.check for row in ROWS} == set(ALL)


def test_what_does_not_concern_the_pool_is_no_conflict() -> None:
    elsewhere = pool("old", OTHER, "2025-01-01T00:00:00Z", pf={"name": "ens2"})
    unknown = pool("old", OTHER, "2025-01-01T00:00:00Z", pf={"name": "ens9"})
    host = wishing(sriov_host(pfs=2), elsewhere, unknown, pool())
    assert checks.no_other_pool_is_in_the_way(case(pool(), host)) is None
