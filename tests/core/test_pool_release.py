from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import VFIO_DRIVER, Observation, Use
from hostdev_operator.core.network import NetworkDefinition
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool_actions import (
    ConfigureVf,
    DropPoolRecord,
    ReturnVf,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    UndefineNetwork,
)
from hostdev_operator.core.pool_network import network_uuid
from hostdev_operator.core.pool_release import plan_pool_release
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.sriov import VfConfig
from tests.core.hosts import with_device
from tests.core.pool_hosts import (
    FRESH,
    OTHER,
    PF,
    PF2,
    POOL,
    carry_out,
    defined,
    has_plain,
    made,
    physical,
    pool,
    release,
    sriov_host,
    starts_on,
    stops,
    vf_at,
    wishing,
    with_networks,
    with_pf,
    with_vfs,
    without_network,
)
from tests.fakes.samples import DB, WEB, wish

OWN = network_uuid(POOL)
IDENTITY = physical().identity
VFS = tuple(vf_at(PF, index) for index in range(4))
A = pool("net-a", pf={"name": "ens1", "vfs": "0-1"}, linkUp=True)
B = pool("net-b", OTHER, "2026-01-02T00:00:00Z", pf={"name": "ens1", "vfs": "2-3"}, linkUp=True)


def deleted(host: Observation) -> Observation:
    return wishing(host)


def plan(host: Observation) -> tuple[object, ...]:
    answer = plan_pool_release(POOL, deleted(host))
    assert isinstance(answer, tuple), answer
    return answer


def refused(host: Observation, reason: Reason) -> str:
    answer = plan_pool_release(POOL, deleted(host))
    assert isinstance(answer, Refusal), answer
    assert answer.reason is reason
    return answer.message


def test_first_the_network_goes_and_then_the_rest_in_one_step() -> None:
    host = made(sriov_host(up=False), pool(linkUp=True))
    first = plan(host)
    assert first == (StopNetwork("net-a"), UndefineNetwork("net-a", OWN))
    host = carry_out(first, deleted(host))
    assert plan(host) == (
        SetAutoprobe(PF, True),
        SetVfCount(PF, 0, IDENTITY),
        SetLink(PF, False),
        DropPoolRecord(POOL),
    )
    host = release(POOL, host)
    assert host.pool_records == {}
    assert host.devices == sriov_host().devices
    assert plan(host) == ()


def test_all_is_as_before() -> None:
    start = with_pf(sriov_host(3), PF, vfs={0: FRESH, 1: replace(FRESH, trust=True), 2: FRESH})
    host = made(start, pool(numVFs=3, vfSettings={"trust": True, "maxTxRate": 100}))
    assert host.pfs[PF].vfs[2].max_tx_rate == 100
    back = release(POOL, host)
    assert (back.devices, back.networks, back.pfs) == (start.devices, start.networks, start.pfs)


def test_settings_are_given_back_where_the_vfs_stay() -> None:
    host = made(sriov_host(4), pool(vfSettings={"trust": True}, pf={"name": "ens1", "vfs": "3-3"}))
    host = carry_out(plan(host), deleted(host))  # type: ignore[arg-type]
    assert plan(host) == (ConfigureVf(PF, 3, VfConfig(trust=False)), SetAutoprobe(PF, True), DropPoolRecord(POOL))


def test_vfs_that_stay_get_their_drivers_back_from_before_there_was_no_probing() -> None:
    host = made(sriov_host(4), pool())
    for vf in VFS[1:]:  # libvirt has given them back after a guest, and the kernel has bound none
        host = with_device(host, vf, driver=None)
    host = has_plain(with_device(host, VFS[2], driver=VFIO_DRIVER), WEB, VFS[2], running=True)
    host = has_plain(host, DB, VFS[3])
    host = carry_out(plan(host), deleted(host))  # type: ignore[arg-type]
    lost = host.devices[VFS[1]]
    assert plan(host) == (SetAutoprobe(PF, True), ReturnVf(VFS[1], lost.identity), DropPoolRecord(POOL))


