from __future__ import annotations

import threading

import pytest

from hostdev_operator.reconcile.bound import Result
from hostdev_operator.reconcile.locks import NamedLocks
from tests.fakes.samples import DB, MATE, NIC, OTHER_UID, WEB, assignment, small_host
from tests.reconcile.running import Engine, ready

PATIENCE = 20.0


@pytest.mark.parametrize("first", [NIC, MATE])
def test_of_two_assignments_for_one_group_exactly_one_wins(first: object) -> None:
    """The second starts while the first is between looking and recording, and looks before it is done."""
    host = small_host()
    engine = Engine(host)
    objects = [assignment(NIC), assignment(MATE, uid=OTHER_UID, guest=DB)]
    if first == MATE:
        objects.reverse()
    results: dict[str, Result] = {}
    looked = threading.Event()

    def run_second() -> None:
        results["second"] = engine.reconciler.reconcile(objects[1])

    second = threading.Thread(target=run_second)

    def hook(call: str) -> None:
        if threading.current_thread() is second:
            looked.set()
        elif call.startswith("save") and not second.is_alive():
            second.start()
            assert looked.wait(PATIENCE)

    host.hook = hook
    results["first"] = engine.reconciler.reconcile(objects[0])
    second.join(PATIENCE)
    assert ready(results["first"]) == ("True", "Assigned")
    assert ready(results["second"])[1] in ("DeviceInUse", "GroupInUse")
    assert sorted(len(host.guests[uuid].hostdevs()) for uuid in (WEB, DB)) == [0, 1]
    assert len(host.records) == 1


def test_locks_of_one_name_exclude_and_of_others_do_not() -> None:
    locks = NamedLocks()
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def holder() -> None:
        with locks.hold(frozenset({"group/1", "domain/a"})):
            inside.set()
            leave.wait(PATIENCE)
            order.append("holder")

    def waiter() -> None:
        with locks.hold(frozenset({"group/1", "domain/b"})):
            order.append("waiter")

    threads = [threading.Thread(target=holder), threading.Thread(target=waiter)]
    threads[0].start()
    assert inside.wait(PATIENCE)
    threads[1].start()
    with locks.hold(frozenset({"group/2"})):
        order.append("other")
    leave.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["other", "holder", "waiter"]


def test_crossed_names_do_not_block_each_other() -> None:
    locks = NamedLocks()
    done: list[int] = []

    def work(number: int) -> None:
        names = frozenset({"a", "b", "c"} - {"abc"[number % 3]})
        for _ in range(200):
            with locks.hold(names):
                pass
        done.append(number)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(done) == list(range(6))
