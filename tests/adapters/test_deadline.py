from __future__ import annotations

import threading

import pytest

from hostdev_operator.adapters import deadline
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from tests.adapters.late_calls import wait_for_late_calls

LONG = 20.0


def test_the_answer_comes_through() -> None:
    assert deadline.call(lambda: 42, LONG, reasons.DETACH_BLOCKED, "x") == 42


def test_an_exception_comes_through_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        deadline.call(lambda: 1 // 0, LONG, reasons.DETACH_BLOCKED, "x")


def test_a_call_that_hangs_is_left_behind_and_named() -> None:
    leave = threading.Event()
    try:
        with pytest.raises(HostError, match=r"detaching 0000:01:00\.0 did not return within 0 s") as caught:
            deadline.call(leave.wait, 0.01, reasons.DETACH_BLOCKED, "detaching 0000:01:00.0")
        assert caught.value.reason is reasons.DETACH_BLOCKED
        assert deadline.call(lambda: "others go on", LONG, reasons.DETACH_BLOCKED, "x") == "others go on"
    finally:
        leave.set()
        wait_for_late_calls()


def test_calls_that_never_return_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_slots", threading.BoundedSemaphore(2))
    leave = threading.Event()

    def hang() -> None:
        leave.wait(LONG)

    for what in ("a", "b"):
        with pytest.raises(HostError, match="did not return"):
            deadline.call(hang, 0.0, reasons.DETACH_BLOCKED, what)
    assert deadline.late() == {"a", "b"}
    with pytest.raises(HostError, match="an earlier attempt has not returned"):
        deadline.call(lambda: 1, LONG, reasons.DETACH_BLOCKED, "a")
    with pytest.raises(HostError, match="not tried") as caught:
        deadline.call(lambda: 1, LONG, reasons.REATTACH_BLOCKED, "y")
    assert caught.value.reason is reasons.REATTACH_BLOCKED
    leave.set()
    wait_for_late_calls()
    assert deadline.call(lambda: 1, LONG, reasons.DETACH_BLOCKED, "a") == 1


def test_a_call_that_fails_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_slots", threading.BoundedSemaphore(1))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            deadline.call(lambda: 1 // 0, LONG, reasons.DETACH_BLOCKED, "x")


def test_threads_are_used_again() -> None:
    names = [deadline.call(threading.get_ident, LONG, reasons.DETACH_BLOCKED, "x") for _ in range(5)]
    assert len(set(names)) == 1 != threading.get_ident()
