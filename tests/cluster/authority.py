"""One attempt to do what may be forbidden: how the tables of attempts.py and permitted.py are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

VERSION = "hostdev.dev/v1alpha1"
UUID = "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11"
FOREIGN = "db000000-6a59-4f8e-9f0e-3c3c1f6f0a11"
SYSTEM = "hostdev-system"
FINALIZER = "hostdev.dev/release"

RBAC = "RBAC"
ASSIGNMENTS, APPROVALS = "hostdev-assignments", "hostdev-approvals"
FIELDS, NAMESPACES = "hostdev-operator-fields", "hostdev-namespaces"
Spec = dict[str, Any]

#: Namespace -> what an administrator has allowed it.
ALLOWANCES = {
    "team-a": {"hostdev.dev/guests": f"web, {UUID}", "hostdev.dev/pools": "lan, wan/finance,"},
    "team-b": {"hostdev.dev/guests": "db", "hostdev.dev/pools": "*"},
    "bare": {"hostdev.dev/guests": "*", "hostdev.dev/pools": "*"},
}

#: A hash as status.plan has it.
PLAN, OTHER_PLAN = "0123456789abcdef" * 2, "fedcba9876543210" * 2
LAN: Spec = {"pool": {"name": "lan"}}
PCI: Spec = {"pci": {"address": "0000:01:00.0"}}
MATCH: Spec = {"match": {"vendor": "0x8086", "any": True}}
VF: Spec = {"match": {"pfMAC": "52:54:00:10:00:02", "vfIndex": 0}}


@dataclass(frozen=True)
class Attempt:
    """One kubectl command, always as a dry run of the server.

    ``by``: what refuses it, RBAC or a policy of admission.yaml; empty: it is allowed. ``words`` are in the refusal.
    """

    what: str
    who: str
    arguments: tuple[str, ...]
    stdin: str = ""
    by: str = ""
    words: tuple[str, ...] = ()


def body(name: str, source: Spec = LAN, namespace: str = "team-a", guest: str = "web", **spec: Any) -> Spec:
    """A DeviceAssignment; a guest of the form of a UUID is named by it."""
    key = "uuid" if guest in (UUID, FOREIGN) else "name"
    meta = {"name": name, "namespace": namespace}
    whole = {"domain": {key: guest}, "source": source, **spec}
    return {"apiVersion": VERSION, "kind": "DeviceAssignment", "metadata": meta, "spec": whole}


def creating(what: str, *words: str, who: str = "tenant", by: str = ASSIGNMENTS, **of: Any) -> Attempt:
    """Kubectl create of an assignment."""
    made = body("new", **of)
    return Attempt(what, who, ("create", "-f", "-"), json.dumps(made), by, words)


def patching(
    what: str, change: Spec, *words: str, who: str = "tenant", by: str = ASSIGNMENTS, target: str = "team-a/mine"
) -> Attempt:
    """Kubectl patch of an assignment."""
    namespace, name = target.split("/")
    arguments = ("patch", "-n", namespace, "deviceassignment", name, "--type=merge", "-p", json.dumps(change))
    return Attempt(what, who, arguments, "", by, words)


def reporting(
    what: str, status: Spec, *words: str, who: str, by: str = "", target: str = "team-a/mine", manager: str = "hostdev"
) -> Attempt:
    """Kubectl apply of its status, which unlike a patch does not read the object before."""
    namespace, name = target.split("/")
    whole = {**body(name, namespace=namespace), "status": status}
    del whole["spec"]
    return applying(what, whole, manager, *words, who=who, by=by, more=("--subresource=status",))


def applying(
    what: str,
    made: Spec,
    manager: str,
    *words: str,
    who: str = "tenant",
    by: str = ASSIGNMENTS,
    more: tuple[str, ...] = (),
) -> Attempt:
    """Kubectl apply --server-side: one PATCH and nothing else."""
    arguments = ("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", *more)
    return Attempt(what, who, arguments, json.dumps(made), by, words)


def running(what: str, who: str, command: str, *words: str, by: str = RBAC, stdin: str = "") -> Attempt:
    """Any kubectl command without spaces in its words."""
    return Attempt(what, who, tuple(command.split()), stdin, by, words)
