"""manifests/host/hostdev-sriov on a made-up sysfs; tests/host/test_reboot.py boots a host with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostdev_operator.core.boot_file import boot_file
from hostdev_operator.core.identity import Identity
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord
from tests.fakes.sysfs_tree import SysfsTree

SCRIPT = Path(__file__).parents[2] / "manifests/host/hostdev-sriov"
PF, OTHER = "0000:03:00.0", "0000:04:00.0"
MAC, OTHER_MAC = "52:54:00:12:34:56", "52:54:00:12:34:57"
LONG_AGO = 1_000_000_000
# What /bin/sh is on Debian, on Red Hat's and on small hosts; those of them that this machine has.
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


@dataclass
class Host:
    """A host with PFs, and the script's result on it."""

    tree: SysfsTree
    shell: list[str]
    output: str = ""
    seconds: float = 0
    environment: dict[str, str] = field(default_factory=lambda: {"HOSTDEV_PF_WAIT": "0", "HOSTDEV_DEADLINE": "20"})

    def pf(self, address: str = PF, mac: str = MAC, *, driver: str | None = "igb", count: int = 0) -> None:
        """A PF of 7 VFs with a netdev."""
        self.tree.pci(address, driver=driver)
        folder = self.tree.device(address)
        (folder / "sriov_totalvfs").write_text("7\n")
        (folder / "sriov_numvfs").write_text(f"{count}\n")
        (folder / "sriov_drivers_autoprobe").write_text("1\n")
        name = f"nic{address[5:7]}"
        self.tree.nic(name, folder)
        self.tree.mac(name, mac)

    def read(self, attribute: str, address: str = PF) -> str:
        return (self.tree.device(address) / attribute).read_text().strip()

    def run(self, *lines: str) -> int:
        """Run the script with these lines as its file."""
        (self.tree.root / "sriov.conf").write_text("".join(line + "\n" for line in lines))
        return self.run_as_it_is()

    def run_as_it_is(self) -> int:
        """Run the script. Its processes may go on, so the output is a file."""
        conf, log = self.tree.root / "sriov.conf", self.tree.root / "log"
        roots = {"HOSTDEV_SYSFS": str(self.tree.sys), "HOSTDEV_RUN": str(self.tree.root / "run")}
        paths = {"HOSTDEV_SRIOV_CONF": str(conf), **roots}
        began = time.monotonic()
        with log.open("w") as output:
            environment = {"PATH": os.environ["PATH"], **self.environment, **paths}
            command = [*self.shell, str(SCRIPT)]
            code = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False, timeout=60)
        self.seconds = time.monotonic() - began
        self.output = log.read_text()
        return code.returncode


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    return Host(SysfsTree(tmp_path), request.param)


def test_vfs_are_made_and_a_second_run_writes_nothing(host: Host) -> None:
    host.pf()
    assert host.run("# a comment", "", f"{MAC} {PF} 7 0") == 0
    assert (host.read("sriov_numvfs"), host.read("sriov_drivers_autoprobe")) == ("7", "0")
    assert host.output == f"PF {PF} ({MAC}): 7 VFs made.\n"
    numbers, autoprobe = (host.tree.device(PF) / name for name in ("sriov_numvfs", "sriov_drivers_autoprobe"))
    autoprobe.write_text("1\n")
    os.utime(numbers, (LONG_AGO, LONG_AGO))
    assert host.run(f"{MAC} {PF} 7 0") == 0
    assert "has 7 VFs already" in host.output
    assert (numbers.stat().st_mtime, host.read("sriov_drivers_autoprobe")) == (LONG_AGO, "1")


def test_the_file_that_the_agent_writes_is_understood(host: Host) -> None:
    host.pf()
    host.pf(OTHER, OTHER_MAC)
    identity = Identity(vendor=0x8086, product=0x10C9)
    one, other = (
        PoolRecord(
            uid=mac or "none",
            name="pool",
            pf=PciAddress.parse(address),
            identity=identity,
            pf_mac=mac,
            num_vfs_before=0,
            up_before=True,
            network_name="pool",
            num_vfs=count,
            autoprobe=autoprobe,
            link_up=True,
        )
        for mac, address, count, autoprobe in ((MAC, PF, 3, False), (None, OTHER, 5, None))
    )
    assert host.run(*boot_file([one, other]).splitlines()) == 0, host.output
    assert (host.read("sriov_numvfs"), host.read("sriov_drivers_autoprobe")) == ("3", "0")
    assert (host.read("sriov_numvfs", OTHER), host.read("sriov_drivers_autoprobe", OTHER)) == ("5", "1")


