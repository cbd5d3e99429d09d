"""Uninstalled, nothing is left; upgraded from the previous release's manifests, what is assigned stays so.

What the nodes simulate is in their agents' memory, so an agent of a new version finds its host as it was recorded: its
journal is lost, and the guest has no card. It takes the record from the assignment's status, and says that it drifted.
"""

from __future__ import annotations

import json
from pathlib import Path

from hostdev_operator import __version__
from tests.e2e.installation import GUESTS, Installation
from tests.e2e.kind.cluster import SYSTEM, Body, Kind
from tests.e2e.kind.previous import write_previous
from tests.e2e.kind.recorded import write_overlay
from tests.e2e.test_nodes import CARD, MATE, assignment

_KINDS = "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding,priorityclass"


def ours(kind: Kind) -> set[str]:
    """What belongs to no namespace and has our name, and our namespace."""
    names = kind.kubectl("get", _KINDS, "-o", "name").stdout.split()
    namespaces = kind.kubectl("get", "namespaces", "-o", "name").stdout.split()
    return {name for name in (*names, *namespaces) if "hostdev" in name}


def test_uninstalled_nothing_is_left(installed: Installation) -> None:
    kind = installed.kind
    installed.apply("pool")
    installed.apply("first-light")
    installed.wait_for("deviceassignment/web-nic", "Assigned")
    assert len(ours(kind)) > 10
    # first what holds devices, as long as somebody is there who gives them back
    kind.kubectl("delete", "deviceassignments,vfpools", "--all", "-A", "--timeout=120s")
    host = installed.host()
    assert host["guests"]["web"]["config"] == []
    assert installed.drivers(CARD, MATE) == ["e1000", "e1000"]
    assert "passthrough" not in host["networks"]
    crds = [name.removeprefix("customresourcedefinition.apiextensions.k8s.io/") for name in ours(kind)]
    confirmed = [name for name in crds if name.endswith(".hostdev.dev")]
    kind.kubectl("annotate", "--overwrite", "crd", *confirmed, "hostdev.dev/uninstall=confirmed")
    kind.kubectl("delete", "-k", str(installed.overlay), "--timeout=180s")
    assert ours(kind) == set()
    assert kind.items("pods", "-n", SYSTEM) == []


def test_upgraded_what_is_assigned_stays_so(kind: Kind, overlay: Path, tmp_path: Path) -> None:
    base, tag = write_previous(tmp_path / "previous")
    write_overlay(tmp_path / "overlay", GUESTS, base)
    # the programs are today's: what is tried here is what the API server makes of the manifests
    today = "docker.io/library/hostdev-operator"
    for node in GUESTS:
        kind.docker("exec", node, "ctr", "-n", "k8s.io", "images", "tag", f"{today}:{__version__}", f"{today}:{tag}")
    before = Installation(kind, tmp_path / "overlay")
    before.install()
    assert images(kind) == {f"hostdev-operator:{tag}"}
    kind.kubectl("apply", "-f", "-", stdin=assignment("web-nic", "web"))
    before.wait_for("deviceassignment/web-nic", "Assigned")
    assert before.host()["guests"]["web"]["config"] == [CARD]
    old = kind.get("deviceassignment", "web-nic")
    assert old

    after = Installation(kind, overlay)
    after.install()
    assert images(kind) == {f"hostdev-operator:{__version__}"}
    new = kind.get("deviceassignment", "web-nic")
    assert new
    assert bound(new) == bound(old)
    after.done_again("web-nic", "web", CARD)
    assert after.drivers(MATE) == ["vfio-pci"]
    assert "Released" not in after.events(old["metadata"]["uid"])
    assert "validatingadmissionpolicy.admissionregistration.k8s.io/hostdev-node-hosts" in ours(kind)
    kind.kubectl("delete", "deviceassignment", "web-nic", "--timeout=120s")
    assert after.host()["guests"]["web"]["config"] == []
    assert after.drivers(CARD, MATE) == ["e1000", "e1000"]


def images(kind: Kind) -> set[str]:
    """Of the pods that are not on their way out."""
    pods = kind.items("pods", "-n", SYSTEM)
    return {pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def bound(body: Body) -> str:
    """What must not change: which object it is, where it is bound, who holds it, and what was there before."""
    metadata, status = body["metadata"], body["status"]
    kept = [
        metadata["uid"],
        metadata["finalizers"],
        status["nodeName"],
        status["domainUUID"],
        status["device"]["address"],
    ]
    return json.dumps(kept)
