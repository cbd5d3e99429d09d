"""Locks by name, taken in a fixed order, so that what touches the same group or guest never overlaps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class NamedLocks:
    """One lock for each name such as ``group/12`` or ``domain/UUID``; names are few and never forgotten."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def hold(self, names: frozenset[str]) -> Iterator[None]:
        """Hold all of these locks. They are taken in sorted order: two holders cannot block each other."""
        with ExitStack() as stack:
            for name in sorted(names):
                with self._guard:
                    lock = self._locks.setdefault(name, threading.Lock())
                stack.enter_context(lock)
            yield