def test_the_permanent_mac_decides_and_not_the_address(host: Host) -> None:
    host.pf(PF, OTHER_MAC)
    host.pf(OTHER, MAC)
    assert host.run(f"{MAC} {PF} 2 -") == 0
    assert (host.read("sriov_numvfs", PF), host.read("sriov_numvfs", OTHER)) == ("0", "2")


def test_a_mac_that_was_set_is_not_permanent_but_a_bond_tells_it(host: Host) -> None:
    host.pf(PF, OTHER_MAC)
    host.tree.mac("nic03", MAC, assigned=3)
    assert host.run(f"{MAC} {PF} 2 -") == 1
    assert "no PCI network device has this permanent MAC address" in host.output
    assert host.read("sriov_numvfs") == "0"
    bond = host.tree.device(PF) / "net/nic03/bonding_slave"
    bond.mkdir()
    (bond / "perm_hwaddr").write_text(OTHER_MAC + "\n")
    assert host.run(f"{OTHER_MAC} {PF} 2 -") == 0
    assert host.read("sriov_numvfs") == "2"


def test_a_vf_or_a_virtual_netdev_with_the_mac_is_not_taken_for_the_pf(host: Host) -> None:
    host.pf()
    host.tree.pci("0000:03:10.0")
    host.tree.nic("vf", host.tree.device("0000:03:10.0"))
    host.tree.mac("vf", MAC)
    (host.tree.device("0000:03:10.0") / "physfn").symlink_to(host.tree.device(PF))
    host.tree.nic("vlan")
    host.tree.mac("vlan", MAC)
    assert host.run(f"{MAC} {PF} 2 -") == 0
    assert host.read("sriov_numvfs") == "2"


def test_two_pfs_with_one_mac_are_left_alone(host: Host) -> None:
    host.pf()
    host.pf(OTHER, MAC)
    assert host.run(f"{MAC} {PF} 2 -") == 1
    assert f"{PF} and {OTHER} both have this permanent MAC address" in host.output
    assert (host.read("sriov_numvfs", PF), host.read("sriov_numvfs", OTHER)) == ("0", "0")


def test_without_a_mac_the_address_decides(host: Host) -> None:
    host.pf()
    assert host.run(f"- {PF} 4 1") == 0
    assert (host.read("sriov_numvfs"), host.read("sriov_drivers_autoprobe")) == ("4", "1")
    assert host.output == f"PF {PF}: 4 VFs made.\n"


def test_what_a_pf_cannot_do_is_told_with_the_next_step(host: Host) -> None:
    host.pf()
    assert host.run(f"{MAC} {PF} 8 0") == 1
    assert "can have 7 VFs at most (sriov_totalvfs), and 8 are wanted. Lower numVFs" in host.output
    assert (host.read("sriov_numvfs"), host.read("sriov_drivers_autoprobe")) == ("0", "1")
    host.tree.bind(PF, None)
    assert host.run(f"- {PF} 2 0") == 1
    assert "it has no driver" in host.output
    host.tree.pci(OTHER, driver="e1000")
    assert host.run(f"- {OTHER} 2 0") == 1
    assert f"PF {OTHER} has no SR-IOV" in host.output


def test_vfs_of_somebody_else_are_left_alone(host: Host) -> None:
    host.pf(count=4)
    assert host.run(f"{MAC} {PF} 7 0") == 0
    assert "has 4 VFs, made by somebody else" in host.output
    assert (host.read("sriov_numvfs"), host.read("sriov_drivers_autoprobe")) == ("4", "1")


def test_a_kernel_without_autoprobe_makes_the_vfs_and_says_so(host: Host) -> None:
    host.pf()
    (host.tree.device(PF) / "sriov_drivers_autoprobe").unlink()
    assert host.run(f"{MAC} {PF} 7 0") == 1
    assert "sriov_drivers_autoprobe cannot be set to 0: this kernel does not have it" in host.output
    assert host.read("sriov_numvfs") == "7"
    assert not (host.tree.device(PF) / "sriov_drivers_autoprobe").exists()


