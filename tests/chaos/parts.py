"""Made-up parts of the world: the host as the campaign sees it, the clock, the event loop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.simulation.host import FakeHost
from tests.shell.loop import ControlledLoop

#: What a call that hangs takes until its deadline.
HANG_SECONDS = 60.0
NO_BUSY_LOOP = "no busy loop"
#: Turns of the event loop in one moment; a host event that wakes everything takes some dozens.
_TURNS = 3000


class Killed(BaseException):
    """The process is no more. No Exception: nothing of the product may catch it."""


class ChaosHost(FakeHost):
    """Tells of every change by the product before and after it, and of every fault that strikes."""

    def __init__(self, *devices: Any) -> None:
        super().__init__(*devices)
        self.changed: Callable[[str], None] = lambda _call: None
        self.struck: Callable[[HostError], None] = lambda _error: None

    @contextmanager
    def change(self, call: str) -> Any:
        address = call.split()[1]
        if "driver" in call and PciAddress.parse(address) in self.blocked:
            reason = reasons.DETACH_BLOCKED if "detach" in call else reasons.REATTACH_BLOCKED
            raise HostError(reason, f"{call}: an earlier attempt has not returned yet")
        try:
            with super().change(call):
                yield
        finally:
            self.changed(call)

    def trip(self, call: str, *, after: bool) -> None:
        try:
            super().trip(call, after=after)
        except HostError as error:
            if error.reason in (reasons.DETACH_BLOCKED, reasons.REATTACH_BLOCKED):
                address = PciAddress.parse(call.split()[1])
                self.blocked.add(address)
                error.message = (
                    f"{call.split(maxsplit=1)[0]} of {address} from {self.devices[address].driver} did not return"
                )
            self.struck(error)
            raise


class Runaway(BaseException):
    """Something is done again and again, and no time passes."""


def has_run_away(error: BaseException) -> bool:
    """Also within a group of errors."""
    return isinstance(error, Runaway) or (
        isinstance(error, BaseExceptionGroup) and any(map(has_run_away, error.exceptions))
    )


class ChaosLoop(ControlledLoop):
    """Ends what never waits."""

    _turns = 0
    _at = -1.0

    def turn(self) -> None:
        """Something begins: a turn of the loop, or a run of the engine, which may never give the loop a turn."""
        self._turns, self._at = (self._turns + 1 if self._at == self.now else 0), self.now
        if self._turns > _TURNS:
            self._turns = 0
            raise Runaway

    def _run_once(self) -> None:
        self.turn()
        super()._run_once()  # type: ignore[misc]


class Clock:
    """The wall clock can jump; the other one cannot."""

    def __init__(self, loop: ControlledLoop) -> None:
        self._loop = loop
        self.jumped = 0.0

    def now(self) -> str:
        seconds = int(self._loop.now + self.jumped) % (28 * 86400)
        day, rest = divmod(seconds, 86400)
        return f"2026-02-{day + 1:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}Z"

    def monotonic(self) -> float:
        return self._loop.now


class InPlace:
    """An executor that does the work at once, so that a run is the same each time."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - handed on, as an executor does
            future.set_exception(error)
        return future
