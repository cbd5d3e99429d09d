"""What a hostile tenant tries: each of these is refused."""

from __future__ import annotations

import json

from tests.cluster.authority import (
    APPROVALS,
    ASSIGNMENTS,
    FIELDS,
    FINALIZER,
    FOREIGN,
    MATCH,
    NAMESPACES,
    OTHER_PLAN,
    PCI,
    PLAN,
    RBAC,
    SYSTEM,
    UUID,
    VERSION,
    VF,
    Attempt,
    Spec,
    applying,
    body,
    creating,
    patching,
    reporting,
    running,
)


def _annotate(entry: str) -> str:
    return f"kubectl annotate --overwrite namespace team-a hostdev.dev/{entry}"


def _role(name: str, who: str) -> str:
    user = f"system:serviceaccount:{SYSTEM}:{who}"
    return f"kubectl create rolebinding -n team-a {name} --clusterrole={name} --user={user}"


_UPDATED = body("mine", guest="db", approval="Manual")
_UPDATED["metadata"] = {"name": "mine", "namespace": "team-a", "finalizers": [FINALIZER]}
_NAMELESS = {**body("x", guest="db"), "metadata": {"generateName": "x-", "namespace": "team-a"}}
_LABEL = "kubectl label --overwrite namespace bare hostdev.dev/assignments=allowed"
_ALL = f"/apis/{VERSION}/namespaces/team-b/deviceassignments?dryRun=All"
_CONTROLLER = f"system:serviceaccount:{SYSTEM}:hostdev-controller"
_BINDING: Spec = {"nodeName": "n1", "domainUUID": FOREIGN}
UNFINALIZED: Spec = {"metadata": {"finalizers": None}}
_STRANGE = "team-b -o yaml; rm $(x) 'y'"
_PLANS = ("approvedPlan needs the verb approve-plans", _role("hostdev-approver", "tenant"))
_POOL_PLAN = '{"spec":{"approvedPlans":{"%s":"%s"}}}'
_ASSIGNER = ("needs the verb assign-devices", _role("hostdev-device-assigner", "tenant"))
_VERB = "verb allow-namespaces"
_OWN_NAMESPACE: Spec = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "team-a", "annotations": {"hostdev.dev/guests": "*"}},
}
_NEW_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "self-made", "labels": {"hostdev.dev/assignments": "allowed"}},
}

