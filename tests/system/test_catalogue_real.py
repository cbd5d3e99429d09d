"""Rows of the failure catalogue that nothing else here makes happen, on a guest that is off: told, and healed.

The faults are the host's own: read-only folders, modules that are gone, drivers that refuse, what cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.guests import define, guest_xml
from tests.system.conftest import clean, drivers
from tests.system.inspect_guest import config_xml, source
from tests.system.obstacles import RECORDS, as_before, obstacle, read_only
from tests.system.stack import NAMESPACE, NODE, Stack, assignment

STATE = "/var/lib/hostdev-operator"
GUEST, OTHER = "sleeper", "dozer"
#: udev's and libvirt's notes of what fits which device: here a driver that knows no network cards.
ALIASES = "/lib/modules/$(uname -r)/modules.alias"
WRONG_DRIVER = "alias vfio_pci:v00008086d000010C9sv*sd*bc*sc*i* virtio_pci"


@pytest.fixture(scope="module")
def guests(stack: Stack) -> Iterator[None]:
    """Both are off for all tests of this file."""
    for name in (GUEST, OTHER):
        define(stack.lab, name, guest_xml(name))
        stack.wait_guest_listed(name)
    yield
    clean(stack)


@pytest.fixture
def host(stack: Stack, guests: None, request: pytest.FixtureRequest) -> Iterator[Stack]:
    with as_before(stack, request.node) as made:
        yield made


def assigned(host: Stack, name: str, device: str, mate: str) -> None:
    """Wait until the guest that is off has the device, judged by libvirt and sysfs."""
    host.wait_condition(name, "Ready", "True")
    assert source(device) in config_xml(host, GUEST)
    assert host.lab.driver(mate) == "vfio-pci"


UNREADABLE = "install -m 000 -o nobody /dev/null /tmp/unreadable && mount --bind /tmp/unreadable /proc/swaps"


@pytest.mark.parametrize(
    ("reason", "fault", "words"),
    [
        ("StateDirectoryFailed", read_only(STATE), ["default/told", STATE, "Read-only", "findmnt"]),
        ("LibvirtError", read_only("/etc/libvirt/qemu"), ["{device}", f"qemu/{GUEST}.xml", "Read-only file system"]),
        (
            "HostUseUnknown",
            (UNREADABLE, "umount /proc/swaps"),
            ["{device}", "/proc/swaps", "Permission denied", "check the agent's mounts"],
        ),
    ],
)
def test_what_the_host_refuses_is_told_and_heals(
    host: Stack, device: str, mate: str, reason: str, fault: tuple[str, str], words: list[str]
) -> None:
    before = drivers(host.lab)
    with obstacle(host.lab, *fault):
        host.apply(assignment("told", domain=GUEST, address=device))
        message = host.wait_condition("told", "Ready", "False", reason)
        for word in words:
            assert word.format(device=device) in message
        host.wait("all drivers as before", lambda: drivers(host.lab) == before)
        assert "<hostdev" not in config_xml(host, GUEST)
    assigned(host, "told", device, mate)


def test_vfio_module_that_cannot_be_loaded(host: Stack, device: str, mate: str) -> None:
    lab, file = host.lab, "/etc/modprobe.d/no-vfio.conf"
    before = drivers(lab)
    gone = f"echo 'install vfio-pci /bin/false' > {file}; modprobe -r vfio-pci"
    with obstacle(lab, gone, f"rm {file}; modprobe vfio-pci"):
        host.apply(assignment("module", domain=GUEST, address=device))
        message = host.wait_condition("module", "Ready", "False", "VFIOModuleMissing")
        assert mate in message
        assert "Failed to load PCI driver module vfio_pci" in message
        host.wait("VFIOReady=False", lambda: host.host_condition("VFIOReady") == "False")
        assert drivers(lab) == before
    assigned(host, "module", device, mate)
    host.wait("VFIOReady=True", lambda: host.host_condition("VFIOReady") == "True")


def test_group_mate_that_belongs_to_the_board(host: Stack) -> None:
    """The ISA bridge is in the SATA controller's group, and nobody can detach it once it has a driver."""
    lab = host.lab
    (sata,), (isa,) = lab.find_devices("8086:2922"), lab.find_devices("8086:2918")
    assert lab.iommu_group(sata) == lab.iommu_group(isa)
    with obstacle(lab, "modprobe lpc_ich", "modprobe -r lpc_ich"):
        assert lab.driver(isa) == "lpc_ich"
        host.apply(assignment("board", domain=GUEST, address=sata))
        message = host.wait_condition("board", "Ready", "False", "IOMMUGroupNotViable")
        for word in (sata, isa, "driver lpc_ich", "another slot"):
            assert word in message
        assert "<hostdev" not in config_xml(host, GUEST)
    host.wait_condition("board", "Ready", "True")
    assert source(sata) in config_xml(host, GUEST)


