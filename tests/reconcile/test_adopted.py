"""What becomes of an adopted device or NIC later: edits, other cards, ending the adoption, Keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.bound import Assignment
from tests.core.nics import MAC, MAC2
from tests.fakes.samples import LONER, MATE, NIC, OTHER_UID, UID, WEB, assignment, device
from tests.reconcile.adoption_cases import (
    ADOPTED,
    CASES,
    Case,
    Maker,
    is_recorded,
    nic_of_pool,
    nic_of_pool_without_mac,
    plain_device,
)
from tests.reconcile.imported_host import plain, pool_nic
from tests.reconcile.nic_running import THIRD, delete, make_pool, of_pool, of_vf, vf_host
from tests.reconcile.running import Engine, attached, message, ready


@CASES
def test_what_is_edited_later_is_told_and_left(make: Maker) -> None:
    case = Case(make)
    host, engine = case.host, case.engine
    engine.run(case.obj)
    guest = host.guests[WEB]
    assert guest.config
    whole = guest.config
    host.define(WEB, "web")  # by hand
    before = host.outside()
    assert ready(engine.run(case.obj)) == ("False", "NothingToAdopt")
    assert host.outside() == before
    assert (UID in host.records) is is_recorded(make)
    guest.config = whole
    assert ready(engine.run(case.obj)) == ADOPTED
    assert host.changes() == []


def test_another_card_in_its_place_is_told_and_the_guests_xml_is_left() -> None:
    case = Case(plain_device)
    case.engine.run(case.obj)
    case.host.devices[LONER] = device(LONER, "ixgbe", 13, product=0x1528)
    before = case.host.outside()
    assert ready(case.engine.run(case.obj)) == ("False", "IdentityChanged")
    assert case.host.outside() == before
    assert case.host.changes() == []


def test_set_to_false_it_is_carried_out_like_any_other_and_given_back_as_it_was_found() -> None:
    host = vf_host()
    engine = Engine(host)
    host.define(WEB, "web", plain(NIC))
    drivers = host.drivers()
    engine.run(assignment(NIC, adopt=True))
    full = assignment(NIC, generation=2)
    assert ready(engine.run(full)) == ("True", "Assigned")
    assert host.devices[MATE].driver == "vfio-pci"
    assert "ua-hostdev" not in (host.guests[WEB].config or "")
    assert engine.run(delete(full)).released
    assert host.drivers() == drivers
    assert "<hostdev" not in (host.guests[WEB].config or "<hostdev")


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("kind", ["device", "vf", "pool"])
def test_keep_leaves_what_we_made_ourselves_and_it_can_be_adopted_again(kind: str, on: bool) -> None:  # noqa: FBT001
    host = vf_host()
    engine = Engine(host)
    make_pool(host, engine) if kind == "pool" else None
    specs: dict[str, Callable[..., Assignment]] = {
        "device": lambda **more: assignment(NIC, **more),
        "vf": lambda **more: of_vf(host, network={"mac": MAC, "vlan": 5, "trust": True}, **more),
        "pool": lambda **more: of_pool(network={"mac": MAC}, **more),
    }
    obj = specs[kind](releasePolicy="Keep")
    assert ready(engine.run(obj)) == ("True", "Assigned")
    if on:
        host.start(WEB)
        engine.run(obj)
    before = host.outside()
    host.calls.clear()
    assert engine.run(delete(obj)).released
    assert host.outside() == before
    assert (host.changes(), host.records) == ([], {})
    again = specs[kind](uid=OTHER_UID, adopt=True, releasePolicy="Keep")
    result = engine.run(again)
    assert ready(result) == ADOPTED, message(result)
    assert result.status.guest
    assert result.status.guest.alias == f"ua-hostdev-{UID}"
    assert host.outside() == before


def test_keep_waits_for_a_paused_node_and_for_a_change_that_hangs() -> None:
    case = Case(plain_device)
    case.engine.run(case.obj)
    case.engine.settings = Settings(paused=True)
    assert ready(case.engine.run(delete(case.obj))) == ("False", "Paused")
    case.engine.settings = Settings()
    case.host.blocked.add(LONER)
    assert ready(case.engine.run(delete(case.obj))) == ("False", "DetachBlocked")
    case.host.blocked.clear()
    assert case.engine.run(delete(case.obj)).released


def test_other_guests_are_nobodys_business() -> None:
    """A NIC of the same network and MAC address in another guest, a copy, is not taken out."""
    case = Case(nic_of_pool)
    obj = replace(case.obj, spec=case.obj.spec.model_copy(update={"release_policy": "Return"}))
    case.engine.run(obj)
    case.host.define(THIRD, "third", pool_nic(MAC2))
    third = case.host.guests[THIRD].config
    assert case.engine.run(delete(obj)).released
    assert case.host.guests[THIRD].config == third


def test_a_mate_that_its_administrator_takes_from_the_host_is_not_given_back_by_us() -> None:
    host = vf_host()
    engine = Engine(host)
    host.define(WEB, "web", plain(NIC))
    obj = assignment(NIC, adopt=True)
    engine.run(obj)
    host.bind(MATE, "vfio-pci")
    engine.run(obj)
    assert engine.run(delete(obj)).released
    assert host.devices[MATE].driver == "vfio-pci"


def test_a_mate_that_another_assignment_gives_to_the_guest_is_not_adopted() -> None:
    host = vf_host()
    engine = Engine(host)
    engine.run(assignment(NIC, uid=OTHER_UID, groupPolicy="AssignAll"))
    result = engine.run(assignment(MATE, adopt=True))
    assert ready(result) == ("False", "DeviceInUse")
    assert "is that of assignment" in message(result)


def test_a_nic_that_was_made_and_not_adopted_is_known_by_its_alias_alone() -> None:
    host = vf_host()
    engine = Engine(host)
    make_pool(host, engine)
    obj = of_pool(network={"mac": MAC})
    engine.run(obj)
    host.define(WEB, "web", pool_nic(MAC))  # by hand, in the place of ours
    before = host.outside()
    assert engine.run(delete(obj)).released
    assert host.outside() == before


@pytest.mark.parametrize("attach", ["Auto", "Live"])
@CASES
def test_nothing_is_plugged_into_a_guest_that_runs_without_it(make: Maker, attach: str) -> None:
    case = Case(make)
    host, engine = case.host, case.engine
    guest = host.guests[WEB]
    whole = guest.config
    host.define(WEB, "web")
    host.start(WEB)
    guest.config = whole
    before = host.outside()
    result = engine.run(replace(case.obj, spec=case.obj.spec.model_copy(update={"attach": attach})))
    assert (ready(result), attached(result)) == (ADOPTED, ("False", "PendingGuestRestart")), message(result)
    assert host.outside() == before


def test_a_nic_whose_portgroup_is_gone_is_told_and_left() -> None:
    host = vf_host()
    engine = Engine(host)
    make_pool(host, engine)
    host.define(WEB, "web", pool_nic(portgroup="blue"))
    obj = of_pool(portgroup="blue", adopt=True)
    assert ready(engine.run(obj)) == ADOPTED
    network = host.networks.by_name["net-a"]
    assert network.live
    assert network.config
    network.live, network.config = (text.replace("blue", "green") for text in (network.live, network.config))
    before = host.outside()
    engine.boundaries.clear()
    assert ready(engine.run(obj)) == ("False", "PortgroupUnknown")
    assert (host.outside(), engine.boundaries) == (before, [])


def test_what_was_adopted_is_given_back_although_something_is_in_the_way_by_then() -> None:
    """A PF that is down, a network that is stopped: the NIC is known all the same."""
    case = Case(nic_of_pool_without_mac)
    host, engine = case.host, case.engine
    obj = replace(case.obj, spec=case.obj.spec.model_copy(update={"release_policy": "Return"}))
    assert ready(engine.run(obj)) == ADOPTED
    host.networks.by_name["net-a"].live = None
    assert ready(engine.run(obj)) == ("False", "PoolInactive")
    engine.restart()
    assert ready(engine.run(obj)) == ("False", "PoolInactive")
    assert engine.run(delete(obj)).released
    assert "<interface" not in (host.guests[WEB].config or "<interface")
