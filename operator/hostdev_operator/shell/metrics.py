"""/metrics for Prometheus: counts of what a role knows anyway, made at each request. docs/metrics.md lists them.

Loaded only where metrics are asked for. No names of guests, devices or assignments: whoever reaches the port may read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..api.devicehost import DeviceHostStatus
from ..core.conditions import READY
from ..core.host_status import UNSAFE_INTERRUPTS_ALLOWED
from ..ports import Body
from .pages import Pages

_NOBODY = "none"


class _Told(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def metrics(address: str, port: int, families: Callable[[], Iterable[Metric]]) -> Pages:
    """``families`` are asked for at each request; the process adds its own: memory, processor time, files."""
    registry = CollectorRegistry()
    registry.register(_Told(families))
    ProcessCollector(registry=registry)

    def answer() -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Pages(address, port, {"/metrics": answer})


def of_agent(
    assignments: Iterable[Body], pools: Iterable[Body], host: DeviceHostStatus, *, connected: bool
) -> Iterator[Metric]:
    """One node: its assignments and pools as the API server has them, and its last report."""
    yield _readiness("hostdev_assignments", "Assignments that are bound to this node.", assignments)
    yield _gauge("hostdev_pool_vfs", "VFs of the pools of this node.", ("pool", "state"), _vfs(pools))
    holders = Counter((d.holder.kind if d.holder else _NOBODY,) for d in host.devices)
    yield _gauge("hostdev_devices", "PCI devices of this node, by who has them.", ("holder",), holders.items())
    running = Counter(("running" if guest.active else "off",) for guest in host.guests)
    yield _gauge("hostdev_guests", "Guests that libvirt has defined, or runs.", ("state",), running.items())
    conditions = [((c.type, c.status, c.reason), 1) for c in host.conditions]
    text = "Conditions of the DeviceHost, each with the value 1."
    yield _gauge("hostdev_host_condition", text, ("condition", "status", "reason"), conditions)
    unsafe = any(c.reason == UNSAFE_INTERRUPTS_ALLOWED for c in host.conditions)
    text = "Whether guests with devices could inject interrupts into the host, which allow_unsafe_interrupts permits."
    yield GaugeMetricFamily("hostdev_unsafe_interrupts", text, value=unsafe)
    text = "What objects have left that are gone without a release."
    yield GaugeMetricFamily("hostdev_orphans", text, value=len(host.orphans))
    yield GaugeMetricFamily("hostdev_libvirt_connected", "Whether libvirt answers.", value=connected)


def of_controller(assignments: Iterable[Body], *, leads: bool) -> Iterator[Metric]:
    """The cluster, by the replica that leads; the others know nothing of it."""
    yield GaugeMetricFamily("hostdev_controller_leads", "Whether this replica holds the Lease.", value=leads)
    if leads:
        unbound = (body for body in assignments if not (body.get("status") or {}).get("nodeName"))
        yield _readiness("hostdev_unbound_assignments", "Assignments that no node has.", unbound)


def _readiness(name: str, text: str, bodies: Iterable[Body]) -> Metric:
    return _gauge(name, text, ("ready", "reason"), Counter(map(_ready, bodies)).items())


def _ready(body: Body) -> tuple[str, str]:
    conditions = (body.get("status") or {}).get("conditions") or ()
    ready: Body = next((c for c in conditions if c["type"] == READY), {})
    return ready.get("status", "Unknown"), ready.get("reason", "")


def _vfs(pools: Iterable[Body]) -> Iterator[tuple[tuple[str, str], int]]:
    for body in pools:
        for state, count in ((body.get("status") or {}).get("counts") or {}).items():
            yield (body["spec"]["poolName"], state), count


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family
