"""Bugs that are planted on purpose: each must be found. Nothing of this is in the product; its functions are replaced.

A mutant is a context: inside, the product has the bug. To add one: a function here with @mutant, which names the
invariants that may tell of it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from hostdev_operator.adapters import journal
from hostdev_operator.core import (
    actions,
    approval,
    checks,
    drift,
    nic_checks,
    pool_actions,
    pool_checks,
    pool_plan,
    release,
)
from hostdev_operator.core.assignment_status import Outcome
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.plan import Plan
from hostdev_operator.core.record import Record
from hostdev_operator.reconcile import apply, assignment, looker, pool_apply
from hostdev_operator.reconcile.bound import Assignment, Result
from hostdev_operator.reconcile.release import Releaser
from hostdev_operator.shell import agent, host_report, pool_work
from tests.chaos.disk import Disk
from tests.chaos.invariants import (
    ASKED,
    IN_USE,
    NEEDED,
    NETWORK_KEPT,
    NOT_SPLIT,
    ONE_AGENT,
    ONE_OWNER,
    OWNED,
    RECORDED,
    RESTORABLE,
    RESTORED,
    VFS_KEPT,
)
from tests.chaos.parts import NO_BUSY_LOOP
from tests.chaos.quiet import INNOCENT, NO_HALF, NO_WRITES, PUT_RIGHT, RECOVERED, SETTLES, TRUTHFUL, WHY

Plant = Callable[[ExitStack], None]


@dataclass(frozen=True)
class Mutant:
    """How it is planted, and which invariants may tell of it."""

    plant: Plant
    breaks: frozenset[str]


MUTANTS: dict[str, Mutant] = {}


def mutant(*breaks: str) -> Callable[[Plant], Plant]:
    """Register one by its function's name."""

    def register(plant: Plant) -> Plant:
        MUTANTS[plant.__name__.replace("_", "-")] = Mutant(plant, frozenset(breaks))
        return plant

    return register


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The product with this bug; as it is without a name. KeyError if there is no such mutant."""
    with ExitStack() as stack:
        if name:
            MUTANTS[name].plant(stack)
        yield


def _set(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    entered: AbstractContextManager[Any] = patch.object(owner, name, value)
    stack.enter_context(entered)


def _without_checks(stack: ExitStack, *left_out: checks.Check) -> None:
    """Of those that stand before a change for an assignment of a device."""
    from hostdev_operator.core import plan

    kept = tuple(check for check in nic_checks.CHECKS if check not in left_out)
    _set(stack, plan, "CHECKS", kept)


@mutant(RECORDED)
def no_journal(stack: ExitStack) -> None:
    """The record is not written before the first change."""
    stack.enter_context(patch.dict(apply._PERFORM, {actions.WriteRecord: lambda _action, _host: None}))


@mutant(RECORDED)
def no_fsync(stack: ExitStack) -> None:
    """The record is written, and may be lost with the power."""
    _set(stack, Disk, "fsync", lambda _disk, _descriptor: None)


@mutant(ONE_OWNER, NOT_SPLIT)
def no_group_check(stack: ExitStack) -> None:
    """A group's endpoints are given to two guests."""
    _without_checks(stack, checks.device_is_free, checks.mates_are_free)


@mutant(WHY, TRUTHFUL, NOT_SPLIT)
def mates_left_behind(stack: ExitStack) -> None:
    """Only the device itself is taken from the host, not its group."""
    from hostdev_operator.core import plan

    _set(stack, plan, "not_held", lambda device, _mates, record: (device,) if not record.managed else ())


@mutant(NEEDED)
def guard_ignored(stack: ExitStack) -> None:
    """What the host needs is taken all the same."""
    _without_checks(stack, checks.host_can_spare_it)
    _set(stack, apply, "_still_spared", lambda _address, _host: None)


@mutant(OWNED)
def wrong_restore_order(stack: ExitStack) -> None:
    """The record is dropped first, and the drivers are given back after it."""
    old = release.plan_release

    def plan_release(uid: str, host: Any, *how: Any) -> Any:
        plan = old(uid, host, *how)
        if not isinstance(plan, Plan):
            return plan
        last = sorted(plan.actions, key=lambda a: isinstance(a, actions.ReturnDriver))
        return Plan(tuple(last))

    from hostdev_operator.reconcile import release as releaser

    _set(stack, releaser, "plan_release", plan_release)


@mutant(IN_USE, OWNED, ONE_OWNER)
def unplug_without_the_event(stack: ExitStack) -> None:
    """That libvirt took the request counts as the guest's having let go."""

    def unplug(action: actions.UnplugHostdev, host: Any) -> None:
        try:
            host.hypervisor.unplug_hostdev(action)
        except HostError as error:
            if "Unplug" not in str(error.reason):
                raise

    stack.enter_context(patch.dict(apply._PERFORM, {actions.UnplugHostdev: unplug}))
    _set(stack, release, "_still_held", lambda *_a, **_k: None)
    _set(stack, Releaser, "undo", _undo_without_looking)


def _undo_without_looking(self: Releaser, uid: str, owner: str, seen: Any, phase: str, manner: Any) -> None:
    """What undo would be if it took libvirt's word."""
    plan = release.plan_release(uid, seen, manner)
    if isinstance(plan, Plan):
        self._apply(plan, owner, phase)


@mutant(ASKED)
def orphans_released(stack: ExitStack) -> None:
    """A record without an assignment is given back, though nobody asked for it."""

    async def release_orphans(self: host_report.HostReport, alive: frozenset[str]) -> dict[str, str]:
        for orphan in self._reporter.orphans(alive, frozenset()):
            self._release(orphan)
        return {}

    async def report(self: host_report.HostReport) -> None:
        alive = self._alive()
        if alive is not None:
            await release_orphans(self, alive)
        await old(self)

    old = host_report.HostReport.report
    _set(stack, host_report.HostReport, "report", report)


