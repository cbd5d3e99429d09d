"""Every overlay, and components in an overlay of one's own, as kubectl renders them: what their pods may do."""

from __future__ import annotations

import argparse
import copy
import functools
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hostdev_operator.__main__ import _parser
from tests.cluster.controlplane import ControlPlane
from tests.manifests.pods import AGENT, CONTROLLER, SIMULATION, Allowed, Body, faults

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFESTS = REPOSITORY / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir())
LINKS = frozenset({("/dev", "/host/dev", "read-only")})
AGENTS: dict[str, Allowed] = {
    "apparmor": AGENT,
    "default": AGENT,
    "development": SIMULATION,
    "modular-daemons": AGENT,
    "monitoring": AGENT,
    "selinux": replace(AGENT, selinux="spc_t"),
}


@functools.cache
def _rendered(plane: ControlPlane, folder: Path) -> str:
    return plane.kubectl("kustomize", str(folder)).stdout


def render(plane: ControlPlane, folder: Path) -> dict[tuple[str, str], Body]:
    """By kind and name."""
    bodies = yaml.load_all(_rendered(plane, folder), Loader=yaml.CSafeLoader)
    return {(body["kind"], body["metadata"]["name"]): body for body in bodies}


def pod(rendered: dict[tuple[str, str], Body], kind: str, name: str) -> Body:
    spec: Body = rendered[kind, name]["spec"]["template"]["spec"]
    return spec


def agent(rendered: dict[tuple[str, str], Body]) -> Body:
    return pod(rendered, "DaemonSet", "hostdev-agent")


def controller(rendered: dict[tuple[str, str], Body]) -> Body:
    return pod(rendered, "Deployment", "hostdev-controller")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pods_of_an_overlay_have_this_and_no_more(control_plane: ControlPlane, overlay: str) -> None:
    rendered = render(control_plane, MANIFESTS / "overlays" / overlay)
    assert list(faults(agent(rendered), AGENTS[overlay])) == []
    assert list(faults(controller(rendered), CONTROLLER)) == []
    others = {kind for kind, _ in rendered} - {"DaemonSet", "Deployment"}
    assert not others & {"Pod", "Job", "CronJob", "StatefulSet", "ReplicaSet"}


def test_components_go_together(control_plane: ControlPlane, tmp_path: Path) -> None:
    """As docs/install.md has an overlay of one's own."""
    own = tmp_path / "own"
    own.mkdir()

    def way(place: str) -> str:
        return "/".join([".."] * (len(own.parts) - 1)) + str(MANIFESTS / place)

    made = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [way("overlays/default")],
        "components": [way(f"components/{name}") for name in COMPONENTS],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(made))
    rendered = render(control_plane, own)
    assert list(faults(agent(rendered), replace(AGENT, selinux="spc_t", paths=AGENT.paths | LINKS))) == []
    assert list(faults(controller(rendered), CONTROLLER)) == []
    assert agent(rendered)["securityContext"]["appArmorProfile"] == {"type": "RuntimeDefault"}
    assert arguments(agent(rendered)).connect == "qemu:///system?mode=direct"


def _set(*path: str | int, to: object) -> Callable[[Body], None]:
    def change(spec: Body) -> None:
        place: object = spec
        for step in path[:-1]:
            place = place[step]  # type: ignore[index]
        place[path[-1]] = to  # type: ignore[index]

    return change


def _mount(spec: Body) -> None:
    spec["volumes"].append({"name": "etc", "hostPath": {"path": "/etc"}})
    spec["containers"][0]["volumeMounts"].append({"name": "etc", "mountPath": "/host/etc", "readOnly": True})


