"""An event loop whose clock the test moves: timers fire in order, threads' work is done in place, nothing waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _NoWaiting(selectors.SelectSelector):
    """Where another selector would wait for the next timer, the clock goes there."""

    loop: ControlledLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("the test waits for something that never happens")
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class ControlledLoop(asyncio.SelectorEventLoop):
    """Time is what was slept: a backoff of minutes takes none."""

    def __init__(self) -> None:
        selector = _NoWaiting()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed on, as an executor does
            future.set_exception(error)
        return future


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of a coroutine, on such a loop."""

    def wrapped() -> None:
        with asyncio.Runner(loop_factory=ControlledLoop) as runner:
            runner.run(test())

    wrapped.__name__ = test.__name__
    return wrapped
