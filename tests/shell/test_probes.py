"""Liveness and readiness as a kubelet asks for them."""

from __future__ import annotations

import socket

import aiohttp

from hostdev_operator.shell.probes import Probes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_ready_follows_the_role_and_alive_does_not() -> None:
    why: list[str | None] = ["libvirt does not answer"]
    port = free_port()
    probes = Probes("127.0.0.1", port, lambda: why[0])
    await probes.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.text()) == (503, "libvirt does not answer\n")
            async with session.get("/healthz") as answer:
                assert answer.status == 200
            why[0] = None
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
    finally:
        await probes.stop()


async def test_port_0_turns_them_off() -> None:
    probes = Probes("127.0.0.1", 0, lambda: None)
    await probes.start()
    await probes.stop()
    assert probes._runner is None
