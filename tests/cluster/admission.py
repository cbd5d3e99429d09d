"""What the tests of admission share: objects as JSON, and what the API server says to them."""

from __future__ import annotations

import json

from hostdev_operator.api import API_VERSION
from tests.cluster.controlplane import ControlPlane

Spec = dict[str, object]
#: Text that would close an attribute and open an element if it came into XML unescaped.
HOSTILE = '"><x'


def manifest(name: str, spec: Spec, kind: str = "DeviceAssignment") -> str:
    """An object; a DeviceAssignment in the namespace default."""
    meta = {"name": name, **({"namespace": "default"} if kind == "DeviceAssignment" else {})}
    return json.dumps({"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec})


def taken(plane: ControlPlane, text: str) -> None:
    """The API server would store the object."""
    result = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    assert "created (server dry run)" in result.stdout


def refused(plane: ControlPlane, text: str, words: str) -> None:
    """The API server refuses the object with these words. A dry run, so that an error here spoils no other test."""
    result = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=text, check=False)
    assert result.returncode != 0, result.stdout
    assert words in result.stderr


def change(plane: ControlPlane, target: tuple[str, str], spec: Spec, words: str | None = None) -> None:
    """Change spec of a stored object: taken, or refused with these words."""
    patch = json.dumps({"spec": spec})
    result = plane.kubectl("patch", *target, "--type=merge", "-p", patch, check=words is None)
    if words is not None:
        assert result.returncode != 0, f"{spec} was taken"
        assert words in result.stderr, spec


def report(plane: ControlPlane, target: tuple[str, str], status: Spec) -> None:
    """Write status as a controller or agent would."""
    patch = json.dumps({"status": status})
    plane.kubectl("patch", *target, "--subresource=status", "--type=merge", "-p", patch)
