"""NICs of pools (source.pool): what is planned, refused, changed, and taken out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    Action,
    AddInterface,
    InterfaceXml,
    NicXml,
    PlugInterface,
    RemoveInterface,
    UnplugInterface,
)
from hostdev_operator.core.mac import derived_mac
from hostdev_operator.core.model import Hostdev, Nic, Observation, Saved
from hostdev_operator.core.network import NetworkDefinition
from hostdev_operator.core.nic_plan import NicCase, nic_withdrawal, no_vf, plan_nic
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.slots import Slots
from tests.core.hosts import actions_of, carry_out, guest, of, with_device, with_guest
from tests.core.nics import (
    DEFINITION,
    MAC,
    MAC2,
    NETWORK,
    VF,
    VF2,
    configured,
    nic_intent,
    pool_host,
    running,
)
from tests.core.plans import refusal_of
from tests.fakes.samples import DB, WEB, assignment

ALIAS = nic_intent().alias
DERIVED = derived_mac("default", "nic", WEB)
THIRD = "33333333-3333-4333-8333-333333333333"


def kinds(actions: tuple[Action, ...]) -> list[str]:
    return [type(a).__name__ for a in actions]


def test_a_guest_that_is_off_gets_the_nic_in_its_persistent_xml() -> None:
    plan = plan_nic(nic_intent(mac=MAC, vlan=42), pool_host())
    xml = InterfaceXml("net-a", ALIAS, NicXml(MAC, 42))
    assert plan == Plan((AddInterface(WEB, xml),))


def test_portgroup_and_profile_are_those_asked_for() -> None:
    (added,) = actions_of(plan_nic(nic_intent(portgroup="blue", profile="finance"), pool_host()))
    assert added == AddInterface(WEB, InterfaceXml("net-a", ALIAS, NicXml(DERIVED, None, "finance"), "blue"))


def test_a_running_guest_gets_a_vf_before_its_xml_says_so() -> None:
    host = with_guest(pool_host(), WEB, active=True)
    actions = actions_of(plan_nic(nic_intent(), host))
    assert kinds(actions) == ["PlugInterface", "AddInterface"]
    after = carry_out(actions, host)
    assert [n.address for n in of(after, WEB).live_nics] == [VF]
    assert plan_nic(nic_intent(), after) == Plan()


@pytest.mark.parametrize(
    ("attach", "slots", "expected"),
    [
        ("NextBoot", Slots(conventional=1), ["AddInterface"]),
        ("Auto", Slots(has_express=True), ["AddInterface"]),
        ("Auto", Slots(has_express=True, express=1), ["PlugInterface", "AddInterface"]),
        ("Auto", Slots(known=False), ["PlugInterface", "AddInterface"]),
    ],
)
def test_what_a_running_guest_cannot_take_it_gets_at_its_next_boot(
    attach: str, slots: Slots, expected: list[str]
) -> None:
    host = with_guest(pool_host(), WEB, active=True, slots=slots)
    assert kinds(actions_of(plan_nic(nic_intent(attach=attach), host))) == expected


def test_live_refuses_without_a_slot() -> None:
    host = with_guest(pool_host(), WEB, active=True, slots=Slots(has_express=True))
    refusal = refusal_of(plan_nic(nic_intent(attach="Live"), host))
    assert refusal.reason is reasons.NO_GUEST_PCI_SLOT
    assert "pool-a" in refusal.message


# -- exhausted --------------------------------------------------------------------------------------------------------


def competing() -> Observation:
    """Two other guests run with both VFs of the pool."""
    host = pool_host(guest(), guest(DB, "db", active=True), guest(THIRD, "third", active=True))
    for uuid, name in ((DB, "db"), (THIRD, "third")):
        wanted = nic_intent(uuid, uid=f"uid-of-{name}", domain_name=name)
        host = carry_out(actions_of(plan_nic(wanted, host)), host)
    assert {n.address for g in host.guests for n in g.live_nics} == {VF, VF2}
    return host


def test_the_holders_of_all_vfs_are_named() -> None:
    host = with_guest(competing(), WEB, active=True)
    refusal = refusal_of(plan_nic(nic_intent(attach="Live"), host))
    assert refusal.reason is reasons.POOL_EXHAUSTED
    assert all(word in refusal.message for word in ("pool-a", "guest db", "guest third", str(VF), str(VF2)))


def test_with_auto_the_xml_has_it_and_the_next_free_vf_is_plugged_in() -> None:
    host = with_guest(competing(), WEB, active=True)
    actions = actions_of(plan_nic(nic_intent(), host))
    assert kinds(actions) == ["AddInterface"]
    after = carry_out(actions, host)
    assert plan_nic(nic_intent(), after) == Plan()
    freed = with_device(with_guest(after, DB, active=False, live=(), live_nics=()), VF, driver=None)
    assert kinds(actions_of(plan_nic(nic_intent(), freed))) == ["PlugInterface"]


def test_a_guest_that_is_off_is_told_that_it_will_not_start() -> None:
    after = carry_out(actions_of(plan_nic(nic_intent(), competing())), competing())
    assert plan_nic(nic_intent(), after) == Plan()
    assert no_vf(NicCase(nic_intent(), after)) is not None
    assert no_vf(NicCase(nic_intent(), pool_host())) is None


def test_a_vf_that_a_plain_hostdev_has_is_not_free() -> None:
    plain = (Hostdev(VF, "hostdev0", managed=True),)
    host = with_guest(with_guest(pool_host(), DB, active=True, live=plain), WEB, active=True)
    assert no_vf(NicCase(nic_intent(), host)) is None
    both = (*plain, Hostdev(VF2, "hostdev1", managed=True))
    assert no_vf(NicCase(nic_intent(), with_guest(host, DB, live=both))) is not None


@pytest.mark.parametrize("side", [{"up": False}, {"netdev": None}])
def test_a_pf_that_is_down_gives_nobody_a_vf(side: dict[str, Any]) -> None:
    host = with_guest(pool_host(), WEB, active=True)
    host = replace(host, pfs=MappingProxyType({a: replace(pf, **side) for a, pf in host.pfs.items()}))
    assert refusal_of(plan_nic(nic_intent(attach="Live"), host)).reason is reasons.PF_DOWN
    assert kinds(actions_of(plan_nic(nic_intent(), host))) == ["AddInterface"]
    lack = no_vf(NicCase(nic_intent(), with_guest(host, WEB, active=False)))
    assert lack is not None
    assert lack.reason is reasons.PF_DOWN


def test_a_guest_that_has_its_vf_does_not_care_that_no_other_is_left() -> None:
    host = with_guest(running(), DB, active=True, live=(Hostdev(VF2),))
    assert plan_nic(nic_intent(attach="Live"), host) == Plan()
    changed = actions_of(plan_nic(nic_intent(attach="Live", vlan=3), host))
    assert kinds(changed) == ["RemoveInterface", "AddInterface", "UnplugInterface", "PlugInterface"]


def test_live_is_about_running_guests_alone() -> None:
    """One that is off gets the NIC in its XML, whether a VF is free now or not."""
    assert kinds(actions_of(plan_nic(nic_intent(attach="Live"), competing()))) == ["AddInterface"]


# -- refusals ---------------------------------------------------------------------------------------------------------

Change = Callable[[Observation], Observation]


def network(**changes: Any) -> Change:
    changed = replace(NETWORK, **changes)
    return lambda h: replace(h, networks=MappingProxyType({"net-a": changed}))


def without(*what: str) -> Change:
    nothing: dict[str, Any] = {
        "pool_wishes": (),
        "pool_records": MappingProxyType({}),
        "networks": MappingProxyType({}),
    }
    return lambda h: replace(h, **{name: nothing[name] for name in what})


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (
            without("pool_wishes", "pool_records"),
            reasons.POOL_NOT_FOUND,
            ["pool-a does not exist", "nodeSelector"],
        ),
        (without("networks"), reasons.POOL_NOT_FOUND, ["net-a", "not defined"]),
        (without("pool_records"), reasons.POOL_INACTIVE, ["not the pool's"]),
        (network(uuid="another"), reasons.POOL_INACTIVE, ["not the pool's"]),
        (network(active=False, running=None), reasons.POOL_INACTIVE, ["net-a", "not started"]),
        (network(running=None), reasons.POOL_INACTIVE, ["hands out no VFs"]),
    ],
)
@pytest.mark.parametrize("stands", [False, True])
def test_a_pool_that_is_not_there_refuses_new_nics_and_is_told_of_old_ones(
    change: Change,
    reason: reasons.Reason,
    words: list[str],
    stands: bool,  # noqa: FBT001
) -> None:
    refusal = refusal_of(plan_nic(nic_intent(), change(configured() if stands else pool_host())))
    assert refusal.reason is reason
    assert all(word in refusal.message for word in words)


def test_a_pool_that_is_being_deleted_takes_nobody_in_and_keeps_whom_it_has() -> None:
    new = replace(pool_host(), pool_wishes=())
    refusal = refusal_of(plan_nic(nic_intent(), new))
    assert refusal.reason is reasons.POOL_NOT_FOUND
    assert "is being deleted" in refusal.message
    assert plan_nic(nic_intent(), replace(configured(), pool_wishes=())) == Plan()


def test_the_pools_of_the_node_are_listed() -> None:
    refusal = refusal_of(plan_nic(nic_intent(pool="typo", network=None), pool_host()))
    assert "pool-a" in refusal.message
    assert refusal.reason is reasons.POOL_NOT_FOUND


def test_a_portgroup_that_libvirt_would_ignore_is_refused_with_those_that_are_there() -> None:
    refusal = refusal_of(plan_nic(nic_intent(portgroup="green"), pool_host()))
    assert "add it to network.portgroups" in refusal.message
    assert refusal.reason is reasons.PORTGROUP_UNKNOWN
    assert "The network has: blue, red" in refusal.message


def test_a_portgroup_that_comes_with_the_networks_next_start_says_so() -> None:
    bare = replace(DEFINITION, portgroups=())
    refusal = refusal_of(plan_nic(nic_intent(portgroup="blue"), network(running=bare)(pool_host())))
    assert "started anew" in refusal.message
    assert "The network has: none" in refusal.message


def test_a_nic_whose_portgroup_vanishes_is_taken_out_of_the_xml() -> None:
    """The guest's next start would be in a wrong VLAN."""
    bare = replace(DEFINITION, portgroups=())
    mine = assignment(None, source={"pool": {"name": "pool-a", "portgroup": "blue"}}).wish()
    host = configured(portgroup="blue")
    gone = network(running=bare, hands_out=bare)(host)
    refusal = refusal_of(plan_nic(nic_intent(portgroup="blue"), gone))
    assert refusal.reason is reasons.PORTGROUP_UNKNOWN
    assert "without the VLAN" in refusal.message
    assert nic_withdrawal(mine, gone) == Plan((RemoveInterface(WEB, ALIAS),))
    for stays in (
        host,
        network(active=False, running=None)(host),
        without("networks")(host),
        network(running=bare, uuid="another")(host),
        replace(gone, settings=Settings(paused=True)),
        carry_out((RemoveInterface(WEB, ALIAS),), gone),
    ):
        assert nic_withdrawal(mine, stays) == Plan()


