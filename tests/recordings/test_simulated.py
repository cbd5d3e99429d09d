"""A recorded host goes on as a simulated one: seen the same at first, and then the engine works on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostdev_operator.adapters.recording import open_recording
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.simulation.control import Commands, Control, ask
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import ports
from hostdev_operator.simulation.recorded import simulated
from tests.adapters.replaying import replayed, seen
from tests.adapters.test_recording import host_with_all
from tests.fakes.samples import DB, WEB, assignment
from tests.reconcile.pool_running import Pools, node_pool, pf_host
from tests.reconcile.running import Engine, ready
from tests.recordings.__main__ import FOLDER
from tests.recordings.hosts import HOSTS
from tests.recordings.test_recordings import CASES


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def begin(name: str, stack: ExitStack) -> FakeHost:
    return simulated(stack.enter_context(open_recording(FOLDER / f"{name}.tar.zst")))


@pytest.mark.parametrize("name", [*HOSTS, "lab"])
def test_a_simulated_host_begins_as_the_recorded_one_was(name: str, stack: ExitStack) -> None:
    recorded = stack.enter_context(open_recording(FOLDER / f"{name}.tar.zst"))
    assert seen(ports(simulated(recorded))) == seen(recorded)


def test_so_does_one_with_running_guests_networks_and_records(tmp_path: Path) -> None:
    host, root = host_with_all(tmp_path)
    with replayed(root, host, tmp_path / "state") as recorded:
        again = ports(simulated(recorded))
        assert seen(again) == seen(recorded)
        addresses = tuple(device.address for device in host.devices.devices())
        assert again.hypervisor.names(addresses) == recorded.hypervisor.names(addresses) != {}


def test_a_host_with_a_pool_and_guests_on_it_is_recorded_and_goes_on(tmp_path: Path) -> None:
    """The simulated host itself is recorded: what a guest has of a network is free again when it is off."""
    pools = Pools(pf_host())
    pools.run(node_pool())
    nic = "<interface type='network'><source network='fast'/><mac address='52:54:00:00:00:aa'/></interface>"
    pools.host.define(WEB, "web", nic)
    pools.host.start(WEB)
    before = pools.host.networks.by_name["fast"].ports
    assert len(before) == 1
    original = ports(pools.host)
    (tmp_path / "sys/class/net").mkdir(parents=True)
    with replayed(tmp_path, original) as recorded:
        again = simulated(replace(recorded, devices=original.devices, pool_records=original.pool_records))
        assert seen(ports(again)).networks == seen(original).networks
        assert again.networks.by_name["fast"].ports == before
        again.stop(WEB)
        assert again.networks.by_name["fast"].ports == {}
        assert {again.devices[vf].driver for vf in before} == {None}  # which one it had before is in no recording


ACCEPTED = [case for case in CASES if isinstance(case[3], list)]


@pytest.mark.parametrize(("name", "address", "more", "_mates"), ACCEPTED)
def test_what_is_accepted_is_carried_out_and_given_back(
    name: str, address: str, more: dict[str, Any], _mates: list[str], stack: ExitStack
) -> None:
    host = begin(name, stack)
    before = host.state()
    engine = Engine(host)
    assert ready(engine.run(assignment(PciAddress.parse(address), **more)))[0] == "True"
    if more.get("guest", WEB):
        host.start(WEB)
        assert host.devices[PciAddress.parse(address)].driver == "vfio-pci"
        assert ready(engine.run(assignment(PciAddress.parse(address), **more)))[0] == "True"
        host.stop(WEB)
    assert host.state() != before
    assert engine.run(assignment(PciAddress.parse(address), deleting=True, **more)).released
    assert host.state() == before


def test_vfs_are_made_of_a_recorded_pf(stack: ExitStack) -> None:
    host = begin("sriov-bond", stack)
    pf = PciAddress.parse("0000:01:00.0")
    devices = ports(host).devices
    devices.set_num_vfs(pf, 0, 1.0)
    devices.set_num_vfs(pf, 2, 1.0)
    assert [(str(vf.address), vf.driver) for vf in host.sriov.vfs(pf)] == [
        ("0000:01:10.0", "igbvf"),
        ("0000:01:10.2", "igbvf"),
    ]


# -- changes from outside ---------------------------------------------------------------------------------------------


class Outside:
    """The socket of a simulated host, and how often it told of a change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told = threading.Semaphore(0)

    def __call__(self, *words: str) -> str:
        return ask(self.path, list(words))

    def was_told(self) -> bool:
        return self.told.acquire(blocking=False)


