"""What both roles share: kopf's settings, login, and the life of background tasks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, TypeVar

import kopf

from ..api import API_VERSION
from ..ports import Body, Cluster, ClusterError
from .pages import Pages

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Hears of an event: its type (None: it was there when the watch began), and the object.
Seen = Callable[[str | None, Body], None]

_RETRY_SECONDS = 2.0


def registry() -> kopf.OperatorRegistry:
    """A registry of our own that logs in as login does."""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(login)
    return made


def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The two ways to log in: a pod's service account, or KUBECONFIG."""
    account = kopf.login_with_service_account(**kwargs)
    return replace(account, server=_server()) if account else kopf.login_with_kubeconfig(**kwargs)


def _server() -> str:
    """As the kubelet tells it to each pod. kopf asks for a name, which a pod in the host's network cannot resolve."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def watch(made: kopf.OperatorRegistry, seen: Mapping[tuple[str, ...], Seen]) -> None:
    """Tell of the events of each kind: (group/version, plural) or (group, version, plural)."""
    for kind, hears in seen.items():
        kopf.on.event(*kind, registry=made)(_teller(hears))


def _teller(hears: Seen) -> Callable[..., Coroutine[Any, Any, None]]:
    async def told(event: Any, **_: Any) -> None:
        hears(event["type"], event["object"])

    return told


class _Backoffs:
    """Seconds between attempts to reach the API server, for ever: it may be away for as long as it likes."""

    def __iter__(self) -> Iterator[float]:
        return chain((1, 1, 2, 3, 5, 8), repeat(10))


def settings(field_selectors: Mapping[str, str]) -> kopf.OperatorSettings:
    """Watch and nothing else: no scanning, no peering, no events or annotations by kopf.

    ``field_selectors``: plural of a kind -> what of it is watched; the server selects.
    """
    made = kopf.OperatorSettings()
    made.scanning.disabled = True
    made.peering.standalone = True
    made.posting.enabled = False
    made.watching.server_timeout = 300
    made.networking.error_backoffs = _Backoffs()  # kopf's own end after a minute, and the program with them
    for plural, selector in field_selectors.items():
        # item assignment: replacing the mapping breaks kopf's watcher; a string key is ignored without a word
        made.watching.field_selectors[(API_VERSION, plural)] = selector
    return made


async def run(
    made: kopf.OperatorRegistry,
    configured: kopf.OperatorSettings,
    first: Callable[[], Coroutine[Any, Any, None]],
    *tasks: Callable[[], Coroutine[Any, Any, None]],
    pages: Iterable[Pages] = (),
) -> None:
    """Run the tasks and kopf until kopf is told to stop; an error of a task ends the program. ``pages`` are shown.

    kopf begins when ``first`` has ended, which reads what it watches: it looks for its kinds once, at its start, and is
    deaf for ever to a CRD that is applied later. It heeds signals from then on; before, they end ``first``: the first
    process of a container would not even die of them.
    """
    stop = asyncio.Event()
    async with AsyncExitStack() as shown:
        for page in pages:
            await shown.enter_async_context(page)
        group = await shown.enter_async_context(asyncio.TaskGroup())
        running = [group.create_task(task()) for task in tasks]
        try:
            await _until_stopped(first(), stop)
            if not stop.is_set():
                await kopf.operator(
                    registry=made, settings=configured, standalone=True, clusterwide=True, stop_flag=stop
                )
        finally:
            for task in running:
                task.cancel()


async def _until_stopped(first: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Wait for its end, or for a signal; kopf replaces the handlers of signals by its own."""
    work = asyncio.ensure_future(first)

    def stopped() -> None:
        stop.set()
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
    try:
        await work
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        work.cancel()


async def until_it_works(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Call until the API server answers: at start it may be away, or the CRDs may not be there yet."""
    while True:
        try:
            return await call()
        except ClusterError as error:
            log.warning("%s: %s; trying again", what, error)
            await asyncio.sleep(_RETRY_SECONDS)


async def listed(cluster: Cluster, kind: str) -> list[Body]:
    """All objects of a kind, whenever the API server has them to tell."""
    return await until_it_works(f"listing {kind}s", lambda: cluster.objects(kind))
