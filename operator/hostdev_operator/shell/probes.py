"""Liveness and readiness over HTTP: /healthz answers while the event loop runs, /readyz when the role does its work."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


class Probes:
    """``unready`` says why the program is not ready, or None."""

    def __init__(self, address: str, port: int, unready: Callable[[], str | None]) -> None:
        self._address = address
        self._port = port
        self._unready = unready
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; port 0 turns the probes off."""
        if not self._port:
            return
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self._port).start()

    async def stop(self) -> None:
        """Close the port."""
        if self._runner:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        why = self._unready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)
