"""VFs are back after a reboot, before libvirtd starts its networks and guests: manifests/host/, docs/host.md.

A lab host with systemd as PID 1. No agent runs: the file that it leaves is written by hand.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator

import pytest

from tests.host.prepared import CONF, DROP_IN, PF_MAC, pf, prepare, rename_pf
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.outcome import FAILED
from tests.system.stack import REPOSITORY

pytestmark = pytest.mark.lab

VFS = 3
GONE_MAC, GONE_ADDRESS = "52:54:00:10:00:99", "0000:7f:00.0"
GUEST_MAC = "52:54:00:aa:00:01"
NETWORK = "<network><name>pool</name><forward mode='hostdev' managed='yes'><pf dev='{name}'/></forward></network>"
INTERFACE = f"<interface type='network'><mac address='{GUEST_MAC}'/><source network='pool'/></interface>"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """A lab host with the unit, as docs/host.md installs it, and a pool's network and guest that start at boot."""
    with LabHost.boot(tmp_path_factory.mktemp("reboot"), systemd=True) as lab:
        prepare(lab)
        name, address = pf(lab)
        lab.write(CONF, f"# PFs\n{PF_MAC} {address} {VFS} 0 up\n")
        lab.run("systemctl start hostdev-sriov")
        lab.write("/tmp/pool.xml", NETWORK.format(name=name))
        lab.virsh("net-define", "/tmp/pool.xml")
        lab.virsh("net-autostart", "pool")
        define(lab, "vfguest", guest_xml("vfguest", extra_devices=INTERFACE))
        lab.virsh("autostart", "vfguest")
        lab.run("sync")
        yield lab


