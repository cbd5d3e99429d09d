"""One libvirt connection that comes back: events, keepalive, reconnect.

Order matters (libvirt, "Event loop"): the event implementation is registered before the first open, and one thread
runs it; callbacks arrive in that thread and must return at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import libvirt

from ..core import reasons
from ..core.errors import HostError
from ..core.intent import ALIAS_PREFIX
from . import deadline

log = logging.getLogger(__name__)

OPEN_SECONDS = 15.0
_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 5, 3
_event_loop_started = threading.Lock()


def _start_event_loop() -> None:
    """Once for the process; a second call does nothing."""
    if not _event_loop_started.acquire(blocking=False):
        return
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; not printed as well
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt events", daemon=True).start()


class LibvirtConnection:
    """Opens the connection when it is asked for, and tells ``on_change`` of everything that happens behind it.

    ``read_only``: libvirt itself refuses whatever would change anything.
    """

    def __init__(self, uri: str, on_change: Callable[[], None], *, read_only: bool = False) -> None:
        self._uri = uri
        self._open_it = libvirt.openReadOnly if read_only else libvirt.open
        self._on_change = on_change
        self._lock = threading.Lock()
        self._connection: Any = None
        #: Unplug requests that guests have refused: (domain's UUID, the device's alias).
        self.rejections: set[tuple[str, str]] = set()
        #: Those that we have made, for devices without an alias of ours as well: adopted ones have none.
        self.asked: set[tuple[str, str]] = set()

    @property
    def connected(self) -> bool:
        """Whether a connection is open, without trying."""
        return self._connection is not None

    def get(self) -> Any:
        """The open connection; HostError LibvirtUnavailable if it cannot be opened."""
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        _start_event_loop()
        what = f"opening {self._uri}"
        try:
            connection = deadline.call(self._connect, OPEN_SECONDS, reasons.LIBVIRT_UNAVAILABLE, what)
        except libvirt.libvirtError as error:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, f"{what}: {error}") from error
        log.info("connected to libvirt at %s", self._uri)
        return connection

    def _connect(self) -> Any:
        """Open, then keepalive, so that a libvirtd that hangs in what follows ends the connection, then events."""
        connection = self._open_it(self._uri)
        self.rejections.clear()
        self.asked.clear()
        # not every driver has everything: test:// has no keepalive
        with contextlib.suppress(libvirt.libvirtError):
            connection.setKeepAlive(_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT)
        connection.registerCloseCallback(self._closed, connection)
        for event in (
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
        ):
            connection.domainEventRegisterAny(None, event, self._changed, None)
        event = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED
        connection.domainEventRegisterAny(None, event, self._rejected, None)
        with contextlib.suppress(libvirt.libvirtError):
            connection.storagePoolEventRegisterAny(
                None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, self._changed, None
            )
        with contextlib.suppress(libvirt.libvirtError):
            connection.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, self._changed, None)
        with contextlib.suppress(libvirt.libvirtError):
            connection.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, self._changed, None)
        return connection

    def _changed(self, *_details: object) -> None:
        self._on_change()

    def _rejected(self, _connection: Any, domain: Any, alias: str, _opaque: object) -> None:
        device = domain.UUIDString(), alias
        if alias.startswith(ALIAS_PREFIX) or device in self.asked:
            self.rejections.add(device)
        self._on_change()

    def _closed(self, connection: Any, reason: int, _opaque: object) -> None:
        log.warning("libvirt closed the connection (reason %d)", reason)
        self.lost(connection)

    def lost(self, connection: Any) -> None:
        """This connection is dead: it is closed, which ends the calls that hang on it, and ``get`` opens a new one."""
        if self._connection is connection:
            self._connection = None
            # closing talks to libvirtd, and this may be libvirt's own event thread: neither must wait for it
            threading.Thread(target=_close, args=(connection,), name="closing libvirt", daemon=True).start()
            self._on_change()


def _close(connection: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()
