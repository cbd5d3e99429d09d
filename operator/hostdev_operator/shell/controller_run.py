"""The life of a controller: what is watched for it, and its turn among the replicas."""

from __future__ import annotations

from ..api import API_VERSION
from ..core.lease import LeadershipLostError
from . import runner
from .controller import Controller
from .leadership import Leadership
from .pages import Pages


async def run_controller(controller: Controller, leadership: Leadership | None, *pages: Pages) -> None:
    """Run until told to stop (SIGTERM, SIGINT). LeadershipLostError ends it: the program must not go on.

    A replica that waits for its turn lists and watches nothing. What it decides from is read after the one before it
    has ended, so it has all that one has written.
    """
    registry, pools = runner.registry(), controller.pools
    runner.watch(
        registry,
        {
            (API_VERSION, "deviceassignments"): controller.assignment_seen,
            (API_VERSION, "devicehosts"): controller.host_seen,
            (API_VERSION, "vfpools"): pools.pool_seen,
            (API_VERSION, "nodevfpools"): pools.node_pool_seen,
            (API_VERSION, "guests"): controller.guests.seen,
            ("", "v1", "namespaces"): controller.namespace_seen,
            ("", "v1", "nodes"): pools.node_seen,
        },
    )

    async def first() -> None:
        if leadership:
            await leadership.taken()
        await controller.list_all()

    queues = (controller.queue, controller.pools.queue, controller.guests.queue)
    tasks = (*(queue.run for queue in queues), *((leadership.run,) if leadership else ()))
    try:
        await runner.run(registry, runner.settings({}), first, *tasks, pages=pages)
    except BaseExceptionGroup as group:
        lost, others = group.split(LeadershipLostError)
        if lost is None or others is not None:
            raise
        raise LeadershipLostError(str(lost.exceptions[0])) from None
    finally:
        if leadership:
            await leadership.release()