@pytest.fixture(autouse=True)
def _logs_of_failures(host: LabHost, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.node.stash.get(FAILED, False):
        host.collect_logs(REPOSITORY / "build" / "system-logs" / request.node.name)


def property_of(lab: LabHost, unit: str, name: str) -> str:
    return lab.run(["systemctl", "show", "--value", "-p", name, unit]).stdout.strip()


def seconds(lab: LabHost, unit: str, name: str) -> float:
    """When something of a unit was, since the boot."""
    return int(property_of(lab, unit, name)) / 1e6


def kernel_made_vfs(lab: LabHost) -> float:
    """When the driver allocated the VFs, since the boot, by the kernel's log."""
    found = re.search(rf"\[ *([\d.]+)\] igb .*: {VFS} VFs allocated", lab.run("dmesg").stdout)
    assert found
    return float(found[1])


@pytest.mark.mission("P3")
def test_vfs_network_and_guest_are_back_after_a_reboot(host: LabHost) -> None:
    host.power_cycle()
    name, address = pf(host)
    assert host.sysfs(f"bus/pci/devices/{address}/sriov_numvfs") == str(VFS)
    assert property_of(host, "hostdev-sriov", "ActiveState") == "active"
    # by the kernel's clock, by systemd's, and by systemd's order of every boot
    libvirtd = seconds(host, "libvirtd", "ExecMainStartTimestampMonotonic")
    assert 0 < kernel_made_vfs(host) < libvirtd
    assert 0 < seconds(host, "hostdev-sriov", "ExecMainExitTimestampMonotonic") < libvirtd
    for unit in ("libvirtd.service", "virtqemud.service", "virtnetworkd.service"):
        assert unit in property_of(host, "hostdev-sriov", "Before").split()
    wait_for_guest(host, "vfguest", "GUEST up")
    info = host.virsh("net-info", "pool")
    assert re.search(r"Active: +yes", info)
    assert re.search(r"Autostart: +yes", info)
    assert host.virsh("domstate", "vfguest").strip() == "running"
    assert re.search(rf"vf 0 .*link/ether {GUEST_MAC} ", host.run(["ip", "link", "show", name]).stdout)
    vfs = [host.run(["readlink", "-f", f"/sys/bus/pci/devices/{address}/virtfn{i}"]).stdout for i in range(VFS)]
    assert [host.driver(vf.strip().rsplit("/", 1)[1]) for vf in vfs] == ["vfio-pci", None, None]
    # a second start finds them, and does not disturb the guest
    host.run("systemctl restart hostdev-sriov")
    assert f"has {VFS} VFs already" in host.run("journalctl -b -u hostdev-sriov -o cat").stdout
    assert host.virsh("domstate", "vfguest").strip() == "running"


@pytest.mark.long
def test_a_pf_that_moved_gets_its_vfs_and_a_missing_one_stops_nothing(host: LabHost) -> None:
    """Power cut. The PF has another name and another address; another PF has been pulled out."""
    name, address = pf(host)
    host.write(CONF, f"{GONE_MAC} {GONE_ADDRESS} 7 0\n{PF_MAC} {address} {VFS} 0 up\nnonsense\n")
    rename_pf(host)
    host.run("sync")
    host.power_cut()
    early_port = "pcie-root-port,id=early,chassis=40,slot=40,bus=pcie.0,addr=0x0f"
    host.machine = dataclasses.replace(host.machine, extra_qemu=("-device", early_port))
    host.power_on()
    new_name, new_address = pf(host)
    assert new_name == "uplink7" != name
    assert new_address != address
    assert host.sysfs(f"bus/pci/devices/{new_address}/sriov_numvfs") == str(VFS)
    log = host.run("journalctl -b -u hostdev-sriov -o cat").stdout
    assert f"PF {GONE_MAC} (last seen as {GONE_ADDRESS}): no PCI network device has this permanent MAC address" in log
    assert f"{CONF}, line 3 is left out" in log
    assert f"PF {new_address} ({PF_MAC}): {VFS} VFs made." in log
    # it failed, libvirtd waited for that and started
    assert property_of(host, "hostdev-sriov", "Result") == "exit-code"
    ended = seconds(host, "hostdev-sriov", "ExecMainExitTimestampMonotonic")
    assert ended - seconds(host, "hostdev-sriov", "ExecMainStartTimestampMonotonic") > 25
    assert ended < seconds(host, "libvirtd", "ExecMainStartTimestampMonotonic")
    assert property_of(host, "libvirtd", "ActiveState") == "active"


@pytest.mark.long
def test_a_hang_in_the_kernel_does_not_keep_libvirtd_from_starting(host: LabHost) -> None:
    """sriov_numvfs is a file on a frozen file system: who writes to it cannot be killed."""
    _, address = pf(host)
    host.run("for d in $(virsh -q list --name); do virsh destroy $d; done")
    attribute = host.run(["readlink", "-f", f"/sys/bus/pci/devices/{address}/sriov_numvfs"]).stdout.strip()
    host.write(CONF, f"{PF_MAC} {address} {VFS} 0 up\n")
    host.write(DROP_IN, "[Service]\nEnvironment=HOSTDEV_DEADLINE=5\n")
    host.run("systemctl daemon-reload; systemctl stop hostdev-sriov")
    frozen = "/var/tmp/frozen"
    host.run(f"truncate -s 16M {frozen}.img && mke2fs -q -t ext4 {frozen}.img && mkdir -p {frozen}")
    host.run(f"mount -o loop,noatime {frozen}.img {frozen} && echo 0 > {frozen}/vfs && fsfreeze -f {frozen}")
    host.run(["mount", "--bind", f"{frozen}/vfs", attribute])
    try:
        host.run("systemctl stop libvirtd", check=False)  # which now and then takes half a minute by itself
        before = time.monotonic()
        host.run("systemctl restart hostdev-sriov libvirtd", check=False)
        assert host.virsh("list", "--all", "--name").split() == ["vfguest"]
        assert time.monotonic() - before < 60
        ended = seconds(host, "hostdev-sriov", "ExecMainExitTimestampMonotonic")
        started = seconds(host, "libvirtd", "ExecMainStartTimestampMonotonic")
        assert ended < started < ended + 10
        assert property_of(host, "hostdev-sriov", "Result") == "exit-code"
        said = re.search(r"not ready after 5 s.* process (\d+)", host.run("journalctl -u hostdev-sriov -o cat").stdout)
        assert said
        assert "D" in host.run(["ps", "-o", "stat=", "-p", said[1], "--ppid", said[1]]).stdout
    finally:
        host.run(f"umount {attribute}; fsfreeze -u {frozen}")
    host.run(f"until grep -x {VFS} {frozen}/vfs; do sleep 0.1; done", timeout=30)
