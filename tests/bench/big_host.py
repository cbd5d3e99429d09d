"""A made-up host of 1,024 VFs over 8 PFs, a pool of each, and 200 running guests with a NIC of a pool each.

The agent is the real one; kernel and libvirt are the simulated ones, the API server is that of tests/fakes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hostdev_operator.api import API_VERSION
from hostdev_operator.core.actions import InterfaceXml, NicXml
from hostdev_operator.core.domain_xml import interface_xml
from hostdev_operator.core.intent import ALIAS_PREFIX
from hostdev_operator.core.model import Observation, PciDevice
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.ports import Body
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.shell.agent import Agent, Senses
from hostdev_operator.shell.watched import is_ready
from hostdev_operator.simulation.host import FakeGuest, FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports
from tests.fakes.cluster import FakeCluster
from tests.lab.guests import guest_xml

PFS, VFS, GUESTS = 8, 128, 200
NODE = "big"
PORTGROUP = "finance"
UUID = "00000000-0000-4000-8000-{:012d}"


class BigHost:
    """The host, what the API server has of it, and its agent."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.cluster = FakeCluster()
        for number in range(PFS):
            self.host.sriov.add(_pf(number), f"ens{number}", f"52:54:00:10:00:{number:02x}", total=VFS)
        senses = Senses(lambda: self, lambda: True)
        self.agent = Agent(NODE, ports(self.host, FakeClock()), self.cluster.port_for("hostdev-agent"), senses)

    async def fill(self) -> None:
        """Pools, then guests that run with their VFs; all of it is Ready in the end, or SystemExit."""
        self.cluster.watch("NodeVFPool", self.agent.pool_seen, NODE)
        self.cluster.watch("DeviceAssignment", self.agent.seen, NODE)
        await self.agent.list_bound()
        work = asyncio.create_task(self.agent.queue.run())
        try:
            for number in range(PFS):
                self.cluster.create(_pool(number))
                await self._settled("NodeVFPool")
            for number in range(GUESTS):
                made = self.cluster.create(_assignment(number))
                self._start_guest(number, made["metadata"]["uid"])
            self.agent.host_changed()
            await self._settled("DeviceAssignment")
            await self.agent.host.report()
        finally:
            work.cancel()

    async def _settled(self, kind: str) -> None:
        await asyncio.sleep(0.01)
        while not self.agent.queue.idle:  # noqa: ASYNC110 - the queue tells nobody
            await asyncio.sleep(0.01)
        for body in self.cluster.all(kind):
            if not is_ready(body):
                raise SystemExit(f"bench: {kind} {body['metadata']['name']} is not ready: {body.get('status')}")

    def _start_guest(self, number: int, assignment: str) -> None:
        nic = NicXml(f"52:54:00:20:00:{number:02x}", None, None, None)
        interface = interface_xml(InterfaceXml(f"pool{number % PFS}", ALIAS_PREFIX + assignment, nic, PORTGROUP))
        uuid, name = UUID.format(number), f"guest{number}"
        self.host.guests[uuid] = FakeGuest(uuid, name, guest_xml(name, uuid=uuid, extra_devices=interface))
        self.host.start(uuid)

    def observation(self) -> Observation:
        """A look that begins now, as the agent looks."""
        context = Context(
            settings=lambda: self.agent.host.settings,
            wishes=self.agent.assignments.wishes,
            pool_wishes=self.agent.pools.wishes,
        )
        return observe(ports(self.host), context)


def _pf(number: int) -> PciDevice:
    """Each has two buses for itself: that of the PF, where half of its VFs are, and the next one."""
    return PciDevice(
        PciAddress(0, 2 * number + 1, 0, 0),
        vendor=0x8086,
        product=0x1572,
        class_code=0x020000,
        driver="i40e",
        iommu_group=number + 1,
        slot_path=f"0000:00/{number + 1:02x}.0/00.0",
        express=True,
    )


def _pool(number: int) -> Body:
    spec: dict[str, Any] = {
        "poolName": f"pool{number}",
        "nodeName": NODE,
        "pf": {"name": f"ens{number}"},
        "numVFs": VFS,
        "linkUp": True,
        "vfSettings": {"trust": True, "spoofCheck": False},
        "network": {"portgroups": [{"name": PORTGROUP, "vlan": 42}, {"name": "lan", "default": True}]},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "NodeVFPool",
        "metadata": {"name": f"pool{number}.{NODE}"},
        "spec": spec,
    }


def _assignment(number: int) -> Body:
    """Bound already, as the controller does it."""
    source = {"pool": {"name": f"pool{number % PFS}", "portgroup": PORTGROUP}}
    return {
        "apiVersion": API_VERSION,
        "kind": "DeviceAssignment",
        "metadata": {"name": f"nic{number}", "namespace": "default"},
        "spec": {"domain": {"name": f"guest{number}"}, "source": source},
        "status": {"nodeName": NODE, "domainUUID": UUID.format(number)},
    }
