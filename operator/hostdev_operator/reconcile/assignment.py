"""One assignment on its node: observe, plan, apply, report."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ..api.common import Condition
from ..api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from ..core import conditions, reasons
from ..core.actions import RemoveHostdev
from ..core.assignment_status import Outcome, assignment_status, record_from_status
from ..core.checks import Refusal
from ..core.errors import HostError
from ..core.intent import Intent, address_of
from ..core.model import Observation
from ..core.plan import Plan, inputs, is_half_done, plan_assign, plan_release
from ..core.reasons import Retry
from ..ports import Host
from .apply import apply
from .failures import FailureMemory
from .locks import NamedLocks
from .observe import observe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """A DeviceAssignment that is bound to this node, as the API server has it."""

    uid: str
    namespace: str
    name: str
    generation: int
    deleting: bool
    spec: DeviceAssignmentSpec
    status: DeviceAssignmentStatus


@dataclass(frozen=True)
class Result:
    """What came out: the status to be written, and whether everything is given back.

    ``retry`` says when to try again where nothing on the host will tell.
    """

    status: DeviceAssignmentStatus
    released: bool = False
    retry: Retry = Retry.ON_EVENT


class AssignmentReconciler:
    """Brings the host to what assignments ask for. Thread-safe.

    It remembers failed runs, and what was released until the caller says that it is known (``forget``): until then
    the published copy of the record still says that there is something to give back.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._locks = NamedLocks()
        self._failures = FailureMemory(host.clock.monotonic)
        self._released: set[str] = set()

    def reconcile(self, obj: Assignment) -> Result:
        """One run for one assignment. Never raises HostError: what went wrong is in the result."""
        try:
            intent = _intent(obj)
        except ValueError as error:
            return self._without_intent(obj, Refusal(reasons.INVALID_SOURCE, str(error)))
        if obj.deleting and obj.uid in self._released:
            return Result(DeviceAssignmentStatus(), released=True)
        try:
            with self._locks.hold(self._lock_names(intent)):
                self.take_up_record(obj)
                return self._release(obj, intent) if obj.deleting else self._assign(obj, intent)
        except HostError as error:
            return self._result(obj, intent, None, Outcome(failed=Refusal(error.reason, error.message)))

    def _without_intent(self, obj: Assignment, refusal: Refusal) -> Result:
        """Nothing was ever claimed for an object that makes no sense, so its deletion waits for nothing."""
        try:
            if obj.deleting and obj.uid not in self._host.records.load():
                return Result(DeviceAssignmentStatus(), released=True)
        except HostError as error:
            refusal = Refusal(error.reason, error.message)
        return self._result(obj, None, None, Outcome(refused=refusal))

    def forget(self, uid: str) -> None:
        """The assignment is gone: remember nothing of it."""
        self._failures.forget(uid)
        self._released.discard(uid)

    def _lock_names(self, intent: Intent) -> frozenset[str]:
        group = self._host.devices.iommu_group(intent.address)
        return frozenset({f"group/{group}", f"domain/{intent.domain_uuid}"})

    def take_up_record(self, obj: Assignment) -> None:
        """A node that lost its state directory, or has an older copy, takes the published one; may raise HostError."""
        copy = obj.status.record
        if copy is None:
            return
        own = self._host.records.load().get(obj.uid)
        if own is None or own.sequence < copy.sequence:
            log.warning("%s/%s: taking the record from its status: the journal has none", obj.namespace, obj.name)
            try:
                record = record_from_status(copy, obj.uid, obj.namespace, obj.name)
            except ValueError as error:
                raise HostError(
                    reasons.STATE_DIRECTORY_FAILED,
                    f"{obj.namespace}/{obj.name} is not in the journal, and its status.record is malformed: {error}",
                ) from error
            self._host.records.save(record)

    def _assign(self, obj: Assignment, intent: Intent) -> Result:
        host = observe(self._host)
        plan = plan_assign(intent, host)
        if isinstance(plan, Refusal):
            return self._refuse(obj, intent, host, plan)
        if not plan.actions:
            self._failures.forget(obj.uid)
            return self._result(obj, intent, host, Outcome())
        known = self._failures.holds_back(obj.uid, inputs(intent, host))
        return self._result(obj, intent, host, known) if known else self._carry_out(obj, intent, plan)

    def _refuse(self, obj: Assignment, intent: Intent, host: Observation, refusal: Refusal) -> Result:
        """A claim that was begun and may not be finished is given back as a whole; one that stands, stays."""
        outcome = Outcome(refused=refusal)
        if not is_half_done(intent, host) or self._failures.holds_back(obj.uid, inputs(intent, host)):
            return self._result(obj, intent, host, outcome)
        failure = self._roll_back(obj, host, refusal)
        host = observe(self._host)
        outcome = Outcome(refused=failure, rolled_back=obj.uid not in host.records)
        if not outcome.rolled_back:
            self._failures.remember(obj.uid, inputs(intent, host), outcome)
        return self._result(obj, intent, host, outcome)

    def _carry_out(self, obj: Assignment, intent: Intent, plan: Plan) -> Result:
        _log_plan(obj, "assign", plan)
        try:
            apply(plan, self._host, "assign")
        except HostError as error:
            log.warning("%s/%s: %s: %s", obj.namespace, obj.name, error.reason, error.message)
            return self._after_failure(obj, intent, Refusal(error.reason, error.message))
        self._host.boundary("assign: done")
        self._failures.forget(obj.uid)
        host = observe(self._host)
        again = plan_assign(intent, host)
        outcome = Outcome(refused=again) if isinstance(again, Refusal) else Outcome()
        return self._result(obj, intent, host, outcome)

    def _after_failure(self, obj: Assignment, intent: Intent, failure: Refusal) -> Result:
        """Roll back once, as a whole group, unless it is still under way, libvirt is away, or the guest has it."""
        if failure.reason in (reasons.LIBVIRT_UNAVAILABLE, reasons.HOST_CHANGED):
            return self._result(obj, intent, None, Outcome(failed=failure))
        host = observe(self._host)
        rolled_back = False
        if failure.reason is not reasons.DETACH_BLOCKED and is_half_done(intent, host):
            failure = self._roll_back(obj, host, failure)
            host = observe(self._host)
            rolled_back = obj.uid not in host.records
        outcome = Outcome(failed=failure, rolled_back=rolled_back)
        self._failures.remember(obj.uid, inputs(intent, host), outcome)
        return self._result(obj, intent, host, outcome)

    def _roll_back(self, obj: Assignment, host: Observation, why: Refusal) -> Refusal:
        """Undo what was begun; the same refusal, or one that tells that undoing failed as well."""
        try:
            waits = self._undo(obj, host, "rollback")
        except HostError as error:
            log.warning("%s/%s: rollback: %s: %s", obj.namespace, obj.name, error.reason, error.message)
            waits = Refusal(error.reason, error.message)
        if waits is None:
            return why
        return replace(why, message=f"{why.message}; and rolling back failed: {waits.reason}: {waits.message}")

    def _undo(self, obj: Assignment, host: Observation, phase: str) -> Refusal | None:
        """Give everything back; a refusal if it must wait.

        First out of the XML, then a second look: libvirt lets a guest start while it removes the device, and then the
        guest has it. Once it is out, no new start can take it.
        """
        plan = plan_release(obj.uid, host)
        removals = () if isinstance(plan, Refusal) else tuple(a for a in plan.actions if isinstance(a, RemoveHostdev))
        if removals:
            _log_plan(obj, phase, Plan(removals))
            apply(Plan(removals), self._host, phase)
            plan = plan_release(obj.uid, observe(self._host))
        if isinstance(plan, Refusal):
            return plan
        if any(isinstance(a, RemoveHostdev) for a in plan.actions):
            raise HostError(
                reasons.LIBVIRT_ERROR,
                f"{plan.actions[0]}: libvirt did, but it is still there; edit the guest's XML by hand (virsh edit)",
            )
        _log_plan(obj, phase, plan)
        apply(plan, self._host, phase)
        if plan.actions:
            self._host.boundary(f"{phase}: done")
        return None

    def _release(self, obj: Assignment, intent: Intent) -> Result:
        host = observe(self._host)
        known = self._failures.holds_back(obj.uid, ("release", *inputs(intent, host)))
        if known:
            return self._result(obj, intent, host, known)
        plan = plan_release(obj.uid, host)
        if isinstance(plan, Refusal):  # it waits: nothing was changed, so this look is good for the report
            return self._result(obj, intent, host, Outcome(refused=plan))
        try:
            waits = self._undo(obj, host, "release")
        except HostError as error:
            log.warning("%s/%s: %s: %s", obj.namespace, obj.name, error.reason, error.message)
            outcome = Outcome(failed=Refusal(error.reason, error.message))
            if error.reason is reasons.LIBVIRT_UNAVAILABLE:
                return self._result(obj, intent, None, outcome)
            after = observe(self._host)
            self._failures.remember(obj.uid, ("release", *inputs(intent, after)), outcome)
            return self._result(obj, intent, after, outcome)
        if waits:
            return self._result(obj, intent, observe(self._host), Outcome(refused=waits))
        self._released.add(obj.uid)
        return Result(DeviceAssignmentStatus(), released=True)

    def _result(self, obj: Assignment, intent: Intent | None, host: Observation | None, outcome: Outcome) -> Result:
        """The status from what is there; where nothing could be observed, the old one with Ready=False."""
        status = assignment_status(intent, host, outcome) if intent and host else _old_status_but(obj.status, outcome)
        stamped = conditions.stamp(status.conditions, obj.status.conditions, self._host.clock.now(), obj.generation)
        status = status.model_copy(update={"conditions": stamped, "observed_generation": obj.generation})
        retry = outcome.trouble.reason.retry if outcome.trouble else Retry.ON_EVENT
        return Result(status, retry=retry)


