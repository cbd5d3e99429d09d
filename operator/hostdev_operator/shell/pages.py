"""What a role answers over HTTP: liveness and readiness for the kubelet; metrics.py has more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

Answer = Callable[[], web.Response]


class Pages:
    """Answers while its block is entered. ``pages``: path -> what is asked at each request; port 0 turns all off."""

    def __init__(self, address: str, port: int, pages: Mapping[str, Answer]) -> None:
        self._address = address
        self._port = port
        self._pages = pages
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        if self._port:
            app = web.Application()
            app.add_routes([web.get(path, _handler(answer)) for path, answer in self._pages.items()])
            self._runner = web.AppRunner(app, access_log=None)
            await self._runner.setup()
            await web.TCPSite(self._runner, self._address, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the port."""
        if self._runner:
            await self._runner.cleanup()


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_request: web.Request) -> web.Response:
        return answer()

    return handler


def probes(address: str, port: int, unready: Callable[[], str | None]) -> Pages:
    """/healthz answers while the event loop runs, /readyz when the role does its work.

    ``unready`` says why it is not ready, or None.
    """

    def readyz() -> web.Response:
        why = unready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    return Pages(address, port, {"/healthz": lambda: web.Response(text="ok\n"), "/readyz": readyz})