def test_where_there_was_no_probing_before_no_vf_gets_a_driver() -> None:
    start = with_pf(sriov_host(), PF, autoprobe=False)
    host = made(with_vfs(start, PF, 4), pool())
    host = carry_out(plan(host), deleted(host))  # type: ignore[arg-type]
    assert plan(host) == (DropPoolRecord(POOL),)


def test_an_adopted_network_stays_and_so_may_its_guests() -> None:
    network = defined("net-a", pf="ens1", active=True)
    network = replace(network, running=NetworkDefinition("net-a", "ens1", VFS))
    host = starts_on(made(with_networks(sriov_host(4), network), pool()), WEB, "net-a")
    assert host.pool_records[POOL].adopted
    assert plan(host) == (SetAutoprobe(PF, True), DropPoolRecord(POOL))
    back = release(POOL, host)
    assert back.networks == host.networks


def test_an_adopted_network_is_started_again_after_its_vfs_were_made_anew() -> None:
    network = defined("net-a", pf="ens1", active=True)
    network = replace(network, running=NetworkDefinition("net-a", "ens1", VFS[:2]))
    host = made(with_networks(sriov_host(2), network), pool(numVFs=4))
    first = plan(host)
    assert first == (StopNetwork("net-a"),)
    host = carry_out(first, deleted(host))
    assert plan(host)[-2:] == (StartNetwork("net-a"), DropPoolRecord(POOL))
    assert release(POOL, host).networks["net-a"].running == network.running


# -- what it waits for ------------------------------------------------------------------------------------------------


def test_it_waits_for_a_guest_that_runs_on_the_network() -> None:
    host = starts_on(made(sriov_host(), pool()), WEB, "net-a")
    words = refused(host, reasons.POOL_IN_USE)
    assert "guest web is on its libvirt network" in words
    host = stops(host, WEB)
    assert "guest web is defined with its libvirt network net-a" in refused(host, reasons.POOL_IN_USE)
    assert plan(replace(host, guests=host.guests[1:]))


def test_it_waits_for_assignments_that_name_it() -> None:
    more = {"source": {"pool": {"name": "net-a"}}}
    host = replace(made(sriov_host(), pool()), wishes=(wish(None, **more),))
    assert "assignment default/nic names it" in refused(host, reasons.POOL_IN_USE)
    other = {"source": {"pool": {"name": "net-b"}}}
    assert plan(replace(host, wishes=(wish(None, **other), wish())))


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"uses": (Use(PF, "carries a route"),)}, reasons.HOST_CRITICAL, "carries a route"),
        ({"unknown_use": "no /proc"}, reasons.HOST_USE_UNKNOWN, "no /proc"),
        ({"uses": (Use(VFS[0], "carries a route"),)}, reasons.VFS_IN_USE, "VF 0"),
        ({"settings": Settings(paused=True)}, reasons.PAUSED, "paused"),
        ({"blocked": frozenset({VFS[0]})}, reasons.DETACH_BLOCKED, "has not returned"),
    ],
)
def test_it_waits_for_what_must_not_be_disturbed(changes: Any, reason: Reason, words: str) -> None:
    assert words in refused(replace(made(sriov_host(), pool()), **changes), reason)


def test_it_waits_for_the_vfs_that_others_have() -> None:
    host = has_plain(made(sriov_host(), pool()), WEB, VFS[2])
    assert "guest web has it in its persistent XML" in refused(host, reasons.VFS_IN_USE)
    other = with_networks(made(sriov_host(), pool()), defined("old", addresses=VFS[:1]))
    assert "network old hands them out" in refused(other, reasons.VFS_IN_USE)


def test_settings_of_a_vf_that_somebody_has_wait() -> None:
    host = made(sriov_host(4), pool(vfSettings={"trust": True}))
    host = has_plain(host, WEB, VFS[2], running=True)
    assert "VF 2" in refused(host, reasons.VFS_IN_USE)
    untouched = has_plain(made(sriov_host(4), pool()), WEB, VFS[2], running=True)
    assert plan(untouched)


