"""The installation, on a real API server: what kubectl applies of it, and what Pod Security says of its pods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.manifests.pods import Body
from tests.manifests.test_pods import MANIFESTS, OVERLAYS, agent, controller, render

#: By another manager, which takes nothing over: that would make warnings.
SERVER_SIDE = ("--server-side", "--force-conflicts", "--field-manager=dry-run")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster of its own, with the one command of the README."""
    with ControlPlane.start(tmp_path_factory.mktemp("install")) as plane:
        plane.kubectl("apply", "-k", str(MANIFESTS / "overlays/default"))
        plane.kubectl("apply", "-f", "-", stdin=pod_monitors())
        monitors = "podmonitors.monitoring.coreos.com"
        plane.kubectl("wait", "--for=condition=Established", "crd", monitors, "--timeout=60s")
        yield plane


def pod_monitors() -> str:
    """The kind of the Prometheus operator that an overlay has one of, without its schema."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "podmonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"plural": "podmonitors", "kind": "PodMonitor"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    return json.dumps(body)


def test_applied_again_nothing_changes(installed: ControlPlane) -> None:
    def versions() -> dict[tuple[str, str], str]:
        shown = installed.kubectl("get", "-k", str(MANIFESTS / "overlays/default"), "-o", "json").stdout
        metas = [(body["kind"], body["metadata"]) for body in json.loads(shown)["items"]]
        return {
            (kind, meta["name"]): f"{meta['uid']} {meta['generation']}" for kind, meta in metas if "generation" in meta
        }

    before = versions()
    assert {("DaemonSet", "hostdev-agent"), ("Deployment", "hostdev-controller")} <= before.keys()
    installed.kubectl("apply", "-k", str(MANIFESTS / "overlays/default"))
    assert versions() == before


@pytest.mark.parametrize(("overlay", "options"), [*((overlay, ()) for overlay in OVERLAYS), ("default", SERVER_SIDE)])
def test_the_server_takes_an_overlay(installed: ControlPlane, overlay: str, options: tuple[str, ...]) -> None:
    """In the place of the default one. It validates strictly, and warns of each field that it would drop."""
    folder = MANIFESTS / "overlays" / overlay
    done = installed.kubectl("apply", "--dry-run=server", *options, "-k", str(folder))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(render(installed, folder))


def definition(group: str) -> str:
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}]
    names = {"plural": "things", "kind": "Thing"}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": versions},
    }
    return json.dumps(body)


def test_our_definitions_are_deleted_when_an_administrator_says_so_and_others_as_ever(installed: ControlPlane) -> None:
    for group in ("hostdev.dev", "example.com"):
        installed.kubectl("apply", "-f", "-", stdin=definition(group))
    installed.kubectl("delete", "crd", "things.example.com", "--wait=false")
    refused = installed.kubectl("delete", "crd", "things.hostdev.dev", "--wait=false", check=False)
    command = "kubectl annotate --overwrite crd things.hostdev.dev hostdev.dev/uninstall=confirmed"
    assert command in refused.stderr
    installed.kubectl(*command.split()[1:])
    installed.kubectl("delete", "crd", "things.hostdev.dev", "--wait=false")


def judged(plane: ControlPlane, level: str, spec: Body) -> str:
    """What Pod Security says of a pod at that level; empty if it is let in."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": level, "labels": {"pod-security.kubernetes.io/enforce": level}},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "any", "namespace": level}}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(account))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": level},
        "spec": {**spec, "serviceAccountName": "any"},
    }
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
    assert done.returncode == 0 or "violates PodSecurity" in done.stderr, done.stderr
    return done.stderr


def test_the_controller_is_restricted(installed: ControlPlane) -> None:
    assert judged(installed, "restricted", controller(render(installed, MANIFESTS / "overlays/default"))) == ""


def test_a_simulating_agent_is_restricted(installed: ControlPlane) -> None:
    assert judged(installed, "restricted", agent(render(installed, MANIFESTS / "overlays/development"))) == ""


def test_the_agent_is_not_for_these_reasons(installed: ControlPlane) -> None:
    spec = agent(render(installed, MANIFESTS / "overlays/default"))
    why = judged(installed, "restricted", spec).partition('violates PodSecurity "restricted:latest": ')[2]
    found = {part.split(" (")[0] for part in re.split(r"(?<=\)), ", why)}
    assert found == {
        "host namespaces",
        "probe or lifecycle host",
        "unrestricted capabilities",
        "restricted volume types",
        "runAsNonRoot != true",
        "runAsUser=0",
    }, why
    assert judged(installed, "privileged", spec) == ""
