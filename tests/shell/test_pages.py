"""Liveness and readiness as a kubelet asks for them, and metrics as Prometheus does."""

from __future__ import annotations

import socket

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from hostdev_operator.api.devicehost import DeviceHostStatus
from hostdev_operator.ports import Body
from hostdev_operator.shell.metrics import metrics, of_agent, of_controller
from hostdev_operator.shell.pages import Pages, probes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_ready_follows_the_role_and_alive_does_not() -> None:
    why: list[str | None] = ["libvirt does not answer"]
    port = free_port()
    async with (
        probes("127.0.0.1", port, lambda: why[0]),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "libvirt does not answer\n")
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        why[0] = None
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        async with session.get("/metrics") as answer:
            assert answer.status == 404


async def test_port_0_turns_them_off() -> None:
    async with Pages("127.0.0.1", 0, {}) as pages:
        assert pages._runner is None


HOST = DeviceHostStatus.model_validate(
    {
        "conditions": [
            {
                "type": "InterruptRemappingReady",
                "status": "False",
                "reason": "UnsafeInterruptsAllowed",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
        "guests": [
            {"name": name, "uuid": "4a9b7c1e-6a59-4f8e-9f0e-3c3c1f6f0a11", "active": active, "persistent": True}
            for name, active in (("web", True), ("db", True), ("old", False))
        ],
        "orphans": [{"uid": "1"}],
    }
)


def assignment(reason: str, node: str | None = "n1") -> Body:
    ready = {"type": "Ready", "status": str(reason == "Assigned"), "reason": reason}
    return {"metadata": {"name": "x"}, "status": {"nodeName": node, "conditions": [ready]}}


async def shown(pages: Pages, port: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name, and the values of the labels in the order of their names."""
    async with pages, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, session.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = list(text_string_to_metric_families(await answer.text()))
    samples = [sample for family in families for sample in family.samples]
    return {(s.name, tuple(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}


async def test_metrics_of_a_node() -> None:
    assignments = [assignment("Assigned"), assignment("Assigned"), assignment("HostCritical"), {"metadata": {}}]
    pool = {"spec": {"poolName": "lan"}, "status": {"counts": {"total": 7, "allocated": 2, "free": 5}}}
    unready = {"spec": {"poolName": "wan"}}
    port = free_port()
    found = await shown(
        metrics("127.0.0.1", port, lambda: of_agent(assignments, [pool, unready], HOST, connected=False)), port
    )
    ours = {key: value for key, value in found.items() if key[0].startswith("hostdev_")}
    assert ours == {
        ("hostdev_assignments", ("True", "Assigned")): 2,
        ("hostdev_assignments", ("False", "HostCritical")): 1,
        ("hostdev_assignments", ("Unknown", "")): 1,
        ("hostdev_pool_vfs", ("lan", "total")): 7,
        ("hostdev_pool_vfs", ("lan", "allocated")): 2,
        ("hostdev_pool_vfs", ("lan", "free")): 5,
        ("hostdev_guests", ("running",)): 2,
        ("hostdev_guests", ("off",)): 1,
        ("hostdev_host_condition", ("InterruptRemappingReady", "UnsafeInterruptsAllowed", "False")): 1,
        ("hostdev_unsafe_interrupts", ()): 1,
        ("hostdev_orphans", ()): 1,
        ("hostdev_libvirt_connected", ()): 0,
    }
    assert found["process_resident_memory_bytes", ()] > 1e6


async def test_metrics_of_the_cluster_are_those_of_the_replica_that_leads() -> None:
    assignments = [assignment("GuestNotFound", None), assignment("Assigned")]
    for leads in (True, False):
        port = free_port()
        page = metrics("127.0.0.1", port, lambda leads=leads: of_controller(assignments, leads=leads))  # type: ignore[misc]
        found = await shown(page, port)
        assert found["hostdev_controller_leads", ()] == leads
        unbound = {key: value for key, value in found.items() if key[0] == "hostdev_unbound_assignments"}
        assert unbound == ({("hostdev_unbound_assignments", ("False", "GuestNotFound")): 1} if leads else {})
