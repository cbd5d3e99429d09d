"""What the agent needs on a large host: time for its plans, and memory. Made-up data, see big_host.py.

Run as a program it prints the figures' values as JSON: memory is that of this process.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from hostdev_operator.core import domain_xml
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.domain_xml import GuestXml
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.model import Observation
from hostdev_operator.core.nic_plan import decide_nic
from hostdev_operator.core.plan import Plan
from hostdev_operator.core.pool import PoolWish
from hostdev_operator.core.pool_plan import plan_pool
from tests.bench.big_host import GUESTS, PFS, VFS, BigHost
from tests.bench.figures import Times, at_most, figure
from tests.bench.local import AGENT_MODULES

T = TypeVar("T")

RUNS = 9
HOST = f"{PFS * VFS} VFs, {PFS} PFs, {GUESTS} guests"
PARSING = "parsing the guests' XML"


def figures() -> list[dict[str, Any]]:
    """All of them, from one child process."""
    child = subprocess.run([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Times] = json.loads(child.stdout)
    parsing = PARSING, found["parsing"]
    return [
        figure(f"plan of a pool, the slowest of four: {HOST}", "ms", found["pool"], parsing, at_most(50, "ms")),
        figure(f"plan of one more NIC of a pool: {HOST}", "ms", found["nic"], parsing, at_most(50, "ms")),
        figure(f"largest memory of the agent: {HOST}", "MB", found["MB"], goal=at_most(200, "MB")),
    ]


def values() -> dict[str, Times]:
    """Milliseconds and megabytes of this process."""
    for module in AGENT_MODULES.split(", "):
        importlib.import_module(module)
    big = BigHost()
    asyncio.run(big.fill())
    host = big.observation()
    guests = [GuestXml(g.uuid, g.name, g.live, g.config) for g in big.host.guests.values()]
    found: dict[str, Times] = {"pool": [], "nic": [], "parsing": []}
    for _ in range(RUNS):
        found["pool"].append(max(_pool_times(host)))
        found["nic"].append(_nic_time(host))
        found["parsing"].append(_milliseconds(lambda: [domain_xml.guest(one, {}) for one in guests])[0])
    return {**found, "MB": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]}


def _milliseconds(work: Callable[..., T], *arguments: object) -> tuple[float, T]:
    began = time.perf_counter()
    result = work(*arguments)
    return (time.perf_counter() - began) * 1000, result


def _pool_times(host: Observation) -> Iterator[float]:
    """Of the four plans; SystemExit if one is not what it should be."""
    for what, wish, seen, begins_with in _situations(host):
        fresh = replace(seen)  # nothing cached
        took, answer = _milliseconds(plan_pool, wish, fresh)
        name = answer.reason.name if isinstance(answer, Refusal) else type(next(iter(answer), None)).__name__
        if name != begins_with:
            raise SystemExit(f"bench: the plan of a pool that {what} is {name}")
        yield took


def _situations(host: Observation) -> Iterator[tuple[str, PoolWish, Observation, str]]:
    """What is said of the pool, its wish, the host, and the plan's first action or the refusal."""
    wish = host.pool_wishes[0]
    yield "stands", wish, host, "NoneType"
    yield "wants fewer VFs", _but(wish, num_vfs=VFS // 2), host, "VFsInUse"
    settings = wish.spec.vf_settings.model_copy(update={"trust": False})
    yield "wants other settings of its VFs", _but(wish, vf_settings=settings), host, "ConfigureVf"
    networks = {name: network for name, network in host.networks.items() if name != wish.network_name}
    pools = tuple(pool for pool in host.pools if pool.name != wish.network_name)
    without = replace(host, networks=MappingProxyType(networks), pools=pools)
    yield "has lost its network", wish, without, "DefineNetwork"


def _but(wish: PoolWish, **changes: object) -> PoolWish:
    return replace(wish, spec=wish.spec.model_copy(update=changes))


def _nic_time(host: Observation) -> float:
    """Of one more assignment; SystemExit if it gets no NIC."""
    known = host.wishes[0]
    more = Wish("uid-more", "default", "more", known.created, 1, known.spec, known.domain_uuid)
    fresh = replace(host, wishes=(*host.wishes, more))
    took, decision = _milliseconds(decide_nic, more, fresh)
    if not isinstance(decision.answer, Plan) or not decision.answer.actions:
        raise SystemExit(f"bench: one more NIC was refused: {decision.answer}")
    return took


if __name__ == "__main__":
    print(json.dumps(values()))