CONTEXT = ("containers", 0, "securityContext")
MUTATIONS: dict[str, Callable[[Body], None]] = {
    "privileged": _set(*CONTEXT, "privileged", to=True),
    "allowPrivilegeEscalation": _set(*CONTEXT, "allowPrivilegeEscalation", to=True),
    "readOnlyRootFilesystem": _set(*CONTEXT, "readOnlyRootFilesystem", to=False),
    "SYS_ADMIN": _set(*CONTEXT, "capabilities", "add", to=["NET_ADMIN", "SYS_ADMIN"]),
    "nothing dropped": _set(*CONTEXT, "capabilities", "drop", to=[]),
    "unconfined seccomp": _set("securityContext", "seccompProfile", "type", to="Unconfined"),
    "unconfined AppArmor": _set("securityContext", "appArmorProfile", to={"type": "Unconfined"}),
    "procMount": _set(*CONTEXT, "procMount", to="Unmasked"),
    "hostPID": _set("hostPID", to=True),
    "hostIPC": _set("hostIPC", to=True),
    "no hostNetwork": _set("hostNetwork", to=False),
    "another mount": _mount,
    "the host's /proc to write": _set("containers", 0, "volumeMounts", 0, "readOnly", to=False),
    "the host's / for its /sys": _set("volumes", 1, "hostPath", "path", to="/"),
    "mountPropagation": _set("containers", 0, "volumeMounts", 1, "mountPropagation", to="Bidirectional"),
    "another container": lambda spec: spec["containers"].append(spec["containers"][0]),
    "an init container": _set("initContainers", to=[]),
    "a command": _set("containers", 0, "command", to=["/bin/sh"]),
    "no limit": _set("containers", 0, "resources", "limits", to={}),
    "no probe": lambda spec: spec["containers"][0].pop("livenessProbe"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_pod_that_may_more_is_found_out(control_plane: ControlPlane, name: str) -> None:
    spec = copy.deepcopy(agent(render(control_plane, MANIFESTS / "overlays/default")))
    MUTATIONS[name](spec)
    assert list(faults(spec, AGENT)) != []


def arguments(spec: Body) -> argparse.Namespace:
    """What the program makes of a pod's arguments; it ends for those that it does not know."""
    container = spec["containers"][0]
    values = {"NODE_NAME": "node-1", "POD_IP": "10.0.0.7", "HOST_IP": "192.0.2.7", "POD_NAMESPACE": "hostdev-system"}
    values |= {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    words = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in container["args"]]
    return _parser().parse_args(words)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_program_takes_the_arguments_and_answers_the_probes(control_plane: ControlPlane, overlay: str) -> None:
    rendered = render(control_plane, MANIFESTS / "overlays" / overlay)
    for spec, role in ((agent(rendered), "agent"), (controller(rendered), "controller")):
        container, parsed = spec["containers"][0], arguments(spec)
        assert parsed.role == role
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            asked = container[probe]["httpGet"]
            assert asked["path"] == path
            assert ports.get(asked["port"], asked["port"]) == parsed.probe_port
            assert asked.get("host", "10.0.0.7") == parsed.probe_address
        if spec.get("hostNetwork"):
            assert parsed.probe_address == "127.0.0.1"  # nobody else on the network may ask


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_metrics_are_shown_where_they_are_asked_for(control_plane: ControlPlane, overlay: str) -> None:
    rendered = render(control_plane, MANIFESTS / "overlays" / overlay)
    for spec, address in ((agent(rendered), "192.0.2.7"), (controller(rendered), "10.0.0.7")):
        ports = {port["name"]: port["containerPort"] for port in spec["containers"][0].get("ports", [])}
        parsed = arguments(spec)
        if overlay == "monitoring":
            assert (parsed.metrics_address, parsed.metrics_port) == (address, ports["metrics"])
        else:
            assert (parsed.metrics_port, "metrics" in ports) == (0, False)


def test_the_pod_monitor_finds_both(control_plane: ControlPlane) -> None:
    rendered = render(control_plane, MANIFESTS / "overlays/monitoring")
    monitor = rendered["PodMonitor", "hostdev-operator"]["spec"]
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["metrics"]
    for kind, name in (("DaemonSet", "hostdev-agent"), ("Deployment", "hostdev-controller")):
        labels = rendered[kind, name]["spec"]["template"]["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()


def test_an_agent_runs_where_an_administrator_says_so(control_plane: ControlPlane) -> None:
    rendered = render(control_plane, MANIFESTS / "overlays/default")
    spec = agent(rendered)
    assert spec["nodeSelector"]["hostdev.node-restriction.kubernetes.io/agent"] == "enabled"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    node_name = next(entry for entry in spec["containers"][0]["env"] if entry["name"] == "NODE_NAME")
    assert node_name["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert rendered["DaemonSet", "hostdev-agent"]["spec"]["updateStrategy"]["rollingUpdate"] == {
        "maxUnavailable": 1,
        "maxSurge": 0,
    }


def test_the_budget_is_the_controllers_and_lets_a_node_be_drained(control_plane: ControlPlane) -> None:
    rendered = render(control_plane, MANIFESTS / "overlays/default")
    budget = rendered["PodDisruptionBudget", "hostdev-controller"]["spec"]
    deployment = rendered["Deployment", "hostdev-controller"]["spec"]
    assert budget["selector"] == deployment["selector"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert budget["maxUnavailable"] < deployment["replicas"]  # one of them goes on


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_is_that_of_this_version(control_plane: ControlPlane, overlay: str) -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    rendered = render(control_plane, MANIFESTS / "overlays" / overlay)
    for spec in (agent(rendered), controller(rendered)):
        assert spec["containers"][0]["image"] == f"hostdev-operator:{version}"


def test_development_simulates_the_recorded_laboratory_host() -> None:
    recorded = REPOSITORY / "tests/recordings/lab.tar.zst"
    assert (MANIFESTS / "overlays/development/host.tar.zst").read_bytes() == recorded.read_bytes()
