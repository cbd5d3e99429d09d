"""NICs of pools are taken out of their guests again."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hostdev_operator.core import reasons
from hostdev_operator.core.actions import RemoveHostdev, RemoveInterface, UnplugInterface
from hostdev_operator.core.model import Hostdev, Nic
from hostdev_operator.core.plan import Plan
from hostdev_operator.core.release import Manner, plan_release, release_inputs
from hostdev_operator.core.settings import Settings
from tests.core.hosts import actions_of, of, with_device, with_guest
from tests.core.nics import MAC, VF, VF2, configured, nic_intent, pool_host, running
from tests.core.plans import refusal_of
from tests.fakes.samples import DB, OTHER_UID, UID, WEB, wish

ALIAS = nic_intent().alias


def test_the_nic_is_taken_out_by_its_alias_alone() -> None:
    assert plan_release(UID, configured()) == Plan((RemoveInterface(WEB, ALIAS),))
    assert plan_release(OTHER_UID, configured()) == Plan()


def test_a_running_guest_is_waited_for_or_asked() -> None:
    host = running()
    refusal = refusal_of(plan_release(UID, host))
    assert refusal.reason is reasons.GUEST_RUNNING
    assert str(VF) in refusal.message
    assert plan_release(UID, host, Manner(live=True)) == Plan(
        (UnplugInterface(WEB, ALIAS, VF), RemoveInterface(WEB, ALIAS))
    )


def test_a_nic_whose_network_hands_out_no_vfs_any_more_is_waited_for_as_well() -> None:
    host = with_guest(running(), WEB, live=(), live_nics=(Nic(ALIAS, MAC, "net-a"),))
    assert refusal_of(plan_release(UID, host)).reason is reasons.GUEST_RUNNING
    assert actions_of(plan_release(UID, host, Manner(live=True)))[0] == UnplugInterface(WEB, ALIAS, None)


def test_it_is_taken_out_of_any_guest_that_has_it() -> None:
    copied = with_guest(configured(), DB, nics=of(configured(), WEB).nics)
    assert set(actions_of(plan_release(UID, copied))) == {RemoveInterface(WEB, ALIAS), RemoveInterface(DB, ALIAS)}


def test_a_paused_node_keeps_it() -> None:
    assert refusal_of(plan_release(UID, replace(configured(), settings=Settings(paused=True)))).reason is reasons.PAUSED


def test_a_vf_whose_record_is_lost_is_taken_out_by_its_alias_too() -> None:
    host = with_guest(pool_host(), WEB, config=(Hostdev(VF, ALIAS),), nics=(Nic(ALIAS, MAC, address=VF),))
    assert plan_release(UID, host) == Plan((RemoveInterface(WEB, ALIAS),))
    plain = with_guest(pool_host(), WEB, config=(Hostdev(VF, ALIAS),))
    assert plan_release(UID, plain) == Plan((RemoveHostdev(WEB, VF, ALIAS),))


def test_vfs_without_host_drivers_are_taken_out_one_by_one() -> None:
    """Of one IOMMU group: with drivers that the host would bind at once, that would split the group."""
    host = with_device(running(), VF2, iommu_group=50)
    web = of(host, WEB)
    host = with_guest(host, WEB, live=(*web.live, Hostdev(VF2, "hostdev7", managed=True)))
    assert isinstance(plan_release(UID, host, Manner(live=True)), Plan)
    probing = replace(host, pfs=MappingProxyType({a: replace(p, autoprobe=True) for a, p in host.pfs.items()}))
    assert refusal_of(plan_release(UID, probing, Manner(live=True))).reason is reasons.GROUP_IN_USE


def test_a_release_is_tried_again_when_a_guest_with_the_nic_has_changed() -> None:
    host = running()
    mine = wish(VF)
    assert release_inputs(mine, host) != release_inputs(mine, with_guest(host, WEB, run=2))
    assert release_inputs(mine, host) == release_inputs(mine, with_guest(host, DB, run=2))