def test_vfs_of_pools_count_for_the_limit_of_devices() -> None:
    one = Settings(devices_per_guest=1)
    assert actions_of(plan_nic(nic_intent(), replace(pool_host(), settings=one)))
    plain = Nic("net0", MAC2, "default")  # of a network without VFs
    theirs = Nic("net1", "52:54:00:00:00:77", "net-a")
    assert actions_of(plan_nic(nic_intent(), replace(with_guest(pool_host(), WEB, nics=(plain,)), settings=one)))
    refusal = refusal_of(plan_nic(nic_intent(), replace(with_guest(pool_host(), WEB, nics=(theirs,)), settings=one)))
    assert refusal.reason is reasons.TOO_MANY_DEVICES
    assert "has 1 host devices" in refusal.message
    assert plan_nic(nic_intent(), replace(configured(), settings=Settings(devices_per_guest=0))) == Plan()


def test_a_mac_that_another_nic_has_is_refused() -> None:
    host = with_guest(pool_host(), DB, nics=(Nic("net0", MAC, "default"),))
    refusal = refusal_of(plan_nic(nic_intent(mac=MAC), host))
    assert refusal.reason is reasons.MAC_IN_USE
    assert "guest db" in refusal.message


def test_a_copy_of_the_guest_has_the_same_mac() -> None:
    """Somebody defined the guest a second time, under another name and UUID, with our interface in it."""
    copied = of(configured(), WEB).nics
    host = with_guest(pool_host(), DB, nics=copied)
    assert refusal_of(plan_nic(nic_intent(), host)).reason is reasons.MAC_IN_USE
    both = with_guest(configured(), DB, nics=copied)
    refusal = refusal_of(plan_nic(nic_intent(vlan=3), both))
    assert refusal.reason is reasons.MAC_IN_USE
    assert "guest db" in refusal.message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"persistent": False, "active": True}, reasons.GUEST_TRANSIENT),
        ({"uuid": THIRD}, reasons.GUEST_IDENTITY_CHANGED),
        ({"uuid": THIRD, "name": "x"}, reasons.GUEST_NOT_FOUND),
    ],
)
def test_the_guest_must_be_the_one_that_was_bound(changes: dict[str, Any], reason: reasons.Reason) -> None:
    refusal = refusal_of(plan_nic(nic_intent(), pool_host(guest(**{"uuid": WEB, **changes}))))
    assert refusal.reason is reason
    assert "a VF of pool pool-a" in refusal.message


