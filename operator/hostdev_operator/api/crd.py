"""Generates the CustomResourceDefinitions from the models: structural OpenAPI v3 as the API server wants it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import GROUP, VERSION
from .common import Model
from .deviceassignment import DeviceAssignment
from .devicehost import DeviceHost
from .guest import Guest
from .vfpool import NodeVFPool, VFPool

_KEPT = (
    "type", "format", "description", "enum", "default", "pattern", "required", "minLength", "maxLength",
    "maxItems", "minItems", "minimum", "maximum", "maxProperties",
)  # fmt: skip
_RENAMED = {"max_length": "maxLength", "min_length": "minLength"}


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; priority 1 shows it with -o wide alone."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True)
class Kind:
    """One custom resource: its names, scope, columns and selectable fields."""

    model: type[Model]
    plural: str
    short: str
    scope: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The kind, which is the model's class name."""
        return self.model.__name__


def _condition(kind: str, field: str) -> str:
    return f".status.conditions[?(@.type=='{kind}')].{field}"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_COUNTS = tuple(Column(c, f".status.counts.{c.lower()}", "integer") for c in ("Total", "Allocated", "Free"))
KINDS = (
    Kind(
        DeviceAssignment, "deviceassignments", "hda", "Namespaced",
        (
            Column("Node", ".status.nodeName"),
            Column("Domain", ".status.guest.name"),
            Column("Device", ".status.device.address"),
            Column("Group", ".status.iommuGroup.number", "integer"),
            Column("Attached", _condition("Attached", "status"), priority=1),
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            _AGE,
        ),
        (".status.nodeName", ".spec.nodeName"),
    ),
    Kind(
        DeviceHost, "devicehosts", "hdh", "Cluster",
        (
            Column("IOMMU", _condition("IOMMUReady", "status")),
            Column("IntRemap", _condition("InterruptRemappingReady", "status")),
            Column("VFIO", _condition("VFIOReady", "status")),
            Column("Libvirt", _condition("LibvirtReady", "status")),
            Column("Summary", ".status.summary"),
            _AGE,
        ),
    ),
    Kind(
        VFPool, "vfpools", "hdp", "Cluster",
        (
            Column("Nodes", ".status.nodes", "integer"),
            Column("NodesReady", ".status.nodesReady", "integer"),
            *_COUNTS,
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            _AGE,
        ),
    ),
    Kind(
        NodeVFPool, "nodevfpools", "hdnp", "Cluster",
        (
            Column("Pool", ".spec.poolName"),
            Column("Node", ".spec.nodeName"),
            Column("PF", ".status.pf.name"),
            *_COUNTS,
            Column("NetworkActive", ".status.network.active", "boolean"),
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            _AGE,
        ),
        (".spec.nodeName",),
    ),
    Kind(
        Guest, "guests", "hdg", "Cluster",
        (
            Column("Node", ".spec.nodeName"),
            Column("State", ".status.state"),
            Column("Ready", _condition("Ready", "status")),
            Column("Reason", _condition("Ready", "reason")),
            _AGE,
        ),
        (".spec.nodeName",),
    ),
)  # fmt: skip


def _inline(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow a $ref and take the one non-null branch of an optional field."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    branches = [b for b in node.get("anyOf", []) if b.get("type") != "null"]
    if len(branches) == 1:
        merged = {**_inline(branches[0], definitions), **{k: v for k, v in node.items() if k != "anyOf"}}
        if merged.get("default", 0) is None:
            del merged["default"]
        return merged
    if branches:
        raise ValueError(f"a union that OpenAPI's structural schemas cannot express: {node}")
    return node


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _inline(node, definitions)
    out: dict[str, Any] = {_RENAMED.get(k, k): v for k, v in node.items() if k in _KEPT or k in _RENAMED}
    out.update({k: v for k, v in node.items() if k.startswith("x-kubernetes-")})
    if "const" in node:
        out["enum"] = [node["const"]]
    if out.get("default", 0) in ([], "", None):
        del out["default"]
    if isinstance(out.get("default"), dict):
        out["default"] = {}  # the defaults of what is in it are its own
    if "description" in out:
        out["description"] = " ".join(out["description"].split())
    if "properties" in node:
        out["properties"] = {k: _structural(v, definitions) for k, v in node["properties"].items()}
    if "items" in node:
        out["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    return out


def _root_schema(model: type[Model]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    root = _structural(schema, schema.get("$defs", {}))
    root["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **root["properties"],
    }
    return root


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind as a plain object."""
    singular = kind.name.lower()
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {
                "name": c.name,
                "type": c.type,
                "jsonPath": c.path,
                **({"priority": c.priority} if c.priority else {}),
            }
            for c in kind.columns
        ],
        "schema": {"openAPIV3Schema": _root_schema(kind.model)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": singular,
                "shortNames": [kind.short],
                "categories": ["hostdev"],
            },
            "versions": [version],
        },
    }


def render() -> dict[str, str]:
    """File name -> YAML text of everything in crds/."""
    head = "# Generated from operator/hostdev_operator/api by `make crds`; do not edit.\n"
    files = {
        f"{GROUP}_{kind.plural}.yaml": head + yaml.safe_dump(crd(kind), sort_keys=False, width=110) for kind in KINDS
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
    }
    return {**files, "kustomization.yaml": head + yaml.safe_dump(kustomization, sort_keys=False)}


def write(folder: Path) -> None:
    """Write crds/ anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text)
