"""What agents, controller and administrators keep: each of these is allowed. Objects: node_world.py."""

from __future__ import annotations

from tests.cluster.authority import FOREIGN, UUID, Attempt, Spec, running
from tests.cluster.node_attempts import (
    CLEARED,
    FREE,
    OURS,
    RECORD,
    THEIRS,
    applying,
    condition,
    making,
    merging,
    patching,
    telling,
)

_READY: Spec = {"conditions": [condition("Ready")]}

NODE_ALLOWED: tuple[Attempt, ...] = (
    # -- the agent's normal life
    applying("report on an own assignment", OURS, {"observedGeneration": 7, "record": RECORD, **_READY}, by=""),
    applying("naming the node that it is bound to", OURS, {"nodeName": "n1", "domainUUID": UUID}, by=""),
    merging("give an own assignment up after a release", OURS, CLEARED, by=""),
    making("make its DeviceHost", "DeviceHost", "n3", by="", who="newcomer"),
    applying("report on its host", "devicehost/n1", {"summary": "1 guest"}, by=""),
    applying("with a token that is bound to the Node", "devicehost/n1", {"summary": "x"}, by="", who="podless"),
    applying("take a pool", "nodevfpool/lan.n1", {"nodeName": "n1"}, by=""),
    applying("report on it", "nodevfpool/lan.n1", {"observedGeneration": 1, "nodeName": "n1", **_READY}, by=""),
    merging("give it back", "nodevfpool/lan.n1", {"nodeName": None, "record": None, "vfs": None}, by=""),
    applying("take a guest up", "guest/web.n1", {"nodeName": "n1"}, by=""),
    applying("report on it", "guest/web.n1", {"observedGeneration": 1, "nodeName": "n1", **_READY}, by=""),
    merging("say that it has ended", "guest/web.n1", {"nodeName": None, "state": None}, by=""),
    telling("an event about an own assignment", "DeviceAssignment/ours", by=""),
    telling("about its pool", "NodeVFPool/lan.n1", by=""),
    telling("about its host", "DeviceHost/n1", by=""),
    telling("about its guest", "Guest/web.n1", by=""),
    # -- what a stolen token can do still
    telling("an event about another node's assignment, in its own name", "DeviceAssignment/theirs", by=""),
    *(
        running(f"read the {kind} of all nodes", "agent", f"get {kind.lower()} -A", by="")
        for kind in ("DeviceAssignments", "DeviceHosts", "NodeVFPools", "Guests")
    ),
    # -- others
    patching(
        "hold a guest's end up",
        "guest/web.n2",
        {"metadata": {"finalizers": ["hostdev.dev/guest"]}},
        by="",
        who="controller",
    ),
    patching("let it go", "guest/web.n2", {"metadata": {"finalizers": None}}, by="", who="controller"),
    applying("bind", FREE, {"nodeName": "n2", "domainUUID": FOREIGN}, by="", who="controller"),
    applying("judge what is bound", OURS, {"conditions": [condition("Accepted", "False")]}, by="", who="controller"),
    merging("clear the binding of a node that is gone", THEIRS, {"nodeName": None}, by="", who="controller"),
    telling(
        "an event of its own",
        "VFPool/lan",
        by="",
        who="controller",
        reportingController="hostdev.dev/hostdev-controller",
        reportingInstance="c",
    ),
    making(
        "prepare a DeviceHost before the agent is there",
        "DeviceHost",
        "n3",
        by="",
        who="steward",
        spec={"paused": True},
    ),
    merging("repair a binding by hand", THEIRS, {"nodeName": None}, by="", who="administrator"),
)
