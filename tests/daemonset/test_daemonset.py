"""The built image as the DaemonSet, on a node with VT-d, SR-IOV and libvirt: installed, upgraded, removed, uninstalled.

Judged by /proc, sysfs, virsh, ip link, the kernel's uevents and libvirtd's log of its calls.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.daemonset.installed import LABEL, OVERLAY, SECONDS, Installed, mounts_of, status_of, uids
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.system.conftest import E1000
from tests.system.demo import Demo
from tests.system.pools import IGB, PfView, from_pool, pool, pool_condition
from tests.system.stack import NAMESPACE, NODE, REPOSITORY, assignment
from tests.system.untouched import Uevents, calls_logged, changing_calls, log_size, snapshot

STATE = "/var/lib/hostdev-operator"
PLAIN, POOLED = "plain", "pooled"
POOL = "vfs"
MAC = "52:54:00:40:00:07"
NET_ADMIN = "0000000000001000"


def test_the_agent_has_the_rights_of_its_manifest_and_no_more(installed: Installed) -> None:
    (pid,) = installed.agent_pids()
    status = status_of(installed.lab, pid)
    assert status["Uid"].split() == ["0"] * 4
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert status[kind] == NET_ADMIN, kind
    assert {status[kind] for kind in ("CapInh", "CapAmb")} <= {"0" * 16, NET_ADMIN}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = mounts_of(installed.lab, pid)
    how = {point: options.split(",")[0] for point, options in mounts.items()}
    for point in ("/", "/host/proc", "/host/sys", "/run/libvirt"):
        assert how[point] == "ro", point
    for point in ("/host/sys/devices", STATE):
        assert how[point] == "rw", point
    own = installed.lab.run(f"readlink /proc/{pid}/ns/pid /proc/{pid}/ns/ipc /proc/{pid}/ns/net").stdout.split()
    hosts = installed.lab.run("readlink /proc/1/ns/pid /proc/1/ns/ipc /proc/1/ns/net").stdout.split()
    assert [mine == its for mine, its in zip(own, hosts, strict=True)] == [False, False, True]
    assert "changes of the host are not told" not in installed.agent_log()


def test_a_kubelet_cannot_say_that_its_node_has_an_agent(installed: Installed) -> None:
    kubeconfig = installed.plane.node_kubeconfig(NODE, installed.plane.url)
    for change in (f"{LABEL}-", f"{LABEL}=other"):
        done = installed.plane.kubectl("label", "--overwrite", "node", NODE, change, check=False, kubeconfig=kubeconfig)
        assert "is not allowed to modify labels" in done.stderr, done.stderr
    done = installed.plane.kubectl("label", "node", NODE, "example.com/own=yes", check=False, kubeconfig=kubeconfig)
    assert done.returncode == 0, done.stderr


@pytest.mark.mission("A1", "A2", "A5", "P1", "P2", "P3")
def test_the_stories_of_the_demo(installed: Installed) -> None:
    Demo(installed).run()


@dataclass
class Running:
    """A guest with a device and one with a VF of a pool, both running; they have not been touched since."""

    system: Installed
    device: str
    pf: PfView
    uevents: Uevents
    before: dict[str, str]
    since: int

    @property
    def lab(self) -> LabHost:
        return self.system.lab

    def untouched(self) -> None:
        assert snapshot(self.lab, (PLAIN, POOLED), POOL) == self.before
        assert changing_calls(self.lab, self.since) == []
        assert self.uevents.others() == []

    def works(self, change: dict[str, str]) -> None:
        """The agent that runs now has seen the newest spec, and stands by it."""
        for name in (PLAIN, POOLED):
            self.system.patch(name, {"spec": change})
            self.system.wait(f"{name} to be seen again", partial(self.seen, name), 300)
            self.system.wait_condition(name, "Ready", "True")
            self.system.wait_condition(name, "Attached", "True")

    def seen(self, name: str) -> bool:
        body = self.system.get("deviceassignment", name)
        return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])


@pytest.fixture(scope="module")
def running(joined: Installed) -> Iterator[Running]:
    """For all tests below; what each does, leaves the guests as they are."""
    installed, lab = joined, joined.lab
    installed.install()
    with calls_logged(lab):
        device = lab.find_devices(E1000)[0]
        pf = PfView(lab, lab.find_devices(IGB)[0])
        installed.apply(pool(POOL, pf.netdev, 3, linkUp=True))
        pool_condition(installed, f"{POOL}.{NODE}", "True", seconds=300)
        for name in (PLAIN, POOLED):
            define(lab, name, guest_xml(name))
            installed.wait_guest_listed(name)
        installed.apply(assignment(PLAIN, domain=PLAIN, address=device))
        installed.apply(from_pool(POOLED, POOL, network={"mac": MAC, "vlan": 42}))
        for name, card in ((PLAIN, "8086:100e"), (POOLED, "8086:10ca")):
            installed.wait_condition(name, "Ready", "True", seconds=300)
            lab.virsh("start", name)
            wait_for_guest(lab, name, f"GUEST plugged .* {card}", timeout=300)
            installed.wait_condition(name, "Attached", "True", seconds=300)
        assert (MAC, "vlan 42") in pf.macs_and_vlans()
        uevents = Uevents(installed, pf.address)
        yield Running(installed, device, pf, uevents, snapshot(lab, (PLAIN, POOLED), POOL), log_size(lab))
        if not lab.lost:
            uevents.stop()


def test_in_a_rolling_upgrade_nothing_is_touched(running: Running) -> None:
    system = running.system
    name = system.agent_pod()["spec"]["containers"][0]["image"]
    assert system.node_host
    system.node_host.tag(name, "hostdev-operator:next")
    old = uids(system.pods("agent"))
    system.plane.kubectl("-n", NAMESPACE, "set", "image", "daemonset/hostdev-agent", "agent=hostdev-operator:next")
    system.wait_rolled_out()
    assert system.agent_pod()["spec"]["containers"][0]["image"] == "hostdev-operator:next"
    assert not uids(system.pods("agent")) & old
    running.works({"attach": "Live"})
    running.untouched()


def test_removed_in_one_go_and_installed_again_nothing_is_touched(running: Running) -> None:
    """With assignments left, and the state directory lost: what is to be given back is in the objects' status."""
    system, lab, plane = running.system, running.lab, running.system.plane
    refused = plane.kubectl("delete", "crd", "deviceassignments.hostdev.dev", "--wait=false", check=False)
    assert "make uninstall-check" in refused.stderr
    done = plane.kubectl("delete", "-k", OVERLAY, "--wait=false", check=False)
    assert done.stderr.count("hostdev.dev/uninstall=confirmed") == 5, done.stderr
    system.wait("the namespace to be gone", lambda: plane.read(f"/api/v1/namespaces/{NAMESPACE}") is None, SECONDS)
    assert system.agent_pids() == []
    running.untouched()
    left = [*system.assignments(), *system.pools()]
    assert len(left) == 3
    assert [body for body in left if "deletionTimestamp" in body["metadata"]] == []
    code, told = uninstall_check(system)
    assert (code, "kubectl apply -k manifests/overlays/default" in told) == (1, True), told
    records = lab.run(f"cd {STATE} && ls assignments/*.json pools/*.json").stdout.split()
    assert len(records) == 2
    lab.run(f"rm -r {STATE}")

    system.install()
    running.works({"detach": "Live"})
    running.works({"detach": "WhenOff"})
    running.untouched()
    assert lab.run(f"cd {STATE} && ls assignments/*.json pools/*.json").stdout.split() == records


