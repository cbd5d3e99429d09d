"""Who may do what, played by a hostile tenant, and by those who must go on working, against the real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.attempts import REFUSED
from tests.cluster.authority import ALLOWANCES, FINALIZER, PCI, PLAN, SYSTEM, Attempt, body
from tests.cluster.authority_tables import SECURITY, written
from tests.cluster.controlplane import ControlPlane
from tests.cluster.permitted import ALLOWED
from tests.cluster.trying import Kubeconfigs, Object, create, is_allowed, is_refused, until

#: Who -> in which namespace (empty: in all) -> the ClusterRoles.
PEOPLE: dict[str, dict[str, tuple[str, ...]]] = {
    "tenant": {
        # the rules of admin and edit: nobody aggregates them here
        "team-a": ("hostdev-tenant", "system:aggregate-to-admin", "system:aggregate-to-edit"),
        "bare": ("hostdev-tenant",),
    },
    "assigner": {"team-a": ("hostdev-device-assigner",)},
    "approver": {"team-a": ("hostdev-approver",), "bare": ("hostdev-approver",)},
    "cluster-approver": {"": ("hostdev-approver",)},
    "pooler": {"": ("test-pools",)},
    "owner": {"team-a": ("test-everything",)},
    "clerk": {"": ("test-namespaces",)},
    "steward": {"": ("test-namespaces", "hostdev-administrator")},
}
ROLES = {
    "test-pools": {
        "apiGroups": ["hostdev.dev"],
        "resources": ["vfpools"],
        "verbs": ["get", "list", "create", "update", "patch", "delete"],
    },
    "test-everything": {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    "test-namespaces": {
        "apiGroups": [""],
        "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
        "verbs": ["get", "list", "create", "update", "patch"],
    },
}


def rbac(kind: str, name: str, namespace: str = "", **more: object) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta, **more}


def bindings() -> Iterator[Object]:
    for who, places in PEOPLE.items():
        subjects = [{"kind": "ServiceAccount", "name": who, "namespace": SYSTEM}]
        for namespace, roles in places.items():
            kind = "RoleBinding" if namespace else "ClusterRoleBinding"
            for role in roles:
                reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
                yield rbac(kind, f"test-{who}-{role}", namespace, subjects=subjects, roleRef=reference)


def world() -> Iterator[Object]:
    """Namespaces, people and their rights."""
    for name, allowed in ALLOWANCES.items():
        meta = {"name": name, "labels": {"hostdev.dev/assignments": "allowed"}, "annotations": allowed}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
    for name, rule in ROLES.items():
        yield rbac("ClusterRole", name, rules=[rule])
    for who in PEOPLE:
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": who, "namespace": SYSTEM}}
    yield from bindings()


def objects() -> Iterator[Object]:
    """What is there before the attempts."""
    spec = {"pf": {"name": "ens1"}, "numVFs": 4, "approval": "Manual", "approvedPlans": {"n1": PLAN}}
    meta = {"name": "lan", "finalizers": ["hostdev.dev/pool"]}
    yield {"apiVersion": "hostdev.dev/v1alpha1", "kind": "VFPool", "metadata": meta, "spec": spec}
    for made in (
        body("mine", approval="Manual"),
        body("card", PCI, approval="Manual"),
        body("auto"),
        body("approved", approval="Manual", approvedPlan=PLAN),
        body("theirs", namespace="team-b", guest="db"),
        body("left", namespace="bare"),
        body("held", namespace="bare"),
    ):
        yield {**made, "metadata": {**made["metadata"], "finalizers": [FINALIZER]}}


@pytest.fixture(scope="module")
def people(plane: ControlPlane) -> Iterator[Kubeconfigs]:
    """Everybody's kubeconfig, by name."""
    create(plane, *world())
    probe = ("create", "--dry-run=server", "-f", "-")
    until(plane, probe, json.dumps(body("probe", approval="Manual", approvedPlan=PLAN)), works=True)
    create(plane, *objects())
    bound = ("--subresource=status", "--type=merge", "-p", '{"status":{"nodeName":"n1"}}')
    plane.kubectl("patch", "-n", "bare", "deviceassignment", "held", *bound)
    plane.kubectl("label", "namespace", "bare", "hostdev.dev/assignments-")
    until(plane, probe, json.dumps(body("probe", namespace="bare")), works=False)
    tokens = {who: plane.service_account_token(SYSTEM, who) for who in PEOPLE}
    tokens["controller"] = plane.service_account_token(SYSTEM, "hostdev-controller")
    tokens["agent"] = plane.pod_bound_token(SYSTEM, "hostdev-agent", "agent-n1", "n1")
    yield {"administrator": plane.admin_kubeconfig, **{who: plane.kubeconfig(who, t) for who, t in tokens.items()}}
    for made in objects():
        meta = made["metadata"]
        where = ("-n", meta["namespace"]) if "namespace" in meta else ()
        target = (*where, made["kind"], meta["name"])
        plane.kubectl("patch", *target, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        plane.kubectl("delete", *target)
    plane.kubectl("delete", "pod", "-n", SYSTEM, "agent-n1", "--force", "--grace-period=0")
    plane.kubectl("delete", "node", "n1")


@pytest.mark.parametrize("attempt", REFUSED, ids=lambda a: a.what)
def test_it_is_refused_with_the_next_step(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> None:
    is_refused(plane, people, attempt)


@pytest.mark.parametrize("attempt", ALLOWED, ids=lambda a: f"{a.who}: {a.what}")
def test_it_stays_allowed(plane: ControlPlane, people: Kubeconfigs, attempt: Attempt) -> None:
    is_allowed(plane, people, attempt)


def test_the_documentation_has_these_tables() -> None:
    text = SECURITY.read_text(encoding="utf-8")
    assert written(text) == text, "python -m tests.cluster.authority_tables writes them anew"
