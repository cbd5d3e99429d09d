from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Nic, Observation, Use
from hostdev_operator.core.network import NetworkDefinition, NetworkPortgroup
from hostdev_operator.core.network_xml import network_text
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool_actions import (
    AutostartNetwork,
    ConfigureVf,
    DefineNetwork,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    WritePoolRecord,
)
from hostdev_operator.core.pool_network import network_uuid
from hostdev_operator.core.pool_plan import plan_pool
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.sriov import VfConfig
from tests.core.pool_hosts import (
    MAC,
    OTHER,
    PF,
    POOL,
    carry_out,
    defined,
    has_plain,
    made,
    physical,
    pool,
    settle,
    sriov_host,
    starts_on,
    steps_of,
    stops,
    vf_at,
    wishing,
    with_networks,
    with_pf,
    with_vfs,
    without_network,
)
from tests.fakes.samples import DB, WEB

OWN = network_uuid(POOL)
VFS = tuple(vf_at(PF, index) for index in range(7))
IDENTITY = physical().identity


def plan(host: Observation, **more: Any) -> tuple[object, ...]:
    answer = plan_pool(pool(**more), host)
    assert isinstance(answer, tuple), answer
    return answer


def refused(host: Observation, **more: Any) -> Refusal:
    answer = plan_pool(pool(**more), host)
    assert isinstance(answer, Refusal), answer
    return answer


def kinds(actions: tuple[object, ...]) -> list[str]:
    return [type(action).__name__ for action in actions]


# -- a pool is made ---------------------------------------------------------------------------------------------------


def test_first_the_record_then_probing_and_vfs_and_the_network_in_a_second_step() -> None:
    host = sriov_host()
    record, *rest = plan(host)
    assert isinstance(record, WritePoolRecord)
    assert record.record.uid == POOL
    assert (record.record.num_vfs_before, record.record.autoprobe_before, record.record.up_before) == (0, True, True)
    assert (record.record.num_vfs, record.record.autoprobe, record.record.pf_mac) == (4, False, MAC)
    assert (record.record.network_name, record.record.network_uuid, record.record.adopted) == ("net-a", OWN, False)
    assert rest == [SetAutoprobe(PF, False), SetVfCount(PF, 4, IDENTITY)]

    host = carry_out((record, *rest), host)  # type: ignore[arg-type]
    text = network_text(NetworkDefinition("net-a", pf="ens1"), uuid=OWN)
    assert plan(host) == (DefineNetwork("net-a", text), AutostartNetwork("net-a"), StartNetwork("net-a"))
    host = settle(pool(), host)
    assert plan(host) == ()
    assert host.networks["net-a"].running == NetworkDefinition("net-a", "ens1", VFS[:4])


def test_probing_that_the_kernel_cannot_turn_off_is_left_alone() -> None:
    record, *rest = plan(with_pf(sriov_host(), PF, autoprobe=None))
    assert isinstance(record, WritePoolRecord)
    assert (record.record.autoprobe_before, record.record.autoprobe) == (None, None)
    assert rest == [SetVfCount(PF, 4, IDENTITY)]


@pytest.mark.parametrize(
    ("now", "wanted", "written", "before", "after_boot"),
    [
        (True, False, [SetAutoprobe(PF, False)], True, False),
        (False, False, [], None, False),
        (True, True, [], None, None),
        (False, True, [SetAutoprobe(PF, True)], False, None),
    ],
)
def test_drivers_are_probed_as_the_pool_says(
    now: object, wanted: object, written: list[object], before: object, after_boot: object
) -> None:
    record, *rest = plan(with_pf(sriov_host(), PF, autoprobe=now), bindHostDriver=wanted)
    assert isinstance(record, WritePoolRecord)
    assert (record.record.autoprobe_before, record.record.autoprobe) == (before, after_boot)
    assert rest == [*written, SetVfCount(PF, 4, IDENTITY)]


def test_a_range_becomes_a_list_of_addresses() -> None:
    host = made(sriov_host(), pool(pf={"name": "ens1", "vfs": "1-2"}))
    definition = host.networks["net-a"].hands_out
    assert definition
    assert (definition.pf, definition.addresses) == (None, VFS[1:3])


def test_name_portgroups_and_vlan_are_those_of_the_pool() -> None:
    groups = [{"name": "blue", "vlan": 7, "default": True}, {"name": "plain"}]
    host = made(sriov_host(), pool(network={"name": "vfs", "vlan": 5, "portgroups": groups}))
    expected = (NetworkPortgroup("blue", 7, True), NetworkPortgroup("plain"))
    assert host.networks["vfs"].hands_out == NetworkDefinition("vfs", "ens1", (), 5, expected)


def test_vfs_that_are_there_already_are_not_made_again() -> None:
    assert kinds(plan(sriov_host(4))) == [
        "WritePoolRecord",
        "SetAutoprobe",
        "DefineNetwork",
        "AutostartNetwork",
        "StartNetwork",
    ]


