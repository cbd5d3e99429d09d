"""What the API server takes and refuses of adoption."""

from __future__ import annotations

import pytest

from tests.cluster.admission import Spec, change, manifest, refused, report, taken
from tests.cluster.controlplane import ControlPlane
from tests.reconcile.imported_host import documents, imported, old_host

PCI: Spec = {"pci": {"address": "0000:01:00.0"}}
GOOD: Spec = {"domain": {"name": "web"}, "source": PCI, "adopt": True, "releasePolicy": "Keep"}
POOL: Spec = {**GOOD, "source": {"pool": {"name": "fast"}}}
WORDS = "a bound assignment cannot begin to adopt, and one of a pool cannot end it"


@pytest.mark.parametrize("spec", [GOOD, POOL, {**POOL, "network": {"mac": "52:54:00:00:00:01"}}])
def test_good_input_is_taken(plane: ControlPlane, spec: Spec) -> None:
    taken(plane, manifest("good", spec))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"nodeName": "n1", "source": PCI, "adopt": True}, "adopt takes over one device that a guest has"),
        ({**GOOD, "groupPolicy": "AssignAll"}, "adopt takes over one device that a guest has"),
        ({**GOOD, "releasePolicy": "Drop"}, "spec.releasePolicy"),
        ({**GOOD, "adopt": "yes"}, "spec.adopt"),
    ],
)
def test_bad_input_is_refused_with_the_reason(plane: ControlPlane, spec: Spec, words: str) -> None:
    refused(plane, manifest("bad", spec), words)


def test_a_bound_assignment_can_end_adopting_and_change_its_release(plane: ControlPlane) -> None:
    adopts, ordinary, pool = (("deviceassignment", name) for name in ("adopts", "ordinary", "pool"))
    for (_, name), spec in ((adopts, GOOD), (ordinary, {**GOOD, "adopt": False}), (pool, POOL)):
        plane.kubectl("create", "-f", "-", stdin=manifest(name, spec))
        report(plane, ("deviceassignment", name), {"nodeName": "n7"})
    change(plane, ordinary, {"adopt": True}, WORDS)
    change(plane, pool, {"adopt": False}, WORDS)
    change(plane, adopts, {"adopt": False, "releasePolicy": "Return"})
    change(plane, adopts, {"adopt": True}, WORDS)
    change(plane, pool, {"releasePolicy": "Return"})
    for target in (adopts, ordinary, pool):
        plane.kubectl("delete", *target)


def test_a_pool_says_what_becomes_of_it(plane: ControlPlane) -> None:
    spec: Spec = {"pf": {"name": "ens1f0"}, "externallyManaged": True}
    taken(plane, manifest("good", {**spec, "releasePolicy": "Keep"}, "VFPool"))
    refused(plane, manifest("bad", {**spec, "releasePolicy": "No"}, "VFPool"), "spec.releasePolicy")


def test_what_import_writes_is_taken(plane: ControlPlane) -> None:
    text = imported(old_host())
    result = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    assert result.stdout.count("created (server dry run)") == len(documents(text)) == 4