@pytest.fixture
def host(stack: ExitStack) -> FakeHost:
    return begin("gpu", stack)


@pytest.fixture
def outside(host: FakeHost, tmp_path: Path) -> Iterator[Outside]:
    made = Outside(tmp_path / "s")
    with Control(Commands(host, made.told.release), made.path):
        yield made


def test_guests_start_and_stop(host: FakeHost, outside: Outside) -> None:
    for command, running in (("start", True), ("stop", False)):
        assert outside(command, "web") == "ok"
        assert (host.guests[WEB].live is not None) is running
        assert outside.was_told()
    assert "not running" in outside("stop", "web")
    assert not outside.was_told()
    assert outside("undefine", "db") == "ok"
    assert DB not in host.guests


def test_a_device_is_taken_out_and_put_in_again(host: FakeHost, outside: Outside) -> None:
    card = PciAddress.parse("0000:01:00.1")
    before = host.devices[card]
    assert outside("remove", "0000:01:00.1") == "ok"
    assert card not in host.devices
    assert "no device" in outside("remove", "0000:01:00.1")
    assert outside("insert", "0000:01:00.1") == "ok"
    assert host.devices[card] == before
    assert "was not removed" in outside("insert", "0000:01:00.1")


def test_a_pf_takes_its_vfs_with_it(stack: ExitStack, tmp_path: Path) -> None:
    host = begin("sriov-bond", stack)
    commands = Commands(host, lambda: None)
    assert commands.answer("remove 0000:01:00.0") == "ok"
    assert not [d for d in host.devices.values() if d.physfn]
    assert commands.answer("insert 0000:01:00.0") == "ok"


def test_a_guest_is_defined_from_a_file_and_refuses_to_let_go(host: FakeHost, outside: Outside, tmp_path: Path) -> None:
    uuid = "33333333-3333-4333-8333-333333333333"
    path = tmp_path / "new.xml"
    path.write_text(f"<domain type='kvm'>\n<name>new</name><uuid>{uuid}</uuid><devices/></domain>")
    assert outside("define", str(path)) == "ok"
    assert outside("manner", "new", "refuses") == "ok"
    assert host.guests[uuid].manner == "refuses"
    path.write_text("<domain><name>x</name></domain>")
    assert "a domain needs" in outside("define", str(path))
    path.write_text("<domain")
    assert outside("define", str(path)).startswith("error")


def test_the_state_is_shown(host: FakeHost, outside: Outside) -> None:
    engine = Engine(host)
    engine.run(assignment(PciAddress.parse("0000:01:00.0")))
    outside("start", "web")
    found = json.loads(outside("show"))
    assert found["guests"]["web"] == {"running": True, "config": ["0000:01:00.0"], "live": ["0000:01:00.0"]}
    assert found["devices"]["0000:01:00.3"] == {"driver": "vfio-pci"}


def test_a_reboot_takes_guests_down_and_leaves_what_is_persistent(host: FakeHost, outside: Outside) -> None:
    outside("start", "web")
    assert outside("reboot") == "ok"
    assert host.guests[WEB].live is None


@pytest.mark.parametrize(
    "words", [("dance",), ("start",), ("start", "nobody"), ("remove", "x"), ("manner", "web", "x")]
)
def test_what_is_not_understood_is_told_and_changes_nothing(
    host: FakeHost, outside: Outside, words: tuple[str]
) -> None:
    before = host.state()
    assert outside(*words).startswith("error: ")
    assert host.state() == before
    assert not outside.was_told()


def test_the_socket_is_its_owners_alone_and_goes_with_the_agent(host: FakeHost, tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()  # of an agent that was killed
    with Control(Commands(host, lambda: None), path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()