# -- what is not there any more ---------------------------------------------------------------------------------------


def test_without_a_record_there_is_nothing_to_do() -> None:
    assert plan_pool_release(POOL, replace(sriov_host(4), settings=Settings(paused=True))) == ()


def test_a_network_of_somebody_else_is_left_alone() -> None:
    host = with_networks(made(sriov_host(), pool()), defined("net-a", pf="ens1", uuid="another"))
    assert "network net-a hands them out" in refused(host, reasons.VFS_IN_USE)
    inactive = with_networks(with_vfs(host, PF, 0), defined("net-a", addresses=(vf_at(PF2, 0),), uuid="another"))
    assert StopNetwork("net-a") not in plan(inactive)
    assert release(POOL, inactive).networks["net-a"].uuid == "another"


def test_a_network_that_is_gone_or_transient_is_no_obstacle() -> None:
    host = made(sriov_host(), pool())
    assert SetVfCount(PF, 0, IDENTITY) in plan(without_network(host, "net-a"))
    transient = replace(host.networks["net-a"], persistent=False, hands_out=None, xml=None)
    assert plan(with_networks(host, transient)) == (StopNetwork("net-a"),)


def test_a_card_that_is_gone_or_another_one_gets_nothing_back() -> None:
    host = made(sriov_host(), pool())
    gone = replace(host, devices=MappingProxyType({}), pfs=MappingProxyType({}), pools=())
    assert plan(without_network(gone, "net-a")) == (DropPoolRecord(POOL),)
    other = replace(without_network(host, "net-a"), devices=MappingProxyType({PF: physical(product=0x1528)}))
    assert plan(other) == (DropPoolRecord(POOL),)


def test_two_cards_that_could_both_be_it_are_not_chosen_from() -> None:
    host = without_network(made(with_pf(sriov_host(), PF, mac=None), pool()), "net-a")
    twins = {a: physical(a, slot_path="same") for a in (PF2, PciAddress.parse("0000:05:00.0"))}
    record = replace(host.pool_records[POOL], identity=twins[PF2].identity)
    refused(
        replace(host, devices=MappingProxyType(twins), pool_records=MappingProxyType({POOL: record})),
        reasons.AMBIGUOUS_DEVICE,
    )


def test_what_was_changed_by_hand_meanwhile_is_not_changed_again() -> None:
    host = without_network(made(sriov_host(up=False), pool(linkUp=True)), "net-a")
    host = with_pf(with_vfs(host, PF, 0), PF, up=False, autoprobe=True)
    assert plan(host) == (DropPoolRecord(POOL),)


def test_externally_managed_vfs_stay() -> None:
    host = made(sriov_host(2), pool(numVFs=None, externallyManaged=True))
    host = with_vfs(host, PF, 5)
    back = release(POOL, host)
    assert (len(back.vfs(PF)), back.pfs[PF].autoprobe, dict(back.pool_records)) == (5, True, {})


# -- two pools --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(POOL, OTHER), (OTHER, POOL)])
def test_the_last_pool_gives_the_pf_back(order: tuple[str, str]) -> None:
    start = sriov_host(up=False)
    host = release(order[0], made(start, A, B))
    assert (host.devices[PF].num_vfs, host.pfs[PF].autoprobe, host.pfs[PF].up) == (4, False, True)
    assert len(host.networks) == 1
    host = release(order[1], host)
    assert (host.devices, host.pfs, dict(host.networks)) == (start.devices, start.pfs, {})


def test_a_pf_that_the_host_uses_by_now_stays_up() -> None:
    host = made(sriov_host(4, up=False), pool(linkUp=True))
    host = replace(host, uses=(Use(PF, "carries a route"),))
    assert release(POOL, host).pfs[PF].up