def test_a_paused_node_changes_nothing_and_keeps_what_stands() -> None:
    paused = Settings(paused=True)
    assert refusal_of(plan_nic(nic_intent(), replace(pool_host(), settings=paused))).reason is reasons.PAUSED
    assert plan_nic(nic_intent(), replace(configured(), settings=paused)) == Plan()


# -- MAC addresses ----------------------------------------------------------------------------------------------------


def test_without_a_mac_one_is_derived_from_the_assignment_and_its_guest() -> None:
    assert [n.mac for n in of(configured(), WEB).nics] == [DERIVED]


def test_the_mac_of_the_xml_stays_when_the_spec_asks_for_none() -> None:
    host = configured(mac=MAC)
    assert plan_nic(nic_intent(), host) == Plan()
    moved = nic_intent(portgroup="red")
    assert [n.mac for n in of(carry_out(actions_of(plan_nic(moved, host)), host), WEB).nics] == [MAC]


def test_the_mac_of_the_running_guest_stays_when_its_definition_lost_the_nic() -> None:
    host = with_guest(running(mac=MAC), WEB, nics=())
    assert [n.mac for n in of(configured(host), WEB).nics] == [MAC]


# -- changes of an assignment that stands -----------------------------------------------------------------------------

CHANGES = [{"mac": MAC2}, {"vlan": 77}, {"portgroup": "red"}, {"profile": "finance"}]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("attach", ["Auto", "NextBoot"])
def test_a_change_stands_in_the_xml_at_once_and_waits_for_the_running_guest(
    change: dict[str, Any], attach: str
) -> None:
    host = running(mac=MAC, portgroup="blue")
    wanted = nic_intent(**{"mac": MAC, "portgroup": "blue", "attach": attach, **change})
    actions = actions_of(plan_nic(wanted, host))
    assert kinds(actions) == ["RemoveInterface", "AddInterface"]
    after = carry_out(actions, host)
    assert of(after, WEB).live_nics == of(host, WEB).live_nics
    assert plan_nic(wanted, after) == Plan()
    assert NicCase(wanted, after).pending


