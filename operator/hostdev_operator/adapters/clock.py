"""The system's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Clock of ports.py."""

    def now(self) -> str:
        """RFC 3339 in UTC, to the second, as metav1.Time is."""
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()


def seconds_of_life() -> float:
    """Seconds that only grow, also while the machine sleeps (CLOCK_BOOTTIME): for a lease that others see run out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
