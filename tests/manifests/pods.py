"""What the pods of manifests/ may have. A pod that has anything else is told of, whatever its manifest looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Allowed:
    """Everything that a pod may have beyond nothing. ``paths``: of the host, and how each is mounted."""

    user: int = 65532
    host_network: bool = False
    capabilities: frozenset[str] = frozenset()
    paths: frozenset[tuple[str, str, str]] = frozenset()
    volumes: frozenset[str] = frozenset()
    selinux: str | None = None


#: docs/security.md says why.
AGENT = Allowed(
    user=0,
    host_network=True,
    capabilities=frozenset({"NET_ADMIN"}),
    paths=frozenset(
        {
            ("/proc", "/host/proc", "read-only, recursively"),
            ("/sys", "/host/sys", "read-only, recursively"),
            ("/sys/devices", "/host/sys/devices", "read-write"),
            ("/run/libvirt", "/run/libvirt", "read-only"),
            ("/var/lib/hostdev-operator", "/var/lib/hostdev-operator", "read-write"),
        }
    ),
)
CONTROLLER = Allowed()
SIMULATION = Allowed(volumes=frozenset({"configMap", "emptyDir"}))

_POD = frozenset(
    (
        *(
            "affinity",
            "containers",
            "dnsPolicy",
            "enableServiceLinks",
            "hostNetwork",
            "nodeSelector",
            "priorityClassName",
        ),
        *("securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "tolerations", "volumes"),
    )
)
_CONTAINER = frozenset(
    (
        *("args", "env", "image", "imagePullPolicy", "livenessProbe", "name", "ports", "readinessProbe"),
        *("resources", "securityContext", "startupProbe", "volumeMounts"),
    )
)


def faults(spec: Body, allowed: Allowed) -> Iterator[str]:
    """What of a pod's spec is not as it should be. A field that is not known here is a fault as well."""
    yield from (f"field {name}" for name in sorted(spec.keys() - _POD))
    if len(spec["containers"]) != 1:
        yield f"{len(spec['containers'])} containers"
    if bool(spec.get("hostNetwork")) != allowed.host_network:
        yield "hostNetwork"
    container = spec["containers"][0]
    yield from (f"field {name} of the container" for name in sorted(container.keys() - _CONTAINER))
    yield from _security({**spec.get("securityContext", {}), **container.get("securityContext", {})}, allowed)
    yield from _mounts(spec, container, allowed)
    yield from _care(container)


def _security(context: Body, allowed: Allowed) -> Iterator[str]:
    """Of pod and container together."""
    wanted: Body = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": allowed.user,
        "runAsGroup": allowed.user,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"], "add": sorted(allowed.capabilities)}
        if allowed.capabilities
        else {"drop": ["ALL"]},
    }
    if allowed.user:
        wanted["runAsNonRoot"] = True
    if allowed.selinux:
        wanted["seLinuxOptions"] = {"type": allowed.selinux}
    harmless = {"appArmorProfile": {"type": "RuntimeDefault"}, "fsGroup": allowed.user}
    for name in sorted(wanted.keys() | context.keys()):
        if context.get(name) != wanted.get(name) and (name not in harmless or context[name] != harmless[name]):
            yield f"{name} is {context.get(name)}"


def _mounts(spec: Body, container: Body, allowed: Allowed) -> Iterator[str]:
    mounts = {mount["name"]: mount for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    if mounts.keys() != volumes.keys() or len(mounts) != len(container.get("volumeMounts", [])):
        yield "volumes and mounts do not fit"
        return
    found = set()
    for name, volume in volumes.items():
        kind = next(key for key in volume if key != "name")
        if kind == "hostPath":
            found.add((volume["hostPath"]["path"], mounts[name]["mountPath"], _how(mounts[name])))
        elif kind not in allowed.volumes:
            yield f"volume {name} is of kind {kind}"
    yield from (f"mounts {entry}" for entry in sorted(found - allowed.paths))
    yield from (f"does not mount {entry}" for entry in sorted(allowed.paths - found))


def _how(mount: Body) -> str:
    extra = mount.keys() - {"name", "mountPath", "readOnly", "recursiveReadOnly"}
    if extra:
        return f"with {sorted(extra)}"
    if not mount.get("readOnly"):
        return "read-write"
    return "read-only, recursively" if mount.get("recursiveReadOnly") == "IfPossible" else "read-only"


def _care(container: Body) -> Iterator[str]:
    """What keeps it alive, and others from suffering by it."""
    yield from (
        f"no {probe}" for probe in ("startupProbe", "livenessProbe", "readinessProbe") if probe not in container
    )
    resources = container.get("resources", {})
    if resources.get("requests", {}).keys() != {"cpu", "memory"} or resources.get("limits", {}).keys() != {"memory"}:
        yield f"resources are {resources}"
