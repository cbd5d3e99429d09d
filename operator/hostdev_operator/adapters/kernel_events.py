"""Tells when the host's devices, network, mounts or swap have changed, without looking again and again.

Sources: the kernel's uevents (netlink(7), NETLINK_KOBJECT_UEVENT), rtnetlink(7), and the files of /proc that poll(2)
tells of (proc(5): mountinfo, swaps). None needs a capability, but both sockets show the network namespace of this
process.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_NETLINK_KOBJECT_UEVENT, _KERNELS_GROUP = 15, 1
# linux/rtnetlink.h: links, IPv4 addresses and routes, IPv6 addresses and routes.
_ROUTE_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_RECEIVE_BUFFER = 1 << 20
_MESSAGE = 1 << 16
_SUBSYSTEMS = frozenset(
    [
        "block",
        "drm",
        "fc_host",
        "graphics",
        "iscsi_connection",
        "iscsi_host",
        "iscsi_session",
        "mdev",
        "net",
        "nvme",
        "nvme-subsystem",
        "pci",
        "scsi_host",
        "tpm",
        "vdpa",
        "virtio",
    ]
)
_ACTIONS = frozenset(["add", "remove", "bind", "unbind", "change", "move"])

_QUIET_SECONDS = 0.05
_LONGEST_BATCH_SECONDS = 0.5
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class _Source:
    """What is waited for. ``read`` takes what has arrived, and tells whether it is a change."""

    name: str
    descriptor: int
    events: int
    read: Callable[[], bool]
    close: Callable[[], None]


class KernelEvents:
    """Calls ``on_change`` in a thread of its own, once for each burst of events; it never ends by an error.

    A source that cannot be had is logged, and missed: there must be a scan now and then.
    """

    def __init__(self, host_root: Path, on_change: Callable[[], None]) -> None:
        self._root = host_root
        self._on_change = on_change
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._sources: dict[int, _Source] = {}
        self._poll = select.poll()
        self._wake = -1

    def start(self) -> None:
        """Open all sources: what happens after this has returned is told."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._poll = select.poll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.POLLIN)
        for name, make in self._makers().items():
            try:
                source = make(name)
                self._sources[source.descriptor] = source
                self._poll.register(source.descriptor, source.events)
            except OSError as error:
                log.warning("changes of the host are not told by %s: %s", name, error)
        self._thread = threading.Thread(target=self._run, name="kernel-events", daemon=True)
        self._thread.start()

    def _makers(self) -> dict[str, Callable[[str], _Source]]:
        proc = self._root / "proc"
        return {
            "uevents": lambda name: _netlink(name, _NETLINK_KOBJECT_UEVENT, _KERNELS_GROUP, _is_ours),
            "rtnetlink": lambda name: _netlink(name, socket.NETLINK_ROUTE, _ROUTE_GROUPS, lambda _message: True),
            "mountinfo": lambda name: _file(name, proc / "1/mountinfo"),
            "swaps": lambda name: _file(name, proc / "swaps"),
        }

    def stop(self) -> None:
        """End the thread. on_change is not called any more when this has returned, unless it has called this."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        os.eventfd_write(self._wake, 1)
        if thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._changed(None):
                    self._rest_of_burst()
                    if not self._stop.is_set():
                        self._on_change()
            except Exception:
                log.exception("telling a change of the host")
                self._stop.wait(_RETRY_SECONDS)
        self._close()

    def _rest_of_burst(self) -> None:
        """Until nothing has come for a moment, but not for long."""
        end = time.monotonic() + _LONGEST_BATCH_SECONDS
        while not self._stop.is_set() and time.monotonic() < end and self._changed(_QUIET_SECONDS):
            pass

    def _changed(self, seconds: float | None) -> bool:
        """Wait until something comes; whether one of it is a change. All of it is taken."""
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        taken = [self._take(self._sources[d], events) for d, events in ready if d != self._wake]  # all of them
        return any(taken)

    def _take(self, source: _Source, events: int) -> bool:
        if events & (select.POLLNVAL | select.POLLHUP):
            return self._drop(source, "it has ended")
        try:
            return source.read()
        except OSError as error:
            return self._drop(source, str(error))

    def _drop(self, source: _Source, why: str) -> bool:
        """A source that fails would be ready for ever; what it had to tell is not known."""
        log.warning("changes of the host are no longer told by %s: %s", source.name, why)
        self._poll.unregister(source.descriptor)
        del self._sources[source.descriptor]
        source.close()
        return True

    def _close(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        os.close(self._wake)


def _netlink(name: str, protocol: int, groups: int, wanted: Callable[[bytes], bool]) -> _Source:
    connection = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        connection.bind((0, groups))
    except OSError:
        connection.close()
        raise
    return _Source(name, connection.fileno(), select.POLLIN, lambda: _receive(connection, wanted), connection.close)


def _receive(connection: socket.socket, wanted: Callable[[bytes], bool]) -> bool:
    """Take all messages; whether one is wanted, or some were lost (ENOBUFS)."""
    found = False
    while True:
        try:
            message, sender = connection.recvfrom(_MESSAGE)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = True
        else:
            from_kernel = sender[0] == 0  # any process may send to a group of uevents
            found = found or (from_kernel and wanted(message))


def _is_ours(message: bytes) -> bool:
    """A uevent: a headline, then KEY=value, all ended by NUL."""
    fields = dict(part.partition("=")[::2] for part in message.decode(errors="replace").split("\0")[1:])
    return fields.get("SUBSYSTEM") in _SUBSYSTEMS and fields.get("ACTION") in _ACTIONS


def _file(name: str, path: Path) -> _Source:
    """POLLPRI and POLLERR tell of a change since the last poll: asking clears it, nothing has to be read.

    (mounts_poll and swaps_poll of the kernel.) POLLIN is not asked for: such a file is always readable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return _Source(name, descriptor, select.POLLPRI | select.POLLERR, lambda: True, lambda: os.close(descriptor))
