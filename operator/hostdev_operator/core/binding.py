"""Where an assignment belongs: the controller's decision, from what the nodes' agents report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..api.deviceassignment import DeviceAssignmentSpec, DomainReference
from ..api.devicehost import DeviceHostStatus, GuestEntry
from . import reasons
from .checks import Refusal
from .intent import address_of


@dataclass(frozen=True)
class Binding:
    """The node whose agent acts, and the guest's pinned identity; None for a reservation."""

    node_name: str
    domain_uuid: str | None = None
    domain_name: str | None = None


def bind(spec: DeviceAssignmentSpec, hosts: Mapping[str, DeviceHostStatus]) -> Binding | Refusal:
    """The node that has the guest; a refusal where there is none, or several. ``hosts``: node -> its status."""
    if refusal := _nonsense(spec):
        return refusal
    if spec.node_name is not None and spec.node_name not in hosts:
        return Refusal(
            reasons.NODE_NOT_FOUND,
            f"no agent reports a node {spec.node_name!r} (kubectl get devicehosts); is the agent running there?",
        )
    if spec.domain is not None:
        return _where_the_guest_is(spec, spec.domain, hosts)
    if spec.node_name is not None:
        return Binding(spec.node_name)
    return Refusal(reasons.NODE_NOT_FOUND, "a reservation needs the node whose device is meant: set spec.nodeName")


def _nonsense(spec: DeviceAssignmentSpec) -> Refusal | None:
    """What the API server's own validation lets through."""
    if spec.source.pci is None:
        text = "the source names no device: set source.pci or source.match"
        return None if spec.source.match else Refusal(reasons.INVALID_SOURCE, text)
    try:
        address_of(spec.source.pci)
    except ValueError as error:
        return Refusal(reasons.INVALID_SOURCE, str(error))
    return None


def _where_the_guest_is(
    spec: DeviceAssignmentSpec, domain: DomainReference, hosts: Mapping[str, DeviceHostStatus]
) -> Binding | Refusal:
    candidates = {spec.node_name: hosts[spec.node_name]} if spec.node_name is not None else hosts
    found = [
        Binding(node, guest.uuid, guest.name)
        for node, status in sorted(candidates.items())
        for guest in status.guests
        if _is_meant(guest, domain)
    ]
    wanted = f"name {domain.name!r}" if domain.name is not None else f"UUID {domain.uuid}"
    if not found:
        where = f"node {spec.node_name}" if spec.node_name else "any node"
        return Refusal(
            reasons.GUEST_NOT_FOUND,
            f"no guest with {wanted} on {where}; define it (virsh define) or correct spec.domain",
        )
    if len(found) > 1:
        nodes = ", ".join(f"{b.node_name} ({b.domain_uuid})" for b in found)
        return Refusal(
            reasons.GUEST_AMBIGUOUS,
            f"guests with {wanted} are on several nodes: {nodes}; set spec.nodeName, or spec.domain.uuid instead of"
            " the name",
        )
    return found[0]


def _is_meant(guest: GuestEntry, domain: DomainReference) -> bool:
    return guest.name == domain.name if domain.name is not None else guest.uuid == domain.uuid
