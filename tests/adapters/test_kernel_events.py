from __future__ import annotations

import errno
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostdev_operator.adapters import kernel_events
from hostdev_operator.adapters.kernel_events import KernelEvents
from tests.fakes.sysfs_tree import SysfsTree

DEADLINE = 30.0
LOOPBACK = Path("/sys/class/net/lo/uevent")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextmanager
def watching(root: Path) -> Iterator[threading.Event]:
    changed = threading.Event()
    events = KernelEvents(root, changed.set)
    events.start()
    try:
        yield changed
    finally:
        events.stop()


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    """Its files of /proc never tell anything."""
    return SysfsTree(tmp_path)


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, socket.socket]]:
    """In place of each netlink socket one end of a pair, with the other end here: nobody else speaks."""
    others: dict[str, socket.socket] = {}

    def pair(name: str, protocol: int, groups: int, wanted: Callable[[bytes], bool]) -> kernel_events._Source:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        others[name] = here
        with there:
            connection = Datagrams(there)
        connection.setblocking(False)

        def read() -> bool:
            return kernel_events._receive(connection, wanted)

        return kernel_events._Source(name, connection.fileno(), select.POLLIN, read, connection.close)

    monkeypatch.setattr(kernel_events, "_netlink", pair)
    yield others
    for other in others.values():
        other.close()


class Datagrams(socket.socket):
    """Like a netlink socket: the sender is a process id and groups."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(fileno=os.dup(connection.fileno()))

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, tuple[int, int]]:
        message = self.recv(size, flags)
        if message == b"ENOBUFS":
            raise OSError(errno.ENOBUFS, "No buffer space available")
        if message == b"EIO":
            raise OSError(errno.EIO, "Input/output error")
        return message.removeprefix(b"FORGED"), (4711 if message.startswith(b"FORGED") else 0, 1)


def uevent(subsystem: str, action: str = "change") -> bytes:
    return f"{action}@/devices/x\0ACTION={action}\0DEVPATH=/devices/x\0SUBSYSTEM={subsystem}\0SEQNUM=1\0".encode()


# -- the real kernel ---------------------------------------------------------------------------------------------------


@ROOT
def test_a_uevent_of_the_kernel_is_told(tree: SysfsTree) -> None:
    with watching(tree.root) as changed:
        LOOPBACK.write_text("change")
        assert changed.wait(DEADLINE)


IN_ANOTHER_NETWORK = """
import subprocess, sys, threading
from pathlib import Path
from hostdev_operator.adapters.kernel_events import KernelEvents
changed = threading.Event()
events = KernelEvents(Path(sys.argv[1]), changed.set)
events.start()
for command in (["ip", "link", "set", "lo", "up"], ["ip", "address", "add", "192.0.2.1/32", "dev", "lo"],
                ["ip", "route", "add", "198.51.100.0/24", "dev", "lo"],
                ["ip", "address", "add", "2001:db8::1/128", "dev", "lo"]):
    changed.clear()
    subprocess.run(command, check=True)
    assert changed.wait(30), command
events.stop()
print("all were told")
"""


@ROOT
def test_links_addresses_and_routes_are_told(tree: SysfsTree) -> None:
    """In a network namespace of its own; nothing of this machine's network is touched."""
    source = Path(kernel_events.__file__).parents[2]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", IN_ANOTHER_NETWORK, str(tree.root)],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "all were told\n"), done.stderr


@pytest.fixture
def mounting(tree: SysfsTree) -> Iterator[Callable[[str], None]]:
    """Runs commands in a mount namespace of its own, whose process stands for PID 1."""
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo ready; while read what; do $what; done"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told, answers = process.stdin, process.stdout
        assert told is not None
        assert answers is not None
        assert answers.readline() == "ready\n"
        (tree.root / "proc/1").rename(tree.root / "proc/made-up")
        (tree.root / "proc/1").symlink_to(f"/proc/{process.pid}")

        def run(command: str) -> None:
            told.write(command + "\n")
            told.flush()

        yield run
        told.close()


@ROOT
def test_mounts_are_told_and_again(
    tree: SysfsTree, sockets: dict[str, socket.socket], mounting: Callable[[str], None], tmp_path: Path
) -> None:
    with watching(tree.root) as changed:
        for command in (f"mount -t tmpfs one {tmp_path}", f"umount {tmp_path}", f"mount -t tmpfs two {tmp_path}"):
            changed.clear()
            mounting(command)
            assert changed.wait(DEADLINE), command


@ROOT
def test_a_mount_is_told_once_and_files_that_can_be_read_are_no_change(
    tree: SysfsTree, mounting: Callable[[str], None], tmp_path: Path
) -> None:
    """Else the thread would turn in circles."""
    sources = [kernel_events._file(p, tree.root / p) for p in ("proc/1/mountinfo", "proc/swaps")]
    sources.append(kernel_events._file("swaps", Path("/proc/swaps")))
    poll = select.poll()
    for source in sources:
        poll.register(source.descriptor, source.events)
    assert poll.poll(0) == []
    mounting(f"mount -t tmpfs one {tmp_path}")
    assert [descriptor for descriptor, _ in poll.poll(DEADLINE * 1000)] == [sources[0].descriptor]
    assert poll.poll(0) == []
    for source in sources:
        source.close()