@pytest.mark.parametrize("change", CHANGES)
def test_live_takes_the_nic_out_and_plugs_it_in_anew_after_the_xml(change: dict[str, Any]) -> None:
    host = running(mac=MAC, portgroup="blue")
    wanted = nic_intent(**{"mac": MAC, "portgroup": "blue", "attach": "Live", **change})
    actions = actions_of(plan_nic(wanted, host))
    assert kinds(actions) == ["RemoveInterface", "AddInterface", "UnplugInterface", "PlugInterface"]
    assert actions[2] == UnplugInterface(WEB, ALIAS, VF)
    after = carry_out(actions, host)
    assert plan_nic(wanted, after) == Plan()
    assert not NicCase(wanted, after).pending


def test_the_nic_comes_back_to_its_place_in_the_guest() -> None:
    host = running(vlan=1)
    config, live = PciAddress(0, 1, 2, 0), PciAddress(0, 3, 0, 0)
    host = with_guest(
        host,
        WEB,
        nics=tuple(replace(n, guest_address=config) for n in of(host, WEB).nics),
        live_nics=tuple(replace(n, guest_address=live) for n in of(host, WEB).live_nics),
    )
    actions = actions_of(plan_nic(nic_intent(vlan=2, attach="Live"), host))
    places = {type(a): a.interface.nic.guest_address for a in actions if isinstance(a, AddInterface | PlugInterface)}
    assert places == {AddInterface: config, PlugInterface: live}


