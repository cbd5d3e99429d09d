"""The demo's second half: a pool of VFs, and guests that take NICs from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.system.pools import IGB, PfView
from tests.system.stack import NODE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.demo import Demo

POOL_EXAMPLE = "examples/pool.yaml"
GUESTS_EXAMPLE = "examples/pool-guests.yaml"
POOL = "passthrough"


class PoolDemo:
    """Steps of the demo; what shows and judges is the demo's."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.stack = demo.stack
        self.lab = demo.lab
        self.pf = PfView(self.lab, self.lab.find_devices(IGB)[0])

    @property
    def steps(self) -> tuple[Callable[[], None], ...]:
        """In order."""
        return self.make, self.guests, self.in_use, self.give_back

    def make(self) -> None:
        """A pool: one object makes the VFs of a PF and the libvirt network that hands them out.

        The PF is an emulated Intel 82576 (igb) that can have 7 VFs.
        """
        self.link("before")
        self.demo.kubectl("apply", "-f", POOL_EXAMPLE)
        self.stack.wait("the pool to be ready", lambda: self.ready() == "True", 180)
        self.demo.kubectl("get", "vfpools,nodevfpools")
        self.link("after")
        self.network()
        self.demo.must(self.pf.num_vfs == 7, "the PF has 7 VFs")
        self.demo.must(POOL in self.lab.virsh("net-list"), "the network is active")

    def guests(self) -> None:
        """Two guests with a NIC of the pool: each gets a free VF at its start, with its MAC address and VLAN.

        The VLAN of the first is that of its portgroup. Its MAC address is derived from names: it stays the same.
        """
        self.demo.kubectl("apply", "-f", GUESTS_EXAMPLE)
        for name in ("web-finance", "db-backup"):
            self.demo.watch_conditions(name, "Ready", "True")
        for guest in ("web", "db"):
            self.demo.start_guest(guest)
        for name in ("web-finance", "db-backup"):
            self.demo.watch_conditions(name, "Attached", "True")
        self.demo.kubectl("get", "deviceassignments", "-o", "wide")
        self.link("with two guests")
        mac = str(self.stack.get("deviceassignment", "web-finance")["status"]["network"]["mac"])
        seen = self.pf.macs_and_vlans()
        self.demo.must((mac, "vlan 42") in seen, f"web has {mac} in VLAN 42, as ip link shows it")
        self.demo.must(("52:54:00:20:00:02", "vlan 43") in seen, "db has 52:54:00:20:00:02 in VLAN 43")
        self.demo.kubectl("get", "vfpools,nodevfpools")

    def in_use(self) -> None:
        """Another number of VFs while guests have some: refused, since all VFs would go for a moment."""
        self.demo.kubectl("patch", "vfpool", POOL, "--type=merge", "-p", '{"spec":{"numVFs":4}}')
        self.stack.wait("the refusal", lambda: self.ready() == "False")
        print(f"  Ready=False: {self.message()}")
        self.demo.must("web" in self.message(), "the message names the guests")
        self.demo.must(self.pf.num_vfs == 7, "the PF still has 7 VFs")
        self.demo.kubectl("patch", "vfpool", POOL, "--type=merge", "-p", '{"spec":{"numVFs":7}}')
        self.stack.wait("the pool to be ready", lambda: self.ready() == "True")

    def give_back(self) -> None:
        """All of it is given back: NICs, network, VFs."""
        for guest in ("web", "db"):
            print(f"$ virsh destroy {guest}")
            self.lab.virsh("destroy", guest)
        self.demo.kubectl("delete", "-f", GUESTS_EXAMPLE, "--wait=false")
        for name in ("web-finance", "db-backup"):
            self.stack.wait_gone(name)
        self.demo.kubectl("delete", "-f", POOL_EXAMPLE, "--wait=false")
        self.stack.wait("the pool to be gone", lambda: not self.stack.exists("vfpool", POOL), 180)
        self.link("in the end")
        self.demo.must(self.pf.num_vfs == 0, "the PF has no VFs")
        self.demo.must(POOL not in self.lab.virsh("net-list", "--all"), "libvirt has no such network")
        self.demo.must("<interface" not in self.lab.virsh("dumpxml", "web"), "the XML of web is as before")

    # -- showing ------------------------------------------------------------------------------------------------

    def link(self, when: str) -> None:
        """What the kernel says of the PF."""
        print(f"$ ip link show {self.pf.netdev}    # {when}\n{self.pf.link().rstrip()}", flush=True)

    def network(self) -> None:
        """What libvirt says of the network, shortened by most of its VFs."""
        lines = self.lab.virsh("net-dumpxml", POOL).rstrip().splitlines()
        vfs = [line for line in lines if re.search("<address type='pci'", line)]
        shown = [line for line in lines if line not in vfs[2:]]
        print(f"$ virsh net-dumpxml {POOL}    # the VFs after the second one left out")
        print("\n".join(shown), flush=True)

    def _condition(self) -> dict[str, str]:
        body = self.stack.find("nodevfpool", f"{POOL}.{NODE}") or {}
        conditions = body.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def ready(self) -> str:
        """Ready of the node's part of the pool."""
        return self._condition().get("status", "")

    def message(self) -> str:
        """What it says."""
        return self._condition().get("message", "")