def test_the_real_sources_can_all_be_had(caplog: pytest.LogCaptureFixture) -> None:
    with watching(Path("/")):
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert next(t for t in threading.enumerate() if t.name == "kernel-events").daemon


# -- what it makes of events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsystem", ["pci", "net", "block", "mdev", "vdpa", "tpm", "drm", "graphics", "nvme"])
@pytest.mark.parametrize("action", ["add", "remove", "bind", "unbind", "change", "move"])
def test_uevents_of_devices_are_changes(subsystem: str, action: str) -> None:
    assert kernel_events._is_ours(uevent(subsystem, action))


@pytest.mark.parametrize(
    "message",
    [uevent("cpu"), uevent("pci", "online"), uevent("power_supply"), b"", b"libudev\0\xfe\xed\xca\xfe", b"\0\0\0=\0=="],
)
def test_other_uevents_are_none(message: bytes) -> None:
    assert not kernel_events._is_ours(message)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], False),
        ([uevent("cpu"), uevent("cpu")], False),
        ([b"FORGED" + uevent("pci")], False),
        ([uevent("pci"), uevent("cpu")], True),
        ([b"ENOBUFS", uevent("cpu")], True),
    ],
)
def test_only_what_is_wanted_and_from_the_kernel_is_a_change_and_all_is_taken(
    messages: list[bytes],
    expected: bool,  # noqa: FBT001
) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there, Datagrams(there) as connection:
        connection.setblocking(False)
        for message in messages:
            here.send(message)
        assert kernel_events._receive(connection, kernel_events._is_ours) is expected
        assert kernel_events._receive(connection, lambda _message: True) is False


@pytest.mark.parametrize("name", ["uevents", "rtnetlink"])
def test_messages_that_were_lost_count(tree: SysfsTree, sockets: dict[str, socket.socket], name: str) -> None:
    with watching(tree.root) as changed:
        sockets[name].send(b"ENOBUFS")
        assert changed.wait(DEADLINE)
        changed.clear()
        sockets[name].send(uevent("pci"))
        assert changed.wait(DEADLINE)


def test_a_source_that_fails_is_told_once_and_the_others_go_on(
    tree: SysfsTree, sockets: dict[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    with watching(tree.root) as changed:
        sockets["rtnetlink"].send(b"EIO")
        assert changed.wait(DEADLINE)
        changed.clear()
        sockets["uevents"].send(uevent("pci"))
        assert changed.wait(DEADLINE)
    assert [r.message.split(":")[0] for r in caplog.records] == ["changes of the host are no longer told by rtnetlink"]


def test_a_source_that_cannot_be_had_is_logged_and_missed(
    tree: SysfsTree,
    sockets: dict[str, socket.socket],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tree.root / "proc/1/mountinfo").unlink()
    (tree.root / "proc/swaps").unlink()
    with watching(tree.root) as changed:
        sockets["uevents"].send(uevent("pci"))
        assert changed.wait(DEADLINE)
    assert [r.message.partition(" by ")[2].split(":")[0] for r in caplog.records] == ["mountinfo", "swaps"]


def test_a_burst_is_told_once_and_one_that_does_not_end_is_told_soon(
    tree: SysfsTree, sockets: dict[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_events, "_QUIET_SECONDS", DEADLINE)
    calls: list[float] = []
    told = threading.Event()

    def tell() -> None:
        calls.append(time.monotonic())
        told.set()

    events = KernelEvents(tree.root, tell)
    events.start()
    start = time.monotonic()
    sent = 0
    while not told.is_set() and time.monotonic() < start + DEADLINE:
        sockets["uevents"].send(uevent("pci"))
        sent += 1
        told.wait(0.01)
    events.stop()
    assert sent > 1
    assert len(calls) == 1
    assert kernel_events._LONGEST_BATCH_SECONDS <= calls[0] - start < DEADLINE


def test_an_error_of_who_is_told_ends_nothing(
    tree: SysfsTree,
    sockets: dict[str, socket.socket],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_events, "_RETRY_SECONDS", 0.0)
    calls = 0
    told = threading.Event()

    def failing() -> None:
        nonlocal calls
        calls += 1
        told.set()
        if calls == 1:
            raise ZeroDivisionError

    events = KernelEvents(tree.root, failing)
    events.start()
    for _ in range(2):
        told.clear()
        sockets["uevents"].send(uevent("pci"))
        assert told.wait(DEADLINE)
    events.stop()
    assert calls == 2
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [ZeroDivisionError]


def test_it_can_be_stopped_by_who_is_told_twice_and_before_it_has_started(
    tree: SysfsTree, sockets: dict[str, socket.socket]
) -> None:
    def stop() -> None:
        events.stop()

    events = KernelEvents(tree.root, stop)
    events.stop()
    events.start()
    events.start()
    thread = events._thread
    assert thread is not None
    sockets["uevents"].send(uevent("pci"))
    thread.join(DEADLINE)
    assert not thread.is_alive()
    events.stop()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_leaves_no_open_file_behind(tree: SysfsTree) -> None:
    before = open_files()
    for _ in range(3):
        with watching(tree.root):
            assert open_files() > before
    assert open_files() == before
