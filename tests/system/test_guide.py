"""The manifests of docs/guide.md, applied as they stand there; what they did is judged by sysfs, virsh and ip link."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml

from tests.lab.guests import define, guest_xml, hostdev_xml, wait_for_guest
from tests.system.guide import IOMMU, MANIFESTS, POOL, UNSAFE
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.pools import IGB, PfView, pool_condition
from tests.system.stack import NODE, Stack

DEVICE, MATE = "0000:04:01.0", "0000:04:02.0"
PF_MAC = "52:54:00:10:00:01"
PREPARED = [heading for heading in MANIFESTS if heading not in (IOMMU, UNSAFE)]
#: Procedure -> what is done and seen with its manifest.
PROCEDURES: dict[str, Callable[[Stack, str], None]] = {}

Procedure = Callable[[Stack, str], None]


def procedure(heading: str) -> Callable[[Procedure], Procedure]:
    """What runs the manifest below this heading."""

    def register(run: Procedure) -> Procedure:
        PROCEDURES[heading] = run
        return run

    return register


@pytest.mark.parametrize("heading", PREPARED)
def test_procedure(system: Stack, heading: str) -> None:
    define_web(system)
    PROCEDURES[heading](system, MANIFESTS[heading])


def test_each_procedure_is_in_the_guide() -> None:
    assert set(PROCEDURES) | {IOMMU, UNSAFE} == set(MANIFESTS)


# -- devices ---------------------------------------------------------------------------------------------------------


@procedure("Give a device to a guest that is off")
def _cold(system: Stack, manifest: str) -> None:
    with assigned(system, manifest):
        assert source(DEVICE) in config_xml(system, "web")
        assert drivers(system) == ["e1000", "vfio-pci"]
    assert "<hostdev" not in config_xml(system, "web")
    assert drivers(system) == ["e1000", "e1000"]


@procedure("Give a device to a running guest")
def _hot(system: Stack, manifest: str) -> None:
    system.lab.virsh("start", "web")
    wait_for_guest(system.lab, "web", "GUEST up")
    with assigned(system, manifest):
        wait_for_guest(system.lab, "web", "GUEST plugged .* 8086:100e")
        assert source(DEVICE) in live_xml(system, "web")
        assert source(DEVICE) in config_xml(system, "web")
        assert drivers(system) == ["vfio-pci", "vfio-pci"]
    wait_for_guest(system.lab, "web", "GUEST gone")
    assert "<hostdev" not in live_xml(system, "web")
    assert drivers(system) == ["e1000", "e1000"]


@procedure("Give all functions of a card to one guest")
def _whole_group(system: Stack, manifest: str) -> None:
    with assigned(system, manifest):
        assert source(DEVICE) in config_xml(system, "web")
        assert source(MATE) in config_xml(system, "web")
    assert "<hostdev" not in config_xml(system, "web")


@procedure("Keep a device off the host")
def _reserved(system: Stack, manifest: str) -> None:
    with assigned(system, manifest):
        assert drivers(system) == ["vfio-pci", "vfio-pci"]
    assert drivers(system) == ["e1000", "e1000"]


# -- VFs -------------------------------------------------------------------------------------------------------------


@procedure(POOL)
def _pool(system: Stack, manifest: str) -> None:
    with pooled(system, manifest) as pf:
        assert (pf.num_vfs, pf.up) == (7, True)
        assert "passthrough" in system.lab.virsh("net-list", "--autostart", "--name")
        xml = system.lab.virsh("net-dumpxml", "--inactive", "passthrough")
        assert f"<pf dev='{pf.netdev}'/>" in xml
        assert re.search(r"<portgroup name='finance'.*?<tag id='42'/>", xml, re.DOTALL)
    assert (pf.num_vfs, pf.up) == (0, False)
    assert "passthrough" not in system.lab.virsh("net-list", "--all", "--name")


@procedure("Give a guest a VF of the pool")
def _pool_nic(system: Stack, manifest: str) -> None:
    with pooled(system, MANIFESTS[POOL]) as pf, assigned(system, manifest):
        assert re.search("<source network='passthrough' portgroup='finance'/>", config_xml(system, "web"))
        system.lab.virsh("start", "web")
        wait_for_guest(system.lab, "web", "GUEST up")
        assert ("52:54:00:20:00:01", "vlan 42") in pf.macs_and_vlans()
        system.lab.virsh("destroy", "web")


@procedure("Give a guest one certain VF, with MAC address and VLAN")
def _vf(system: Stack, manifest: str) -> None:
    with some_vfs(system) as pf, assigned(system, manifest):
        nic = _nic(system)
        assert source(pf.vfs()[0])[len("<address ") :] in nic
        assert "<mac address='52:54:00:20:00:02'/>" in nic
        assert "<tag id='43'/>" in nic
        system.lab.virsh("start", "web")
        wait_for_guest(system.lab, "web", "GUEST up")
        assert ("52:54:00:20:00:02", "vlan 43") in pf.macs_and_vlans()
        system.lab.virsh("destroy", "web")


@procedure("Give a guest a VF behind an 802.1Qbh switch")
def _profile(system: Stack, manifest: str) -> None:
    with some_vfs(system), assigned(system, manifest):
        assert re.search(r"<virtualport type='802.1Qbh'>\s*<parameters profileid='finance'/>", _nic(system))


# -- guests of other tools -------------------------------------------------------------------------------------------


@procedure("Change what a saved guest comes back with")
def _saved(system: Stack, manifest: str) -> None:
    lab = system.lab
    lab.virsh("start", "web")
    wait_for_guest(lab, "web", "GUEST up")
    lab.virsh("managedsave", "web")
    edited = lab.virsh("managedsave-dumpxml", "web").replace("</devices>", f"{hostdev_xml(DEVICE)}</devices>")
    lab.write("/tmp/saved.xml", edited)
    assert "host device" in lab.run("virsh managedsave-define web /tmp/saved.xml", check=False).stderr
    with assigned(system, manifest):
        assert lab.virsh("list", "--all", "--with-managed-save", "--name").strip() == ""
        lab.virsh("start", "web")
        wait_for_guest(lab, "web", "GUEST plugged .* 8086:100e")
        assert source(DEVICE) in live_xml(system, "web")
        lab.virsh("destroy", "web")
    assert drivers(system) == ["e1000", "e1000"]


@procedure("Take over what virsh, virt-install or virt-manager made")
def _adopted(system: Stack, manifest: str) -> None:
    system.lab.virsh("undefine", "web")
    system.lab.virsh("nodedev-detach", "pci_0000_04_02_0")
    define_web(system, DEVICE)
    before = config_xml(system, "web"), drivers(system)
    try:
        with assigned(system, manifest):
            assert (config_xml(system, "web"), drivers(system)) == before
        assert (config_xml(system, "web"), drivers(system)) == before
    finally:
        system.lab.virsh("nodedev-reattach", "pci_0000_04_02_0")


# -- what they share -------------------------------------------------------------------------------------------------


def define_web(system: Stack, *hostdevs: str) -> None:
    """The guest of all manifests, off."""
    define(system.lab, "web", guest_xml("web", hostdevs=hostdevs))
    system.wait_guest_listed("web")


def drivers(system: Stack) -> list[str | None]:
    """Of the two NICs of one IOMMU group."""
    return [system.lab.driver(DEVICE), system.lab.driver(MATE)]


@contextmanager
def assigned(system: Stack, manifest: str) -> Iterator[None]:
    """Applied and Ready; in the end deleted and gone."""
    name = yaml.safe_load(manifest)["metadata"]["name"]
    system.apply(manifest)
    system.wait_condition(name, "Ready", "True")
    yield
    system.delete(name)
    system.wait_gone(name)


@contextmanager
def pooled(system: Stack, manifest: str) -> Iterator[PfView]:
    """The pool, Ready; in the end gone. Its PF."""
    system.apply(manifest)
    pool_condition(system, f"passthrough.{NODE}", "True")
    yield named_pf(system)
    system.remove("vfpool", "passthrough")


@contextmanager
def some_vfs(system: Stack) -> Iterator[PfView]:
    """Two VFs without drivers, made by hand; their PF."""
    pf = named_pf(system)
    system.lab.run(["sh", "-c", f"echo 0 > {pf.folder}/sriov_drivers_autoprobe; echo 2 > {pf.folder}/sriov_numvfs"])
    system.lab.run(["ip", "link", "set", pf.netdev, "up"])
    try:
        yield pf
    finally:
        system.lab.virsh("destroy", "web", check=False)
        system.lab.run(["ip", "link", "set", pf.netdev, "down"])
        system.lab.run(["sh", "-c", f"echo 0 > {pf.folder}/sriov_numvfs; echo 1 > {pf.folder}/sriov_drivers_autoprobe"])


def named_pf(system: Stack) -> PfView:
    """The PF that the manifests name by its MAC address."""
    views = [PfView(system.lab, address) for address in system.lab.find_devices(IGB)]
    return next(view for view in views if view.mac == PF_MAC)


def _nic(system: Stack) -> str:
    found = re.search("<interface type='hostdev'.*?</interface>", config_xml(system, "web"), re.DOTALL)
    return found[0] if found else ""
