"""What would be done for objects on a host, without doing it: the same plans, words and hashes as the agent's.

``preview`` takes ports, so the host may be this one, a recorded one or a made-up one. It reads, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..api.devicehost import DeviceHostStatus, GuestEntry
from ..api.plan import PlanStatus
from ..core import conditions, reasons
from ..core.binding import bind
from ..core.checks import Refusal
from ..core.intent import Wish
from ..core.model import Observation
from ..core.pool_published import pool_record_from_status
from ..core.published import record_from_status
from ..core.settings import Settings
from ..ports import Host
from .approvals import Approvals
from .bound import Assignment
from .context import Context
from .observe import observe
from .pools import NodePool


@dataclass(frozen=True)
class Objects:
    """What is asked for on a node. ``asked``: UIDs of those to be planned; the others may stand in their way.

    Assignments need not be bound: one without status.domainUUID means the guest of its spec.domain on this node.
    """

    assignments: tuple[Assignment, ...] = ()
    pools: tuple[NodePool, ...] = ()
    asked: frozenset[str] = frozenset()
    settings: Settings = Settings()  # noqa: RUF009 - frozen


@dataclass(frozen=True)
class Preview:
    """One object's plan. ``plan`` is None if nothing is to be done, or ``refused`` says why it cannot be.

    ``waits``: the plan must be approved first.
    """

    kind: str
    name: str
    namespace: str | None = None
    plan: PlanStatus | None = None
    refused: Refusal | None = None
    waits: Refusal | None = None


def preview(host: Host, node: str, objects: Objects) -> tuple[Preview, ...]:
    """The plans of what is asked for, in order: pools before assignments. HostError if the host cannot be read."""
    seen = observe(host, Context(settings=lambda: objects.settings))
    seen = _with_published_records(seen, objects)
    pools = tuple(pool for pool in objects.pools if not pool.deleting)
    seen = replace(seen, pool_wishes=tuple(pool.wish() for pool in pools))
    bound = [(found, _bound(found, node, seen)) for found in objects.assignments if not found.deleting]
    seen = replace(seen, wishes=_wishes(answer for _, answer in bound if isinstance(answer, Assignment)))
    approvals = Approvals(host.approvals)
    return (
        *(_of_pool(pool, seen, approvals) for pool in pools if pool.uid in objects.asked),
        *(
            _of_assignment(asked, answer, node, seen, approvals)
            for asked, answer in bound
            if asked.uid in objects.asked
        ),
    )


def _with_published_records(seen: Observation, objects: Objects) -> Observation:
    """As the agent takes them up, where the journal has none or an older one. One that is malformed is left out."""
    records, pool_records = dict(seen.records), dict(seen.pool_records)
    for found in objects.assignments:
        copy = found.status.record
        if copy and _is_older(records.get(found.uid), copy.sequence):
            with suppress(ValueError):
                records[found.uid] = record_from_status(copy, found.uid, found.namespace, found.name)
    for pool in objects.pools:
        published = pool.status.record
        if published and _is_older(pool_records.get(pool.uid), published.sequence):
            with suppress(ValueError):
                pool_records[pool.uid] = pool_record_from_status(published, pool.uid, pool.spec.pool_name)
    return replace(seen, records=MappingProxyType(records), pool_records=MappingProxyType(pool_records))


def _is_older(record: object, sequence: int) -> bool:
    own: int | None = getattr(record, "sequence", None)
    return own is None or own < sequence


def _bound(found: Assignment, node: str, seen: Observation) -> Assignment | Refusal:
    """Bound to this node as the controller would do it; a refusal if it would not."""
    elsewhere = found.status.node_name or found.spec.node_name
    if elsewhere not in (None, node):
        return Refusal(reasons.NODE_NOT_FOUND, f"it is of node {elsewhere}, and this is {node}: plan it there")
    if found.status.node_name:
        return found
    guests = tuple(GuestEntry(name=g.name, uuid=g.uuid, active=g.active, persistent=g.persistent) for g in seen.guests)
    pools: Mapping[str, frozenset[str]] = {wish.name: frozenset({node}) for wish in seen.pool_wishes}
    answer = bind(found.spec, {node: DeviceHostStatus(guests=guests)}, pools, found.status.domain_uuid)
    if isinstance(answer, Refusal):
        return answer
    binding = {"node_name": node, "domain_uuid": answer.domain_uuid}
    return replace(found, status=found.status.model_copy(update=binding))


def _wishes(bound: Iterable[Assignment]) -> tuple[Wish, ...]:
    """As the agent has them: one that makes no sense, or was tried and failed, stands in nobody's way."""
    found = []
    for one in bound:
        told = {c.type: c.status for c in one.status.conditions}
        failed = told.get(conditions.PLANNED) == "True" and told.get(conditions.READY) == "False"
        if not failed:
            with suppress(ValueError):
                found.append(one.wish())
    return tuple(found)


def _of_pool(pool: NodePool, seen: Observation, approvals: Approvals) -> Preview:
    planned = approvals.plan_pool(pool.wish(), pool.status, seen)
    told = Preview("VFPool", pool.spec.pool_name)
    if planned.verdict:
        return replace(told, plan=planned.verdict.plan, waits=planned.verdict.waits)
    return replace(told, refused=planned.answer if isinstance(planned.answer, Refusal) else None)


def _of_assignment(
    asked: Assignment, answer: Assignment | Refusal, node: str, seen: Observation, approvals: Approvals
) -> Preview:
    told = Preview("DeviceAssignment", asked.name, asked.namespace)
    if isinstance(answer, Refusal):
        return replace(told, refused=answer)
    try:
        wish = answer.wish()
    except ValueError as error:
        return replace(told, refused=Refusal(reasons.INVALID_SOURCE, str(error)))
    planned = approvals.plan(wish, node, answer.status, seen)
    if planned.verdict:
        return replace(told, plan=planned.verdict.plan, waits=planned.verdict.waits)
    refused = planned.decision.answer
    return replace(told, refused=refused if isinstance(refused, Refusal) else None)