REFUSED: tuple[Attempt, ...] = (
    # -- namespaces
    creating("create in a namespace without the label", "namespace bare may not", _LABEL, namespace="bare"),
    creating("the same as an administrator", _LABEL, namespace="bare", who="administrator"),
    patching(
        "change an assignment in a namespace that lost the label",
        {"spec": {"detach": "Live"}},
        _LABEL,
        target="bare/left",
    ),
    creating("create in another tenant's namespace", "cannot create resource", namespace="team-b", by=RBAC),
    applying(
        "change another tenant's assignment",
        body("theirs", namespace="team-b", detach="Live"),
        "kubectl",
        "cannot patch resource",
        by=RBAC,
    ),
    running("delete another tenant's assignment", "tenant", "delete deviceassignment -n team-b theirs", "forbidden"),
    running("delete all of them at once", "tenant", f"delete --raw {_ALL}", "forbidden"),
    applying("label the own namespace", _OWN_NAMESPACE, "kubectl", "cannot patch resource", by=RBAC),
    applying(
        "with all verbs in the namespace, which cover the namespace itself",
        _OWN_NAMESPACE,
        "kubectl",
        _VERB,
        who="owner",
        by=NAMESPACES,
    ),
    running(
        "label a namespace with the right to write namespaces alone",
        "clerk",
        "label namespace bare hostdev.dev/assignments=allowed",
        "Namespace bare",
        _VERB,
        by=NAMESPACES,
    ),
    running(
        "allow it more guests",
        "clerk",
        "annotate --overwrite namespace team-a hostdev.dev/guests=*",
        _VERB,
        by=NAMESPACES,
    ),
    running(
        "allow it more pools",
        "clerk",
        "annotate --overwrite namespace team-a hostdev.dev/pools=*",
        _VERB,
        by=NAMESPACES,
    ),
    running(
        "take the label away for a moment",
        "clerk",
        "label namespace team-a hostdev.dev/assignments-",
        _VERB,
        by=NAMESPACES,
    ),
    running(
        "write the label through the namespace's status",
        "clerk",
        "patch namespace bare --subresource=status"
        ' --type=merge -p {"metadata":{"labels":{"hostdev.dev/assignments":"allowed"}}}',
        _VERB,
        by=NAMESPACES,
    ),
    running(
        "make a namespace with the label",
        "clerk",
        "create -f -",
        "Namespace self-made",
        _VERB,
        by=NAMESPACES,
        stdin=json.dumps(_NEW_NAMESPACE),
    ),
    # -- guests
    creating(
        "a foreign guest by name", "guest db is not among", "team-a", _annotate(f"guests='web,{UUID},db'"), guest="db"
    ),
    creating("a foreign guest by UUID", f"guest {FOREIGN} is not among", guest=FOREIGN),
    creating("a name that only begins like an allowed one", "guest web2 is not among", guest="web2"),
    creating("several names in one", "guest web,db is not among", f"guests='web,{UUID},GUEST'", guest="web,db"),
    creating("the star that allows an administrator's namespace all guests", f"guests='web,{UUID},GUEST'", guest="*"),
    creating("a name made to be pasted into a shell", f"guests='web,{UUID},GUEST'", guest=_STRANGE),
    creating(
        "a name with line breaks, made to forge a message",
        "annotation hostdev.dev/guests of the namespace",
        guest="web\nallowed",
    ),
    patching("change the guest later, by patch", {"spec": {"domain": {"name": "db"}}}, "guest db is not among"),
    Attempt(
        "by update", "tenant", ("replace", "-f", "-"), json.dumps(_UPDATED), ASSIGNMENTS, ("guest db is not among",)
    ),
    applying("by server-side apply", body("mine", guest="db"), "kubectl", "guest db is not among"),
    applying("as the controller's field manager", body("mine", guest="db"), "hostdev-controller", "guest db is not"),
    running(
        "with generateName",
        "tenant",
        "create -f -",
        "team-a/x-",
        "guest db is not among",
        by=ASSIGNMENTS,
        stdin=json.dumps(_NAMELESS),
    ),
    patching(
        "in one patch with a label and the finalizer that the operator uses",
        {
            "metadata": {"labels": {"hostdev.dev/assignments": "allowed"}, "finalizers": [FINALIZER]},
            "spec": {"domain": {"name": "db"}},
        },
        "guest db is not among",
    ),
    # -- devices and pools
    creating("a device by address", "team-a/new", *_ASSIGNER, source=PCI),
    creating("a device by properties", *_ASSIGNER, source=MATCH),
    creating("a VF by its PF and index", *_ASSIGNER, source=VF),
    Attempt(
        "hold a device for no guest",
        "tenant",
        ("create", "-f", "-"),
        json.dumps({**body("new"), "spec": {"nodeName": "n1", "source": PCI}}),
        ASSIGNMENTS,
        _ASSIGNER,
    ),
    patching("a device by address later", {"spec": {"source": {"pool": None, **PCI}}}, *_ASSIGNER),
    patching(
        "turn another one's device to another guest",
        {"spec": {"domain": {"name": None, "uuid": UUID}}},
        *_ASSIGNER,
        target="team-a/card",
    ),
    patching("turn it to another node", {"spec": {"nodeName": "n2"}}, *_ASSIGNER, target="team-a/card"),
    creating(
        "a pool that is not allowed",
        "san is not among",
        _annotate("pools='lan,wan/finance,san'"),
        source={"pool": {"name": "san"}},
    ),
    creating(
        "a portgroup that is not allowed",
        "wan/board is not among",
        source={"pool": {"name": "wan", "portgroup": "board"}},
    ),
    creating(
        "a pool of which one portgroup is allowed, without it", "wan is not among", source={"pool": {"name": "wan"}}
    ),
    creating(
        "that portgroup with a VLAN of its own",
        "wan is not among",
        "without vlan and virtualPort",
        source={"pool": {"name": "wan", "portgroup": "finance"}},
        network={"vlan": 7},
    ),
    patching("another pool later", {"spec": {"source": {"pool": {"name": "san"}}}}, "san is not among"),
    running(
        "make a pool",
        "tenant",
        "create -f -",
        "forbidden",
        stdin=json.dumps(
            {
                "apiVersion": VERSION,
                "kind": "VFPool",
                "metadata": {"name": "own"},
                "spec": {"pf": {"name": "ens1"}, "numVFs": 4},
            }
        ),
    ),
    applying(
        "override the guard of a host",
        {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": "n1"}, "spec": {"paused": False}},
        "kubectl",
        "cannot patch resource",
        by=RBAC,
    ),
    # -- approvals
    patching("approve the own plan", {"spec": {"approvedPlan": PLAN}}, "team-a/mine", *_PLANS, by=APPROVALS),
    creating("bring the approval along", *_PLANS, by=APPROVALS, approval="Manual", approvedPlan=PLAN),
    patching(
        "weaken the approval", {"spec": {"approval": "Automatic"}}, "taking spec.approval Manual away", by=APPROVALS
    ),
    patching(
        "weaken it by leaving it out", {"spec": {"approval": None}}, "taking spec.approval Manual away", by=APPROVALS
    ),
    patching(
        "change what is approved while approving",
        {"spec": {"approvedPlan": PLAN, "detach": "Live"}},
        "needs the right to create",
        who="approver",
        by=APPROVALS,
    ),
    patching(
        "approve in a namespace that lost the label",
        {"spec": {"approvedPlan": PLAN}},
        _LABEL,
        who="approver",
        target="bare/left",
    ),
    running(
        "change a pool while approving it",
        "cluster-approver",
        f'patch vfpool lan --type=merge -p {{"spec":{{"approvedPlans":{{"n2":"{PLAN}"}},"numVFs":7}}}}',
        "VFPool lan",
        "needs the right to create vfpools",
        by=APPROVALS,
    ),
    *(
        running(what, "pooler", f"patch vfpool lan --type=merge -p {change}", "VFPool lan", words, by=APPROVALS)
        for what, change, words in (
            ("approve a pool's plan for another node", _POOL_PLAN % ("n2", PLAN), "spec.approvedPlans needs the verb"),
            ("approve another plan of a pool", _POOL_PLAN % ("n1", OTHER_PLAN), "spec.approvedPlans needs the verb"),
            ("weaken the approval of a pool", '{"spec":{"approval":"Automatic"}}', "taking spec.approval Manual away"),
        )
    ),
    # -- what the operator writes
    reporting("forge the binding", _BINDING, "cannot patch resource", who="tenant", by=RBAC),
    reporting(
        "as the controller's field manager",
        _BINDING,
        "cannot patch resource",
        who="tenant",
        by=RBAC,
        manager="hostdev-controller",
    ),
    reporting(
        "forge it with all verbs in the namespace",
        _BINDING,
        "status is written by the operator alone",
        who="owner",
        by=FIELDS,
    ),
    reporting(
        "forge the record of what was before",
        {"record": {"sequence": 99}},
        "cannot patch resource",
        who="assigner",
        by=RBAC,
    ),
    patching(
        "take the operator's finalizer away",
        UNFINALIZED,
        "taken away by the operator alone",
        "kubectl describe deviceassignments -n team-a mine",
        by=FIELDS,
    ),
    patching("with all verbs in the namespace", UNFINALIZED, "operator alone", who="owner", by=FIELDS),
    patching(
        "put another finalizer in its place",
        {"metadata": {"finalizers": ["example.org/x"]}},
        "operator alone",
        by=FIELDS,
    ),
    running(
        "of a pool, as its approver",
        "cluster-approver",
        'patch vfpool lan --type=merge -p {"metadata":{"finalizers":null}}',
        "VFPool lan",
        "operator alone",
        by=FIELDS,
    ),
    # -- rights
    running("act as the controller", "tenant", f"get deviceassignments --as={_CONTROLLER}", "cannot impersonate"),
    running("get the controller's token", "tenant", f"create token -n {SYSTEM} hostdev-controller", "forbidden"),
    running(
        "give itself another role",
        "tenant",
        "create rolebinding -n team-a x --clusterrole=hostdev-device-assigner --serviceaccount=hostdev-system:tenant",
        "not currently held",
    ),
    running(
        "make a role with a custom verb",
        "tenant",
        "create -f -",
        "not currently held",
        stdin=json.dumps(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": "x", "namespace": "team-a"},
                "rules": [
                    {"apiGroups": ["hostdev.dev"], "resources": ["deviceassignments"], "verbs": ["approve-plans"]}
                ],
            }
        ),
    ),
    running("take the policy away", "tenant", "delete validatingadmissionpolicy hostdev-assignments", "forbidden"),
)