def test_the_vlan_of_the_portgroup_is_no_difference() -> None:
    host = running(portgroup="blue")
    assert [n.vlan for n in of(host, WEB).live_nics] == [10]
    assert not NicCase(nic_intent(portgroup="blue"), host).pending


def test_what_the_pool_wants_of_a_started_network_is_pending_there_and_not_here() -> None:
    """Nobody is unplugged for a network whose change waits for its next start."""
    host = running(portgroup="blue")
    later = replace(DEFINITION, portgroups=tuple(replace(g, vlan=99) for g in DEFINITION.portgroups))
    assert plan_nic(nic_intent(portgroup="blue", attach="Live"), network(hands_out=later)(host)) == Plan()


@pytest.mark.parametrize(
    ("asked", "definition", "expected"),
    [
        ({"vlan": 5, "portgroup": "blue"}, replace(DEFINITION, vlan=7), 5),
        ({"portgroup": "blue"}, replace(DEFINITION, vlan=7), 10),
        ({}, replace(DEFINITION, vlan=7), 7),
        ({}, replace(DEFINITION, portgroups=(replace(DEFINITION.portgroups[1], default=True),)), 20),
        ({}, DEFINITION, None),
    ],
)
def test_the_nics_own_vlan_goes_before_the_portgroups_before_the_networks(
    asked: dict[str, Any], definition: NetworkDefinition, expected: int | None
) -> None:
    host = network(running=definition)(pool_host())
    assert NicCase(nic_intent(**asked), host).vlan == expected


def test_an_image_without_the_nic_is_dropped_if_that_is_asked_for() -> None:
    saved = with_guest(pool_host(), WEB, saved=Saved())
    assert kinds(actions_of(plan_nic(nic_intent(), saved))) == ["AddInterface"]
    wanted = nic_intent(drops_image=True)
    assert kinds(actions_of(plan_nic(wanted, saved))) == ["AddInterface", "DropSavedImage"]
    has = with_guest(pool_host(), WEB, saved=Saved(nics=(Nic(alias=wanted.alias),)))
    assert kinds(actions_of(plan_nic(wanted, has))) == ["AddInterface"]
