"""How attempts are made: objects of the administrator, and one kubectl command as somebody."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.cluster.authority import Attempt
from tests.cluster.controlplane import ControlPlane

Kubeconfigs = dict[str, Path]
Object = dict[str, Any]
_SECONDS = 60.0


def create(plane: ControlPlane, *made: Object) -> None:
    plane.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))


def until(plane: ControlPlane, arguments: tuple[str, ...], stdin: str, *, works: bool) -> None:
    """Policies, CRDs and labels take effect a moment after they were written."""
    deadline = time.monotonic() + _SECONDS
    while (plane.kubectl(*arguments, stdin=stdin, check=False).returncode == 0) != works:
        assert time.monotonic() < deadline, arguments
        time.sleep(0.1)


def tried(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> tuple[int, str]:
    """Exit status and everything that kubectl printed."""
    arguments = attempt.arguments
    dry = () if "--raw" in arguments or arguments[0] == "get" or arguments[1] == "token" else ("--dry-run=server",)
    done = plane.kubectl(*arguments, *dry, stdin=attempt.stdin, check=False, kubeconfig=people[attempt.who])
    return done.returncode, done.stdout + done.stderr


def is_refused(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> None:
    """By what the table says, and with its words."""
    status, said = tried(plane, people, attempt)
    assert status != 0, said
    by = "orbidden" if attempt.by == "RBAC" else f"ValidatingAdmissionPolicy '{attempt.by}'"
    for word in (by, *attempt.words):
        assert word in said, said
    if attempt.by == "RBAC":
        assert "ValidatingAdmissionPolicy '" not in said


def is_allowed(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> None:
    """It would be stored."""
    status, said = tried(plane, people, attempt)
    assert status == 0, said
