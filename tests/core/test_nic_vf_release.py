"""A VF that was a guest's NIC is given back with the settings that it had, by what the record says."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    Action,
    DropRecord,
    ReturnDriver,
    UnplugHostdev,
)
from hostdev_operator.core.model import Observation
from hostdev_operator.core.plan import plan_assign
from hostdev_operator.core.pool_actions import ConfigureVf
from hostdev_operator.core.published import record_from_status, record_status
from hostdev_operator.core.record import Record
from hostdev_operator.core.release import Manner, plan_release, release_inputs
from hostdev_operator.core.sriov import VfConfig
from tests.core.hosts import actions_of, carry_out, with_device
from tests.core.nics import FRESH, MAC, MAC2, PF, VF, nic_host, vf_intent, with_vf
from tests.core.plans import ALIAS, refusal_of
from tests.core.test_nic_vf import assigned, kinds, running
from tests.fakes.samples import UID, WEB, intent, wish


def released(host: Observation) -> tuple[Action, ...]:
    return actions_of(plan_release(UID, host))


def test_a_vf_that_libvirt_has_given_back_needs_no_settings() -> None:
    assert kinds(released(assigned())) == ["RemoveHostdev", "DropRecord"]


def test_settings_are_restored_before_the_driver_and_before_the_record_is_dropped() -> None:
    host = with_device(assigned(with_device(nic_host(), VF, driver="igbvf")), VF, driver="vfio-pci")
    host = with_vf(host, 0, mac=MAC, vlan=7)
    actions = released(host)
    assert kinds(actions) == ["RemoveHostdev", "ConfigureVf", "ReturnDriver", "DropRecord"]
    assert actions[1] == ConfigureVf(PF, 0, VfConfig(mac=FRESH.mac, vlan=0))


def test_only_what_was_changed_is_restored() -> None:
    asked = vf_intent(settings=VfConfig(trust=True))
    host = carry_out(actions_of(plan_assign(asked, nic_host())), nic_host())
    assert ConfigureVf(PF, 0, VfConfig(trust=False)) in released(with_vf(host, 0, max_tx_rate=9))


def test_libvirts_own_stand_in_for_no_mac_counts_as_none() -> None:
    host = with_vf(assigned(), 0, mac="02:00:00:00:00:00")
    assert kinds(released(host)) == ["RemoveHostdev", "DropRecord"]


def test_a_mac_that_the_vf_had_is_restored_from_none() -> None:
    host = assigned(with_vf(nic_host(), 0, mac=MAC2))
    assert ConfigureVf(PF, 0, VfConfig(mac=MAC2)) in released(with_vf(host, 0, mac=FRESH.mac))


def test_a_vf_that_is_gone_needs_no_settings() -> None:
    host = with_vf(assigned(), 0, mac=MAC)
    gone = replace(host, devices=MappingProxyType({a: d for a, d in host.devices.items() if a != VF}))
    assert kinds(released(gone)) == ["RemoveHostdev", "DropRecord"]


def test_another_device_at_the_address_is_left_alone() -> None:
    host = with_vf(with_device(assigned(), VF, vendor=0x15B3), 0, mac=MAC)
    assert kinds(released(host)) == ["RemoveHostdev", "DropRecord"]


def test_a_running_guest_is_waited_for_or_asked() -> None:
    host = running(assigned())
    assert refusal_of(plan_release(UID, host)).reason is reasons.GUEST_RUNNING
    actions = actions_of(plan_release(UID, host, Manner(live=True)))
    assert actions[0] == UnplugHostdev(WEB, VF, ALIAS)


def test_a_release_that_failed_is_tried_again_when_the_vf_has_changed() -> None:
    host = assigned()
    assert release_inputs(wish(VF), host) != release_inputs(wish(VF), with_vf(host, 0, mac=MAC))


# -- the record -------------------------------------------------------------------------------------------------------


def test_the_record_keeps_the_settings_in_journal_and_status() -> None:
    record = replace(assigned().records[UID], vf=VfConfig(FRESH.mac, 0, trust=False, link_state="auto"))
    assert Record.from_json(record.to_json()) == record
    assert record_from_status(record_status(record), UID, "default", "nic") == record


def test_a_record_that_was_written_before_there_were_nics_is_read() -> None:
    record = replace(assigned().records[UID], vf=None)
    old = json.loads(record.to_json())
    assert old.pop("vf") is None
    assert Record.from_json(json.dumps(old)) == record
    assert record_from_status(record_status(record), UID, "default", "nic") == record


def test_a_vf_whose_pf_came_to_be_a_pools_is_given_back_without_a_driver() -> None:
    """With sriov_drivers_autoprobe 0 the kernel binds none to it: to wait for the recorded one would last for ever."""
    start = with_device(nic_host(autoprobe=True), VF, driver="igbvf")
    host = carry_out(actions_of(plan_assign(intent(VF, managed=False), start)), start)
    identity = start.devices[VF].identity
    assert actions_of(plan_release(UID, host))[-2:] == (ReturnDriver(VF, "igbvf", identity), DropRecord(UID))
    later = replace(host, pfs=MappingProxyType({PF: replace(host.pfs[PF], autoprobe=False)}))
    assert actions_of(plan_release(UID, later))[-2:] == (ReturnDriver(VF, None, identity), DropRecord(UID))
    given_back = with_device(later, VF, driver=None)
    assert kinds(actions_of(plan_release(UID, given_back))) == ["RemoveHostdev", "DropRecord"]
