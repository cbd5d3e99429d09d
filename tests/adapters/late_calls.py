"""Calls that missed their deadline give their slots back when they return."""

from __future__ import annotations

import time

from hostdev_operator.adapters import deadline

_SECONDS = 20.0


def wait_for_late_calls() -> None:
    """Until every call that was left behind has returned."""
    end = time.monotonic() + _SECONDS
    while deadline.late():
        assert time.monotonic() < end, deadline.late()
        time.sleep(0.01)
