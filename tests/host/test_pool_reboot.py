"""A pool and a guest that starts at boot, over reboots of a host with systemd: the agent has left what is needed.

Judged while no agent runs: what the guest has then, it has from the host unit and libvirt alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.host.prepared import CONF, PF_MAC, pf, prepare, rename_pf
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.system.conftest import save_logs
from tests.system.pools import PfView, from_pool, pool, pool_condition
from tests.system.stack import NODE, Stack

pytestmark = [pytest.mark.lab, pytest.mark.cluster]

POOL, VFS = "boot", 3
# the one has a MAC address from its assignment, the other's is derived
ASKED, DERIVED = "asked", "derived"
ASKED_MAC = "52:54:00:aa:00:07"
PORTGROUPS = [{"name": "finance", "vlan": 42}]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system with a pool by the PF's permanent MAC, and two guests with a NIC of it that start at boot."""
    folder = tmp_path_factory.mktemp("pool-reboot")
    with (
        ControlPlane.start(folder / "control-plane", binaries.ensure()) as plane,
        LabHost.boot(folder / "lab", systemd=True) as lab,
    ):
        prepare(lab)
        with Stack.start(folder, lab, plane) as made:
            made.wait_host()
            for name in (ASKED, DERIVED):
                define(lab, name, guest_xml(name))
                lab.virsh("autostart", name)
            made.apply(pool(POOL, "", VFS, pf={"mac": PF_MAC}, linkUp=True, network={"portgroups": PORTGROUPS}))
            pool_condition(made, f"{POOL}.{NODE}", "True")
            made.apply(from_pool(ASKED, POOL, network={"mac": ASKED_MAC, "vlan": 7}))
            made.apply(from_pool(DERIVED, POOL, portgroup="finance"))
            for name in (ASKED, DERIVED):
                made.wait_condition(name, "Ready", "True")
            lab.run("sync")
            yield made


@pytest.fixture(autouse=True)
def _logs_of_failures(system: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    save_logs(system, request.node)


def vf_of_each(lab: LabHost) -> set[tuple[str, str | None]]:
    return PfView(lab, pf(lab)[1]).macs_and_vlans()


def wanted(system: Stack) -> set[tuple[str, str | None]]:
    """What the two guests have while they run, by the persistent XML that was there before the boot."""
    derived = system.get("deviceassignment", DERIVED)["status"]["network"]["mac"]
    return {(ASKED_MAC, "vlan 7"), (derived, "vlan 42")}


def starts(system: Stack) -> list[str]:
    """The guests' QEMU processes."""
    return system.lab.run("pgrep -f guest=").stdout.split()


@pytest.mark.mission("N2", "P3")
def test_a_power_cut_changes_neither_mac_nor_vlan(system: Stack) -> None:
    lab = system.lab
    assert f"{PF_MAC} {pf(lab)[1]} {VFS} 0 up" in lab.read(CONF)
    expected = wanted(system)
    network = lab.virsh("net-dumpxml", POOL, "--inactive")
    lab.power_cut()
    lab.power_on()
    for name in (ASKED, DERIVED):
        wait_for_guest(lab, name, "GUEST up")
    assert expected < vf_of_each(lab)
    assert PfView(lab, pf(lab)[1]).num_vfs == VFS
    running = starts(system)
    system.start_agent()
    for name in (ASKED, DERIVED):
        system.wait_condition(name, "Attached", "True")
    pool_condition(system, f"{POOL}.{NODE}", "True")
    assert expected < vf_of_each(lab)
    assert starts(system) == running
    assert lab.virsh("net-dumpxml", POOL, "--inactive") == network


@pytest.mark.long
def test_the_pf_has_another_name_after_a_reboot(system: Stack) -> None:
    lab = system.lab
    old, _ = pf(lab)
    expected = wanted(system)
    rename_pf(lab)
    lab.power_cycle()
    new, _ = pf(lab)
    assert new == "uplink7" != old
    assert PfView(lab, pf(lab)[1]).num_vfs == VFS
    system.start_agent()  # libvirt's network has the old name until the agent has put it right
    system.wait("the network to have the new name", lambda: f"<pf dev='{new}'/>" in lab.virsh("net-dumpxml", POOL))
    pool_condition(system, f"{POOL}.{NODE}", "True")
    for name in (ASKED, DERIVED):
        lab.virsh("start", name)
        wait_for_guest(lab, name, "GUEST up")
        system.wait_condition(name, "Attached", "True")
    assert expected < vf_of_each(lab)
