"""Calls to libvirt that do not return: who is blamed, and what is left alone meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostdev_operator.adapters import deadline, hypervisor
from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
from hostdev_operator.core import reasons
from hostdev_operator.core.actions import (
    HostdevXml,
    InterfaceXml,
    NicXml,
    PlugHostdev,
    PlugInterface,
    UnplugHostdev,
    UnplugInterface,
)
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.reasons import Reason
from tests.adapters import libvirt_node
from tests.adapters.late_calls import wait_for_late_calls
from tests.fakes.samples import DB, MATE, device

LONG = 20.0


class Hanging:
    """A connection on which nothing returns before ``leave`` is set."""

    def __init__(self) -> None:
        self.leave = threading.Event()

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        def hang(*_arguments: object) -> None:
            self.leave.wait(LONG)
            raise HostError(reasons.LIBVIRT_ERROR, "it returned, too late")

        return hang


class Connections(LibvirtConnection):
    """Hands out what the test puts in ``now``, and lists those that were given up."""

    def __init__(self, now: object) -> None:
        super().__init__("test:///default", lambda: None)
        self.now = now
        self.given_up: list[object] = []

    def get(self) -> Any:
        return self.now

    def lost(self, connection: Any) -> None:
        self.given_up.append(connection)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_SECONDS", "CHANGE_SECONDS", "DRIVER_SECONDS"):
        monkeypatch.setattr(hypervisor, name, 0.01)
    monkeypatch.setattr(LibvirtHypervisor._call, "__defaults__", (0.01, reasons.LIBVIRT_UNAVAILABLE))


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.leave.set()
    wait_for_late_calls()


def reason_of(call: Callable[..., object], *arguments: object) -> Reason:
    with pytest.raises(HostError) as caught:
        call(*arguments)
    return caught.value.reason


def test_a_new_connection_is_not_to_blame_for_what_hangs_on_an_old_one(hanging: Hanging) -> None:
    connections = Connections(hanging)
    libvirt = LibvirtHypervisor(connections)
    assert reason_of(libvirt.guests) is reasons.LIBVIRT_UNAVAILABLE
    assert connections.given_up == [hanging]
    connections.now = object()
    assert reason_of(libvirt.guests) is reasons.LIBVIRT_UNAVAILABLE
    assert connections.given_up == [hanging]


def test_nor_for_too_many_calls_that_hang(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_slots", threading.BoundedSemaphore(1))
    connections = Connections(hanging)
    libvirt = LibvirtHypervisor(connections)
    reason_of(libvirt.guests)
    assert reason_of(libvirt.networks) is reasons.LIBVIRT_UNAVAILABLE
    assert connections.given_up == [hanging]


def test_hot_plug_and_unplug_that_take_long_block_their_device_and_end_no_connection(hanging: Hanging) -> None:
    connections = Connections(hanging)
    plug = PlugHostdev(DB, HostdevXml(MATE, "ua-x", managed=False), device(MATE).identity)
    unplug = UnplugHostdev(DB, MATE, "ua-x")
    for first, action in (("plug_hostdev", plug), ("unplug_hostdev", unplug)):
        libvirt = LibvirtHypervisor(connections)
        assert libvirt.blocked() == frozenset()
        assert reason_of(getattr(libvirt, first), action) is reasons.DETACH_BLOCKED
        assert libvirt.blocked() == {MATE}
        assert reason_of(libvirt.plug_hostdev, plug) is reasons.DETACH_BLOCKED
        assert reason_of(libvirt.unplug_hostdev, unplug) is reasons.DETACH_BLOCKED
        assert reason_of(libvirt.detach_driver, MATE) is reasons.DETACH_BLOCKED
        assert reason_of(libvirt.reattach_driver, MATE) is reasons.REATTACH_BLOCKED
    assert connections.given_up == []


def test_a_nic_of_a_network_that_hangs_ends_no_connection_and_is_not_plugged_again(hanging: Hanging) -> None:
    connections = Connections(hanging)
    libvirt = LibvirtHypervisor(connections)
    plug = PlugInterface(DB, InterfaceXml("vfs", "ua-x", NicXml("52:54:00:aa:bb:01")))
    for _ in range(2):
        assert reason_of(libvirt.plug_interface, plug) is reasons.DETACH_BLOCKED
    assert libvirt.blocked() == frozenset()
    assert reason_of(libvirt.unplug_interface, UnplugInterface(DB, "ua-y", MATE)) is reasons.DETACH_BLOCKED
    assert libvirt.blocked() == {MATE}
    assert connections.given_up == []


def test_only_our_own_devices_are_remembered_as_rejected_and_not_beyond_the_connection(tmp_path: Path) -> None:
    connection = LibvirtConnection(libvirt_node.uri(tmp_path), lambda: None)
    domain = connection.get().lookupByName("db")
    for alias in ("ua-hostdev-0a0a", "ua-mine", "net0"):
        connection._rejected(None, domain, alias, None)
    assert LibvirtHypervisor(connection).rejections() == {(DB, "ua-hostdev-0a0a")}
    connection.asked.add((DB, "hostdev0"))  # an adopted one, which we have asked the guest for
    connection._rejected(None, domain, "hostdev0", None)
    assert LibvirtHypervisor(connection).rejections() == {(DB, "ua-hostdev-0a0a"), (DB, "hostdev0")}
    connection.lost(connection.get())
    connection.get()
    assert LibvirtHypervisor(connection).rejections() == connection.asked == frozenset()
