"""The fleet's side of the API: many requests at once as the administrator, and what one agent's watches are sent."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import aiohttp

from hostdev_operator.api.devicehost import (
    DeviceEntry,
    DeviceHostStatus,
    GroupEntry,
    GroupMember,
    GuestEntry,
    NamedId,
)
from tests.cluster.controlplane import ControlPlane

Body = dict[str, Any]

_AT_ONCE = 24
_GROUP = "/apis/hostdev.dev/v1alpha1"
_ASSIGNMENTS = f"{_GROUP}/namespaces/default/deviceassignments"
_DEVICES = 40


def node_name(number: int) -> str:
    """The node's name."""
    return f"node-{number:04d}"


def _guest(node: int, guest: int) -> tuple[str, str]:
    name = f"guest-{node:04d}-{guest}"
    return name, str(uuid5(NAMESPACE_URL, name))


def device_host(node: int, guests: int) -> Body:
    """The status of a host with some dozens of devices, as an agent would report it."""
    addresses = [f"0000:{n:02x}:00.0" for n in range(_DEVICES)]
    return DeviceHostStatus(
        summary=f"{_DEVICES} devices, {_DEVICES} groups, {guests} guests",
        devices=tuple(
            DeviceEntry(
                address=address,
                name=f"pci_{address.replace(':', '_').replace('.', '_')}",
                class_="0x020000",
                vendor=NamedId(id="0x8086", name="Intel Corporation"),
                product=NamedId(id="0x10d3", name="82574L Gigabit Network Connection"),
                driver="e1000e",
                iommu_group=group,
            )
            for group, address in enumerate(addresses)
        ),
        groups=tuple(
            GroupEntry(number=group, members=(GroupMember(address=address, role="Endpoint"),))
            for group, address in enumerate(addresses)
        ),
        guests=tuple(
            GuestEntry(name=name, uuid=uid, active=False, persistent=True)
            for name, uid in (_guest(node, number) for number in range(guests))
        ),
    ).wire()


def assignment(node: int, guest: int, name: str | None = None) -> Body:
    """A device for a guest, whose node the controller finds by the guest's name."""
    guest_name, _ = _guest(node, guest)
    return {
        "apiVersion": "hostdev.dev/v1alpha1",
        "kind": "DeviceAssignment",
        "metadata": {"name": name or f"nic-{node:04d}-{guest}", "namespace": "default"},
        "spec": {"domain": {"name": guest_name}, "source": {"pci": {"address": f"0000:{guest:02x}:00.0"}}},
    }


@dataclass
class Counted:
    """What was sent so far."""

    bytes: int = 0


@dataclass
class Bound:
    """The names of the assignments that have a node."""

    names: set[str] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reach(self, count: int) -> None:
        """Wait for so many."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.names) >= count)

    async def named(self, name: str) -> None:
        """Wait for this one."""
        async with self.changed:
            await self.changed.wait_for(lambda: name in self.names)


class Api:
    """Requests as the administrator."""

    def __init__(self, plane: ControlPlane, session: aiohttp.ClientSession, tls: ssl.SSLContext) -> None:
        self._plane, self._session, self._tls = plane, session, tls
        self._some = asyncio.Semaphore(_AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def of(cls, plane: ControlPlane) -> AsyncIterator[Api]:
        """A session with the control plane."""
        config = json.loads(plane.admin_kubeconfig.read_text())
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        tls = ssl.create_default_context(cafile=str(plane.ca_file))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=60)
        connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        async with aiohttp.ClientSession(plane.url, headers=headers, timeout=timeout, connector=connector) as session:
            yield cls(plane, session, tls)

    async def all(self, work: Iterable[Awaitable[object]]) -> None:
        """All of it, some at once."""

        async def one(part: Awaitable[object]) -> None:
            async with self._some:
                await part

        await asyncio.gather(*(one(part) for part in work))

    async def _send(self, method: str, path: str, body: Body, form: str = "application/json") -> Body:
        async with self._session.request(method, path, data=json.dumps(body), headers={"Content-Type": form}) as reply:
            text = await reply.text()
            if reply.status >= 400:
                raise RuntimeError(f"{method} {path}: {reply.status} {text[:500]}")
            answer: Body = json.loads(text)
            return answer

    async def create(self, body: Body) -> Body:
        """An assignment."""
        return await self._send("POST", _ASSIGNMENTS, body)

    async def node(self, name: str, status: Body) -> None:
        """A node whose agent has reported."""
        await self._send("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        head = {"apiVersion": "hostdev.dev/v1alpha1", "kind": "DeviceHost", "metadata": {"name": name}}
        await self._send("POST", f"{_GROUP}/devicehosts", head)
        await self._merge(f"{_GROUP}/devicehosts/{name}/status", {"status": status})

    async def report(self, node: int) -> None:
        """The agent of the node reports on one of its assignments, and on its host."""
        now = {"observedGeneration": 1}
        await self._merge(f"{_ASSIGNMENTS}/nic-{node:04d}-0/status", {"status": now})
        await self._merge(f"{_GROUP}/devicehosts/{node_name(node)}/status", {"status": {"summary": "reported anew"}})

    async def _merge(self, path: str, body: Body) -> None:
        await self._send("PATCH", path, body, "application/merge-patch+json")

    async def _lines(self, path: str, counted: Counted | None = None) -> AsyncIterator[Body]:
        """A watch's events, for ever; again from its beginning if the server ends it, or is not ready for it."""
        while True:
            async with self._session.get(path) as reply:
                if reply.status != 200:
                    await asyncio.sleep(0.2)
                    continue
                rest = b""
                async for chunk in reply.content.iter_any():
                    if counted:
                        counted.bytes += len(chunk)
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield json.loads(line)

    async def watch_bindings(self, bound: Bound) -> None:
        """Until it is cancelled."""
        async for event in self._lines(f"{_ASSIGNMENTS}?watch=1"):
            found = event["object"]
            if event["type"] != "ERROR" and found.get("status", {}).get("nodeName"):
                async with bound.changed:
                    bound.names.add(found["metadata"]["name"])
                    bound.changed.notify_all()

    @asynccontextmanager
    async def agent_of(self, node: str) -> AsyncIterator[Counted]:
        """The three watches of an agent, which begin with what is there."""
        counted = Counted()
        watches = (
            f"{_GROUP}/deviceassignments?watch=1&fieldSelector=status.nodeName%3D{node}",
            f"{_GROUP}/nodevfpools?watch=1&fieldSelector=spec.nodeName%3D{node}",
            f"{_GROUP}/devicehosts?watch=1&fieldSelector=metadata.name%3D{node}",
        )

        async def follow(path: str) -> None:
            async for _ in self._lines(path, counted):
                pass

        tasks = [asyncio.create_task(follow(path)) for path in watches]
        try:
            yield counted
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
