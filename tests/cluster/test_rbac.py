"""What the roles of manifests/base allow and refuse, asked of the API server's own authorizer."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cluster.controlplane import ControlPlane

AGENT, CONTROLLER = "hostdev-agent", "hostdev-controller"
CUSTOM = ("assign-devices", "approve-plans", "allow-namespaces")
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
    (AGENT, OURS, "vfpools", set()),
    (AGENT, OURS, "vfpools/status", set()),
    (AGENT, "events.k8s.io", "events", {"create"}),
    (AGENT, "", "nodes", set()),
    (AGENT, "", "namespaces", set()),
    (AGENT, "", "pods", set()),
    (AGENT, "", "secrets", set()),
    (CONTROLLER, OURS, "deviceassignments", READ | {"patch"}),
    (CONTROLLER, OURS, "deviceassignments/status", {"patch"}),
    (CONTROLLER, OURS, "devicehosts", WATCH),
    (CONTROLLER, OURS, "devicehosts/status", set()),
    (CONTROLLER, OURS, "vfpools", WATCH | {"patch"}),
    (CONTROLLER, OURS, "vfpools/status", {"patch"}),
    (CONTROLLER, OURS, "nodevfpools", WATCH | {"create", "delete", "patch"}),
    (CONTROLLER, OURS, "nodevfpools/status", set()),
    (CONTROLLER, "", "nodes", WATCH),
    (CONTROLLER, "", "namespaces", READ),
    (CONTROLLER, "events.k8s.io", "events", {"create"}),
    (CONTROLLER, "", "pods", set()),
    (CONTROLLER, "", "secrets", set()),
)


@pytest.mark.parametrize(("account", "group", "resource", "verbs"), ALLOWED)
def test_a_role_allows_this_and_no_more(
    plane: ControlPlane, account: str, group: str, resource: str, verbs: set[str]
) -> None:
    """In all namespaces. One kubectl asks for all verbs."""
    name, _, subresource = resource.partition("/")
    questions = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:hostdev-system:{account}",
                "resourceAttributes": {"group": group, "resource": name, "subresource": subresource, "verb": verb},
            },
        }
        for verb in VERBS
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": questions})
    answers = list(yaml.safe_load_all(plane.kubectl("create", "-o", "yaml", "-f", "-", stdin=text).stdout))
    assert len(answers) == len(VERBS)
    told = {a["spec"]["resourceAttributes"]["verb"] for a in answers if a["status"]["allowed"]}
    assert told == verbs
