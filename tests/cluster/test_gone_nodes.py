"""Nodes that are gone for good, on the real API server: what its own notes of who wrote when are good for."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from hostdev_operator.core.gone import last_report
from hostdev_operator.ports import Body
from tests.cluster.test_controller import AGENT, UUID, VERSION, Running, assignment, pool, reason, running

__all__ = ["running"]
GONE = "hostdev.dev/node-gone"
ASSIGNMENT = "DeviceAssignment"


async def node(running: Running, name: str, *, guest: bool) -> None:
    """A node with an agent, and perhaps the guest."""
    if await running.cluster.get("Node", name) is None:  # n1 is there: the agent's token names it
        await running.cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    running.plane.kubectl("label", "--overwrite", "node", name, "rack=r1")
    host = {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": name}}
    await running.cluster.create(host)
    await report(running, name, guest=guest)


async def report(running: Running, name: str, *, guest: bool) -> None:
    host = {"apiVersion": VERSION, "kind": "DeviceHost", "metadata": {"name": name}}
    guests = [{"name": "web", "uuid": UUID, "active": False, "persistent": True}] if guest else []
    await running.cluster.apply_status(host, {"guests": guests}, AGENT)


async def say_gone(running: Running, name: str) -> None:
    """As the message says; a second after the last report, since the API server notes no more of it."""
    body = await running.cluster.get("DeviceHost", name)
    assert body
    last = last_report(body["metadata"])
    assert last
    while (now := datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")) <= last:
        time.sleep(0.05)  # noqa: ASYNC251 - nothing else runs here
    running.plane.kubectl("annotate", "--overwrite", "devicehost", name, f"{GONE}={now}")


def bound_to(body: Body | None) -> str | None:
    found: str | None = (body or {}).get("status", {}).get("nodeName")
    return found


async def test_what_a_node_had_that_is_gone_for_good(running: Running) -> None:
    cluster = running.cluster
    await node(running, "n1", guest=True)
    await node(running, "n2", guest=False)
    await cluster.create(pool())
    for name in ("lan.n1", "lan.n2"):
        await running.report(await running.node_pool(name))
    for name, mac in (("stays", "52:54:00:00:00:1a"), ("goes", "52:54:00:00:00:1b")):
        await cluster.create(assignment(name, mac))
        body = await running.until(ASSIGNMENT, name, lambda b: bound_to(b) == "n1")
        assert body
        ready = {"type": "Ready", "status": "True", "reason": "Assigned", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        guest = {"name": "web", "active": False, "persistent": True, "live": False}
        settled = {"wanted": "0" * 32}
        await cluster.apply_status(body, {"guest": guest, "settled": settled, "conditions": [ready]}, AGENT)

    # said before its time: the node is there
    await say_gone(running, "n1")
    running.plane.kubectl("delete", "deviceassignment", "goes", "--wait=false")
    await running.until(ASSIGNMENT, "goes", lambda b: b is not None and "deletionTimestamp" in b["metadata"])
    # and its agent reports, which makes the word void when the node is deleted
    await report(running, "n1", guest=False)
    await report(running, "n1", guest=True)
    running.plane.kubectl("delete", "node", "n1")
    for name in ("stays", "goes"):
        waits = await running.until(ASSIGNMENT, name, lambda b: reason(b, "Accepted") == "NodeGone")
        assert bound_to(waits) == "n1"
        assert "has reported at" in str(waits)

    await say_gone(running, "n1")
    await running.until(ASSIGNMENT, "goes", lambda b: b is None)
    left = await running.until(ASSIGNMENT, "stays", lambda b: reason(b, "Accepted") == "GuestNotFound")
    assert left
    assert left["status"].keys() == {"domainUUID", "conditions"}
    assert {c["type"]: c["status"] for c in left["status"]["conditions"]} == {"Accepted": "False", "Ready": "False"}
    await running.until("NodeVFPool", "lan.n1", lambda b: b is None)
    await running.until("VFPool", "lan", lambda b: b is not None and b["status"]["nodes"] == 1)
    told = running.plane.kubectl(
        "get", "events", "--field-selector", "reason=NodeGone", "-o", "jsonpath={.items[*].message}"
    )
    assert "node n1 is gone for good" in told.stdout
    assert "settings of pool lan were not given back" in told.stdout

    # the guest is defined on another node, with its UUID
    await report(running, "n2", guest=True)
    await running.until(ASSIGNMENT, "stays", lambda b: bound_to(b) == "n2")
