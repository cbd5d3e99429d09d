"""The control plane does what the other cluster tests take for granted."""

from __future__ import annotations

import json
import stat
import time

import pytest

from tests.cluster.audit import AuditEntry
from tests.cluster.controlplane import ControlPlane, KubectlError

# Whatever is waited for takes well below a second; the rest is for a loaded machine.
PATIENCE_SECONDS = 30.0

PROBE_DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "probes.test.hostdev.dev"},
    "spec": {
        "group": "test.hostdev.dev",
        "scope": "Namespaced",
        "names": {"kind": "Probe", "plural": "probes", "singular": "probe"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".status.nodeName"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "status": {"type": "object", "properties": {"nodeName": {"type": "string"}}},
                        },
                    }
                },
            }
        ],
    },
}


def make_config_map(control_plane: ControlPlane, name: str) -> None:
    control_plane.kubectl("create", "configmap", name, "--from-literal=key=value")


def test_it_is_ready_and_knows_its_version(control_plane: ControlPlane) -> None:
    assert control_plane.kubectl("get", "--raw", "/readyz").stdout == "ok"
    version = json.loads(control_plane.kubectl("version", "--output=json").stdout)
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]
    assert version["serverVersion"]["gitVersion"].startswith("v1.")


def test_a_field_selector_finds_objects_by_the_node_in_their_status(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "--filename=-", stdin=json.dumps(PROBE_DEFINITION))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/probes.test.hostdev.dev", "--timeout=30s")
    for node in ("n7", "n8"):
        probe = {"apiVersion": "test.hostdev.dev/v1", "kind": "Probe", "metadata": {"name": f"on-{node}"}}
        control_plane.kubectl("create", "--filename=-", stdin=json.dumps(probe))
        status = json.dumps({"status": {"nodeName": node}})
        control_plane.kubectl("patch", "probe", f"on-{node}", "--subresource=status", "--type=merge", "--patch", status)

    found = control_plane.kubectl("get", "probes", "--field-selector=status.nodeName=n7", "--output=name")

    assert found.stdout.split() == ["probe.test.hostdev.dev/on-n7"]


def test_a_pod_bound_token_carries_the_node_and_a_plain_one_does_not(control_plane: ControlPlane) -> None:
    control_plane.ensure_service_account("hostdev", "agent")
    tokens = {
        "bound": control_plane.pod_bound_token("hostdev", "agent", "agent-n7", "n7"),
        "plain": control_plane.service_account_token("hostdev", "agent"),
    }

    users = {}
    for name, token in tokens.items():
        kubeconfig = control_plane.kubeconfig(name, token)
        assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
        shown = control_plane.kubectl("auth", "whoami", "--output=json", kubeconfig=kubeconfig)
        users[name] = json.loads(shown.stdout)["status"]["userInfo"]

    assert {user["username"] for user in users.values()} == {"system:serviceaccount:hostdev:agent"}
    assert users["bound"]["extra"]["authentication.kubernetes.io/node-name"] == ["n7"]
    assert "authentication.kubernetes.io/node-name" not in users["plain"]["extra"]


def test_a_token_of_an_unknown_service_account_is_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(KubectlError, match='serviceaccounts "nobody" not found'):
        control_plane.service_account_token("default", "nobody")


def test_the_audit_log_shows_writes_and_refused_writes_but_no_reads(control_plane: ControlPlane) -> None:
    control_plane.ensure_service_account("default", "auditor")
    auditor = control_plane.kubeconfig("auditor", control_plane.service_account_token("default", "auditor"))
    since = time.time()
    make_config_map(control_plane, "audited")
    control_plane.kubectl("get", "configmap", "audited")
    refused = control_plane.kubectl("delete", "configmap", "audited", check=False, kubeconfig=auditor)
    assert refused.returncode != 0

    def seen(user: str) -> list[tuple[str, str, str, str, int]]:
        entries = control_plane.writes(since=since, user=user)
        return [(entry.verb, entry.resource, entry.namespace, entry.name, entry.code) for entry in entries]

    expected = {
        "test-admin": [("create", "configmaps", "default", "audited", 201)],
        "system:serviceaccount:default:auditor": [("delete", "configmaps", "default", "audited", 403)],
    }
    deadline = time.monotonic() + PATIENCE_SECONDS
    while {user: seen(user) for user in expected} != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {user: seen(user) for user in expected} == expected
    assert all(isinstance(entry, AuditEntry) and entry.time >= since for entry in control_plane.writes(since=since))


def test_objects_outlive_an_api_server_that_goes_away(control_plane: ControlPlane) -> None:
    make_config_map(control_plane, "lasting")
    url = control_plane.url

    control_plane.stop_apiserver()
    gone = control_plane.kubectl("get", "configmap", "lasting", check=False)
    control_plane.start_apiserver()

    assert gone.returncode != 0
    assert "refused" in gone.stderr
    assert control_plane.url == url
    assert control_plane.kubectl("get", "configmap", "lasting", "--output=name").stdout.strip() == "configmap/lasting"
