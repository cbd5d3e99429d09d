from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.api.vfpool import POOL_FINALIZER, NodeVFPool, VFPoolSpec
from hostdev_operator.core.pool_binding import (
    Correct,
    LetGo,
    Make,
    NodePool,
    Nodes,
    Pool,
    Remove,
    Step,
    manifest,
    node_pool_name,
    spec_for,
    steps,
)

RACK = {"rack": "r1"}
NODES = Nodes(frozenset({"n1", "n2", "n3"}), {"n1": RACK, "n2": {"rack": "r2"}, "n3": {**RACK, "more": ""}, "n4": RACK})


def pool(*, selector: dict[str, str] | None = None, deleting: bool = False, name: str = "lan", **spec: Any) -> Pool:
    wire = {"pf": {"name": "ens1f0"}, "numVFs": 4, "nodeSelector": selector or {}, **spec}
    return Pool("pool-uid", name, 1, VFPoolSpec.model_validate(wire), deleting=deleting, finalizers=(POOL_FINALIZER,))


def node_pool(node: str = "n1", **changes: Any) -> NodePool:
    """As the controller has made it."""
    values: dict[str, Any] = {
        "uid": f"uid-{node}",
        "name": f"lan.{node}",
        "generation": 1,
        "spec": spec_for(pool(), node),
        "owner": "pool-uid",
        "finalizers": (POOL_FINALIZER,),
        **changes,
    }
    return NodePool(**values)


def made(*found: Step) -> list[str]:
    """The steps in words."""
    return [
        f"make {step.manifest['metadata']['name']}" if isinstance(step, Make) else f"{type(step).__name__} {step.uid}"
        for step in found
    ]


# -- which nodes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "nodes"),
    [
        ({}, ("n1", "n2", "n3")),
        (RACK, ("n1", "n3")),
        ({**RACK, "more": ""}, ("n3",)),
        ({"rack": "r9"}, ()),
        ({"none": ""}, ()),
    ],
)
def test_a_node_has_the_pool_if_it_has_an_agent_and_all_labels(
    selector: dict[str, str], nodes: tuple[str, ...]
) -> None:
    assert NODES.selected(selector) == nodes


@pytest.mark.parametrize(
    ("selector", "node", "answer"),
    [
        ({}, "n1", True),
        ({}, "n4", None),  # no agent
        (RACK, "n4", None),
        ({"rack": "r9"}, "n4", False),
        (RACK, "n2", False),
        (RACK, "n9", None),  # unknown
        ({}, "n9", None),
    ],
)
def test_a_node_whose_agent_or_labels_are_away_is_neither_selected_nor_not(
    selector: dict[str, str],
    node: str,
    answer: bool | None,  # noqa: FBT001
) -> None:
    assert NODES.selects(selector, node) is answer


def test_an_agent_without_a_node_object_has_pools_that_select_all_and_no_others() -> None:
    nodes = Nodes(frozenset({"n1"}))
    assert nodes.selected({}) == ("n1",)
    assert nodes.selected(RACK) == ()


# -- names and manifests ---------------------------------------------------------------------------------------------


def test_a_name_that_would_be_too_long_is_hashed_and_each_pair_has_its_own() -> None:
    assert node_pool_name("lan", "n1.example.org") == "lan.n1.example.org"
    long = "n" * 250
    names = {node_pool_name("lan", long), node_pool_name("lan", f"{long}x"), node_pool_name("wan", long)}
    assert len(names) == 3
    assert all(len(name) <= 253 and name.split(".")[0] in ("lan", "wan") for name in names)
    assert node_pool_name("lan", "n" * 249) == "lan." + "n" * 249
    assert len(node_pool_name("p" * 63, "n" * 253)) <= 253


def test_the_manifest_has_the_pools_settings_the_node_the_owner_and_the_finalizer() -> None:
    wire: dict[str, Any] = {"linkUp": True, "network": {"vlan": 5}, "vfSettings": {"trust": True}}
    body = manifest(pool(selector=RACK, **wire), "n1")
    spec = NodeVFPool.model_validate(body).spec
    assert (spec.pool_name, spec.node_name, spec.num_vfs, spec.link_up) == ("lan", "n1", 4, True)
    assert (spec.network.vlan, spec.vf_settings.trust, spec.pf.name) == (5, True, "ens1f0")
    assert "nodeSelector" not in body["spec"]
    assert body["metadata"]["finalizers"] == [POOL_FINALIZER]
    assert [(o["kind"], o["name"], o["uid"]) for o in body["metadata"]["ownerReferences"]] == [
        ("VFPool", "lan", "pool-uid")
    ]


# -- what becomes of them --------------------------------------------------------------------------------------------


