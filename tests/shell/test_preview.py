"""A plan that is made from a file has the words and the hash that the agent's has, and touches nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml

from hostdev_operator.api import API_VERSION
from hostdev_operator.ports import Body
from hostdev_operator.reconcile.preview import Preview, preview
from hostdev_operator.shell import manifests
from hostdev_operator.shell.plan_output import output
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import ports
from tests.fakes.samples import DB, LONER, MATE, NIC, NODE, WEB, body, small_host
from tests.reconcile.pool_running import PF, Pools, node_pool, pf_host
from tests.shell.loop import on_loop
from tests.shell.world import World, running

POOL = {"pf": {"name": "eth3"}, "numVFs": 4, "linkUp": True}


def pool_body(**more: Any) -> Body:
    return {"apiVersion": API_VERSION, "kind": "VFPool", "metadata": {"name": "fast"}, "spec": {**POOL, **more}}


def plans(host: FakeHost, *asked: Body, known: tuple[Body, ...] = ()) -> tuple[Preview, ...]:
    bodies = manifests.read([yaml.safe_dump_all(asked)])
    before = host.state()
    host.calls.clear()
    found = preview(ports(host), NODE, manifests.objects(bodies, known, NODE))
    assert host.calls == []
    assert host.state() == before
    return found


def only(found: tuple[Preview, ...]) -> Preview:
    assert len(found) == 1
    return found[0]


@on_loop
async def test_the_file_of_an_object_that_is_not_there_yet_has_the_hash_that_the_agent_asks_for() -> None:
    async with running() as world:
        told = only(plans(world.host, body(approval="Manual")))
        assert told.waits
        world.cluster.create(body(approval="Manual"))
        await world.settle()
        assert world.ready() == ("False", "AwaitingApproval")
        assert told.plan
        assert world.cluster.get("nic")["status"]["plan"] == told.plan.wire()


@on_loop
async def test_an_object_that_is_there_is_planned_with_what_the_cluster_and_the_journal_know() -> None:
    async with running() as world:
        world.cluster.create(body(managed=False))
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        known = world.cluster.get("nic")
        assert only(plans(world.host, body(managed=False), known=(known,))) == Preview(
            "DeviceAssignment", "nic", "default"
        )
        world.host.guests[WEB].config = "<domain><devices/></domain>"
        told = only(plans(world.host, body(managed=False), known=(known,)))
        assert told.plan
        assert [action.action for action in told.plan.actions] == ["AddHostdev"]


@on_loop
async def test_a_record_that_the_journal_lost_is_taken_from_the_status() -> None:
    async with running() as world:
        world.cluster.create(body(managed=False))
        await world.settle()
        known = world.cluster.get("nic")
        world.host.records.clear()
        found = plans(world.host, body(managed=False), known=(known,))
        assert only(found) == Preview("DeviceAssignment", "nic", "default")


@on_loop
async def test_who_approved_is_not_forgotten_since_the_file_does_not_say_it() -> None:
    async with running() as world:
        world.cluster.create(body(approval="Manual"))
        await world.settle()
        world.cluster.edit("nic", {"approvedPlan": world.cluster.get("nic")["status"]["plan"]["hash"]})
        known = world.cluster.get("nic")
    told = only(plans(small_host(), body(approval="Manual"), known=(known,)))
    assert told.plan
    assert told.waits is None


def test_a_pool_is_planned_as_its_node_would_do_it() -> None:
    told = only(plans(pf_host(), pool_body(approval="Manual")))
    waiting = Pools().run(node_pool(approval="Manual"))
    assert told.plan
    assert told.plan == waiting.status.plan
    assert told.kind == "VFPool"


def test_what_others_want_counts() -> None:
    other = body("older")
    other["metadata"] |= {"uid": "older", "creationTimestamp": "2020-01-01T00:00:00Z", "generation": 1}
    other["status"] = {"nodeName": NODE, "domainUUID": DB}
    told = only(plans(small_host(), body(), known=(other,)))
    assert told.refused
    assert str(told.refused.reason) == "DeviceInUse"
    assert "default/older" in told.refused.message


def test_the_settings_of_the_host_count() -> None:
    host = {"apiVersion": API_VERSION, "kind": "DeviceHost", "metadata": {"name": NODE}, "spec": {"approval": "Manual"}}
    assert only(plans(small_host(), body(), host)).waits
    paused = {**host, "spec": {"paused": True}}
    told = only(plans(small_host(), body(), paused))
    assert told.refused
    assert str(told.refused.reason) == "Paused"


def test_an_object_of_another_node_is_not_planned_here() -> None:
    told = only(plans(small_host(), body(nodeName="n9")))
    assert told.refused
    assert "it is of node n9, and this is n1" in told.refused.message


def test_a_guest_that_is_not_here_is_told() -> None:
    told = only(plans(small_host(), {**body(), "spec": {**body()["spec"], "domain": {"name": "nobody"}}}))
    assert told.refused
    assert str(told.refused.reason) == "GuestNotFound"


def test_text_yaml_and_json_say_the_same() -> None:
    found = plans(small_host(), body(managed=False), body("other", address=LONER, domain={"name": "nobody"}))
    told = found[0].plan
    assert told
    text = output(found, NODE, "text")
    assert f"plan {told.hash}" in text
    assert f"detach {MATE} from the host" in text
    assert "disruption: HostDevice" in text
    assert "refused: GuestNotFound" in text
    data = json.loads(output(found, NODE, "json"))
    assert data == yaml.safe_load(output(found, NODE, "yaml"))
    assert data[0]["plan"] == told.wire()
    assert data[0]["plan"]["actions"][-1]["device"] == str(NIC)
    assert data[1]["refused"]["reason"] == "GuestNotFound"


def test_a_pool_in_text_says_what_follows() -> None:
    text = output(plans(pf_host(), pool_body()), NODE, "text")
    assert f"make 4 VFs of {PF}" in text
    assert "start libvirt network fast" in text


@pytest.mark.parametrize("text", ["", "a: [", "kind: Pod", f"apiVersion: {API_VERSION}\nkind: VFPool\n"])
def test_a_file_without_objects_is_wrong_usage(text: str) -> None:
    with pytest.raises(ValueError, match=r"object of|not YAML|metadata\.name"):
        manifests.read([text])


def test_lists_are_taken_apart_and_others_left_out() -> None:
    items = [body(), {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}]
    assert manifests.read([yaml.safe_dump({"kind": "List", "items": items})]) == [body()]


def test_what_the_cluster_has_is_asked_for() -> None:
    async def ask() -> list[Body]:
        world = World()
        world.cluster.create(body())
        return await manifests.asked_in(world.cluster.port_for("plan"), [body(), body("new")])

    (found,) = asyncio.run(ask())
    assert found["metadata"]["name"] == "nic"
