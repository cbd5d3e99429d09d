"""What was written through the API server, read from its audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITING_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})

# One line for each request, when its answer has been sent. Panic stays in: a crashed handler must be seen.
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class AuditEntry:
    """One answered request; an empty string stands for what it does not have (a namespace, a subresource).

    ``time`` is when the request arrived, in seconds since the epoch; ``code`` is the HTTP status, so that a
    refused write (403, 409, 422) is told from one that changed something. ``pod`` is the one that the client's
    token is bound to.
    """

    time: float
    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    pod: str = ""


def read_writes(log: Path, since: float | None = None, user: str | None = None) -> list[AuditEntry]:
    """Return the requests with a writing verb, refused ones too, in the order in which they were answered.

    ``since`` is in seconds since the epoch, compared with the request's arrival; ``user`` is the full user
    name, such as ``system:serviceaccount:default:agent``.
    """
    return [
        entry
        for entry in _entries(log)
        if entry.verb in WRITING_VERBS
        and (since is None or entry.time >= since)
        and (user is None or entry.user == user)
    ]


def _entries(log: Path) -> Iterator[AuditEntry]:
    # The API server creates the file with its first event.
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    for line in lines:
        # The last line may be half written at this moment.
        if line.endswith("\n"):
            yield _parse(json.loads(line))


def _parse(event: dict[str, Any]) -> AuditEntry:
    target = event.get("objectRef", {})
    return AuditEntry(
        time=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        pod=next(iter(event["user"].get("extra", {}).get("authentication.kubernetes.io/pod-name", [])), ""),
    )
