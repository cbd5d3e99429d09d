"""Where an assignment belongs: the controller's decision, from what the nodes' agents report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..api.deviceassignment import DeviceAssignmentSpec, DomainReference
from ..api.devicehost import DeviceHostStatus, GuestEntry
from . import reasons
from .checks import Refusal
from .intent import address_of

#: How many nodes of a pool a message names.
_LISTED = 5


@dataclass(frozen=True)
class Binding:
    """The node whose agent acts, and the guest's pinned identity; None for a reservation."""

    node_name: str
    domain_uuid: str | None = None
    domain_name: str | None = None


#: VFPool -> the nodes that have a NodeVFPool of it. Those that are being deleted are not in here.
PoolNodes = Mapping[str, frozenset[str]]


def bind(
    spec: DeviceAssignmentSpec,
    hosts: Mapping[str, DeviceHostStatus],
    pools: PoolNodes = MappingProxyType({}),
    pinned: str | None = None,
) -> Binding | Refusal:
    """The node that has the guest, and the pool if one is asked for; a refusal where there is none, or several.

    ``hosts``: node -> its status. ``pinned``: UUID of the guest that the assignment was bound to before, and no other
    one is meant, wherever it is by now.
    """
    if refusal := _nonsense(spec) or _pool_is_missing(spec, pools):
        return refusal
    answer = _bind(spec, hosts, pinned)
    return answer if isinstance(answer, Refusal) else _pool_is_elsewhere(spec, answer, pools) or answer


def _bind(spec: DeviceAssignmentSpec, hosts: Mapping[str, DeviceHostStatus], pinned: str | None) -> Binding | Refusal:
    if spec.node_name is not None and spec.node_name not in hosts:
        return Refusal(
            reasons.NODE_NOT_FOUND,
            f"no agent reports a node {spec.node_name!r} (kubectl get devicehosts); is the agent running there?",
        )
    if spec.domain is not None:
        return _where_the_guest_is(spec, spec.domain, hosts, pinned)
    if spec.node_name is not None:
        return Binding(spec.node_name)
    return Refusal(reasons.NODE_NOT_FOUND, "a reservation needs the node whose device is meant: set spec.nodeName")


def _nonsense(spec: DeviceAssignmentSpec) -> Refusal | None:
    """What the API server's own validation lets through."""
    if spec.source.pool is not None and spec.domain is None:
        text = "a pool has no reservations: name the guest that gets the VF (spec.domain)"
        return Refusal(reasons.INVALID_SOURCE, text)
    if spec.source.pci is None:
        text = "the source names no device: set source.pci, source.match or source.pool"
        return None if spec.source.match or spec.source.pool else Refusal(reasons.INVALID_SOURCE, text)
    try:
        address_of(spec.source.pci)
    except ValueError as error:
        return Refusal(reasons.INVALID_SOURCE, str(error))
    return None


def _pool_is_missing(spec: DeviceAssignmentSpec, pools: PoolNodes) -> Refusal | None:
    if spec.source.pool is None or spec.source.pool.name in pools:
        return None
    return Refusal(
        reasons.POOL_NOT_FOUND,
        f"there is no VFPool {spec.source.pool.name!r}, or it is being deleted (kubectl get vfpools); make it, or name"
        " another one in a new assignment",
    )


def _pool_is_elsewhere(spec: DeviceAssignmentSpec, binding: Binding, pools: PoolNodes) -> Refusal | None:
    """The guest decides on the node, so the pool must be there."""
    if spec.source.pool is None or binding.node_name in pools[spec.source.pool.name]:
        return None
    name, nodes = spec.source.pool.name, sorted(pools[spec.source.pool.name])
    where = f"on {', '.join(nodes[:_LISTED])}{' and others' if len(nodes) > _LISTED else ''}" if nodes else "on no node"
    return Refusal(
        reasons.POOL_NOT_FOUND,
        f"node {binding.node_name}, where guest {binding.domain_name} is, has no VFPool {name} (it is {where}): let its"
        " nodeSelector select the node, or name another pool in a new assignment",
    )


def _where_the_guest_is(
    spec: DeviceAssignmentSpec, domain: DomainReference, hosts: Mapping[str, DeviceHostStatus], pinned: str | None
) -> Binding | Refusal:
    candidates = {spec.node_name: hosts[spec.node_name]} if spec.node_name is not None else hosts

    def find(is_meant: Callable[[GuestEntry], bool]) -> list[Binding]:
        return [
            Binding(node, guest.uuid, guest.name)
            for node, status in sorted(candidates.items())
            for guest in status.guests
            if is_meant(guest)
        ]

    found = find(lambda g: g.uuid == pinned if pinned else _is_meant(g, domain))
    where = f"node {spec.node_name}" if spec.node_name else "any node"
    wanted = f"name {domain.name!r}" if domain.name is not None else f"UUID {domain.uuid}"
    if len(found) == 1:
        return found[0]
    if pinned:
        return _not_once(pinned, where, found, find(lambda g: _is_meant(g, domain)))
    if not found:
        return Refusal(
            reasons.GUEST_NOT_FOUND,
            f"no guest with {wanted} on {where}; define it (virsh define) or correct spec.domain",
        )
    nodes = ", ".join(f"{b.node_name} ({b.domain_uuid})" for b in found)
    return Refusal(
        reasons.GUEST_AMBIGUOUS,
        f"guests with {wanted} are on several nodes: {nodes}; set spec.nodeName, or spec.domain.uuid instead of"
        " the name",
    )


def _is_meant(guest: GuestEntry, domain: DomainReference) -> bool:
    return guest.name == domain.name if domain.name is not None else guest.uuid == domain.uuid


def _not_once(pinned: str, where: str, found: list[Binding], twins: list[Binding]) -> Refusal:
    """The guest of a binding that was given up is nowhere, or on several nodes."""
    bound = f"the assignment was bound to the guest with UUID {pinned}"
    if found:
        nodes = ", ".join(str(b.node_name) for b in found)
        text = f"{bound}, which is on several nodes: {nodes}; undefine it (virsh undefine) on all but one"
        return Refusal(reasons.GUEST_AMBIGUOUS, text)
    if twins:
        twin = twins[0]
        return Refusal(
            reasons.GUEST_IDENTITY_CHANGED,
            f"{bound}, and guest {twin.domain_name} on node {twin.node_name} has UUID {twin.domain_uuid}: it gets"
            " nothing; delete the assignment and make a new one",
        )
    return Refusal(
        reasons.GUEST_NOT_FOUND,
        f"{bound}, which is not on {where} any more; define it again with that UUID (virsh define), or delete the"
        " assignment",
    )
