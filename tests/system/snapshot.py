"""What the engine sees of a host, and what it would do there, as text: of the host itself, or of its recording.

Also a program for the laboratory host: ``snapshot.py / STATE_DIR`` looks at the host on which it runs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.model import Observation, Role
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import decide
from hostdev_operator.ports import Host
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe


def snapshot(host: Host) -> str:
    """The observation, and for each endpoint the plan of a reservation or the refusal. Order does not count."""
    seen = observe(host, Context())
    endpoints = sorted(address for address, device in seen.devices.items() if device.role is Role.ENDPOINT)
    plans = {str(address): plain(decide(_reservation(address), seen).answer) for address in endpoints}
    return json.dumps({"seen": plain(seen), "plans": plans}, indent=1, sort_keys=True)


def _reservation(address: PciAddress) -> Wish:
    spec = {"nodeName": "lab", "managed": True, "source": {"pci": {"address": str(address)}}}
    return Wish(
        uid="0a0a0a0a-0000-4000-8000-000000000009",
        namespace="default",
        name="recorded",
        created="2026-01-01T00:00:00Z",
        generation=1,
        spec=DeviceAssignmentSpec.model_validate(spec),
        domain_uuid=None,
        seen=None,
    )


def plain(value: object) -> object:
    """As JSON has it; what has no order is sorted, and so is what libvirt lists in any order."""
    if isinstance(value, PciAddress | Enum):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare}
        if isinstance(value, Observation):
            for name in ("guests", "uses", "pools"):
                found[name] = sorted(found[name], key=json.dumps)  # type: ignore[call-overload]
        return found
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, frozenset | set):
        return sorted((plain(one) for one in value), key=json.dumps)
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value if isinstance(value, str | int | None) else str(value)


def main(root: Path, state_dir: Path) -> None:
    """Look at the host on which this runs."""
    from hostdev_operator.adapters.clock import SystemClock
    from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
    from hostdev_operator.adapters.journal import Journal
    from hostdev_operator.adapters.kernel import Kernel
    from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
    from hostdev_operator.adapters.preparation import UnitFiles
    from hostdev_operator.adapters.start_gate import GateFiles

    journal = Journal(state_dir)
    libvirt = LibvirtHypervisor(LibvirtConnection("qemu:///system", lambda: None))
    stores = (journal.assignments, journal.pools, journal.approvals)
    print(
        snapshot(
            Host(libvirt, Kernel(root), *stores, UnitFiles(root, state_dir), GateFiles(root, state_dir), SystemClock())
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
