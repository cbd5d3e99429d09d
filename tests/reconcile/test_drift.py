"""What somebody else changes by hand: reported or put right, never fought over; and what is nobody's doing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec
from hostdev_operator.core import reasons
from hostdev_operator.core.drift import device_standing
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.reasons import Retry
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.simulation.host import FakeHost, without
from hostdev_operator.simulation.ports import ports
from tests.core.nics import MAC, PF
from tests.fakes.samples import LONER, MATE, NIC, OTHER_UID, UID, WEB, assignment
from tests.reconcile.nic_running import config, either, make_pool, nics, of_pool, of_vf, vf_host, vfs
from tests.reconcile.running import Engine, attached, message, ready

SETTLED = ("True", "Assigned")
DRIFTED = ("False", "Drifted")
ByHand = Callable[[FakeHost], object]


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def edit(old: str, new: str, uuid: str = WEB) -> ByHand:
    """Virsh edit: a change of the persistent XML."""

    def change(host: FakeHost) -> None:
        text = host.guests[uuid].config or ""
        edited = re.sub(old, new, text)
        assert edited != text
        host.guests[uuid].config = edited

    return change


def live_edit(old: str, new: str) -> ByHand:
    """Virsh detach-device and attach-device --live, as they leave the running guest."""

    def change(host: FakeHost) -> None:
        text = host.guests[WEB].live or ""
        edited = re.sub(old, new, text)
        assert edited != text
        host.guests[WEB].live = edited

    return change


def network(**more: Any) -> dict[str, Any]:
    return {"network": {"mac": MAC, "vlan": 10, **more}}


OFF, RUNNING = False, True
#: What is asked for, whether the guest runs, and what is done by hand.
CHANGES: dict[str, tuple[Callable[[FakeHost], Assignment], bool, ByHand]] = {
    "mate bound": (lambda _: assignment(), OFF, lambda host: host.bind(MATE, "snd_hda_intel")),
    "unmanaged device bound": (lambda _: assignment(managed=False), OFF, lambda host: host.bind(NIC, "e1000e")),
    "reservation bound": (lambda _: assignment(guest=None), OFF, lambda host: host.bind(NIC, "e1000e")),
    "taken from the persistent XML": (lambda _: assignment(), OFF, edit("(?s)<hostdev.*</hostdev>", "")),
    "the same, the guest running": (lambda _: assignment(), RUNNING, edit("(?s)<hostdev.*</hostdev>", "")),
    "taken from the running guest": (
        lambda _: assignment(), RUNNING, lambda host: host.eject(host.guests[WEB], NIC)
    ),
    "managed, in the persistent XML": (lambda _: assignment(), OFF, edit("""managed=["']yes["']""", "managed='no'")),
    "VLAN of a VF": (lambda host: of_vf(host, **network()), OFF, edit("""<tag id=["']10["']""", "<tag id='11'")),
    "MAC of a VF": (lambda host: of_vf(host, **network()), RUNNING, edit(MAC, "52:54:00:00:00:99")),
    "VLAN of a pool's NIC": (lambda _: of_pool(**network()), OFF, edit("""<tag id=["']10["']""", "<tag id='11'")),
    "a pool's NIC taken out": (lambda _: of_pool(), OFF, edit("(?s)<interface.*</interface>", "")),
    "a pool's NIC taken from the running guest": (
        lambda _: of_pool(), RUNNING, lambda host: host.eject(host.guests[WEB], vfs(host)[0])
    ),
}  # fmt: skip


def settle(engine: Engine, obj: Assignment, *, running: bool = OFF) -> None:
    if obj.spec.source.pool:
        make_pool(engine.host, engine)
    if running:
        engine.host.start(WEB)
    assert ready(engine.run(obj))[0] == "True"


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_reported_and_nothing_is_changed(name: str, host: FakeHost, engine: Engine) -> None:
    wish, running, by_hand = CHANGES[name]
    obj = wish(host)
    settle(engine, obj, running=running)
    before = (host.guests[WEB].config, host.guests[WEB].live, host.drivers())
    by_hand(host)
    state = host.state()
    host.calls.clear()
    for _ in range(2):
        result = engine.run(obj)
        assert (ready(result), result.retry) == (DRIFTED, Retry.ON_EVENT)
        assert (host.state(), host.calls) == (state, [])
        engine.restart()  # a new agent knows it, too
    assert "default/nic stood as asked, and somebody else has changed it since" in message(result)
    patch = """kubectl patch deviceassignment nic -n default --type merge -p '{"spec":{"driftPolicy":"Correct"}}'"""
    assert patch in message(result)
    assert result.status.plan
    assert all(action.summary in message(result) for action in result.status.plan.actions)
    host.guests[WEB].config, host.guests[WEB].live = before[:2]  # put back by hand
    for address, driver in before[2].items():
        host.bind(address, driver)
    assert ready(engine.run(obj))[0] == "True"


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_put_right_and_told(name: str, host: FakeHost, engine: Engine) -> None:
    wish, running, by_hand = CHANGES[name]
    obj = wish(host)
    obj = replace(obj, spec=obj.spec.model_copy(update={"drift_policy": "Correct"}))
    settle(engine, obj, running=running)
    guest = host.guests[WEB]
    before = (guest.hostdevs(), nics(host), host.drivers())
    by_hand(host)
    result = engine.run(obj)
    assert ready(result)[0] == "True"
    assert result.corrected
    assert result.corrected.startswith("somebody else had changed what stood as asked; done: ")
    assert (guest.hostdevs(), nics(host), host.drivers()) == before
    assert engine.run(obj).corrected is None


