"""What an administrator allows a namespace: the controller's own look at what the admission policies ask.

The policies (manifests/base/admission.yaml) judge an object when it is written; this judges it when it is bound, which
may be much later, or on a cluster without them. Which user named a device is known to them alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..api.deviceassignment import DeviceAssignmentSpec
from . import reasons
from .checks import Refusal

LABEL, ALLOWED = "hostdev.dev/assignments", "allowed"
GUESTS, POOLS = "hostdev.dev/guests", "hostdev.dev/pools"
ANY = "*"
#: A guest's name that can stand in a list: neither a comma nor anything that means something to the reader's shell.
_PLAIN = re.compile(r"[-A-Za-z0-9._]+")


@dataclass(frozen=True)
class Grant:
    """What one namespace may have.

    ``guests``: names and UUIDs; ``pools``: POOL or POOL/PORTGROUP; in each ``*`` for all.
    """

    allowed: bool = False
    guests: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Grant:
        """From a Namespace's labels and annotations."""
        notes = metadata.get("annotations") or {}
        allowed = (metadata.get("labels") or {}).get(LABEL) == ALLOWED
        return cls(allowed, _entries(notes.get(GUESTS, "")), _entries(notes.get(POOLS, "")))


def not_allowed(namespace: str, grant: Grant, spec: DeviceAssignmentSpec) -> Refusal | None:
    """Whether the namespace may have such an assignment; a refusal with the command that allows it."""
    guest = (spec.domain.name or spec.domain.uuid or "") if spec.domain else ""
    if not grant.allowed:
        what, command = "DeviceAssignments", f"kubectl label --overwrite namespace {namespace} {LABEL}={ALLOWED}"
    elif guest and not {ANY, guest} & set(grant.guests):
        entry = guest if _PLAIN.fullmatch(guest) else "GUEST"
        what, command = f"guest {guest!r}", _annotate(namespace, GUESTS, (*grant.guests, entry))
    elif spec.source.pool and not {ANY, spec.source.pool.name, (entry := _pool_entry(spec))} & set(grant.pools):
        what, command = f"a NIC of pool {entry}", _annotate(namespace, POOLS, (*grant.pools, entry))
    else:
        return None
    text = f"namespace {namespace} may not have {what}; an administrator allows it with: {command}"
    return Refusal(reasons.NAMESPACE_NOT_ALLOWED, text)


def _pool_entry(spec: DeviceAssignmentSpec) -> str:
    """POOL/PORTGROUP suffices for a NIC that takes its VLAN from the portgroup."""
    pool, network = spec.source.pool, spec.network
    if pool is None:
        return ""
    own = network is not None and (network.vlan is not None or network.virtual_port is not None)
    return f"{pool.name}/{pool.portgroup}" if pool.portgroup and not own else pool.name


def _annotate(namespace: str, key: str, entries: Iterable[str]) -> str:
    return f"kubectl annotate --overwrite namespace {namespace} {key}={shlex.quote(','.join(entries))}"


def _entries(text: str) -> tuple[str, ...]:
    return tuple(entry for part in text.split(",") if (entry := part.strip()))
