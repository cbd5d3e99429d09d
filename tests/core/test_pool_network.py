from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Nic
from hostdev_operator.core.network import NetworkDefinition
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool_actions import (
    AutostartNetwork,
    SetAutoprobe,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    WritePoolRecord,
)
from hostdev_operator.core.pool_network import network_uuid
from hostdev_operator.core.pool_plan import plan_pool
from tests.core.pool_hosts import (
    IDENTITY,
    PF,
    POOL,
    VFS,
    defined,
    has_plain,
    kinds,
    made,
    planned,
    pool,
    refused,
    settle,
    sriov_host,
    starts_on,
    stops,
    vf_at,
    with_networks,
    with_pf,
    with_vfs,
    without_network,
)
from tests.fakes.samples import DB, WEB

OWN = network_uuid(POOL)


# -- networks that are there already ----------------------------------------------------------------------------------


def test_an_equal_network_is_adopted() -> None:
    host = with_networks(sriov_host(4), defined("net-a", pf="ens1", active=True))
    host = with_networks(host, replace(host.networks["net-a"], running=NetworkDefinition("net-a", "ens1", VFS[:4])))
    record, *rest = planned(host)
    assert isinstance(record, WritePoolRecord)
    assert (record.record.adopted, record.record.network_uuid) == (True, "uuid-of-net-a")
    assert rest == [SetAutoprobe(PF, False)]
    assert planned(settle(pool(), host)) == ()


def test_an_equal_network_is_adopted_once_its_vfs_are_there() -> None:
    wish: dict[str, Any] = {"pf": {"name": "ens1", "vfs": "0-1"}}
    host = with_networks(sriov_host(), replace(defined("net-a", addresses=VFS[:2]), autostart=False))
    record, *_ = planned(host, **wish)
    assert isinstance(record, WritePoolRecord)
    assert (record.record.adopted, record.record.network_uuid) == (False, None)
    host = settle(pool(**wish), host)
    assert (host.pool_records[POOL].adopted, host.networks["net-a"].uuid) == (True, "uuid-of-net-a")
    assert host.networks["net-a"].active
    assert host.networks["net-a"].autostart


@pytest.mark.parametrize(
    ("wish", "network", "words"),
    [
        ({}, defined("net-a", pf="ens9"), "the VFs of ens9 instead of the VFs of ens1"),
        ({}, defined("net-a", pf="ens1", vlan=3), "its VLAN is 3 instead of none"),
        ({}, defined("net-a", xml="<network><name>net-a</name></network>"), "it hands out no VFs"),
        ({"pf": {"name": "ens1", "vfs": "0-1"}}, defined("net-a", addresses=VFS[:1], vlan=3), "its VLAN is 3"),
    ],
)  # fmt: skip
def test_a_different_network_is_not_touched_and_no_vf_is_made_for_it(wish: Any, network: Any, words: str) -> None:
    answer = refused(with_networks(sriov_host(), network), **wish)
    assert answer.reason is reasons.NETWORK_DIFFERS
    assert words in answer.message


def test_a_different_network_is_replaced_if_that_is_asked_for_and_nobody_is_on_it() -> None:
    wish = pool(network={"adopt": "Replace"})
    other = defined(
        "net-a", xml="<network><name>net-a</name><title>T</title><bridge name='virbr0'/></network>", uuid="u-1"
    )
    host = settle(wish, with_networks(sriov_host(), other))
    network = host.networks["net-a"]
    assert network.hands_out == NetworkDefinition("net-a", "ens1")
    assert "<title>T</title>" in (network.xml or "")
    assert (host.pool_records[POOL].adopted, host.pool_records[POOL].network_uuid, network.active) == (
        True,
        "u-1",
        True,
    )
    busy = with_networks(sriov_host(), replace(other, active=True, connections=1))
    answer = plan_pool(wish, busy)
    assert isinstance(answer, Refusal)
    assert answer.reason is reasons.PENDING_IDLE


def test_another_network_that_has_all_vfs_is_in_the_way() -> None:
    answer = refused(with_networks(sriov_host(), defined("old", pf="ens1")))
    assert (answer.reason, "virsh net-edit old" in answer.message) == (reasons.VFS_IN_USE, True)
    answer = refused(with_networks(sriov_host(4), defined("old", pf="ens1")))
    assert (answer.reason, "network old hands it out" in answer.message) == (reasons.VFS_IN_USE, True)


# -- what others have is left out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["running", "defined"])
def test_vfs_that_others_have_are_left_out_of_the_list(how: str) -> None:
    host = made(has_plain(sriov_host(4), DB, VFS[2], running=how == "running"), pool())
    definition = host.networks["net-a"].hands_out
    assert definition
    assert (definition.pf, definition.addresses) == (None, (VFS[0], VFS[1], VFS[3]))
    host = settle(pool(), replace(host, guests=host.guests[:1]))
    assert host.networks["net-a"].hands_out == NetworkDefinition("net-a", "ens1")


