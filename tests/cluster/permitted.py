"""What everybody keeps: each of these is allowed."""

from __future__ import annotations

import json

from tests.cluster.attempts import UNFINALIZED
from tests.cluster.authority import (
    FINALIZER,
    MATCH,
    PCI,
    PLAN,
    UUID,
    VERSION,
    VF,
    Attempt,
    applying,
    body,
    creating,
    patching,
    reporting,
    running,
)

ALLOWED: tuple[Attempt, ...] = (
    creating("a NIC of an allowed pool for an allowed guest, by name", by=""),
    creating("by UUID", by="", guest=UUID),
    creating(
        "with VLAN and MAC address of its own, where the whole pool is allowed",
        by="",
        network={"vlan": 7, "mac": "52:54:00:20:00:09"},
    ),
    creating(
        "in an allowed portgroup of another pool",
        by="",
        source={"pool": {"name": "wan", "portgroup": "finance"}},
        network={"mac": "52:54:00:20:00:09"},
    ),
    applying("by server-side apply", body("other"), "kubectl", by=""),
    running(
        "with generateName",
        "tenant",
        "create -f -",
        by="",
        stdin=json.dumps({**body("x"), "metadata": {"generateName": "x-", "namespace": "team-a"}}),
    ),
    patching("change how a guest gets it or lets go of it", {"spec": {"detach": "Live"}}, by=""),
    patching("ask for approval", {"spec": {"approval": "Manual"}}, by="", target="team-a/auto"),
    patching("take an approval back", {"spec": {"approvedPlan": None}}, by="", target="team-a/approved"),
    creating(
        "make an assignment anew without Manual (DeviceHost.spec.approval is what a tenant cannot weaken)",
        by="",
        approval="Automatic",
    ),
    running("delete the own", "tenant", "delete deviceassignment -n team-a mine", by=""),
    running(
        "delete another one's device in the own namespace", "tenant", "delete deviceassignment -n team-a card", by=""
    ),
    running("delete in a namespace that lost the label", "tenant", "delete deviceassignment -n bare left", by=""),
    running(
        "delete all of it",
        "tenant",
        f"delete --raw /apis/{VERSION}/namespaces/bare/deviceassignments?dryRun=All",
        by="",
    ),
    patching(
        "labels and finalizers of one's own in a namespace that lost the label",
        {"metadata": {"labels": {"a": "b"}, "finalizers": [FINALIZER, "example.org/x"]}},
        by="",
        target="bare/left",
    ),
    creating("a device by address", who="assigner", by="", source=PCI),
    creating("a device by properties", who="assigner", by="", source=MATCH),
    creating("a VF by its PF and index", who="assigner", by="", source=VF, network={"vlan": 7}),
    creating(
        "a device by address, with all verbs in the namespace: they include the custom ones",
        who="owner",
        by="",
        source=PCI,
    ),
    patching("approve a plan", {"spec": {"approvedPlan": PLAN}}, who="approver", by=""),
    patching(
        "approve the plan for a device", {"spec": {"approvedPlan": PLAN}}, who="approver", by="", target="team-a/card"
    ),
    patching("take Manual away", {"spec": {"approval": "Automatic"}}, who="approver", by=""),
    running(
        "approve a pool's plan",
        "cluster-approver",
        f'patch vfpool lan --type=merge -p {{"spec":{{"approvedPlans":{{"n2":"{PLAN}"}}}}}}',
        by="",
    ),
    *(
        running(what, "pooler", f"patch vfpool lan --type=merge -p {change}", by="")
        for what, change in (
            ("change a pool with an approved plan", '{"spec":{"numVFs":7}}'),
            ("take the approval of a pool's plan back", '{"spec":{"approvedPlans":{"n1":null}}}'),
        )
    ),
    reporting(
        "bind, also in a namespace that lost the label", {"nodeName": "n1"}, who="controller", target="bare/left"
    ),
    patching("take the finalizer away there", UNFINALIZED, who="controller", by="", target="bare/left"),
    reporting("report there", {"observedGeneration": 1}, who="agent", target="bare/held"),
    patching(
        "take the finalizer away by hand, when the node is gone for good", UNFINALIZED, who="administrator", by=""
    ),
    running("allow a namespace", "administrator", "label namespace bare hostdev.dev/assignments=allowed", by=""),
    running(
        "allow a namespace, with hostdev-administrator and the right to write namespaces",
        "steward",
        "annotate --overwrite namespace bare hostdev.dev/guests=web",
        by="",
    ),
    running("everything else of a namespace", "clerk", "label namespace team-a colour=red", by=""),
)
