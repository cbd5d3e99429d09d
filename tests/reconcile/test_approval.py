"""spec.approval Manual: nothing is changed before it is approved, and what is approved is carried out to its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.api.plan import PlanStatus
from hostdev_operator.core import reasons
from hostdev_operator.core.approval import Approval
from hostdev_operator.core.conditions import find
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.bound import Assignment, Result
from tests.fakes.samples import MATE, NIC, UID, WEB, assignment, small_host
from tests.reconcile.nic_running import make_pool, nics, of_pool, vf_host
from tests.reconcile.running import Engine, count_boundaries, ready, without_plan

WAITS = ("False", "AwaitingApproval")
DONE = ("True", "Assigned")
DRIFTED = ("False", "Drifted")


@pytest.fixture
def engine() -> Engine:
    return Engine(small_host())


def manual(approved: str | None = None, **more: Any) -> Assignment:
    """The sample assignment, which needs approval."""
    return assignment(approval="Manual", **{"managed": False, "approvedPlan": approved, **more})


def plan(result: Result) -> PlanStatus:
    assert result.status.plan
    return result.status.plan


def planned(result: Result) -> str:
    """What Planned says."""
    condition = find(result.status.conditions, "Planned")
    assert condition
    assert (condition.status, condition.reason) == WAITS
    return condition.message


def disruptions(result: Result) -> list[tuple[str, str]]:
    return [(a.action, a.disruption) for a in plan(result).actions]


def approve(engine: Engine, **more: Any) -> Result:
    """Run, and once more with the plan's hash in spec."""
    return engine.run(manual(plan(engine.run(manual(**more))).hash, **more))


def test_nothing_is_changed_before_the_plan_is_approved(engine: Engine) -> None:
    before = engine.host.state()
    result = engine.run(manual())
    assert ready(result) == WAITS
    assert engine.host.calls == []
    assert engine.host.state() == before
    assert engine.host.approvals == {}
    assert [(a.action, a.device, a.disruption) for a in plan(result).actions] == [
        ("WriteRecord", str(NIC), "None"),
        ("DetachDriver", str(MATE), "HostDevice"),
        ("DetachDriver", str(NIC), "HostDevice"),
        ("AddHostdev", str(NIC), "None"),
    ]
    mate, device = plan(result).actions[1:3]
    assert (mate.before, mate.after) == ("driver snd_hda_intel", "driver vfio-pci")
    assert mate.reason == f"it shares the IOMMU group of {NIC}, which is never split"
    assert "managed: false" in device.reason


def test_the_message_has_the_command_that_approves(engine: Engine) -> None:
    result = engine.run(manual())
    patch = '{"spec":{"approvedPlan":"' + plan(result).hash + '"}}'
    assert f"kubectl patch deviceassignment nic -n default --type merge -p '{patch}'" in planned(result)


def test_the_approved_plan_is_carried_out(engine: Engine) -> None:
    assert ready(approve(engine)) == DONE
    assert engine.host.guests[WEB].hostdevs()[0].address == NIC
    assert plan(engine.run(manual())).actions[0].action == "WriteRecord", "status.plan stays"


def test_another_hash_approves_nothing(engine: Engine) -> None:
    assert ready(engine.run(manual("0" * 32))) == WAITS
    assert engine.host.calls == []


def test_what_is_approved_is_recorded_before_the_first_change(engine: Engine) -> None:
    approve(engine)
    assert engine.host.calls[:2] == [f"approval_save {UID}", f"save {UID}"]


def test_without_manual_nothing_is_recorded_of_approval(engine: Engine) -> None:
    result = engine.run(assignment())
    assert ready(result) == DONE
    assert not [call for call in engine.host.calls if call.startswith("approval")]
    assert [a.action for a in plan(result).actions] == ["WriteRecord", "DetachDriver", "AddHostdev"]


def test_the_host_can_ask_for_approval_and_no_assignment_weakens_it(engine: Engine) -> None:
    engine.settings = Settings(manual=True)
    result = engine.run(assignment(approval="Automatic"))
    assert ready(result) == WAITS
    assert "DeviceHost n1 has spec.approval Manual" in planned(result)
    assert engine.host.calls == []
    assert ready(engine.run(assignment(approvedPlan=plan(result).hash))) == DONE


@pytest.mark.parametrize("boundary", range(1, 6))
def test_after_a_crash_what_is_left_needs_no_approval(boundary: int) -> None:
    def prepared() -> tuple[Engine, Assignment]:
        engine = Engine(small_host())
        return engine, manual(plan(engine.run(manual())).hash)

    undisturbed, obj = prepared()
    expected = undisturbed.run(obj)
    assert count_boundaries(prepared) == 5
    crashed, obj = prepared()
    crashed.crash_at = boundary
    gone_on = crashed.run_through_crashes(obj)
    assert without_plan(gone_on) == without_plan(expected)
    assert crashed.host.state() == undisturbed.host.state()