def test_address_that_cannot_be(host: Stack) -> None:
    """The API server's pattern lets it through."""
    host.apply(assignment("nowhere", domain=GUEST, address="ffffffff:00:00.0"))
    message = host.wait_condition("nowhere", "Ready", "False", "InvalidSource")
    assert "0xffffffff" in message
    assert "lspci -D" in message
    assert not host.get("deviceassignment", "nowhere")["metadata"].get("finalizers")


def test_namespace_that_lost_its_label_before_the_guest_came(host: Stack, device: str, mate: str) -> None:
    host.apply(assignment("early", domain="later", address=device))
    host.wait_condition("early", "Ready", "False", "GuestNotFound")
    host.plane.kubectl("label", "namespace", "default", "hostdev.dev/assignments-")
    try:
        message = host.wait_condition("early", "Ready", "False", "NamespaceNotAllowed")
        assert "kubectl label --overwrite namespace default hostdev.dev/assignments=allowed" in message
    finally:
        host.plane.allow("default")
    host.wait_condition("early", "Ready", "False", "GuestNotFound")
    host.patch("early", {"spec": {"domain": {"name": GUEST}}})
    assigned(host, "early", device, mate)


def test_guest_of_that_name_on_two_nodes(host: Stack, device: str, mate: str) -> None:
    """The second node is a second agent on the same host."""
    arguments = "--node-name twin --state-dir /tmp/twin --probe-port 0"
    host.put_kubeconfig("twin", "/tmp/twin.kubeconfig")
    twin = host._spawn_agent(f"-m hostdev_operator agent {arguments}", {"KUBECONFIG": "/tmp/twin.kubeconfig"})

    def listed() -> bool:
        guests = (host.find("devicehost", "twin") or {}).get("status", {}).get("guests", [])
        return any(g["name"] == GUEST for g in guests)

    try:
        host.wait("the guest on the second node", listed)
        host.apply(assignment("which", domain=GUEST, address=device))
        message = host.wait_condition("which", "Ready", "False", "GuestAmbiguous")
        for word in (f"{NODE} (", "twin (", "spec.nodeName"):
            assert word in message
        host.patch("which", {"spec": {"nodeName": NODE}})
        assigned(host, "which", device, mate)
    finally:
        twin.kill(15)
        twin.wait(60)
        host.plane.kubectl("delete", "devicehost", "twin")
        host.plane.kubectl("delete", "node", "twin")
        host.plane.kubectl("delete", "pod", "-n", NAMESPACE, "agent-twin", "--force", "--grace-period=0")


def test_drivers_that_do_not_take_what_they_are_given(host: Stack, device: str, mate: str) -> None:
    """Two at once, for the agent gives each driver 20 s: one on the way to the guest, one on the way back."""
    lab, pf = host.lab, host.lab.find_devices("8086:10c9")[0]
    host.apply(assignment("back", domain=GUEST, address=device, managed=False))
    host.wait_condition("back", "Ready", "True")
    with (
        obstacle(lab, "modprobe -r e1000", "modprobe e1000"),
        obstacle(lab, f"cp {ALIASES} /tmp/aliases; echo '{WRONG_DRIVER}' >> {ALIASES}", f"cp /tmp/aliases {ALIASES}"),
    ):
        host.delete("back")
        host.apply(assignment("there", domain=OTHER, address=pf, managed=False))
        message = host.wait_condition("back", "Ready", "False", "BindFailed")
        for word in (mate, "instead of e1000", "modprobe e1000"):
            assert word in message
        assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", None)
        assert lab.run(f"ls {RECORDS}").stdout != ""
        message = host.wait_condition("there", "Ready", "False", "DetachFailed")
        for word in (pf, "instead of vfio-pci", "kernel's log"):
            assert word in message
        host.wait("the PF on its driver", lambda: lab.driver(pf) == "igb")
    host.wait_gone("back")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")
    host.patch("there", {"spec": {"attach": "NextBoot"}})  # nothing on the host shows that it was mended: ask again
    host.wait_condition("there", "Ready", "True")
    assert lab.driver(pf) == "vfio-pci"
