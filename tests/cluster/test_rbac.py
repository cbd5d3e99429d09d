"""What the roles of manifests/base allow and refuse, asked of the API server's own authorizer."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cluster.controlplane import ControlPlane

AGENT, CONTROLLER = "hostdev-agent", "hostdev-controller"
CUSTOM = ("assign-devices", "approve-plans", "allow-namespaces", "bind-assignments")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", *CUSTOM)
WATCH = {"list", "watch"}
READ = {"get"} | WATCH
OURS = "hostdev.dev"

#: Who, API group, resource, and the verbs that are allowed; all others are not.
ALLOWED: tuple[tuple[str, str, str, set[str]], ...] = (
    (AGENT, OURS, "deviceassignments", READ),
    (AGENT, OURS, "deviceassignments/status", {"patch"}),
    (AGENT, OURS, "devicehosts", READ | {"create"}),
    (AGENT, OURS, "devicehosts/status", {"patch"}),
    (AGENT, OURS, "nodevfpools", READ),
    (AGENT, OURS, "nodevfpools/status", {"patch"}),
    (AGENT, OURS, "guests", READ),
    (AGENT, OURS, "guests/status", {"patch"}),
    (AGENT, OURS, "vfpools", set()),
    (AGENT, OURS, "vfpools/status", set()),
    (AGENT, "events.k8s.io", "events", {"create"}),
    (AGENT, "coordination.k8s.io", "leases", set()),
    (AGENT, "", "nodes", set()),
    (AGENT, "", "namespaces", set()),
    (AGENT, "", "pods", set()),
    (AGENT, "", "secrets", set()),
    (CONTROLLER, OURS, "deviceassignments", READ | {"patch", "bind-assignments"}),
    (CONTROLLER, OURS, "deviceassignments/status", {"patch"}),
    (CONTROLLER, OURS, "devicehosts", READ),
    (CONTROLLER, OURS, "devicehosts/status", set()),
    (CONTROLLER, OURS, "vfpools", WATCH | {"patch"}),
    (CONTROLLER, OURS, "vfpools/status", {"patch"}),
    (CONTROLLER, OURS, "nodevfpools", WATCH | {"create", "delete", "patch"}),
    (CONTROLLER, OURS, "nodevfpools/status", set()),
    (CONTROLLER, OURS, "guests", WATCH | {"patch"}),
    (CONTROLLER, OURS, "guests/status", set()),
    (CONTROLLER, "", "nodes", READ),
    (CONTROLLER, "", "namespaces", READ),
    (CONTROLLER, "events.k8s.io", "events", {"create"}),
    (CONTROLLER, "coordination.k8s.io", "leases", set()),
    (CONTROLLER, "", "pods", set()),
    (CONTROLLER, "", "secrets", set()),
)


@pytest.mark.parametrize(("account", "group", "resource", "verbs"), ALLOWED)
def test_a_role_allows_this_and_no_more(
    plane: ControlPlane, account: str, group: str, resource: str, verbs: set[str]
) -> None:
    """In all namespaces."""
    name, _, subresource = resource.partition("/")
    assert answers(plane, account, {"group": group, "resource": name, "subresource": subresource}) == verbs


@pytest.mark.parametrize(
    ("account", "namespace", "name", "verbs"),
    [
        (CONTROLLER, "hostdev-system", "hostdev-controller", {"get", "update", "create"}),
        (CONTROLLER, "hostdev-system", "another", {"create"}),
        (CONTROLLER, "kube-system", "kube-controller-manager", set()),
        (CONTROLLER, "kube-node-lease", "n1", set()),
        (AGENT, "hostdev-system", "hostdev-controller", set()),
    ],
)
def test_the_controller_may_have_its_own_lease(
    plane: ControlPlane, account: str, namespace: str, name: str, verbs: set[str]
) -> None:
    lease = {"group": "coordination.k8s.io", "resource": "leases", "namespace": namespace, "name": name}
    assert answers(plane, account, lease) == verbs


def answers(plane: ControlPlane, account: str, what: dict[str, str]) -> set[str]:
    """The verbs that are allowed. One kubectl asks for all."""
    questions = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:hostdev-system:{account}",
                "resourceAttributes": {**what, "verb": verb},
            },
        }
        for verb in VERBS
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": questions})
    told = list(yaml.safe_load_all(plane.kubectl("create", "-o", "yaml", "-f", "-", stdin=text).stdout))
    assert len(told) == len(VERBS)
    return {a["spec"]["resourceAttributes"]["verb"] for a in told if a["status"]["allowed"]}
