from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.pool_actions import (
    StopNetwork,
)
from hostdev_operator.core.pool_plan import plan_pool
from tests.core.pool_hosts import (
    MAC,
    OTHER,
    PF,
    POOL,
    VFS,
    kinds,
    made,
    pool,
    settle,
    sriov_host,
    starts_on,
    steps_of,
    wishing,
)
from tests.fakes.samples import WEB

# -- two pools on one PF ----------------------------------------------------------------------------------------------

A = pool("net-a", pf={"name": "ens1", "vfs": "0-1"})
B = pool("net-b", OTHER, "2026-01-02T00:00:00Z", pf={"name": "ens1", "vfs": "2-3"})


def test_two_pools_share_a_pf_and_what_it_was_before() -> None:
    host = made(sriov_host(), A, B)
    first, second = host.pool_records[POOL], host.pool_records[OTHER]
    assert (second.num_vfs_before, second.autoprobe_before, second.up_before) == (0, True, True)
    assert (first.num_vfs_before, first.autoprobe_before) == (0, True)
    assert [host.networks[n].addresses for n in ("net-a", "net-b")] == [set(VFS[:2]), set(VFS[2:4])]
    assert plan_pool(A, host) == plan_pool(B, host) == ()


def test_both_networks_are_stopped_before_their_common_vfs_go() -> None:
    host = made(sriov_host(), A, B)
    more: dict[str, Any] = {"pf": {"name": "ens1", "vfs": "0-1"}, "numVFs": 6}
    a, b = pool("net-a", **more), replace(B, spec=B.spec.model_copy(update={"num_vfs": 6}))
    host = wishing(host, a, b)
    assert set(kinds(steps_of(plan_pool(a, host)))) == {"WritePoolRecord", "StopNetwork"}
    assert [s.name for s in steps_of(plan_pool(a, host)) if isinstance(s, StopNetwork)] == ["net-a", "net-b"]
    host = settle(b, settle(a, host))
    assert host.networks["net-a"].active
    assert host.networks["net-b"].active
    assert host.devices[PF].num_vfs == 6
    on_b = starts_on(made(sriov_host(), A, B), WEB, "net-b")
    answer = plan_pool(a, wishing(on_b, a, b))
    assert isinstance(answer, Refusal)
    assert answer.reason is reasons.VFS_IN_USE


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"pf": {"name": "ens1", "vfs": "1-2"}}, "overlap: 1-2 and 0-1"),
        ({"pf": {"name": "ens1"}}, "one wants all of them"),
        ({"pf": {"mac": MAC, "vfs": "2-3"}, "numVFs": 5}, "numVFs 5 and 4"),
        ({"pf": {"name": "ens1", "vfs": "2-3"}, "bindHostDriver": True}, "bindHostDriver true and false"),
        ({"pf": {"name": "ens1", "vfs": "2-3"}, "linkUp": True}, "linkUp true and false"),
        ({"pf": {"name": "ens1", "vfs": "2-3"}, "numVFs": None, "externallyManaged": True}, "numVFs none and 4"),
        ({"pf": {"name": "ens2"}, "network": {"name": "net-a"}}, "both want the libvirt network net-a"),
    ],
)
def test_of_two_pools_that_do_not_agree_the_younger_waits(other: Any, words: str) -> None:
    younger = pool("net-b", OTHER, "2026-01-02T00:00:00Z", **other)
    host = wishing(sriov_host(pfs=2), A, younger)
    answer = plan_pool(younger, host)
    assert isinstance(answer, Refusal)
    assert answer.reason is reasons.POOL_CONFLICT
    assert words in answer.message
    assert "pool net-b waits for pool net-a" in answer.message
    assert steps_of(plan_pool(A, host))
    assert isinstance(plan_pool(younger, wishing(made(host, A), A, younger)), Refusal)


def test_of_the_same_second_the_uid_decides_and_whoever_has_begun_goes_first() -> None:
    a, twin = pool("net-a"), pool("net-b", OTHER)
    host = wishing(sriov_host(), a, twin)
    assert isinstance(plan_pool(twin, host), Refusal)
    assert steps_of(plan_pool(a, host))
    begun = wishing(made(sriov_host(), twin), a, twin)
    assert isinstance(plan_pool(a, begun), Refusal)
    assert plan_pool(twin, begun) == ()


def test_a_pool_that_is_being_deleted_is_waited_for() -> None:
    gone = pool("net-a", numVFs=4)
    host = wishing(made(sriov_host(), gone), replace(B, spec=pool("net-b", numVFs=6).spec))
    answer = plan_pool(host.pool_wishes[0], host)
    assert isinstance(answer, Refusal)
    assert (answer.reason, "not given back yet" in answer.message) == (reasons.POOL_CONFLICT, True)
    same_name = pool("net-c", OTHER, pf={"name": "ens2"}, network={"name": "net-a"})
    answer = plan_pool(same_name, wishing(made(sriov_host(pfs=2), gone), same_name))
    assert isinstance(answer, Refusal)
    assert (answer.reason, "network net-a" in answer.message) == (reasons.POOL_CONFLICT, True)