BAD_LINES = [
    (f"{OTHER_MAC[:-1]} {OTHER} 2 0", "no MAC address"),
    (f"{OTHER_MAC.replace('5', 'E')} {OTHER} 2 0", "no MAC address"),
    (f"* {OTHER} 2 0", "no MAC address"),
    ("$(touch x) `y`;", "no MAC address"),
    (f"{OTHER_MAC} ../{OTHER} 2 0", "no PCI address"),
    (f"{OTHER_MAC} {OTHER}0 2 0", "no PCI address"),
    (f"{OTHER_MAC} 04:00.0 2 0", "no PCI address"),
    ("-", "no PCI address"),
    (f"- {OTHER} -2 0", "no number of VFs"),
    (f"- {OTHER} 010 0", "no number of VFs"),
    (f"- {OTHER} 100000 0", "no number of VFs"),
    (f"- {OTHER}", "no number of VFs"),
    (f"- {OTHER} 2 2", "not 0, 1 or -"),
    (f"- {OTHER} 2", "not 0, 1 or -"),
    (f"- {OTHER} 2 0 1", "'1' is neither up nor -"),
    (f"- {OTHER} 2 0 up 0", "more than five words"),
]


def test_bad_lines_are_reported_and_left_out(host: Host) -> None:
    host.pf()
    host.pf(OTHER, OTHER_MAC)
    assert host.run(*(line for line, _ in BAD_LINES), f"{MAC} {PF} 3 0") == 1
    for number, (line, problem) in enumerate(BAD_LINES, 1):
        assert re.search(rf"line {number} is left out: .*{re.escape(problem)}", host.output), (line, host.output)
    assert (host.read("sriov_numvfs"), host.read("sriov_numvfs", OTHER)) == ("3", "0")


def test_a_last_line_without_its_end_is_read(host: Host) -> None:
    host.pf()
    (host.tree.root / "sriov.conf").write_text(f"{MAC} {PF} 5 0")
    assert host.run_as_it_is() == 0
    assert host.read("sriov_numvfs") == "5"


def test_without_a_file_no_vfs_are_wanted(host: Host) -> None:
    host.pf()
    assert host.run_as_it_is() == 0
    assert "sriov.conf does not exist: no VFs are wanted" in host.output
    assert host.read("sriov_numvfs") == "0"


def test_a_missing_pf_is_waited_for_and_holds_up_nobody_else_for_longer(host: Host) -> None:
    host.pf()
    host.environment["HOSTDEV_PF_WAIT"] = "1"
    assert host.run(f"{OTHER_MAC} {OTHER} 2 0", f"{MAC} {PF} 3 0", f"- {OTHER} 2 0") == 1
    assert 0 < host.seconds < 10
    assert host.read("sriov_numvfs") == "3"
    assert f"PF {OTHER_MAC} (last seen as {OTHER}): no PCI network device has" in host.output
    assert re.search(f"PF {OTHER}: there is no PCI device with this address after [1-9] s", host.output)
    assert "systemctl restart hostdev-sriov" in host.output


def test_a_pf_whose_driver_comes_late_gets_its_vfs(host: Host) -> None:
    host.environment["HOSTDEV_PF_WAIT"] = "15"
    timer = threading.Timer(0.7, host.pf)
    timer.start()
    assert host.run(f"{MAC} {PF} 3 0") == 0, host.output
    timer.join()
    assert host.read("sriov_numvfs") == "3"
    assert host.seconds > 0.7


@pytest.mark.parametrize("idle", [True, False])
def test_while_udev_loads_drivers_a_pf_is_waited_for_until_the_deadline(host: Host, idle: bool) -> None:  # noqa: FBT001
    queue = host.tree.root / "run/udev/queue"
    queue.parent.mkdir(parents=True)
    queue.touch()
    host.environment |= {"HOSTDEV_PF_WAIT": "0", "HOSTDEV_DEADLINE": "30" if idle else "2"}
    timer = threading.Timer(0.8, queue.unlink)
    if idle:
        timer.start()
    assert host.run(f"{MAC} {PF} 3 0") == 1
    assert ("no PCI network device" in host.output, "is not ready" in host.output) == (True, False)
    assert (0.8 if idle else 1) < host.seconds < 20