@mutant(VFS_KEPT)
def vf_count_lowered_in_use(stack: ExitStack) -> None:
    """The number of VFs is changed whoever uses them."""
    _set(stack, pool_plan, "COUNT", (pool_checks.pf_can_be_spared,))


@mutant(NETWORK_KEPT)
def network_stopped_in_use(stack: ExitStack) -> None:
    """A pool's network is restarted under its guests."""
    _set(stack, pool_plan, "on_network", lambda _network, _host: ())
    from hostdev_operator.core.pool_network import PoolCase

    _set(stack, PoolCase, "network_users", property(lambda _case: ()))

    def stop(action: pool_actions.StopNetwork, host: Any) -> None:
        """As virsh net-destroy does, which does not look."""
        made = host.hypervisor._host
        made.hook(f"stop_network {action.name}")
        made.networks.destroy(action.name)

    stack.enter_context(patch.dict(pool_apply._PERFORM, {pool_actions.StopNetwork: stop}))


@mutant(WHY, NO_HALF, TRUTHFUL)
def stale_observation_after_failure(stack: ExitStack) -> None:
    """After a failure, and ever after it, what counts is how the host was before."""
    old = assignment.AssignmentReconciler._after_failure

    def after_failure(self: Any, obj: Any, wish: Any, attempt: Any, failure: Any) -> Any:
        with patch.object(self._looker, "fresh", lambda: attempt.before):
            result = old(self, obj, wish, attempt, failure)
        self._failures.holds_back = lambda _uid, _inputs: Outcome(failed=failure)
        return result

    _set(stack, assignment.AssignmentReconciler, "_after_failure", after_failure)


@mutant(TRUTHFUL, NO_HALF)
def no_rollback(stack: ExitStack) -> None:
    """A claim that failed is left half done."""
    from hostdev_operator.core import kinds

    device = replace(kinds.DEVICE, is_half_done=lambda _intent, _host, _plugged: False)
    _set(stack, kinds, "DEVICE", device)


@mutant(ONE_AGENT)
def second_agent_allowed(stack: ExitStack) -> None:
    """The lock on the state directory is not taken."""

    class Unlocked:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        @staticmethod
        def flock(_descriptor: int, _how: int) -> None:
            return

    _set(stack, journal, "fcntl", Unlocked)


@mutant(RESTORED)
def vf_settings_not_restored(stack: ExitStack) -> None:
    """A VF is given back with the trust and the MAC address that its guest had."""
    _set(stack, release, "to_restore", lambda _record, _host: ())


@mutant(RESTORABLE)
def original_driver_forgotten(stack: ExitStack) -> None:
    """A second record of a group takes vfio-pci for what was there before."""
    old = Record.from_json.__func__  # type: ignore[attr-defined]

    def from_json(cls: type[Record], text: str) -> Record:
        record: Record = old(cls, text)
        return replace(record, members=tuple(replace(m, driver="vfio-pci") for m in record.members))

    _set(stack, Record, "from_json", classmethod(from_json))


@mutant(ASKED, NO_BUSY_LOOP)
def release_unasked(stack: ExitStack) -> None:
    """An assignment is given back as soon as its guest is not there."""
    old = assignment.AssignmentReconciler.reconcile

    def reconcile(self: assignment.AssignmentReconciler, obj: Assignment) -> Result:
        gone = all(xml.uuid != obj.status.domain_uuid for xml in self._host.hypervisor.guests())
        return old(self, replace(obj, deleting=True) if gone else obj)

    _set(stack, assignment.AssignmentReconciler, "reconcile", reconcile)


@mutant(NO_WRITES, SETTLES)
def scan_that_always_finds(stack: ExitStack) -> None:
    """Each scan of the host counts as news, and each report is written whether it differs or not."""

    async def report(self: host_report.HostReport) -> None:
        self._written = False
        await old(self)

    old = host_report.HostReport.report
    _set(stack, host_report.HostReport, "report", report)
    _set(stack, looker.Looker, "differed", lambda _self: True)


@mutant(NO_BUSY_LOOP)
def pool_wakes_itself(stack: ExitStack) -> None:
    """A pool that was given back tells all others again and again, itself among them."""
    old = pool_work.PoolWork._report

    async def report(self: pool_work.PoolWork, body: Any, obj: Any, result: Any) -> None:
        await old(self, body, obj, result)
        if result.released:
            self._calls.freed()

    _set(stack, pool_work.PoolWork, "_report", report)


@mutant(RECOVERED, TRUTHFUL)
def libvirt_not_reconnected(stack: ExitStack) -> None:
    """After libvirtd was away nobody looks again."""
    old = agent.Agent.host_changed

    def host_changed(self: agent.Agent) -> None:
        if self._senses.connected():
            old(self)

    async def watch_libvirt(self: agent.Agent) -> None:
        with suppress(HostError):
            self._senses.connect()

    _set(stack, agent.Agent, "watch_libvirt", watch_libvirt)
    _set(stack, agent.Agent, "host_changed", host_changed)


@mutant(INNOCENT)
def reboot_is_drift(stack: ExitStack) -> None:
    """What a reboot has changed is held against somebody."""

    def same(before: Any, now: Any) -> bool:
        return before is not None and now is not None and before.wanted == now.wanted

    _set(stack, drift, "stood", same)


@mutant(PUT_RIGHT)
def drift_is_never_put_right(stack: ExitStack) -> None:
    """DriftPolicy Correct is taken for Report."""
    _set(stack, approval, "CORRECT", "Corrects")
