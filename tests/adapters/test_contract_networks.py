"""The same questions about networks to the fake libvirt and to the real adapter on libvirt's test driver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hostdev_operator.adapters import hypervisor_networks
from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
from hostdev_operator.core import network_xml, reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.network import Network, NetworkPortgroup
from hostdev_operator.ports import Hypervisor
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeHypervisor
from tests.adapters import libvirt_node
from tests.fakes.samples import NIC, device

BOTH = pytest.mark.parametrize("kind", ["fake", "real"])
UUID, OTHER = "44444444-4444-4444-8444-444444444444", "55555555-5555-4555-8555-555555555555"
XML = f"""<network><name>vfs</name><uuid>{UUID}</uuid><forward mode='hostdev' managed='yes'><pf dev='eth3'/></forward>
  <portgroup name='a'><vlan><tag id='42'/></vlan></portgroup></network>"""


@pytest.fixture
def hypervisor(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hypervisor:
    """One network without VFs, and a PF with VFs for another one."""
    if kind == "fake":
        host = FakeHost()
        host.sriov.add(device(NIC, "igb"))
        host.sriov.set_count(NIC, 2)
        host.networks.append("<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>")
        return FakeHypervisor(host)
    whole: Callable[..., str] = libvirt.virNetwork.XMLDesc
    # the test driver has no flag for the persistent definition: both are the same there
    monkeypatch.setattr(libvirt.virNetwork, "XMLDesc", lambda network, _flags: whole(network, 0))
    return LibvirtHypervisor(LibvirtConnection(libvirt_node.uri(tmp_path), lambda: None))


def found(hypervisor: Hypervisor) -> Network | None:
    networks = {n.name: n for n in map(network_xml.network, hypervisor.networks())}
    assert "lan" in networks
    assert set(networks) <= {"lan", "vfs"}
    return networks.get("vfs")


def flags(hypervisor: Hypervisor) -> tuple[bool, bool, bool]:
    network = found(hypervisor)
    assert network is not None
    return network.active, network.autostart, network.persistent


def reason_of(call: Any, *arguments: str) -> reasons.Reason:
    with pytest.raises(HostError) as caught:
        call(*arguments)
    return caught.value.reason


@BOTH
def test_a_network_comes_and_goes_and_each_step_twice_is_once(hypervisor: Hypervisor) -> None:
    steps: list[tuple[Callable[[], None], tuple[bool, bool, bool]]] = [
        (lambda: hypervisor.define_network(XML), (False, False, True)),
        (lambda: hypervisor.start_network("vfs"), (True, False, True)),
        (lambda: hypervisor.autostart_network("vfs"), (True, True, True)),
        (lambda: hypervisor.stop_network("vfs"), (False, True, True)),
    ]
    for step, expected in steps:
        for _ in range(2):
            step()
            assert flags(hypervisor) == expected
    for _ in range(2):
        hypervisor.undefine_network("vfs", UUID)
        assert found(hypervisor) is None
        hypervisor.stop_network("vfs")


@BOTH
def test_what_is_read_is_what_was_defined(hypervisor: Hypervisor) -> None:
    hypervisor.define_network(XML)
    network = found(hypervisor)
    assert network is not None
    assert network.hands_out is not None
    assert (network.uuid, network.running, network.connections) == (UUID, None, 0)
    assert (network.hands_out.pf, network.hands_out.managed) == ("eth3", True)
    assert network.hands_out.portgroups == (NetworkPortgroup("a", 42),)
    hypervisor.define_network(XML.replace("42", "43"))
    changed = found(hypervisor)
    assert changed is not None
    assert changed.hands_out is not None
    assert changed.hands_out.portgroups == (NetworkPortgroup("a", 43),)
    hypervisor.start_network("vfs")
    started = found(hypervisor)
    assert started is not None
    assert started.running is not None
    assert started.running.pf == "eth3"


@BOTH
def test_another_network_of_the_name_or_uuid_is_not_replaced(hypervisor: Hypervisor) -> None:
    hypervisor.define_network(XML)
    before = hypervisor.networks()
    for text in (
        XML.replace(UUID, OTHER),
        XML.replace(f"<uuid>{UUID}</uuid>", ""),
        XML.replace("<name>vfs", "<name>more"),
    ):
        assert reason_of(hypervisor.define_network, text) is reasons.NETWORK_DIFFERS
    hypervisor.undefine_network("vfs", OTHER)
    assert hypervisor.networks() == before


@BOTH
def test_a_network_that_is_not_there_cannot_be_started(hypervisor: Hypervisor) -> None:
    assert reason_of(hypervisor.start_network, "vfs") is reasons.POOL_NOT_FOUND
    assert reason_of(hypervisor.autostart_network, "vfs") is reasons.POOL_NOT_FOUND
    hypervisor.stop_network("vfs")
    hypervisor.undefine_network("vfs", UUID)


# -- the real adapter alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["real"])
def test_a_network_that_somebody_is_on_is_not_stopped(hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor.define_network(XML)
    hypervisor.start_network("vfs")
    whole: Callable[..., str] = libvirt.virNetwork.XMLDesc
    for count, reason in ((12, reasons.HOST_CHANGED), (1, reasons.HOST_CHANGED)):
        text = f"<network connections='{count}'>"
        with monkeypatch.context() as patched:
            patched.setattr(libvirt.virNetwork, "XMLDesc", lambda n, f, t=text: whole(n, f).replace("<network>", t, 1))
            connected = found(hypervisor)
            assert connected is not None
            assert connected.connections == count
            assert reason_of(hypervisor.stop_network, "vfs") is reason
    assert flags(hypervisor)[0]
    hypervisor.stop_network("vfs")
    assert not flags(hypervisor)[0]


def test_what_happens_to_networks_behind_our_back_is_told(tmp_path: Path) -> None:
    told = threading.Event()
    connection = LibvirtConnection(libvirt_node.uri(tmp_path), told.set)
    lan = connection.get().networkLookupByName("lan")
    for change in (lan.destroy, lan.create):
        told.clear()
        change()
        assert told.wait(20.0)


def test_a_host_without_pools_is_asked_once_for_each_network_and_once_for_all(tmp_path: Path) -> None:
    connection = LibvirtConnection(libvirt_node.uri(tmp_path), lambda: None)
    calls = Counting(connection.get())
    assert [n.name for n in hypervisor_networks.read(calls)] == ["lan"]
    assert calls.made == ["listAllNetworks"]


class Counting:
    """A connection that lists the calls to it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.made.append(name)
        return getattr(self._connection, name)
