"""What needs neither control plane nor lab host: planning, and the memory of what the agent imports."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec
from hostdev_operator.core import domain_xml
from hostdev_operator.core.domain_xml import GuestXml
from hostdev_operator.core.intent import Wish
from hostdev_operator.core.model import Observation, PciDevice, Platform
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, decide
from hostdev_operator.core.record import Member, Record
from tests.bench.figures import Times, at_most, at_most_times, figure
from tests.lab.guests import guest_xml, hostdev_xml

RUNS = 9
DEVICES, GUESTS, ASSIGNMENTS = 256, 100, 60
UUID = "00000000-0000-4000-8000-{:012d}"
AGENT_MODULES = "hostdev_operator.shell.agent, hostdev_operator.adapters.kube, hostdev_operator.adapters.hypervisor"


def figures() -> list[dict[str, Any]]:
    """Both figures."""
    return [_plan_figure(), _memory_figure()]


def _milliseconds(work: Callable[[], object]) -> Times:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return times


def _plan_figure() -> dict[str, Any]:
    """One more assignment on a large host, beside reading that host's guests from their XML."""
    addresses = [PciAddress(0, n // 32, n % 32, 0) for n in range(DEVICES)]
    members = [
        PciDevice(a, 0x8086, 0x10C9, 0x020000, driver=_driver(n), iommu_group=n // 2, slot_path=f"0000:00/{n:04x}")
        for n, a in enumerate(addresses)
    ]
    records = [_record(n, members) for n in range(ASSIGNMENTS)]
    xml = [_guest(n, addresses) for n in range(GUESTS)]
    host = Observation(
        devices=MappingProxyType({d.address: d for d in members}),
        guests=tuple(domain_xml.guest(one, {}) for one in xml),
        platform=Platform(iommu=True, interrupt_remapping=True, unsafe_interrupts=False, vfio=True),
        records=MappingProxyType({r.uid: r for r in records}),
    )
    wish = _wish(ASSIGNMENTS, addresses)
    wishes = tuple(_wish(n, addresses) for n in range(ASSIGNMENTS + 1))

    def plan() -> None:
        fresh = replace(host, wishes=wishes)  # nothing cached
        if not isinstance(decide(wish, fresh).answer, Plan):
            raise SystemExit("bench: the plan was refused")

    theirs = _milliseconds(lambda: [domain_xml.guest(one, {}) for one in xml])
    name = f"plan: {DEVICES} devices, {GUESTS} guests, {ASSIGNMENTS} assignments"
    return figure(name, "ms", _milliseconds(plan), ("parsing the guests' XML", theirs), at_most(20, "ms"))


def _driver(number: int) -> str:
    """The second device of each claimed group is a mate that was detached."""
    return "vfio-pci" if number < 2 * ASSIGNMENTS and number % 2 else "igb"


def _wish(number: int, addresses: list[PciAddress]) -> Wish:
    source = {"pci": {"address": str(addresses[2 * number])}}
    spec = DeviceAssignmentSpec.model_validate({"domain": {"name": f"guest{number}"}, "source": source})
    created = f"2026-01-01T00:00:{number:02}Z"
    return Wish(f"uid-{number}", "default", f"assignment{number}", created, 1, spec, UUID.format(number))


def _record(number: int, devices: list[PciDevice]) -> Record:
    group = devices[2 * number : 2 * number + 2]
    return Record(
        uid=f"uid-{number}",
        namespace="default",
        name=f"assignment{number}",
        address=group[0].address,
        domain_uuid=UUID.format(number),
        domain_name=f"guest{number}",
        managed=True,
        members=tuple(Member(d.address, d.identity, "igb") for d in group),
    )


def _guest(number: int, addresses: list[PciAddress]) -> GuestXml:
    """The first guests have the device of an assignment."""
    alias = f"ua-hostdev-uid-{number}"
    hostdevs = [hostdev_xml(str(addresses[2 * number]), alias=alias)] if number < ASSIGNMENTS else []
    text = guest_xml(f"guest{number}", uuid=UUID.format(number), hostdevs=hostdevs)
    return GuestXml(UUID.format(number), f"guest{number}", None, text)


def _resident_megabytes(modules: str, bytecode: str) -> float:
    """Memory of a Python process that has imported these modules."""
    script = f"import {modules}; print(int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, "-c", script]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def _memory_figure() -> dict[str, Any]:
    """What the agent adds to kopf, which is most of its memory. There is bytecode, as in the image."""
    with tempfile.TemporaryDirectory() as bytecode:
        _, *ours = [_resident_megabytes(AGENT_MODULES, bytecode) for _ in range(4)]
        theirs = [_resident_megabytes("kopf", bytecode) for _ in range(3)]
    return figure("memory after the agent's imports", "MB", ours, ("kopf alone", theirs), at_most_times(2))