def test_a_change_waits_for_the_guests_of_the_network() -> None:
    host = starts_on(made(sriov_host(), pool()), WEB, "net-a")
    host = settle(pool(), has_plain(host, DB, VFS[3]))
    definition = host.networks["net-a"].hands_out
    assert definition
    assert definition.addresses == VFS[:3]
    running = host.networks["net-a"].running
    assert running
    assert running.pf == "ens1"
    answer = refused(host)
    assert answer.reason is reasons.PENDING_IDLE
    assert "guest web" in answer.message
    host = settle(pool(), stops(host, WEB))
    running = host.networks["net-a"].running
    assert running
    assert running.addresses == VFS[:3]


def test_a_new_portgroup_waits_as_well() -> None:
    more: dict[str, Any] = {"network": {"portgroups": [{"name": "red", "vlan": 9}]}}
    host = starts_on(made(sriov_host(), pool()), WEB, "net-a")
    assert kinds(planned(host, **more)) == ["DefineNetwork"]
    host = settle(pool(**more), host)
    assert refused(host, **more).reason is reasons.PENDING_IDLE
    idle = stops(host, WEB)
    assert planned(idle, **more) == (StopNetwork("net-a"), StartNetwork("net-a"))


def test_connections_without_a_known_guest_hold_the_network_as_well() -> None:
    host = made(sriov_host(), pool())
    host = with_networks(host, replace(host.networks["net-a"], connections=2))
    host = settle(pool(network={"vlan": 3}), host)
    answer = refused(host, network={"vlan": 3})
    assert (answer.reason, "2 NICs of running guests" in answer.message) == (reasons.PENDING_IDLE, True)
    nics = (Nic("net0", None, "net-a"),)
    named = replace(host, guests=(replace(host.guests[0], active=True, nics=nics), host.guests[1]))
    assert "guest web" in refused(named, network={"vlan": 3}).message


# -- what somebody else has done --------------------------------------------------------------------------------------


def test_a_network_that_was_stopped_or_undefined_by_hand_comes_back() -> None:
    host = made(sriov_host(), pool())
    stopped = with_networks(host, replace(host.networks["net-a"], active=False, running=None))
    assert planned(stopped) == (StartNetwork("net-a"),)
    assert planned(with_networks(host, replace(host.networks["net-a"], autostart=False))) == (
        AutostartNetwork("net-a"),
    )
    back = settle(pool(), without_network(host, "net-a"))
    assert (back.networks["net-a"].uuid, back.networks["net-a"].active) == (OWN, True)
    transient = replace(host.networks["net-a"], persistent=False, hands_out=None, xml=None)
    assert kinds(planned(with_networks(host, transient))) == ["DefineNetwork"]


def test_a_network_that_was_stopped_under_its_guests_does_not_hand_out_their_vfs() -> None:
    host = starts_on(made(sriov_host(), pool()), WEB, "net-a")
    host = with_networks(host, replace(host.networks["net-a"], active=False, running=None, connections=0))
    host = settle(pool(), host)
    running = host.networks["net-a"].running
    assert running
    assert running.addresses == VFS[1:4]
    host = settle(pool(), stops(host, WEB))
    assert host.networks["net-a"].hands_out == NetworkDefinition("net-a", "ens1")


def test_vfs_that_were_removed_by_hand_are_made_again() -> None:
    host = with_vfs(made(sriov_host(), pool()), PF, 0)
    assert planned(host) == (SetVfCount(PF, 4, IDENTITY),)
    host = settle(pool(), host)
    assert (host.devices[PF].num_vfs, host.networks["net-a"].active) == (4, True)


def test_an_edited_network_is_put_right() -> None:
    host = made(sriov_host(), pool())
    edited = replace(defined("net-a", pf="ens1", vlan=8, uuid=OWN), active=True, running=host.networks["net-a"].running)
    host = settle(pool(), with_networks(host, edited))
    assert host.networks["net-a"].hands_out == NetworkDefinition("net-a", "ens1")


def test_a_strange_network_that_runs_is_restarted() -> None:
    host = made(sriov_host(), pool())
    host = with_networks(host, replace(host.networks["net-a"], running_strange="it has <virtualport>"))
    assert planned(host) == (StopNetwork("net-a"), StartNetwork("net-a"))


def test_a_netdev_that_was_renamed_is_followed() -> None:
    host = with_pf(made(sriov_host(), pool()), PF, netdev="enp1s0")
    host = settle(pool(), host)
    assert host.networks["net-a"].hands_out == NetworkDefinition("net-a", "enp1s0")
    running = host.networks["net-a"].running
    assert running
    assert running.pf == "enp1s0"


def test_a_card_that_has_another_address_is_followed() -> None:
    moved = PciAddress.parse("0000:05:00.0")
    host = made(sriov_host(), pool())
    pf = replace(host.devices[PF], address=moved, num_vfs=0)
    host = replace(
        host,
        devices=MappingProxyType({moved: pf}),
        pfs=MappingProxyType({moved: replace(host.pfs[PF], address=moved, vfs={})}),
    )
    host = settle(pool(), host)
    assert host.pool_records[POOL].pf == moved
    assert {d.address for d in host.vfs(moved)} == {vf_at(moved, i) for i in range(4)}
