"""The life of a controller: what is watched for it, and its turn among the replicas."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import kopf

from ..api import API_VERSION
from ..core.lease import LeadershipLostError
from . import runner
from .controller import Controller
from .leadership import Leadership
from .pages import Pages


def _watch(registry: kopf.OperatorRegistry, controller: Controller) -> None:
    """What is watched, and who hears of it."""
    pools = controller.pools

    @kopf.on.event(API_VERSION, "deviceassignments", registry=registry)
    async def assignment_event(event: Any, **_: Any) -> None:
        controller.assignment_seen(event["type"], event["object"])

    @kopf.on.event(API_VERSION, "devicehosts", registry=registry)
    async def host_event(event: Any, **_: Any) -> None:
        controller.host_seen(event["type"], event["object"])

    @kopf.on.event(API_VERSION, "vfpools", registry=registry)
    async def pool_event(event: Any, **_: Any) -> None:
        pools.pool_seen(event["type"], event["object"])

    @kopf.on.event(API_VERSION, "nodevfpools", registry=registry)
    async def node_pool_event(event: Any, **_: Any) -> None:
        pools.node_pool_seen(event["type"], event["object"])

    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def namespace_event(event: Any, **_: Any) -> None:
        controller.namespace_seen(event["type"], event["object"])

    @kopf.on.event("", "v1", "nodes", registry=registry)
    async def node_event(event: Any, **_: Any) -> None:
        pools.node_seen(event["type"], event["object"])


async def run_controller(controller: Controller, leadership: Leadership | None, *pages: Pages) -> None:
    """Run until told to stop (SIGTERM, SIGINT). LeadershipLostError ends it: the program must not go on.

    A replica that waits for its turn lists and watches nothing. What it decides from is read after the one before it
    has ended, so it has all that one has written.
    """
    registry = runner.registry()
    _watch(registry, controller)

    async def first() -> None:
        if leadership:
            await leadership.taken()
        await controller.list_all()

    tasks = (controller.queue.run, controller.pools.queue.run, *((leadership.run,) if leadership else ()))
    try:
        async with AsyncExitStack() as shown:
            for page in pages:
                await shown.enter_async_context(page)
            await runner.run(registry, runner.settings({}), first, *tasks)
    except BaseExceptionGroup as group:
        lost, others = group.split(LeadershipLostError)
        if lost is None or others is not None:
            raise
        raise LeadershipLostError(str(lost.exceptions[0])) from None
    finally:
        if leadership:
            await leadership.release()
