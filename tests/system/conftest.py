"""One whole system for all tests of this folder: a boot of the lab host and a start of the agent cost 45 s."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.lab.host import LabHost
from tests.outcome import FAILED
from tests.system.stack import REPOSITORY, Stack

LOGS = REPOSITORY / "build" / "system-logs"
E1000 = "8086:100e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this folder needs both parts."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("lab")
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Control plane, controller, lab host and agent, started once."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    programs = binaries.ensure(reporter.write_line if reporter else print)
    folder = tmp_path_factory.mktemp("system")
    with (
        ControlPlane.start(folder / "control-plane", programs) as plane,
        LabHost.boot(folder / "lab") as lab,
        Stack.start(folder, lab, plane) as made,
    ):
        made.wait_host()
        yield made


@pytest.fixture
def system(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The running system; afterwards everything that the test made is released, and the host is as before.

    A laboratory that does not answer any more is started anew for the next test; pyproject.toml has the lost one done
    again, once.
    """
    if stack.lab.lost:
        warnings.warn(f"started anew, since it was lost: {stack.lab.lost}", stacklevel=1)
        stack.revive()
        clean(stack)
    before = drivers(stack.lab)
    yield stack
    if stack.lab.lost:
        return
    save_logs(stack, request.node)
    clean(stack)
    assert drivers(stack.lab) == before
    assert stack.lab.run("ls /var/lib/hostdev-operator/assignments").stdout == ""


def save_logs(stack: Stack, node: pytest.Item) -> None:
    """Of a test that has failed."""
    if node.stash.get(FAILED, False):
        folder = LOGS / re.sub(r"[^\w.-]+", "_", node.name)
        stack.lab.collect_logs(folder)
        (folder / "stack.txt").write_text(stack.describe())


def clean(stack: Stack) -> None:
    """Guests off, assignments released, guests undefined."""
    lab = stack.lab
    lab.run("virsh -q version > /dev/null 2>&1 || lab-libvirtd start")
    if not (stack.agent and stack.agent.alive()):
        stack.start_agent()
    if stack.guests():  # before they are off: whose Guest is there would be started again
        stack.plane.kubectl("delete", "guests", "--all", "--wait=false")
    lab.run("for g in $(virsh -q list --name); do virsh -q destroy $g; done")
    if stack.assignments():
        stack.plane.kubectl("delete", "deviceassignments", "--all", "--wait=false")
        stack.wait("all assignments to be gone", lambda: not stack.assignments())
    stack.wait("all Guests to be gone", lambda: not stack.guests())
    if stack.pools():
        stack.plane.kubectl("delete", "vfpools", "--all", "--wait=false")
        stack.wait("all pools to be gone", lambda: not stack.pools())
    lab.run("for g in $(virsh -q list --all --name); do virsh -q undefine $g; done")


def drivers(lab: LabHost) -> str:
    """Which driver every PCI device has, by sysfs."""
    return lab.run(
        "cd /sys/bus/pci/devices; for d in *; do echo $d $(basename $(readlink $d/driver) 2>&1); done"
    ).stdout


@pytest.fixture
def device(stack: Stack) -> str:
    """One of the two NICs behind the PCI bridge, in one IOMMU group with it."""
    return stack.lab.find_devices(E1000)[0]


@pytest.fixture
def mate(stack: Stack) -> str:
    """The other one."""
    return stack.lab.find_devices(E1000)[1]
