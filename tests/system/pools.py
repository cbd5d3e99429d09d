"""Pools in the tests: manifests, and what the host says of a PF."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.lab.host import LabHost
from tests.lab.inspection import device_folder
from tests.system.stack import Stack, assignment

IGB = "8086:10c9"


class PfView:
    """A PF as sysfs and ip link show it."""

    def __init__(self, lab: LabHost, address: str) -> None:
        self.lab = lab
        self.address = address
        self.folder = device_folder(address)

    @property
    def netdev(self) -> str:
        return self.lab.run(["ls", f"{self.folder}/net"]).stdout.split()[0]

    @property
    def mac(self) -> str:
        return self.lab.sysfs(f"{self.folder}/net/{self.netdev}/address")

    @property
    def num_vfs(self) -> int:
        return int(self.lab.sysfs(f"{self.folder}/sriov_numvfs"))

    @property
    def autoprobe(self) -> str:
        return self.lab.sysfs(f"{self.folder}/sriov_drivers_autoprobe")

    @property
    def up(self) -> bool:
        return "UP" in re.split("[<>,]", self.link())

    def link(self) -> str:
        """What `ip link show PF` says."""
        return self.lab.run(["ip", "link", "show", self.netdev]).stdout

    def vfs(self) -> list[str]:
        """The VFs' addresses, by index."""
        script = f"cd {self.folder}; for n in $(seq 0 {self.num_vfs - 1}); do basename $(readlink virtfn$n); done"
        return self.lab.run(script).stdout.split()

    def macs_and_vlans(self) -> set[tuple[str, str | None]]:
        """MAC and VLAN of each VF."""
        found = set()
        for line in self.link().splitlines():
            match = re.search(r"vf \d+ .*?link/ether ([0-9a-f:]{17})", line)
            if match:
                vlan = re.search(r"vlan \d+", line)
                found.add((match[1], vlan[0] if vlan else None))
        return found


def pool(name: str, netdev: str, count: int, *, vfs: str | None = None, **spec: Any) -> str:
    """A VFPool as kubectl takes it; ``spec`` are more fields, named as on the wire."""
    selector = {"name": netdev, **({"vfs": vfs} if vfs else {})}
    body = {
        "apiVersion": "hostdev.dev/v1alpha1",
        "kind": "VFPool",
        "metadata": {"name": name},
        "spec": {"pf": selector, "numVFs": count, **spec},
    }
    return json.dumps(body)


def from_pool(name: str, pool_name: str, *, portgroup: str | None = None, **spec: Any) -> str:
    """A DeviceAssignment that gives the guest of its name a NIC of a pool."""
    source = {"pool": {"name": pool_name, **({"portgroup": portgroup} if portgroup else {})}}
    return assignment(name, domain=name, source=source, **spec)


def pool_condition(system: Stack, name: str, status: str, reason: str | None = None, seconds: float = 180) -> str:
    """Wait for Ready of a NodeVFPool; its message."""

    def ready() -> dict[str, str]:
        conditions = (system.find("nodevfpool", name) or {}).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def test() -> bool:
        return ready().get("status") == status and reason in (None, ready().get("reason"))

    system.wait(f"pool {name}: Ready={status} {reason or ''}", test, seconds)
    return ready().get("message", "")