@pytest.mark.parametrize("boundary", range(2, 6))
def test_even_if_the_approval_is_taken_back_meanwhile(boundary: int) -> None:
    engine = Engine(small_host())
    approved = manual(plan(engine.run(manual())).hash)
    engine.crash_at = boundary
    with pytest.raises(Exception, match="assign"):
        engine.run(approved)
    engine.restart()
    assert ready(engine.run(manual())) == DONE


def test_a_repair_is_a_new_plan_and_waits(engine: Engine) -> None:
    first = plan(engine.run(manual())).hash
    assert ready(engine.run(manual(first))) == DONE
    engine.host.guests[WEB].config = "<domain><devices/></domain>"
    engine.host.calls.clear()
    result = engine.run(manual(first))
    assert ready(result) == DRIFTED
    assert engine.host.calls == []
    assert [a.action for a in plan(result).actions] == ["AddHostdev"]
    assert ready(engine.run(manual(plan(result).hash))) == DONE


def test_no_approval_is_good_for_a_second_repair(engine: Engine) -> None:
    approve(engine)
    engine.host.guests[WEB].config = "<domain><devices/></domain>"
    repair = plan(engine.run(manual())).hash
    assert ready(engine.run(manual(repair))) == DONE
    engine.host.guests[WEB].config = "<domain><devices/></domain>"
    again = engine.run(manual(repair))
    assert ready(again) == DRIFTED
    assert plan(again).hash != repair


def test_a_host_that_changed_makes_a_new_plan_and_it_is_told_what_differs(engine: Engine) -> None:
    first = plan(engine.run(manual())).hash
    engine.host.devices[MATE] = replace(engine.host.devices[MATE], driver=None)
    engine.host.native[MATE] = None
    for _ in range(2):  # it is not forgotten when the new plan is in status
        result = engine.run(manual(first))
        assert ready(result) == WAITS
        assert plan(result).hash != first
        approved = plan(result).approved
        assert approved
        assert approved.hash == first
        assert f"when plan {first} was approved: no more: claim" in planned(result)
        assert f"detach {MATE} from the host: driver snd_hda_intel -> driver vfio-pci" in planned(result)
    assert engine.host.calls == []


def test_a_rollback_needs_no_approval_and_the_approval_is_still_good(engine: Engine) -> None:
    approved = plan(engine.run(manual())).hash
    engine.host.fail("add_hostdev", reasons.LIBVIRT_ERROR, "no", times=1)
    before = engine.host.state()
    assert ready(engine.run(manual(approved))) == ("False", "LibvirtError")
    assert engine.host.state() == before
    assert Approval.from_json(engine.host.approvals[UID]).left == ()
    assert ready(engine.run(manual())) == WAITS, "taken back meanwhile"
    assert ready(engine.run(manual(approved))) == DONE


def test_a_release_needs_no_approval(engine: Engine) -> None:
    before = engine.host.state()
    approve(engine)
    engine.settings = Settings(manual=True)
    assert engine.run(manual(deleting=True)).released
    assert engine.host.state() == before
    assert engine.host.approvals == {}


def test_who_waits_does_not_look_at_the_whole_host_again(engine: Engine) -> None:
    """Each event of the host wakes it: what was seen for another assignment is good enough."""
    looks: list[str] = []
    engine.run(manual())
    version = [0]
    engine.restart()
    context = engine.reconciler._looker._context
    engine.reconciler._looker._context = replace(context, version=lambda: version[0])
    engine.host.hook = looks.append
    engine.run(manual())
    assert looks.count("guests") == 1
    engine.run(manual())
    assert looks.count("guests") == 1


# -- a NIC of a pool, which has no record ----------------------------------------------------------------------------


@pytest.fixture
def of_vfs() -> Engine:
    engine = Engine(vf_host())
    make_pool(engine.host, engine)
    return engine


def test_a_nic_of_a_pool_waits_as_well(of_vfs: Engine) -> None:
    result = of_vfs.run(of_pool(approval="Manual"))
    assert ready(result) == WAITS
    assert nics(of_vfs.host) == ()
    (action,) = plan(result).actions
    assert action.summary == "add a VF of pool pool-a to the persistent XML of guest web"
    assert ready(of_vfs.run(of_pool(approval="Manual", approvedPlan=plan(result).hash))) == DONE


def test_a_nic_is_finished_after_a_crash_between_plug_and_xml(of_vfs: Engine) -> None:
    of_vfs.host.start(WEB)
    result = of_vfs.run(of_pool(approval="Manual"))
    assert [(a.action, a.disruption) for a in plan(result).actions] == [
        ("PlugInterface", "HotPlug"),
        ("AddInterface", "None"),
    ]
    of_vfs.crash_at = len(of_vfs.boundaries) + 2
    approved = of_pool(approval="Manual", approvedPlan=plan(result).hash)
    assert ready(of_vfs.run_through_crashes(approved)) == DONE
    assert len(nics(of_vfs.host)) == len(nics(of_vfs.host, live=True)) == 1


def test_a_running_guest_that_gets_it_at_its_next_boot_is_told_to_be_restarted(of_vfs: Engine) -> None:
    of_vfs.host.start(WEB)
    result = of_vfs.run(of_pool(approval="Manual", attach="NextBoot"))
    assert disruptions(result) == [("AddInterface", "GuestRestart")]
