"""NICs of pools, on the made-up host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.mac import derived_mac
from hostdev_operator.core.model import Nic
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.bound import Result
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.sriov import FRESH
from tests.core.nics import MAC
from tests.fakes.samples import DB, OTHER_UID, UID, WEB
from tests.reconcile.nic_running import (
    SLOTS,
    THIRD,
    config,
    delete,
    make_pool,
    nics,
    of_pool,
    vf_host,
    vfs,
)
from tests.reconcile.running import Engine, attached, message, ready

THIRD_UID = "0a0a0a0a-0000-4000-8000-000000000003"
ALIAS = f"ua-hostdev-{UID}"


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


@pytest.fixture(autouse=True)
def _pool(host: FakeHost, engine: Engine) -> None:
    make_pool(host, engine)


def test_a_nic_of_a_pool_gets_a_vf_at_each_start_and_none_in_between(host: FakeHost, engine: Engine) -> None:
    obj = of_pool(portgroup="blue", network={"mac": MAC})
    result = engine.run(obj)
    assert ready(result) == ("True", "Assigned")
    assert attached(result) == ("False", "GuestShutOff")
    assert result.status.device is None
    assert nics(host) == (Nic(ALIAS, MAC, "net-a", "blue"),)
    assert host.records == {}
    for _ in range(3):
        host.start(WEB)
        result = engine.run(obj)
        assert (ready(result)[0], attached(result)) == ("True", ("True", "InLiveXML"))
        assert result.status.device is not None
        assert result.status.device.address == str(vfs(host)[0])
        assert config(host, 0) == replace(FRESH, mac=MAC, vlan=10)
        host.stop(WEB)
        assert engine.run(obj).status.device is None
        assert config(host, 0) == FRESH


def test_the_status_has_network_portgroup_mac_and_vlan(engine: Engine) -> None:
    network = engine.run(of_pool(portgroup="blue", network={"mac": MAC.upper()})).status.network
    assert network is not None
    assert network.wire() == {"name": "net-a", "portgroup": "blue", "mac": MAC, "vlan": 10, "pending": False}


def test_the_status_says_what_the_guest_has(host: FakeHost, engine: Engine) -> None:
    def told(result: Result) -> list[tuple[bool, bool] | None]:
        guest, network = result.status.guest, result.status.network
        return [(guest.persistent, guest.live) if guest else None, (True, network.pending) if network else None]

    host.networks.destroy("net-a")
    refused = engine.run(of_pool())
    assert told(refused) == [(False, False), None]
    found = {c.type: (c.status, c.reason) for c in refused.status.conditions}
    assert found["Planned"] == ("False", "PoolInactive")
    assert found["Configured"] == ("False", "NotTried")
    host.networks.start("net-a")
    assert told(engine.run(of_pool())) == [(True, False), (True, False)]
    host.start(WEB)
    assert told(engine.run(of_pool())) == [(True, True), (True, False)]
    host.networks.destroy("net-a")
    host.define(WEB, "web", SLOTS)
    assert told(engine.run(of_pool())) == [(False, True), (True, False)]
    host.undefine(WEB)
    host.stop(WEB)
    gone = engine.run(of_pool())
    assert told(gone) == [None, None]
    assert attached(gone) == ("False", "GuestNotFound")


def test_a_second_run_changes_nothing(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    host.calls.clear()
    assert ready(engine.run(of_pool())) == ("True", "Assigned")
    assert host.calls == []


def test_no_group_is_claimed_and_the_conditions_are_those_of_any_assignment(engine: Engine) -> None:
    result = engine.run(of_pool())
    found = {c.type: (c.status, c.reason) for c in result.status.conditions}
    assert found == {
        "Planned": ("True", "ChecksPassed"),
        "GroupReady": ("True", "NotNeeded"),
        "Configured": ("True", "InPersistentXML"),
        "Attached": ("False", "GuestShutOff"),
        "Ready": ("True", "Assigned"),
    }
    assert result.status.record is None
    assert result.status.identity is None
    assert result.status.iommu_group is None


def test_a_running_guest_gets_a_vf_at_once(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    result = engine.run(of_pool(network={"vlan": 42}))
    assert attached(result) == ("True", "InLiveXML")
    assert config(host, 0).vlan == 42
    assert result.status.device is not None
    assert result.status.device.driver == "vfio-pci"
    assert [n.address for n in nics(host, live=True)] == vfs(host)[:1]


def test_three_guests_compete_for_two_vfs(host: FakeHost, engine: Engine) -> None:
    objects = {uuid: of_pool(uuid, uid=uid) for uuid, uid in ((WEB, UID), (DB, OTHER_UID), (THIRD, THIRD_UID))}
    for uuid in objects:
        host.start(uuid)
    results = {uuid: engine.run(obj) for uuid, obj in objects.items()}
    assert [attached(r)[1] for r in results.values()] == ["InLiveXML", "InLiveXML", "PoolExhausted"]
    assert ready(results[THIRD]) == ("True", "Assigned")
    text = next(c.message for c in results[THIRD].status.conditions if c.type == "Attached")
    assert "guest web" in text
    assert "guest db" in text
    host.stop(DB)
    assert attached(engine.run(objects[THIRD])) == ("True", "InLiveXML")
    assert nics(host, THIRD, live=True)[0].address == vfs(host)[1]
    off = engine.run(objects[DB])
    assert attached(off) == ("False", "PoolExhausted")
    text = next(c.message for c in off.status.conditions if c.type == "Attached")
    assert all(word in text for word in ("next start will fail", "guest web", "guest third"))
    with pytest.raises(HostError, match="none are available"):
        host.start(DB)


def test_with_live_an_exhausted_pool_changes_nothing(host: FakeHost, engine: Engine) -> None:
    for uuid, uid in ((WEB, UID), (DB, OTHER_UID)):
        host.start(uuid)
        engine.run(of_pool(uuid, uid=uid))
    host.start(THIRD)
    host.calls.clear()
    third = of_pool(THIRD, uid=THIRD_UID, attach="Live")
    result = engine.run(third)
    assert ready(result) == ("False", "PoolExhausted")
    assert "guest web" in message(result)
    assert host.calls == []
    host.stop(WEB)
    assert ready(engine.run(third)) == ("True", "Assigned")


def test_libvirts_own_refusal_is_told_and_not_repeated_for_nothing(host: FakeHost, engine: Engine) -> None:
    """Somebody took the last VF between look and plug."""
    host.start(WEB)
    host.fail("plug_interface", reasons.POOL_EXHAUSTED, "none are available")
    result = engine.run(of_pool())
    assert attached(result) == ("False", "PoolExhausted")
    assert ready(result) == ("True", "Assigned")
    host.calls.clear()
    engine.run(of_pool())
    assert host.calls == []
    host.networks.by_name["net-a"].others["somebody"] = 1
    assert attached(engine.run(of_pool())) == ("True", "InLiveXML")


def test_an_unknown_portgroup_changes_nothing(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    result = engine.run(of_pool(portgroup="green"))
    assert ready(result) == ("False", "PortgroupUnknown")
    assert "blue, red" in message(result)
    assert host.state() == before


def test_a_portgroup_that_goes_takes_the_nic_out_of_the_xml_and_brings_it_back(host: FakeHost, engine: Engine) -> None:
    """Guests that start meanwhile are without a NIC, not in a wrong VLAN; the running guest keeps its own."""
    host.start(WEB)
    engine.run(of_pool(portgroup="blue", network={"mac": MAC}))
    network = host.networks.by_name["net-a"]
    had = network.live or ""
    network.live = had.replace('name="blue"', 'name="other"')
    result = engine.run(of_pool(portgroup="blue", network={"mac": MAC}))
    assert ready(result) == ("False", "PortgroupUnknown")
    assert nics(host) == ()
    assert [n.mac for n in nics(host, live=True)] == [MAC]
    network.live = had
    assert ready(engine.run(of_pool(portgroup="blue"))) == ("True", "Assigned")
    assert nics(host) == (Nic(ALIAS, MAC, "net-a", "blue"),)


def test_a_pool_that_goes_while_the_assignment_stands_is_told_and_the_nic_stays(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    had = nics(host)
    host.networks.destroy("net-a")
    assert ready(engine.run(of_pool())) == ("False", "PoolInactive")
    host.networks.undefine("net-a")
    assert ready(engine.run(of_pool())) == ("False", "PoolNotFound")
    engine.pool_wishes = ()
    host.pool_records.clear()
    assert ready(engine.run(of_pool())) == ("False", "PoolNotFound")
    assert nics(host) == had
    assert engine.run(delete(of_pool())).released
    assert nics(host) == ()


def test_a_network_that_comes_back_heals_it(host: FakeHost, engine: Engine) -> None:
    host.networks.by_name["net-a"].live = None
    assert ready(engine.run(of_pool())) == ("False", "PoolInactive")
    assert nics(host) == ()
    host.networks.start("net-a")
    assert ready(engine.run(of_pool())) == ("True", "Assigned")


def test_a_lost_status_and_a_lost_node_keep_the_mac(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool(network={"mac": MAC}))
    engine.statuses.clear()
    engine.restart()
    engine.run(of_pool())
    assert [n.mac for n in nics(host)] == [MAC]


def test_a_derived_mac_is_the_same_on_another_node(host: FakeHost, engine: Engine) -> None:
    engine.run(of_pool())
    first = nics(host)[0].mac
    host.define(WEB, "web", SLOTS)
    engine.statuses.clear()
    engine.run(of_pool())
    assert [n.mac for n in nics(host)] == [first] == [derived_mac("default", "nic", WEB)]


# -- release and crashes ----------------------------------------------------------------------------------------------


def test_a_nic_of_a_pool_is_taken_out_when_the_guest_is_off(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.start(WEB)
    engine.run(of_pool())
    assert ready(engine.run(delete(of_pool()))) == ("False", "GuestRunning")
    host.stop(WEB)
    assert engine.run(delete(of_pool())).released
    assert host.state() == before


def test_with_detach_live_a_running_guest_is_asked(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.start(WEB)
    engine.run(of_pool())
    host.guests[WEB].manner = "refuses"
    result = engine.run(delete(of_pool(detach="Live")))
    assert ready(result) == ("False", "UnplugRejected")
    assert len(nics(host)) == 1
    host.guests[WEB].manner = "answers"
    assert engine.run(delete(of_pool(detach="Live", generation=2))).released
    assert (nics(host), nics(host, live=True)) == ((), ())
    host.stop(WEB)
    assert host.state() == before


def test_what_somebody_else_takes_out_again_and_again_is_plugged_in_after_a_delay(
    host: FakeHost, engine: Engine
) -> None:
    host.start(WEB)
    wanted = of_pool(driftPolicy="Correct")
    engine.run(wanted)
    for outcome in (("True", "Assigned"), ("False", "DriftsAgain")):
        host.eject(host.guests[WEB], vfs(host)[0])
        engine.clock.seconds -= 999.9
        assert ready(engine.run(wanted)) == outcome
    assert attached(engine.run(wanted)) == ("True", "InLiveXML")


def test_a_paused_node_changes_nothing(host: FakeHost, engine: Engine) -> None:
    engine.settings = Settings(paused=True)
    before = host.state()
    assert ready(engine.run(of_pool())) == ("False", "Paused")
    assert host.state() == before
