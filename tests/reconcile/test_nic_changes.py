"""A guest's NIC is changed while it stands, from a pool and of a certain VF; and every crash on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import MAC, MAC2
from tests.fakes.samples import WEB
from tests.reconcile.nic_running import (
    config,
    delete,
    either,
    make_pool,
    nics,
    vf_host,
)
from tests.reconcile.running import Engine, attached, ready

KINDS = pytest.mark.parametrize("name", ["pool", "vf"])


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def made(name: str, host: FakeHost, engine: Engine, **more: Any) -> None:
    """A running guest with VLAN 10 and MAC on its NIC."""
    if name == "pool":
        make_pool(host, engine)
    host.start(WEB)
    result = engine.run(either(name, host, network={"mac": MAC, "vlan": 10}, **more))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("True", "InLiveXML"))
    assert (config(host, 0).mac, config(host, 0).vlan) == (MAC, 10)


@KINDS
def test_a_change_of_vlan_waits_for_the_next_boot_and_says_so(name: str, host: FakeHost, engine: Engine) -> None:
    made(name, host, engine)
    changed = either(name, host, network={"mac": MAC, "vlan": 20}, generation=2)
    result = engine.run(changed)
    assert ready(result) == ("True", "Assigned")
    assert attached(result) == ("False", "NetworkPending")
    text = next(c.message for c in result.status.conditions if c.type == "Attached")
    now, later = text.split("; it gets ")
    assert f"MAC {MAC}, VLAN 10" in now
    assert f"MAC {MAC}, VLAN 20 at its next boot" in later
    assert result.status.network is not None
    assert (result.status.network.vlan, result.status.network.pending) == (20, True)
    assert config(host, 0).vlan == 10
    assert [n.vlan for n in nics(host)] == [20]
    host.stop(WEB)
    host.start(WEB)
    again = engine.run(changed)
    assert attached(again) == ("True", "InLiveXML")
    assert again.status.network is not None
    assert not again.status.network.pending
    assert config(host, 0).vlan == 20


@KINDS
def test_with_live_the_nic_is_plugged_in_anew(name: str, host: FakeHost, engine: Engine) -> None:
    made(name, host, engine)
    host.calls.clear()
    result = engine.run(either(name, host, network={"mac": MAC2, "vlan": 20}, attach="Live", generation=2))
    assert (ready(result), attached(result)) == (("True", "Assigned"), ("True", "InLiveXML"))
    assert (config(host, 0).mac, config(host, 0).vlan) == (MAC2, 20)
    done = [c.split("_")[0] for c in host.calls]
    assert done == ["remove", "add", "unplug", "plug"]


@KINDS
def test_changes_in_quick_succession_are_not_held_back(name: str, host: FakeHost, engine: Engine) -> None:
    """The brake is for what somebody else takes out of the guest, not for what the plan itself takes out."""
    made(name, host, engine, attach="Live")
    for vlan in range(20, 26):
        engine.clock.seconds -= 1000.0
        obj = either(name, host, network={"mac": MAC, "vlan": vlan}, attach="Live", generation=vlan)
        assert attached(engine.run(obj)) == ("True", "InLiveXML")
        assert config(host, 0).vlan == vlan


@KINDS
def test_a_guest_that_does_not_let_go_keeps_its_nic_and_the_xml_is_as_asked(
    name: str, host: FakeHost, engine: Engine
) -> None:
    made(name, host, engine)
    host.guests[WEB].manner = "refuses"
    obj = either(name, host, network={"mac": MAC, "vlan": 20}, attach="Live", generation=2)
    result = engine.run(obj)
    assert ready(result) == ("False", "UnplugRejected")
    assert attached(result) == ("False", "UnplugRejected")
    assert [n.vlan for n in nics(host)] == [20]
    assert config(host, 0).vlan == 10
    host.calls.clear()
    assert ready(engine.run(obj)) == ("False", "UnplugRejected")
    assert host.calls == []
    host.guests[WEB].manner = "answers"
    assert ready(engine.run(replace(obj, generation=3))) == ("True", "Assigned")


@KINDS
def test_a_plug_that_fails_after_the_unplug_is_made_up_for(name: str, host: FakeHost, engine: Engine) -> None:
    made(name, host, engine)
    host.fail("plug_", reasons.VF_CONFIG_REJECTED, "Cannot set interface vlanid to 20")
    obj = either(name, host, network={"mac": MAC, "vlan": 20}, attach="Live", generation=2)
    assert ready(engine.run(obj)) == ("False", "VFConfigRejected")
    assert [n.vlan for n in nics(host)] == [20]
    assert nics(host, live=True) == ()
    assert ready(engine.run(obj)) == ("True", "Assigned")
    assert config(host, 0).vlan == 20


@KINDS
@pytest.mark.parametrize("live", [False, True])
def test_a_crash_at_any_boundary_is_made_up_for(name: str, live: bool) -> None:  # noqa: FBT001
    """Assign, change, release: after each crash a new process goes on, and in the end all is as it was."""

    def world() -> tuple[FakeHost, Engine, list[Assignment]]:
        world = vf_host()
        engine = Engine(world)
        if name == "pool":
            make_pool(world, engine)
        more = {"attach": "Live", "detach": "Live"} if live else {}
        if live:
            world.start(WEB)
        first = either(name, world, network={"mac": MAC, "vlan": 10}, **more)
        second = either(name, world, network={"mac": MAC, "vlan": 20}, generation=2, **more)
        return world, engine, [first, second, delete(second)]

    number = 0
    while True:
        number += 1
        there, engine, steps = world()
        before = there.state()
        engine.boundaries.clear()
        engine.crash_at = number
        for step in steps[:2]:
            assert ready(engine.run_through_crashes(step)) == ("True", "Assigned")
        assert engine.run_through_crashes(steps[2]).released
        assert (nics(there), there.state()) == ((), before)
        if len(engine.boundaries) < number:
            break
    assert number > 4
