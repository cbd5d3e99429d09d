"""Deadlines for calls that can hang in the kernel or in libvirtd: the caller goes on, the call is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from ..core.errors import HostError
from ..core.reasons import Reason

T = TypeVar("T")


class NotTriedError(HostError):
    """Earlier calls have not returned: this one says nothing of what it would have been made on."""


#: Calls that may be under way at once, those that never return included. Beyond it new ones fail at once.
MAX_CALLS = 32
_slots = threading.BoundedSemaphore(MAX_CALLS)
_lock = threading.Lock()
_late: set[str] = set()
_idle: list[_Worker] = []


class _Worker:
    """A thread that makes one call after another: to start one costs as much as a short call to libvirtd.

    It is a daemon: a call that hangs does not keep the agent from ending.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[_Worker], None]] = SimpleQueue()
        threading.Thread(target=self._run, name="call with a deadline", daemon=True).start()

    def make(self, call: Callable[[_Worker], None]) -> None:
        """Begin a call. It must put the worker back among the idle ones."""
        self._calls.put(call)

    def _run(self) -> None:
        while True:
            self._calls.get()(self)


def _worker() -> _Worker:
    with _lock:
        if _idle:
            return _idle.pop()
    return _Worker()


def late() -> frozenset[str]:
    """The ``what`` of calls that missed their deadline and have not returned since."""
    with _lock:
        return frozenset(_late)


def call(work: Callable[[], T], seconds: float, reason: Reason, what: str) -> T:
    """Run ``work`` in another thread; HostError(reason) if it takes longer than ``seconds``.

    A thread cannot be ended, so a call that hangs keeps its slot: ``what`` must name the device and the call, for the
    message says who blocks.
    """
    with _lock:
        if what in _late:
            raise NotTriedError(reason, f"{what}: an earlier attempt has not returned yet")
    if not _slots.acquire(blocking=False):
        raise NotTriedError(reason, f"{what}: not tried, {MAX_CALLS} earlier calls have not returned")
    done = threading.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run(worker: _Worker) -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller whatever it is
            failure.append(error)
        finally:
            _slots.release()
            with _lock:
                _late.discard(what)
                _idle.append(worker)
                done.set()

    try:
        _worker().make(run)
    except RuntimeError:  # the host has no thread left to give
        _slots.release()
        raise
    if not done.wait(seconds):
        with _lock:
            if not done.is_set():
                _late.add(what)
                raise HostError(reason, f"{what} did not return within {seconds:.0f} s")
    if failure:
        raise failure[0]
    return outcome[0]