def test_a_pf_that_is_down_is_brought_up_if_that_is_asked_for() -> None:
    down = sriov_host(4, up=False)
    assert SetLink(PF, True) in plan(down, linkUp=True)
    host = made(down, pool())
    assert host.networks["net-a"].active
    answer = refused(host)
    assert (answer.reason, "ip link set ens1 up" in answer.message) == (reasons.PF_DOWN, True)
    assert plan(made(down, pool(linkUp=True)), linkUp=True) == ()


def test_a_pf_without_netdev_is_refused() -> None:
    host = with_pf(sriov_host(), PF, netdev=None, mac=None)
    assert refused(host, pf={"address": str(PF)}).reason is reasons.PF_DOWN


def test_externally_managed_vfs_are_waited_for_and_never_made() -> None:
    wish: dict[str, Any] = {"numVFs": None, "externallyManaged": True}
    assert refused(sriov_host(), **wish).reason is reasons.VFS_NOT_CREATED
    host = made(sriov_host(3), pool(**wish))
    assert host.networks["net-a"].active
    assert host.pool_records[POOL].num_vfs is None
    assert refused(with_vfs(host, PF, 0), **wish).reason is reasons.VFS_NOT_CREATED
    ranged = {**wish, "pf": {"name": "ens1", "vfs": "2-5"}}
    assert refused(sriov_host(3), **ranged).reason is reasons.VF_COUNT_TOO_HIGH


# -- settings of VFs --------------------------------------------------------------------------------------------------


def test_settings_are_recorded_and_then_made() -> None:
    wish = pool(vfSettings={"trust": True, "linkState": "Enable"}, pf={"name": "ens1", "vfs": "1-1"})
    record, *rest = steps_of(plan_pool(wish, sriov_host(4)))
    assert isinstance(record, WritePoolRecord)
    assert record.record.vfs_before == {1: VfConfig(trust=False, link_state="auto")}
    assert ConfigureVf(PF, 1, VfConfig(trust=True, link_state="enable")) in rest
    host = made(sriov_host(4), wish)
    assert plan_pool(wish, host) == ()
    changed = replace(
        wish,
        spec=wish.spec.model_copy(
            update={"vf_settings": pool(vfSettings={"trust": False, "maxTxRate": 9}).spec.vf_settings}
        ),
    )
    record, *rest = steps_of(plan_pool(changed, host))
    assert isinstance(record, WritePoolRecord)
    assert record.record.vfs_before == {1: VfConfig(trust=False, link_state="auto", max_tx_rate=0)}
    assert rest == [ConfigureVf(PF, 1, VfConfig(trust=False, max_tx_rate=9))]


def test_settings_wait_for_a_vf_that_somebody_uses() -> None:
    host = starts_on(made(sriov_host(), pool()), WEB, "net-a")
    actions = plan(host, vfSettings={"spoofCheck": False})
    assert [a.index for a in actions if isinstance(a, ConfigureVf)] == [1, 2, 3]
    host = carry_out(actions, host)  # type: ignore[arg-type]
    answer = refused(host, vfSettings={"spoofCheck": False})
    assert answer.reason is reasons.PENDING_IDLE
    assert "guest web runs with it" in answer.message
    host = settle(pool(vfSettings={"spoofCheck": False}), stops(host, WEB))
    assert {c.spoof_check for c in host.pfs[PF].vfs.values()} == {False}


# -- the number of VFs ------------------------------------------------------------------------------------------------


def test_for_another_number_of_vfs_the_network_is_stopped_before() -> None:
    host = made(sriov_host(), pool())
    first = plan(host, numVFs=6)
    assert kinds(first) == ["WritePoolRecord", "StopNetwork"]
    host = carry_out(first, host)  # type: ignore[arg-type]
    assert plan(host, numVFs=6) == (SetVfCount(PF, 6, IDENTITY),)
    host = settle(pool(numVFs=6), host)
    running = host.networks["net-a"].running
    assert running
    assert running.addresses == VFS[:6]


@pytest.mark.parametrize("case", ["runs on it", "plain", "plain, off", "host", "network", "vfio"])
def test_the_number_is_not_changed_while_a_vf_is_in_use(case: str) -> None:
    host = made(sriov_host(), pool())
    users = {
        "runs on it": lambda: starts_on(host, WEB, "net-a"),
        "plain": lambda: has_plain(host, WEB, VFS[3], running=True),
        "plain, off": lambda: has_plain(host, WEB, VFS[3]),
        "host": lambda: replace(host, uses=(Use(VFS[3], "carries 10.0.0.1"),)),
        "network": lambda: with_networks(host, defined("other", addresses=VFS[2:4])),
        "vfio": lambda: replace(
            host,
            devices=MappingProxyType({**host.devices, VFS[1]: replace(host.devices[VFS[1]], driver="vfio-pci")}),
        ),
    }
    words = {"host": "carries 10.0.0.1", "network": "network other", "vfio": "nodedev-reattach"}
    host = settle(pool(numVFs=6), users[case]())
    answer = refused(host, numVFs=6)
    assert answer.reason is reasons.VFS_IN_USE
    assert words.get(case, "guest web") in answer.message
    assert host.devices[PF].num_vfs == 4
    assert host.pool_records[POOL].num_vfs == 4