def test_a_policy_that_is_set_for_a_moment_will_do(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.bind(MATE, "snd_hda_intel")
    assert ready(engine.run(assignment())) == DRIFTED
    assert ready(engine.run(assignment(driftPolicy="Correct", generation=2))) == SETTLED
    host.bind(MATE, "snd_hda_intel")
    assert ready(engine.run(assignment(generation=3))) == DRIFTED


@pytest.mark.parametrize("more", [{"approval": "Automatic"}, {"releasePolicy": "Keep"}, {"detach": "Live"}], ids=str)
def test_a_change_of_spec_that_is_about_something_else_puts_nothing_right(
    more: dict[str, Any], host: FakeHost, engine: Engine
) -> None:
    engine.run(assignment())
    host.bind(MATE, "snd_hda_intel")
    assert ready(engine.run(assignment(generation=2, **more))) == DRIFTED


def test_what_is_asked_for_anew_is_done(host: FakeHost, engine: Engine) -> None:
    engine.run(of_vf(host, **network()))
    edit("""<tag id=["']10["']""", "<tag id='11'")(host)
    assert ready(engine.run(of_vf(host, **network()))) == DRIFTED
    assert ready(engine.run(of_vf(host, generation=2, **network(vlan=12)))) == SETTLED
    assert [n.vlan for n in nics(host)] == [12]


def test_who_approves_the_plan_has_it_put_right(host: FakeHost, engine: Engine) -> None:
    plan = engine.run(assignment(approval="Manual")).status.plan
    assert plan
    engine.run(assignment(approval="Manual", approvedPlan=plan.hash))
    host.bind(MATE, "snd_hda_intel")
    result = engine.run(assignment(approval="Manual", approvedPlan=plan.hash))
    assert ready(result) == DRIFTED
    assert result.status.plan
    assert f'{{"spec":{{"approvedPlan":"{result.status.plan.hash}"}}}}' in message(result)
    assert ready(engine.run(assignment(approval="Manual", approvedPlan=result.status.plan.hash))) == SETTLED


# -- nobody's doing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pool", "vf"])
def test_a_reboot_is(kind: str, host: FakeHost, engine: Engine) -> None:
    settle(engine, assignment(uid=OTHER_UID))
    settle(engine, either(kind, host, **network()))
    host.reboot()
    host.sriov.set_count(PF, 2)
    assert ready(engine.run(assignment(uid=OTHER_UID))) == SETTLED
    assert host.drivers()[MATE] == VFIO_DRIVER


def test_a_managed_mate_that_libvirt_gives_back_is(host: FakeHost, engine: Engine) -> None:
    obj = assignment(groupPolicy="AssignAll")
    engine.run(obj)
    for _ in range(2):
        host.start(WEB)
        assert ready(engine.run(obj)) == SETTLED
        host.stop(WEB)  # both have their host drivers again
        assert ready(engine.run(obj)) == SETTLED
        host.start(WEB)
        host.stop(WEB)  # a run that nobody saw
        assert ready(engine.run(obj)) == SETTLED


def test_settings_that_a_guest_leaves_behind_are(host: FakeHost, engine: Engine) -> None:
    obj = of_vf(host, **network(trust=True))
    settle(engine, obj, running=RUNNING)
    host.stop(WEB)
    host.sriov.configure(PF, 0, VfConfig(trust=False))
    assert ready(engine.run(obj)) == SETTLED
    assert config(host, 0).trust is True


def test_a_guest_that_was_gone_begins_anew(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.undefine(WEB)
    assert ready(engine.run(assignment())) == ("False", "GuestNotFound")
    host.define(WEB, "web")
    assert ready(engine.run(assignment())) == SETTLED
    assert [h.address for h in host.guests[WEB].hostdevs()] == [NIC]


def test_a_device_that_was_gone_begins_anew(host: FakeHost, engine: Engine) -> None:
    obj = assignment(LONER, managed=False)
    engine.run(obj)
    device = host.remove(LONER)
    assert ready(engine.run(obj)) == ("False", "DeviceNotFound")
    host.put_back(device)
    assert ready(engine.run(obj)) == SETTLED
    assert host.drivers()[LONER] == VFIO_DRIVER


@pytest.mark.parametrize("written", [True, False])
def test_a_portgroup_that_was_gone_brings_the_nic_back(host: FakeHost, engine: Engine, written: bool) -> None:  # noqa: FBT001
    """Also if the status could not be written meanwhile."""
    make_pool(host, engine)
    full = host.networks.by_name["net-a"].config
    assert full
    group = re.search("(?s)<portgroup[^>]*name=.web.*?</portgroup>", full)
    if group is None:
        full = full.replace("</network>", "<portgroup name='web'><vlan><tag id='30'/></vlan></portgroup></network>")
    obj = of_pool(portgroup="web")
    host.networks.define(full)
    host.networks.destroy("net-a")
    host.networks.start("net-a")
    assert ready(engine.run(obj)) == SETTLED
    host.networks.define(re.sub("(?s)<portgroup[^>]*name=.web.*?</portgroup>", "", full))
    host.networks.destroy("net-a")
    host.networks.start("net-a")
    stood = engine.statuses[obj.uid]
    assert ready(engine.run(obj)) == ("False", "PortgroupUnknown")
    assert nics(host) == ()
    if not written:
        engine.statuses[obj.uid] = stood
    host.networks.define(full)
    host.networks.destroy("net-a")
    host.networks.start("net-a")
    assert ready(engine.run(obj)) == SETTLED
    assert [n.portgroup for n in nics(host)] == ["web"]


def test_a_plug_that_was_not_possible_before_is_done_later(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    host.fail("plug_hostdev", reasons.NO_GUEST_PCI_SLOT)
    first = engine.run(assignment())
    assert attached(first) == ("False", "NoGuestPCISlot")
    host.stop(WEB)
    host.define(WEB, "web")
    assert ready(engine.run(assignment(generation=2))) == SETTLED
    host.start(WEB)
    assert attached(engine.run(assignment(generation=2))) == ("True", "InLiveXML")


def test_a_claim_that_was_rolled_back_begins_anew(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(driftPolicy="Correct"))
    host.bind(MATE, "snd_hda_intel")
    host.guests[WEB].config = without(host.guests[WEB].config or "", NIC)
    host.fail("detach_driver", reasons.BIND_FAILED)
    failed = engine.run(assignment(driftPolicy="Correct"))
    assert (ready(failed), UID in host.records) == (("False", "BindFailed"), False)
    assert failed.status.settled is None
    assert ready(engine.run(assignment(generation=2))) == SETTLED


def test_a_status_that_was_lost_is_no_drift(host: FakeHost, engine: Engine) -> None:
    """Etcd restored to before: what is asked for is done, as at the beginning."""
    engine.run(assignment())
    engine.statuses.clear()
    host.bind(MATE, "snd_hda_intel")
    assert ready(engine.run(assignment())) == SETTLED


def test_an_agent_with_more_fields_knows_what_stood(host: FakeHost) -> None:
    """After an upgrade what was reported is not put right, as if it was asked for anew."""

    class Newer(DeviceAssignmentSpec):
        color: str = "blue"

    obj = assignment()
    Engine(host).run(obj)
    intent, newer = obj.wish().intent(NIC), Newer.model_validate(obj.spec.wire())
    seen = observe(ports(host), Context())
    assert device_standing(intent, newer, seen) == device_standing(intent, obj.spec, seen) is not None


# -- Correct has limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pool", "vf"])
@pytest.mark.parametrize("policy", ["Report", "Correct"])
def test_nothing_is_taken_from_a_running_guest(kind: str, policy: str, host: FakeHost, engine: Engine) -> None:
    """As after virsh detach-device and attach-device of the NIC with another VLAN."""
    obj = either(kind, host, attach="Live", driftPolicy=policy, **network())
    settle(engine, obj, running=RUNNING)
    live_edit("""<tag id=["']10["']""", "<tag id='11'")(host)
    host.calls.clear()
    result = engine.run(obj)
    assert (ready(result), host.calls) == (DRIFTED, [])
    assert "shut the guest down and start it" in message(result)
    host.stop(WEB)
    host.start(WEB)
    assert ready(engine.run(obj)) == SETTLED
    assert [n.vlan for n in nics(host, live=True)] == [10]


@pytest.mark.parametrize("kind", ["pool", "vf"])
def test_the_persistent_xml_is_put_right_all_the_same(kind: str, host: FakeHost, engine: Engine) -> None:
    obj = either(kind, host, attach="Live", driftPolicy="Correct", **network())
    settle(engine, obj, running=RUNNING)
    live_edit("""<tag id=["']10["']""", "<tag id='11'")(host)
    edit("""<tag id=["']10["']""", "<tag id='12'")(host)
    host.calls.clear()
    assert ready(engine.run(obj)) == ("False", "NetworkPending")
    assert [n.vlan for n in nics(host)] == [10]
    assert ready(engine.run(obj)) == DRIFTED
    assert [c for c in host.calls if "plug" in c] == []