def test_the_link_is_brought_up_if_it_is_wanted(host: Host) -> None:
    host.pf()
    flags = host.tree.device(PF) / "net/nic03/flags"
    flags.write_text("0x1002\n")
    for words in ("", " -"):  # without the word: as an older agent wrote it
        assert host.run(f"{MAC} {PF} 7 0{words}") == 0
        assert flags.read_text() == "0x1002\n"
    assert host.run(f"{MAC} {PF} 7 0 up") == 0
    assert flags.read_text() == "0x1003\n"
    assert "nic03 is up" in host.output
    os.utime(flags, (LONG_AGO, LONG_AGO))
    assert host.run(f"{MAC} {PF} 7 0 up") == 0
    assert flags.stat().st_mtime == LONG_AGO


def test_a_link_that_cannot_be_brought_up_is_told_and_the_vfs_are_made(host: Host) -> None:
    host.pf()
    (host.tree.device(PF) / "net/nic03/flags").symlink_to("/sys/kernel/address_bits")  # 64: even, and not writable
    assert host.run(f"{MAC} {PF} 7 0 up") == 1
    assert f"PF {PF} ({MAC}): nic03 cannot be brought up: " in host.output
    assert host.read("sriov_numvfs") == "7"


def test_libvirt_waits_until_udev_has_named_the_pf(host: Host) -> None:
    host.pf()
    (host.tree.device(PF) / "net/nic03/ifindex").write_text("17\n")
    data = host.tree.root / "run/udev/data"
    data.mkdir(parents=True)
    for renaming in (False, True):  # udev says so in its database before it does it
        if renaming:
            (data / "n17").write_text("I:1\nE:ID_RENAMING=1\n")
        timer = threading.Timer(1.2, (data / "n17").write_text, ["I:1\nE:ID_PATH=pci\n"])
        timer.start()
        assert host.run(f"{MAC} {PF} 3 0") == 0
        assert 1.2 < host.seconds < 4
    (data / "n17").unlink()  # the database has no entry, and udev has nothing to do
    assert host.run(f"{MAC} {PF} 3 0") == 0
    assert 4 < host.seconds < 20


@pytest.fixture
def hanging(host: Host) -> Iterator[Path]:
    """A PF whose sriov_numvfs is a FIFO: who opens it waits until there is another end."""
    host.pf()
    path = host.tree.device(PF) / "sriov_numvfs"
    path.unlink()
    os.mkfifo(path)
    yield path
    for _ in range(3):  # let whoever waits still go
        os.close(os.open(path, os.O_RDWR))
        time.sleep(0.05)


def answer(path: Path, *texts: str) -> threading.Thread:
    """Let a FIFO be read, once for each text."""

    def serve() -> None:
        for text in texts:
            with path.open("w") as stream:
                stream.write(text)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_write_that_hangs_ends_at_the_deadline_and_is_not_killed(host: Host, hanging: Path) -> None:
    host.pf(OTHER, OTHER_MAC)
    host.environment["HOSTDEV_DEADLINE"] = "2"
    first = answer(hanging, "0\n")
    assert host.run(f"{MAC} {PF} 3 0", f"{OTHER_MAC} {OTHER} 3 0") == 1
    assert 2 < host.seconds < 15
    first.join()
    assert f"PF {MAC} (last seen as {PF}) is not ready after 2 s" in host.output
    assert host.read("sriov_numvfs", OTHER) == "3"
    assert host.read("sriov_drivers_autoprobe") == "0"  # it was written before
    assert hanging.read_text() == "3\n"
    answer(hanging, "3\n").join(20)
    log = host.tree.root / "log"
    until = time.monotonic() + 20
    while f"PF {PF} ({MAC}): 3 VFs made." not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def test_a_read_that_hangs_ends_at_the_deadline_too(host: Host, hanging: Path) -> None:
    host.environment["HOSTDEV_DEADLINE"] = "1"
    assert host.run(f"{MAC} {PF} 3 0") == 1
    assert host.seconds < 15
    assert "is not ready after 1 s" in host.output
    answer(hanging, "3\n").join(20)


def test_a_driver_that_makes_another_number_is_told(host: Host, hanging: Path) -> None:
    written: list[str] = []

    def driver() -> None:
        answer(hanging, "0\n").join()
        written.append(hanging.read_text())
        answer(hanging, "1\n").join()

    thread = threading.Thread(target=driver, daemon=True)
    thread.start()
    assert host.run(f"{MAC} {PF} 3 0") == 1
    thread.join(20)
    assert written == ["3\n"]
    assert f"PF {PF} ({MAC}) has 1 VFs, and 3 are wanted: the driver made another number" in host.output