def test_while_the_number_waits_the_pool_goes_on_with_the_vfs_it_has() -> None:
    host = has_plain(made(sriov_host(), pool()), WEB, VFS[3])
    host = with_networks(host, replace(host.networks["net-a"], active=False, running=None))
    host = settle(pool(numVFs=6), host)
    running = host.networks["net-a"].running
    assert running
    assert running.addresses == VFS[:3]
    assert refused(host, numVFs=6).reason is reasons.VFS_IN_USE


def test_a_pf_that_the_host_needs_is_changed_only_with_an_override() -> None:
    host = replace(sriov_host(), uses=(Use(PF, "carries the default route"),))
    assert refused(host).reason is reasons.HOST_CRITICAL
    allowed = replace(host, settings=Settings(overrides=MappingProxyType({PF: "second way in"})))
    assert SetVfCount(PF, 4, IDENTITY) in plan(allowed)
    by_guest = replace(allowed, uses=(Use(PF, "carries br0, which guest web uses", by_guest=True),))
    assert refused(by_guest).reason is reasons.HOST_CRITICAL
    assert "SetVfCount" not in kinds(plan(replace(sriov_host(4), uses=host.uses)))


def test_what_the_host_needs_must_be_known() -> None:
    assert refused(replace(sriov_host(), unknown_use="no /proc/1")).reason is reasons.HOST_USE_UNKNOWN
    assert kinds(plan(replace(sriov_host(4), unknown_use="no /proc/1")))[0] == "WritePoolRecord"


# -- networks that are there already ----------------------------------------------------------------------------------


def test_an_equal_network_is_adopted() -> None:
    host = with_networks(sriov_host(4), defined("net-a", pf="ens1", active=True))
    host = with_networks(host, replace(host.networks["net-a"], running=NetworkDefinition("net-a", "ens1", VFS[:4])))
    record, *rest = plan(host)
    assert isinstance(record, WritePoolRecord)
    assert (record.record.adopted, record.record.network_uuid) == (True, "uuid-of-net-a")
    assert rest == [SetAutoprobe(PF, False)]
    assert plan(settle(pool(), host)) == ()


def test_an_equal_network_is_adopted_once_its_vfs_are_there() -> None:
    wish: dict[str, Any] = {"pf": {"name": "ens1", "vfs": "0-1"}}
    host = with_networks(sriov_host(), replace(defined("net-a", addresses=VFS[:2]), autostart=False))
    record, *_ = plan(host, **wish)
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
    assert kinds(plan(host, **more)) == ["DefineNetwork"]
    host = settle(pool(**more), host)
    assert refused(host, **more).reason is reasons.PENDING_IDLE
    idle = stops(host, WEB)
    assert plan(idle, **more) == (StopNetwork("net-a"), StartNetwork("net-a"))


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
    assert plan(stopped) == (StartNetwork("net-a"),)
    assert plan(with_networks(host, replace(host.networks["net-a"], autostart=False))) == (AutostartNetwork("net-a"),)
    back = settle(pool(), without_network(host, "net-a"))
    assert (back.networks["net-a"].uuid, back.networks["net-a"].active) == (OWN, True)
    transient = replace(host.networks["net-a"], persistent=False, hands_out=None, xml=None)
    assert kinds(plan(with_networks(host, transient))) == ["DefineNetwork"]


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
    assert plan(host) == (SetVfCount(PF, 4, IDENTITY),)
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
    assert plan(host) == (StopNetwork("net-a"), StartNetwork("net-a"))


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


# -- stops ------------------------------------------------------------------------------------------------------------


def test_a_paused_node_is_only_looked_at() -> None:
    paused = Settings(paused=True)
    assert refused(replace(sriov_host(), settings=paused)).reason is reasons.PAUSED
    assert plan(replace(made(sriov_host(), pool()), settings=paused)) == ()


@pytest.mark.parametrize("where", [PF, VFS[1]])
def test_nothing_is_changed_while_a_change_hangs(where: PciAddress) -> None:
    host = with_networks(made(sriov_host(), pool()), defined("net-a", pf="ens1", uuid=OWN))
    assert steps_of(plan_pool(pool(), host))
    assert refused(replace(host, blocked=frozenset({where}))).reason is reasons.DETACH_BLOCKED


def test_a_plan_does_not_depend_on_the_order_in_which_devices_are_read() -> None:
    host = sriov_host(4)
    turned = replace(host, devices=MappingProxyType(dict(reversed(list(host.devices.items())))))
    assert plan(host) == plan(turned)