def _intent(obj: Assignment) -> Intent:
    if obj.spec.source.pci is None or obj.status.domain_uuid is None:
        raise ValueError("the assignment is bound without a device or a guest's UUID; delete it and make a new one")
    return Intent(
        uid=obj.uid,
        namespace=obj.namespace,
        name=obj.name,
        address=address_of(obj.spec.source.pci),
        domain_uuid=obj.status.domain_uuid,
        domain_name=obj.spec.domain.name,
        managed=obj.spec.managed,
        driver=obj.spec.driver.name if obj.spec.driver else None,
    )


def _old_status_but(old: DeviceAssignmentStatus, outcome: Outcome) -> DeviceAssignmentStatus:
    trouble = outcome.trouble
    ours: tuple[Condition, ...] = tuple(
        c for c in old.conditions if c.type not in (conditions.ACCEPTED, conditions.READY)
    )
    if trouble:
        ours = (*ours, conditions.condition(conditions.READY, False, trouble.reason, trouble.message))
    return DeviceAssignmentStatus(
        device=old.device, iommu_group=old.iommu_group, record=old.record, guest=old.guest, conditions=ours
    )


def _log_plan(obj: Assignment, phase: str, plan: Plan) -> None:
    for action in plan.actions:
        log.info("%s/%s: %s: %s", obj.namespace, obj.name, phase, action)