def test_uninstalled_in_the_documented_order_nothing_is_left(running: Running) -> None:
    system, lab, plane = running.system, running.lab, running.system.plane
    code, told = uninstall_check(system)
    assert (code, "kubectl delete deviceassignments --all -A" in told) == (1, True), told
    for name in (f"default/{PLAIN}", f"default/{POOLED}", POOL):
        assert name in told
    plane.kubectl("delete", "deviceassignments", "--all", "-A", "--wait=false")
    for name in (PLAIN, POOLED):
        system.wait_condition(name, "Ready", "False", "GuestRunning", seconds=300)
    running.untouched()
    code, told = uninstall_check(system)
    assert (code, told.count("being deleted: GuestRunning: ")) == (1, 2), told

    for name in (PLAIN, POOLED):
        lab.virsh("destroy", name)
    system.wait("all assignments to be gone", lambda: not system.assignments(), 300)
    code, told = uninstall_check(system)
    assert (code, "kubectl delete vfpools --all" in told) == (1, True), told
    plane.kubectl("delete", "vfpools", "--all", "--wait=false")
    system.wait("all pools to be gone", lambda: not system.pools(), 300)
    code, told = uninstall_check(system)
    assert code == 0, told
    for command in told.partition("Next:\n")[2].replace("manifests/overlays/default", OVERLAY).splitlines():
        kubectl, *words = command.split()
        assert kubectl == "kubectl"
        plane.kubectl(*words, *(["--wait=false"] if words[0] == "delete" else []))
    system.wait("nothing to be left", lambda: not leftovers(system), SECONDS)
    assert uninstall_check(system) == (0, "It is not installed.\n")
    assert system.agent_pids() == []
    assert lab.driver(running.device) == "e1000"
    assert running.pf.num_vfs == 0
    for name in (PLAIN, POOLED):
        xml = lab.virsh("dumpxml", name)
        assert "<hostdev" not in xml
        assert "<interface" not in xml


def uninstall_check(system: Installed) -> tuple[int, str]:
    """As an administrator calls it: its exit code, and what it says."""
    environment = {**os.environ, "KUBECONFIG": str(system.plane.admin_kubeconfig)}
    command = ["make", "--no-print-directory", "uninstall-check"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return min(done.returncode, 1), done.stdout + done.stderr


def leftovers(system: Installed) -> list[str]:
    """Whatever of the operator the cluster still has."""
    kinds = "crd,namespace,clusterrole,clusterrolebinding,validatingadmissionpolicy,priorityclass"
    names = system.plane.kubectl("get", kinds, "-o", "name").stdout.split()
    return [name for name in names if "hostdev" in name]