def test_what_is_missing_is_made_and_what_is_right_is_left() -> None:
    assert made(*steps(pool(), [node_pool("n2")], NODES)) == ["make lan.n1", "make lan.n3"]
    assert steps(pool(selector=RACK), [node_pool("n1"), node_pool("n3")], NODES) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": spec_for(pool(linkUp=True), "n1")},
        {"spec": spec_for(pool(numVFs=5), "n1")},
        {"owner": None},
        {"owner": "another"},
        {"finalizers": ("theirs",)},
    ],
)
def test_what_was_edited_is_corrected(changes: dict[str, Any]) -> None:
    (step,) = steps(pool(selector={**RACK}), [node_pool(**changes), node_pool("n3")], NODES)
    assert step == Correct("uid-n1", manifest(pool(), "n1"))


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": None},
        {"spec": spec_for(pool(pf={"name": "ens1f1"}), "n1")},
        {"spec": spec_for(pool(network={"name": "other"}), "n1")},
        {"name": "lan.by-hand"},
        {"spec": spec_for(pool(), "n2")},
    ],
    ids=["unreadable", "another PF", "another network", "another name", "no longer selected"],
)
def test_what_cannot_be_corrected_is_removed(changes: dict[str, Any]) -> None:
    found = steps(pool(selector=RACK), [node_pool(**changes), node_pool("n3")], NODES)
    assert Remove("uid-n1") in found


def test_a_node_whose_agent_or_node_object_is_away_keeps_what_it_has() -> None:
    away = node_pool("n4")
    assert steps(pool(selector=RACK), [away, node_pool("n1"), node_pool("n3")], NODES) == ()
    unknown = node_pool("n9")
    assert steps(pool(selector=RACK), [unknown, node_pool("n1"), node_pool("n3")], NODES) == ()


@pytest.mark.parametrize("owner", [None, pool(deleting=True)], ids=["gone", "being deleted"])
def test_without_the_pool_all_of_them_go_also_where_the_agent_is_away(owner: Pool | None) -> None:
    assert made(*steps(owner, [node_pool("n1"), node_pool("n4")], NODES)) == ["Remove uid-n1", "Remove uid-n4"]
    assert steps(owner, [], NODES) == ()


def test_what_is_being_deleted_is_let_go_when_its_agent_has_given_back_and_made_anew_when_it_is_gone() -> None:
    nodes = Nodes(frozenset({"n1"}))
    held = node_pool(deleting=True, held=True, finalizers=("theirs", POOL_FINALIZER))
    assert steps(pool(), [held], nodes) == ()
    free = node_pool(deleting=True, finalizers=("theirs", POOL_FINALIZER))
    assert steps(pool(), [free], nodes) == (LetGo("uid-n1", ("theirs",)),)
    assert steps(pool(), [node_pool(deleting=True, finalizers=("theirs",))], nodes) == ()
    assert made(*steps(pool(), [], nodes)) == ["make lan.n1"]


# -- kept or returned ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"deleting": True, "held": True}], ids=["before", "while it is deleted"])
def test_the_last_word_on_the_release_reaches_the_node_before_it_is_deleted(changes: dict[str, Any]) -> None:
    nodes = Nodes(frozenset({"n1"}))
    keeping = pool(deleting=True, releasePolicy="Keep")
    (step,) = steps(keeping, [node_pool(**changes)], nodes)
    assert isinstance(step, Correct)
    spec = NodeVFPool.model_validate(step.manifest).spec
    assert spec == spec_for(pool(releasePolicy="Keep"), "n1")
    assert step.manifest["metadata"]["finalizers"] == [POOL_FINALIZER]
    told = node_pool(**changes, spec=spec)
    assert steps(keeping, [told], nodes) == (() if changes else (Remove("uid-n1"),))


def test_the_word_on_the_release_changes_nothing_else_of_what_cannot_become_as_asked() -> None:
    other = spec_for(pool(pf={"name": "ens1f1"}), "n1")
    (step,) = steps(pool(releasePolicy="Keep"), [node_pool(spec=other)], Nodes(frozenset({"n1"})))
    assert isinstance(step, Correct)
    spec = NodeVFPool.model_validate(step.manifest).spec
    assert spec == other.model_copy(update={"release_policy": "Keep"})


@pytest.mark.parametrize(
    "changes", [{"owner": "another"}, {"finalizers": ("theirs",)}, {"deleting": True}], ids=["owner", "free", "given"]
)
def test_a_node_pool_that_is_not_the_pools_is_not_told(changes: dict[str, Any]) -> None:
    found = steps(pool(deleting=True, releasePolicy="Keep"), [node_pool(**changes)], Nodes(frozenset({"n1"})))
    assert not any(isinstance(step, Correct) for step in found)


def test_each_node_gets_the_approval_of_its_own_plan_and_no_other() -> None:
    mine, others = "0" * 32, "f" * 32
    wanted = pool(approvedPlans={"n1": mine, "n9": others}, selector=RACK)
    assert spec_for(wanted, "n1").approved_plan == mine
    assert spec_for(wanted, "n3").approved_plan is None
    (correct,) = steps(wanted, (node_pool("n1"), node_pool("n3")), NODES)
    assert isinstance(correct, Correct)
    assert correct.manifest["spec"]["approvedPlan"] == mine
    by_hand = node_pool("n3", spec=spec_for(pool(approvedPlans={"n3": others}), "n3"))
    (correct,) = steps(pool(selector=RACK), (node_pool("n1"), by_hand), NODES)
    assert isinstance(correct, Correct)
    assert "approvedPlan" not in correct.manifest["spec"]
