"""A certain VF as a guest's NIC, on the made-up host."""

from __future__ import annotations

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.mac import derived_mac
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import MAC, PF, PF_MAC
from tests.fakes.samples import WEB, assignment
from tests.reconcile.nic_running import (
    config,
    delete,
    make_pool,
    nics,
    of_vf,
    vf_host,
    vfs,
)
from tests.reconcile.running import Engine, attached, message, ready


@pytest.fixture
def host() -> FakeHost:
    return vf_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


@pytest.mark.parametrize("driver", ["igbvf", None])
def test_a_release_restores_what_the_vf_had(driver: str | None, host: FakeHost, engine: Engine) -> None:
    host.sriov.set_autoprobe(PF, on=driver is not None)
    host.sriov.set_count(PF, 2)
    host.sriov.configure(PF, 0, VfConfig(mac="52:54:00:99:99:99", vlan=5, max_tx_rate=10))
    before = host.state()
    asked = {"mac": MAC, "vlan": 10, "trust": True, "spoofCheck": False, "linkState": "Enable", "maxTxRate": 100}
    obj = of_vf(host, network=asked)
    assert ready(engine.run(obj)) == ("True", "Assigned")
    wanted = VfConfig(trust=True, spoof_check=False, link_state="enable", max_tx_rate=100)
    assert config(host, 0).lacking(wanted).empty
    host.start(WEB)
    assert attached(engine.run(obj)) == ("True", "InLiveXML")
    assert (config(host, 0).mac, config(host, 0).vlan) == (MAC, 10)
    assert ready(engine.run(delete(obj))) == ("False", "GuestRunning")
    host.stop(WEB)
    assert engine.run(delete(obj)).released
    assert host.state() == before


def test_what_libvirt_forgot_to_restore_is_restored(host: FakeHost, engine: Engine) -> None:
    """It keeps what was before in /run, by the name of the PF's netdev: lost when that is renamed."""
    before = host.state()
    obj = of_vf(host, network={"mac": MAC, "vlan": 10})
    engine.run(obj)
    host.start(WEB)
    host.guests[WEB].configs.clear()
    host.stop(WEB)
    assert config(host, 0).mac == MAC
    assert engine.run(delete(obj)).released
    assert host.state() == before


def test_a_driver_that_takes_no_empty_mac_gets_libvirts_own(host: FakeHost, engine: Engine) -> None:
    obj = of_vf(host, network={"mac": MAC})
    engine.run(obj)
    host.start(WEB)
    host.guests[WEB].configs.clear()
    host.stop(WEB)
    host.fail("configure_vf", reasons.VF_CONFIG_REJECTED)
    assert engine.run(delete(obj)).released
    assert config(host, 0).mac == "02:00:00:00:00:00"


def test_a_live_release_leaves_the_vf_as_it_was(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.start(WEB)
    obj = of_vf(host, network={"mac": MAC, "vlan": 10, "trust": True}, detach="Live")
    assert attached(engine.run(obj)) == ("True", "InLiveXML")
    assert engine.run(delete(obj)).released
    assert nics(host, live=True) == ()
    assert host.state() == before


def test_a_setting_that_the_driver_refuses_is_told_and_everything_undone(host: FakeHost, engine: Engine) -> None:
    host.sriov.pfs[PF].rejects.add("trust")
    before = host.state()
    result = engine.run(of_vf(host, network={"trust": True, "maxTxRate": 100}))
    assert ready(result) == ("False", "VFConfigRejected")
    assert "igb" in message(result)
    assert "trust" in message(result)
    assert host.state() == before


def test_settings_follow_the_spec_while_the_guest_runs(host: FakeHost, engine: Engine) -> None:
    engine.run(of_vf(host, network={"mac": MAC, "trust": True}))
    host.start(WEB)
    engine.run(of_vf(host, network={"mac": MAC, "maxTxRate": 50}, generation=2))
    assert (config(host, 0).trust, config(host, 0).max_tx_rate) == (False, 50)
    assert config(host, 0).mac == MAC


@pytest.mark.parametrize("source", ["pci", "match"])
def test_a_vf_is_named_by_address_or_by_pf_and_index(source: str, host: FakeHost, engine: Engine) -> None:
    second = vfs(host)[1]
    named = {"pci": {"address": str(second)}} if source == "pci" else {"match": {"pfMAC": PF_MAC, "vfIndex": 1}}
    result = engine.run(assignment(None, source=named, network={"vlan": 3}))
    assert ready(result) == ("True", "Assigned")
    assert [(n.address, n.vlan, n.network) for n in nics(host)] == [(second, 3, None)]
    assert result.status.network is not None
    assert result.status.network.wire() == {"mac": derived_mac("default", "nic", WEB), "vlan": 3, "pending": False}


def test_a_vf_that_a_pool_hands_out_is_refused(host: FakeHost, engine: Engine) -> None:
    make_pool(host, engine)
    result = engine.run(of_vf(host, network={"vlan": 3}))
    assert ready(result) == ("False", "DeviceInUse")
    assert "net-a" in message(result)


def test_a_pf_that_is_down_is_named_and_heals(host: FakeHost, engine: Engine) -> None:
    host.sriov.set_link(PF, up=False)
    before = host.state()
    result = engine.run(of_vf(host, network={"mac": MAC}))
    assert ready(result) == ("False", "PFDown")
    assert "ip link set eth3 up" in message(result)
    assert host.state() == before
    host.sriov.set_link(PF, up=True)
    assert ready(engine.run(of_vf(host, network={"mac": MAC}))) == ("True", "Assigned")


def test_an_ordinary_nic_takes_no_mac_from_the_host(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    result = engine.run(assignment(network={"mac": MAC}))
    assert ready(result) == ("False", "NotVirtualFunction")
    assert "without spec.network" in message(result)
    assert host.state() == before


def test_a_lost_journal_is_taken_from_the_status_with_the_vfs_settings(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    obj = of_vf(host, network={"mac": MAC, "trust": True})
    result = engine.run(obj)
    assert result.status.record is not None
    assert result.status.record.vf is not None
    host.records.clear()
    engine.restart()
    assert engine.run(delete(obj)).released
    assert host.state() == before
