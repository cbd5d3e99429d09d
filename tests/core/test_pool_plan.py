from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.model import Use
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
    WritePoolRecord,
)
from hostdev_operator.core.pool_network import network_uuid
from hostdev_operator.core.pool_plan import plan_pool
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.sriov import VfConfig
from tests.core.pool_hosts import (
    IDENTITY,
    MAC,
    PF,
    POOL,
    VFS,
    carry_out,
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
    steps_of,
    stops,
    with_networks,
    with_pf,
    with_vfs,
)
from tests.fakes.samples import WEB

OWN = network_uuid(POOL)


# -- a pool is made ---------------------------------------------------------------------------------------------------


def test_first_the_record_then_probing_and_vfs_and_the_network_in_a_second_step() -> None:
    host = sriov_host()
    record, *rest = planned(host)
    assert isinstance(record, WritePoolRecord)
    assert record.record.uid == POOL
    assert (record.record.num_vfs_before, record.record.autoprobe_before, record.record.up_before) == (0, True, True)
    assert (record.record.num_vfs, record.record.autoprobe, record.record.pf_mac) == (4, False, MAC)
    assert (record.record.network_name, record.record.network_uuid, record.record.adopted) == ("net-a", OWN, False)
    assert rest == [SetAutoprobe(PF, False), SetVfCount(PF, 4, IDENTITY)]

    host = carry_out((record, *rest), host)
    text = network_text(NetworkDefinition("net-a", pf="ens1"), uuid=OWN)
    assert planned(host) == (DefineNetwork("net-a", text), AutostartNetwork("net-a"), StartNetwork("net-a"))
    host = settle(pool(), host)
    assert planned(host) == ()
    assert host.networks["net-a"].running == NetworkDefinition("net-a", "ens1", VFS[:4])


def test_probing_that_the_kernel_cannot_turn_off_is_left_alone() -> None:
    record, *rest = planned(with_pf(sriov_host(), PF, autoprobe=None))
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
    record, *rest = planned(with_pf(sriov_host(), PF, autoprobe=now), bindHostDriver=wanted)
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
    assert kinds(planned(sriov_host(4))) == [
        "WritePoolRecord",
        "SetAutoprobe",
        "DefineNetwork",
        "AutostartNetwork",
        "StartNetwork",
    ]


def test_a_pf_that_is_down_is_brought_up_if_that_is_asked_for() -> None:
    down = sriov_host(4, up=False)
    assert SetLink(PF, True) in planned(down, linkUp=True)
    host = made(down, pool())
    assert host.networks["net-a"].active
    answer = refused(host)
    assert (answer.reason, "ip link set ens1 up" in answer.message) == (reasons.PF_DOWN, True)
    assert planned(made(down, pool(linkUp=True)), linkUp=True) == ()


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
    actions = planned(host, vfSettings={"spoofCheck": False})
    assert [a.index for a in actions if isinstance(a, ConfigureVf)] == [1, 2, 3]
    host = carry_out(actions, host)
    answer = refused(host, vfSettings={"spoofCheck": False})
    assert answer.reason is reasons.PENDING_IDLE
    assert "guest web runs with it" in answer.message
    host = settle(pool(vfSettings={"spoofCheck": False}), stops(host, WEB))
    assert {c.spoof_check for c in host.pfs[PF].vfs.values()} == {False}


# -- the number of VFs ------------------------------------------------------------------------------------------------


def test_for_another_number_of_vfs_the_network_is_stopped_before() -> None:
    host = made(sriov_host(), pool())
    first = planned(host, numVFs=6)
    assert kinds(first) == ["WritePoolRecord", "StopNetwork"]
    host = carry_out(first, host)
    assert planned(host, numVFs=6) == (SetVfCount(PF, 6, IDENTITY),)
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
    assert SetVfCount(PF, 4, IDENTITY) in planned(allowed)
    by_guest = replace(allowed, uses=(Use(PF, "carries br0, which guest web uses", by_guest=True),))
    assert refused(by_guest).reason is reasons.HOST_CRITICAL
    assert "SetVfCount" not in kinds(planned(replace(sriov_host(4), uses=host.uses)))


def test_what_the_host_needs_must_be_known() -> None:
    assert refused(replace(sriov_host(), unknown_use="no /proc/1")).reason is reasons.HOST_USE_UNKNOWN
    assert kinds(planned(replace(sriov_host(4), unknown_use="no /proc/1")))[0] == "WritePoolRecord"


# -- stops ------------------------------------------------------------------------------------------------------------


def test_a_paused_node_is_only_looked_at() -> None:
    paused = Settings(paused=True)
    assert refused(replace(sriov_host(), settings=paused)).reason is reasons.PAUSED
    assert planned(replace(made(sriov_host(), pool()), settings=paused)) == ()


@pytest.mark.parametrize("where", [PF, VFS[1]])
def test_nothing_is_changed_while_a_change_hangs(where: PciAddress) -> None:
    host = with_networks(made(sriov_host(), pool()), defined("net-a", pf="ens1", uuid=OWN))
    assert steps_of(plan_pool(pool(), host))
    assert refused(replace(host, blocked=frozenset({where}))).reason is reasons.DETACH_BLOCKED


def test_a_plan_does_not_depend_on_the_order_in_which_devices_are_read() -> None:
    host = sriov_host(4)
    turned = replace(host, devices=MappingProxyType(dict(reversed(list(host.devices.items())))))
    assert planned(host) == planned(turned)
