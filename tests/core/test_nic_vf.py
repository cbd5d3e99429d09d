"""A VF as a guest's NIC (spec.network with source.pci or source.match)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    Action,
    AddHostdev,
    HostdevXml,
    NicXml,
    PlugHostdev,
    RemoveHostdev,
    UnplugHostdev,
    WriteRecord,
)
from hostdev_operator.core.mac import derived_mac
from hostdev_operator.core.model import Hostdev, Nic, Observation
from hostdev_operator.core.nic_checks import CHECKS, STANDING, SUBJECTS
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, inputs, plan_assign
from hostdev_operator.core.pool_actions import ConfigureVf
from hostdev_operator.core.sriov import VfConfig
from tests.core.hosts import actions_of, carry_out, of, with_device, with_guest
from tests.core.nics import FRESH, MAC, MAC2, PF, VF, VF2, nic_host, vf_intent, with_vf
from tests.core.plans import ALIAS, refusal_of
from tests.fakes.samples import DB, UID, WEB

PLAIN = PciAddress.parse("0000:06:00.0")
GUEST_ADDRESS = PciAddress(0, 6, 0, 0)


def assigned(host: Observation | None = None, mac: str | None = MAC, vlan: int | None = None) -> Observation:
    start = host or nic_host()
    return carry_out(actions_of(plan_assign(vf_intent(mac, vlan), start)), start)


def running(host: Observation, mac: str = MAC, vlan: int | None = None) -> Observation:
    """The assigned guest was started: libvirt has set MAC and VLAN."""
    web = of(host, WEB)
    nics = tuple(replace(n, mac=mac, vlan=vlan) for n in web.nics)
    host = with_guest(host, WEB, active=True, live=web.config, live_nics=nics)
    return with_vf(with_device(host, VF, driver="vfio-pci"), 0, mac=mac, vlan=vlan or 0)


def kinds(actions: tuple[Action, ...]) -> list[str]:
    return [type(a).__name__ for a in actions]


def test_the_guest_gets_an_interface_and_the_record_what_libvirt_changes() -> None:
    actions = actions_of(plan_assign(vf_intent(vlan=42, profile=None, driver="vfio"), nic_host()))
    assert kinds(actions) == ["WriteRecord", "AddHostdev"]
    record, added = actions
    assert isinstance(record, WriteRecord)
    assert record.record.vf == VfConfig(mac=FRESH.mac, vlan=0)
    assert isinstance(added, AddHostdev)
    assert added.hostdev == HostdevXml(VF, ALIAS, managed=True, driver="vfio", nic=NicXml(MAC, 42))


def test_a_profile_stands_in_the_xml() -> None:
    added = actions_of(plan_assign(vf_intent(profile="finance"), nic_host()))[-1]
    assert isinstance(added, AddHostdev)
    assert added.hostdev.nic == NicXml(MAC, None, "finance")


def test_only_the_device_itself_is_a_nic() -> None:
    host = with_device(nic_host(), VF2, iommu_group=50)
    added = [
        a.hostdev
        for a in actions_of(plan_assign(vf_intent(group_policy="AssignAll"), host))
        if isinstance(a, AddHostdev)
    ]
    assert {(h.address, h.nic is not None) for h in added} == {(VF, True), (VF2, False)}


def test_the_steady_state_needs_nothing() -> None:
    assert plan_assign(vf_intent(), assigned()) == Plan()
    assert plan_assign(vf_intent(), running(assigned())) == Plan()


def test_a_running_guest_gets_it_at_once_if_it_can() -> None:
    host = with_guest(nic_host(), WEB, active=True)
    actions = actions_of(plan_assign(vf_intent(attach="Auto"), host))
    assert kinds(actions) == ["WriteRecord", "PlugHostdev", "AddHostdev"]
    assert plan_assign(vf_intent(attach="Auto"), carry_out(actions, host)) == Plan()


# -- MAC addresses ----------------------------------------------------------------------------------------------------


def mac_in_xml(host: Observation) -> str | None:
    return of(host, WEB).nics[0].mac


def test_without_a_mac_one_is_derived() -> None:
    assert mac_in_xml(assigned(mac=None)) == derived_mac("default", "nic", WEB)


def test_the_mac_of_the_xml_stays_when_it_is_not_asked_for_any_more() -> None:
    """A lost status, a lost journal, and a spec whose MAC was taken out change nothing."""
    host = replace(assigned(), records=MappingProxyType({}))
    after = carry_out(actions_of(plan_assign(vf_intent(None), host)), host)
    assert mac_in_xml(after) == MAC
    assert plan_assign(vf_intent(None), after) == Plan()


def test_the_mac_of_the_running_guest_is_kept_as_well() -> None:
    host = with_guest(running(assigned()), WEB, config=(), nics=())
    after = carry_out(actions_of(plan_assign(vf_intent(None), host)), host)
    assert mac_in_xml(after) == MAC


@pytest.mark.parametrize("live", [True, False])
def test_a_mac_that_another_nic_has_is_refused(live: bool) -> None:  # noqa: FBT001
    field = "live_nics" if live else "nics"
    host = with_guest(nic_host(), DB, active=live, **{field: (Nic("net0", MAC),)})
    refusal = refusal_of(plan_assign(vf_intent(), host))
    assert refusal.reason is reasons.MAC_IN_USE
    assert MAC in refusal.message
    assert f"guest db ({'running' if live else 'defined'})" in refusal.message


def test_another_nic_of_the_same_guest_is_another_nic() -> None:
    host = with_guest(nic_host(), WEB, nics=(Nic("net0", MAC),))
    assert refusal_of(plan_assign(vf_intent(), host)).reason is reasons.MAC_IN_USE
    assert isinstance(plan_assign(replace(vf_intent(), nic=None), host), Plan)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_device_that_is_no_vf_takes_no_network() -> None:
    refusal = refusal_of(plan_assign(replace(vf_intent(), address=PLAIN), nic_host()))
    assert refusal.reason is reasons.NOT_VIRTUAL_FUNCTION
    assert "without spec.network" in refusal.message
    assert plan_assign(replace(vf_intent(), address=PLAIN, nic=None), nic_host()) != refusal


@pytest.mark.parametrize(
    ("side", "words"),
    [({"up": False}, ["eth3", "is down", "ip link set eth3 up"]), ({"netdev": None}, [str(PF), "no netdev"])],
)
def test_a_pf_that_cannot_set_the_mac_refuses(side: dict[str, object], words: list[str]) -> None:
    refusal = refusal_of(plan_assign(vf_intent(), nic_host(**side)))
    assert refusal.reason is reasons.PF_DOWN
    assert all(word in refusal.message for word in words)


def test_a_pf_that_goes_down_later_is_told() -> None:
    host = assigned()
    down = replace(host, pfs=MappingProxyType({PF: replace(host.pfs[PF], up=False)}))
    assert refusal_of(plan_assign(vf_intent(), down)).reason is reasons.PF_DOWN


def test_a_plain_device_does_not_need_its_pf() -> None:
    actions = actions_of(plan_assign(replace(vf_intent(), nic=None), nic_host(up=False)))
    assert kinds(actions) == ["WriteRecord", "AddHostdev"]


def test_the_checks_of_any_device_stand_before_those_of_a_nic() -> None:
    names = [c.__name__ for c in (*SUBJECTS, *CHECKS, *STANDING)]
    assert names.index("not_paused") < names.index("pf_is_up") < names.index("mac_is_free")
    assert names[:3] == ["guest_exists", "same_mates", "is_virtual_function"]


# -- other settings ---------------------------------------------------------------------------------------------------


def test_settings_that_libvirt_does_not_set_come_after_the_record() -> None:
    asked = VfConfig(trust=True, max_tx_rate=100, spoof_check=True)
    actions = actions_of(plan_assign(vf_intent(settings=asked), nic_host()))
    assert kinds(actions) == ["WriteRecord", "ConfigureVf", "AddHostdev"]
    assert actions[1] == ConfigureVf(PF, 0, VfConfig(trust=True, max_tx_rate=100))
    assert isinstance(actions[0], WriteRecord)
    assert actions[0].record.vf == VfConfig(mac=FRESH.mac, vlan=0, trust=False, max_tx_rate=0, spoof_check=True)


def test_settings_that_somebody_changed_are_set_again() -> None:
    asked = vf_intent(settings=VfConfig(trust=True))
    host = carry_out(actions_of(plan_assign(asked, nic_host())), nic_host())
    assert plan_assign(asked, host) == Plan()
    assert plan_assign(asked, with_vf(host, 0, trust=False)) == Plan((ConfigureVf(PF, 0, VfConfig(trust=True)),))
    assert plan_assign(asked, with_vf(host, 0, max_tx_rate=5)) == Plan()


def test_a_setting_that_is_asked_for_no_more_is_given_back_at_once() -> None:
    asked = vf_intent(settings=VfConfig(trust=True))
    host = carry_out(actions_of(plan_assign(asked, nic_host())), nic_host())
    assert plan_assign(vf_intent(), host) == Plan((ConfigureVf(PF, 0, VfConfig(trust=False)),))


def test_a_setting_that_is_asked_for_later_is_recorded_as_it_was() -> None:
    host = with_vf(assigned(), 0, max_tx_rate=50)
    actions = actions_of(plan_assign(vf_intent(settings=VfConfig(max_tx_rate=100)), host))
    assert kinds(actions) == ["WriteRecord", "ConfigureVf"]
    assert isinstance(actions[0], WriteRecord)
    assert actions[0].record.vf == VfConfig(mac=FRESH.mac, vlan=0, max_tx_rate=50)
    assert actions[0].record.sequence == 2


def test_what_was_recorded_once_stays() -> None:
    host = running(assigned(vlan=7), vlan=7)
    actions = actions_of(plan_assign(vf_intent(vlan=7, settings=VfConfig(trust=True)), host))
    assert isinstance(actions[0], WriteRecord)
    assert actions[0].record.vf == VfConfig(mac=FRESH.mac, vlan=0, trust=False)


def test_the_guests_own_mac_is_never_taken_for_the_original() -> None:
    """The record and its copy are lost while the guest runs: libvirt alone knows what was before."""
    host = replace(running(assigned()), records=MappingProxyType({}))
    after = carry_out(actions_of(plan_assign(vf_intent(), host)), host)
    assert after.records[UID].vf == VfConfig()
    off = with_guest(with_vf(after, 0, mac=FRESH.mac), WEB, active=False, live=(), live_nics=())
    again = carry_out(actions_of(plan_assign(vf_intent(), off)), off)
    assert again.records[UID].vf == VfConfig(mac=FRESH.mac, vlan=0)


# -- changes of an assignment that stands -----------------------------------------------------------------------------


def test_a_change_stands_in_the_xml_at_once() -> None:
    before = assigned()
    host = with_guest(before, WEB, nics=tuple(replace(n, guest_address=GUEST_ADDRESS) for n in of(before, WEB).nics))
    actions = actions_of(plan_assign(vf_intent(vlan=20), host))
    assert kinds(actions) == ["RemoveHostdev", "AddHostdev"]
    assert actions[0] == RemoveHostdev(WEB, VF, ALIAS)
    added = actions[1]
    assert isinstance(added, AddHostdev)
    assert added.hostdev.nic == NicXml(MAC, 20, None, GUEST_ADDRESS)
    after = carry_out(actions, host)
    assert plan_assign(vf_intent(vlan=20), after) == Plan()


@pytest.mark.parametrize("attach", ["Auto", "NextBoot"])
@pytest.mark.parametrize("change", [{"vlan": 20}, {"mac": MAC2}, {"profile": "finance"}])
def test_a_running_guest_keeps_its_nic_unless_live_is_asked_for(attach: str, change: dict[str, Any]) -> None:
    wanted = vf_intent(**{"attach": attach, **change})
    host = running(assigned())
    actions = actions_of(plan_assign(wanted, host))
    assert kinds(actions) == ["RemoveHostdev", "AddHostdev"]
    after = carry_out(actions, host)
    assert of(after, WEB).live_nics == of(host, WEB).live_nics
    assert plan_assign(wanted, after) == Plan()


@pytest.mark.parametrize("change", [{"vlan": 20}, {"mac": MAC2}, {"profile": "finance"}])
def test_live_takes_it_out_and_plugs_it_in_anew_after_the_xml(change: dict[str, Any]) -> None:
    wanted = vf_intent(**{"attach": "Live", **change})
    host = running(assigned())
    actions = actions_of(plan_assign(wanted, host))
    assert kinds(actions) == ["RemoveHostdev", "AddHostdev", "UnplugHostdev", "PlugHostdev"]
    assert actions[2] == UnplugHostdev(WEB, VF, ALIAS)
    after = carry_out(actions, host)
    nic, live = of(after, WEB).nics[0], of(after, WEB).live_nics[0]
    assert (live.mac, live.vlan, live.profile) == (nic.mac, nic.vlan, nic.profile)
    assert plan_assign(wanted, after) == Plan()


def test_only_the_running_guest_is_behind() -> None:
    host = running(assigned(vlan=20), vlan=10)
    assert plan_assign(vf_intent(vlan=20), host) == Plan()
    actions = actions_of(plan_assign(vf_intent(vlan=20, attach="Live"), host))
    assert kinds(actions) == ["UnplugHostdev", "PlugHostdev"]


def test_a_managed_vf_is_not_taken_out_while_the_guest_has_more_of_its_group() -> None:
    host = with_device(running(assigned(vlan=20), vlan=10), VF2, iommu_group=50)
    mate = Hostdev(VF2, "hostdev1", managed=True)
    host = with_guest(host, WEB, live=(*of(host, WEB).live, mate), config=(*of(host, WEB).config, mate))
    plan = plan_assign(vf_intent(vlan=20, attach="Live"), host)
    assert not any(isinstance(a, UnplugHostdev | PlugHostdev) for a in actions_of(plan))


def test_a_plain_device_becomes_a_nic_and_keeps_its_record() -> None:
    plain = replace(vf_intent(), nic=None)
    host = carry_out(actions_of(plan_assign(plain, nic_host())), nic_host())
    assert host.records[UID].vf is None
    actions = actions_of(plan_assign(vf_intent(), host))
    assert kinds(actions) == ["WriteRecord", "RemoveHostdev", "AddHostdev"]
    assert plan_assign(vf_intent(), carry_out(actions, host)) == Plan()


def test_a_nic_of_which_nothing_is_asked_stays_what_it_is() -> None:
    assert plan_assign(replace(vf_intent(), nic=None), assigned()) == Plan()


def test_an_alias_that_was_edited_away_is_still_ours() -> None:
    host = assigned()
    web = of(host, WEB)
    host = with_guest(
        host,
        WEB,
        config=tuple(replace(h, alias=None) for h in web.config),
        nics=tuple(replace(n, alias=None) for n in web.nics),
    )
    assert plan_assign(vf_intent(), host) == Plan()
    assert kinds(actions_of(plan_assign(vf_intent(vlan=3), host))) == ["RemoveHostdev", "AddHostdev"]


@pytest.mark.parametrize(
    "change",
    [
        lambda h: with_vf(h, 0, trust=True),
        lambda h: replace(h, pfs=MappingProxyType({PF: replace(h.pfs[PF], up=False)})),
        lambda h: with_guest(h, WEB, nics=(Nic("x", MAC2),)),
    ],
)
def test_inputs_change_with_the_vf_its_pf_and_the_guests_nics(change: Callable[[Observation], Observation]) -> None:
    assert inputs(vf_intent(), change(nic_host())) != inputs(vf_intent(), nic_host())
    assert inputs(vf_intent(), with_vf(nic_host(), 1, trust=True)) == inputs(vf_intent(), nic_host())
