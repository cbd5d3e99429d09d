"""What guests have already is taken over on the fake host, and nothing of guests and host is changed by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.record import Record
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import MAC, MAC2
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, UID, WEB, assignment
from tests.reconcile.adoption_cases import (
    ADOPTED,
    CASES,
    Case,
    Maker,
    is_recorded,
    nic_of_pool,
    nic_of_pool_without_mac,
    plain_device,
    vf_as_nic,
)
from tests.reconcile.imported_host import plain, pool_nic, source, vf_nic
from tests.reconcile.nic_running import THIRD, delete, make_pool, of_pool, of_vf, vf_host, vfs
from tests.reconcile.running import Engine, attached, message, ready


@CASES
@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("attach", ["Auto", "Live"])
def test_adopted_kept_and_left_again_nothing_has_changed(make: Maker, on: bool, attach: str) -> None:  # noqa: FBT001
    case = Case(make)
    host, engine = case.host, case.engine
    obj = replace(case.obj, spec=case.obj.spec.model_copy(update={"attach": attach}))
    if on:
        host.start(WEB)
    before = host.outside()
    result = engine.run(obj)
    assert ready(result) == ADOPTED, message(result)
    assert attached(result) == (("True", "InLiveXML") if on else ("False", "GuestShutOff"))
    assert (UID in host.records) is is_recorded(make)
    if is_recorded(make):
        record = Record.from_json(host.records[UID])
        assert (record.adopted, record.vf, len(record.members)) == (True, None, 1)
    engine.restart()
    assert engine.run(obj).status == result.status
    assert host.outside() == before
    assert engine.run(delete(obj)).released
    assert host.outside() == before
    assert host.changes() == []
    assert not host.records


@CASES
def test_the_guest_starts_and_stops_as_before(make: Maker) -> None:
    case = Case(make)
    host, engine = case.host, case.engine
    before = host.outside()
    engine.run(case.obj)
    host.start(WEB)
    running = host.outside()
    assert attached(engine.run(case.obj)) == ("True", "InLiveXML")
    engine.restart()
    assert ready(engine.run(case.obj)) == ADOPTED
    assert host.outside() == running
    host.stop(WEB)
    result = engine.run(case.obj)
    assert (ready(result), attached(result)) == (ADOPTED, ("False", "GuestShutOff"))
    assert host.outside() == before
    assert host.changes() == []


@CASES
def test_what_was_adopted_is_given_back_like_any_other(make: Maker) -> None:
    """Return: out of the XML; the drivers and VFs are as they were at the adoption."""
    case = Case(make)
    host, engine = case.host, case.engine
    obj = replace(case.obj, spec=case.obj.spec.model_copy(update={"release_policy": "Return"}))
    before = host.outside()
    engine.run(obj)
    host.start(WEB)
    engine.run(obj)
    assert ready(engine.run(delete(obj))) == ("False", "GuestRunning")
    host.stop(WEB)
    assert engine.run(delete(obj)).released
    config = host.guests[WEB].config or ""
    assert "<hostdev" not in config
    assert "<interface" not in config
    assert host.outside()[:3] == before[:3]
    assert len(host.changes()) == 1


@pytest.mark.parametrize(
    "make", [plain_device, vf_as_nic, nic_of_pool, nic_of_pool_without_mac], ids=lambda make: make.__name__
)
def test_the_running_guest_lets_go_of_what_was_adopted_if_it_is_asked(make: Maker) -> None:
    case = Case(make)
    host, engine = case.host, case.engine
    spec = case.obj.spec.model_copy(update={"release_policy": "Return", "detach": "Live"})
    obj = replace(case.obj, spec=spec)
    before = host.outside()
    host.start(WEB)
    assert ready(engine.run(obj)) == ADOPTED
    assert engine.run(delete(obj)).released
    for text in (host.guests[WEB].config, host.guests[WEB].live):
        assert "<hostdev" not in (text or "<hostdev")
        assert "<interface" not in (text or "<interface")
    assert host.outside()[:2] == before[:2]


def test_a_device_that_was_on_vfio_before_its_guest_ran_is_not_given_to_the_host() -> None:
    """Managed, adopted while the guest ran: what it had, libvirt alone knew, and has given back."""
    case = Case(plain_device)
    host, engine = case.host, case.engine
    host.bind(LONER, "vfio-pci")
    host.start(WEB)
    obj = replace(case.obj, spec=case.obj.spec.model_copy(update={"release_policy": "Return"}))
    assert ready(engine.run(obj)) == ADOPTED
    host.stop(WEB)
    assert host.devices[LONER].driver == "vfio-pci"
    assert engine.run(delete(obj)).released
    assert host.devices[LONER].driver == "vfio-pci"


# -- what is refused -------------------------------------------------------------------------------------------------


def refused(make: Callable[[FakeHost, Engine], Assignment], reason: reasons.Reason, *words: str) -> None:
    """With these words; nothing is changed, neither then nor when the object is deleted, with either policy."""
    for policy in ("Return", "Keep"):
        host = vf_host()
        engine = Engine(host)
        obj = make(host, engine)
        obj = replace(obj, spec=obj.spec.model_copy(update={"release_policy": policy}))
        host.calls.clear()
        before = host.outside()
        result = engine.run(obj)
        assert ready(result) == ("False", reason.name), message(result)
        assert [word for word in words if word not in message(result)] == []
        assert engine.run(delete(obj)).released
        assert host.outside() == before
        assert host.calls == []


def device_case(xml: str, **spec: Any) -> Callable[[FakeHost, Engine], Assignment]:
    def make(host: FakeHost, _engine: Engine) -> Assignment:
        host.define(WEB, "web", xml)
        return assignment(LONER, adopt=True, **spec)

    return make


def vf_case(network: dict[str, Any] | None, xml: str | None = None) -> Callable[[FakeHost, Engine], Assignment]:
    def make(host: FakeHost, _engine: Engine) -> Assignment:
        host.define(WEB, "web", xml or vf_nic(vfs(host)[0]))
        return of_vf(host, adopt=True, **({"network": network} if network is not None else {}))

    return make


def pool_case(xml: str, portgroup: str | None = None, **spec: Any) -> Callable[[FakeHost, Engine], Assignment]:
    def make(host: FakeHost, engine: Engine) -> Assignment:
        make_pool(host, engine)
        host.define(WEB, "web", xml)
        return of_pool(portgroup=portgroup, adopt=True, **spec)

    return make


NVME = f"<disk type='nvme' device='disk'>{source(LONER)}</disk>"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (device_case(""), ("web", str(LONER))),
        (device_case(plain(NIC)), (str(LONER),)),
        (device_case(NVME), ("as a disk of type nvme",)),
        (pool_case(""), ("net-a", "it has no NIC of that network")),
        (pool_case(pool_nic(MAC2), network={"mac": MAC}), (f"with MAC address {MAC}", f"have {MAC2}")),
    ],
)
def test_nothing_is_added(make: Maker, words: tuple[str, ...]) -> None:
    refused(make, reasons.NOTHING_TO_ADOPT, *words)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (device_case(plain(LONER, managed="no")), ("managed is no there and yes in spec",)),
        (device_case(plain(LONER), managed=False), ("managed is yes there and no in spec",)),
        (
            device_case(plain(LONER).replace("<source>", "<driver name='kvm'/><source>")),
            ("driver is kvm there and vfio in spec",),
        ),
        (vf_case(None), ("<interface>", "no spec.network")),
        (vf_case({"mac": MAC}, plain(PciAddress.parse("0000:05:10.0"))), ("<hostdev>", "spec.network")),
        (vf_case({"mac": MAC2, "vlan": 5}), (f"MAC address is {MAC} there and {MAC2} in spec",)),
        (vf_case({"mac": MAC}), ("VLAN is 5 there and none in spec",)),
        (vf_case({"mac": MAC, "vlan": 6}), ("VLAN is 5 there and 6 in spec",)),
        (vf_case({"vlan": 5, "trust": True}), ("VF setting trust is False there and True in spec",)),
        (pool_case(pool_nic(), network={"mac": MAC2, "vlan": 9}), ("VLAN is none there and 9 in spec",)),
        (pool_case(pool_nic(portgroup="blue")), ("portgroup is blue there and none in spec",)),
        (pool_case(pool_nic(), portgroup="blue"), ("portgroup is none there and blue in spec",)),
    ],
)
def test_what_differs_is_told_with_both_values_and_not_rewritten(make: Maker, words: tuple[str, ...]) -> None:
    refused(make, reasons.ADOPTION_DIFFERS, "web", *words)


def test_of_two_nics_of_the_pool_the_mac_address_must_be_said() -> None:
    refused(pool_case(pool_nic(MAC) + pool_nic(MAC2)), reasons.AMBIGUOUS_DEVICE, MAC, MAC2, "spec.network.mac")


def test_what_another_guest_has_as_well_is_not_adopted() -> None:
    def make(host: FakeHost, engine: Engine) -> Assignment:
        host.define(DB, "db", plain(LONER))
        return plain_device(host, engine)

    refused(make, reasons.DEVICE_IN_USE, "guest db")


def test_a_nic_whose_mac_address_another_guest_has_as_well_is_not_adopted() -> None:
    def make(host: FakeHost, engine: Engine) -> Assignment:
        host.define(THIRD, "third", pool_nic(MAC2))
        return nic_of_pool(host, engine)

    refused(make, reasons.MAC_IN_USE, "guest third")


def test_what_another_assignment_has_made_is_not_adopted() -> None:
    host = vf_host()
    engine = Engine(host)
    engine.run(assignment(LONER, uid=OTHER_UID))
    assert ready(engine.run(assignment(LONER, adopt=True))) == ("False", "DeviceInUse")
    make_pool(host, engine)
    engine.run(of_pool(to=DB, uid="third"))
    result = engine.run(of_pool(to=DB, uid="fourth", adopt=True))
    assert ready(result) == ("False", "DeviceInUse"), message(result)


def test_of_two_that_adopt_the_same_nic_the_older_one_has_it_and_the_other_one_takes_nothing() -> None:
    case = Case(nic_of_pool_without_mac)
    host, engine = case.host, case.engine
    young = replace(case.obj, uid="young", name="young", created="2026-02-01T00:00:00Z")
    young = replace(young, spec=young.spec.model_copy(update={"release_policy": "Return"}))
    assert ready(engine.run(case.obj)) == ADOPTED
    result = engine.run(young)
    assert ready(result) == ("False", "DeviceInUse"), message(result)
    before = host.outside()
    assert engine.run(delete(young)).released
    assert host.outside() == before


def test_the_checks_of_any_device_stand_before_an_adoption() -> None:
    case = Case(plain_device)
    case.host.use(LONER, "carries the default route over eth0")
    assert ready(case.engine.run(case.obj)) == ("False", "HostCritical")
    case = Case(plain_device)
    case.engine.settings = Settings(paused=True)
    assert ready(case.engine.run(case.obj)) == ("False", "Paused")
    assert not case.host.records


def test_mates_of_what_is_adopted_stay_where_they_are_and_it_is_told() -> None:
    host = vf_host()
    engine = Engine(host)
    host.define(WEB, "web", plain(NIC))
    host.calls.clear()
    before = host.outside()
    result = engine.run(assignment(NIC, adopt=True))
    assert ready(result) == ("False", "IOMMUGroupNotViable")
    assert str(MATE) in message(result)
    assert UID in host.records
    host.bind(MATE, "vfio-pci")  # by its administrator
    assert ready(engine.run(assignment(NIC, adopt=True))) == ADOPTED
    assert engine.run(delete(assignment(NIC, adopt=True, releasePolicy="Keep"))).released
    host.bind(MATE, "snd_hda_intel")
    assert host.outside() == before
    assert host.changes() == []
