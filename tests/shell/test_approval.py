"""Approval as users see it: conditions, status.plan and how often it is written."""

from __future__ import annotations

from tests.fakes.samples import UID, body
from tests.shell.loop import on_loop
from tests.shell.world import running


@on_loop
async def test_a_plan_waits_is_approved_and_carried_out() -> None:
    async with running() as world:
        world.cluster.create(body(approval="Manual", managed=False))
        await world.settle()
        assert world.ready() == ("False", "AwaitingApproval")
        assert world.ready(kind="Planned") == ("False", "AwaitingApproval")
        assert world.host.calls == []
        plan = world.cluster.get("nic")["status"]["plan"]
        world.cluster.edit("nic", {"approvedPlan": plan["hash"]})
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        assert world.cluster.get("nic")["status"]["plan"] == plan


@on_loop
async def test_who_waits_writes_nothing_whatever_happens_on_the_host() -> None:
    async with running() as world:
        world.cluster.create(body(approval="Manual"))
        await world.settle()
        world.cluster.writes.clear()
        for _ in range(3):
            world.agent.host_changed()
            await world.settle()
        assert world.cluster.writes == []


@on_loop
async def test_a_plan_costs_no_write_of_its_own() -> None:
    async with running() as world:
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        assert world.cluster.get("nic")["status"]["plan"]["actions"]
        assert world.cluster.writes.count("apply DeviceAssignment by hostdev-agent") == 1
        world.cluster.writes.clear()
        world.agent.host_changed()
        await world.settle()
        assert world.cluster.writes == []


@on_loop
async def test_the_host_says_manual_and_then_no_more() -> None:
    async with running() as world:
        world.administrate(approval="Manual")
        await world.settle()
        world.cluster.create(body())
        await world.settle()
        assert world.ready() == ("False", "AwaitingApproval")
        world.administrate(approval="Automatic")
        await world.settle()
        assert world.ready() == ("True", "Assigned")
        assert UID not in world.host.approvals


@on_loop
async def test_what_waits_can_be_deleted() -> None:
    async with running() as world:
        before = world.host.state()
        world.cluster.create(body(approval="Manual"))
        await world.settle()
        world.cluster.delete("nic")
        await world.settle()
        assert not world.cluster.exists("nic")
        assert world.host.state() == before
