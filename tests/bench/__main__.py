"""`make bench`: figures into build/bench.json. Each has its reference measured in the same run; only ratios are judged.

Medians of several runs. The command fails if a goal is missed or a reference could not be measured.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from hostdev_operator.core import domain_xml
from hostdev_operator.core.domain_xml import GuestXml
from hostdev_operator.core.intent import Intent
from hostdev_operator.core.model import Observation, PciDevice, Platform
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan, plan_assign
from tests.lab.guests import guest_xml

REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = 9
DEVICES, GUESTS = 256, 100
UUID = "00000000-0000-4000-8000-{:012d}"


@dataclass(frozen=True)
class Figure:
    """One line of the result. ``spread`` is (smallest, largest) of the operator's runs."""

    name: str
    unit: str
    operator: float
    spread: tuple[float, float]
    reference: float
    reference_name: str
    ratio: float
    goal: float
    holds: bool


def figure(name: str, unit: str, ours: list[float], theirs: list[float], reference: str, goal: float) -> Figure:
    """The median of ours over the median of theirs, against the goal (a ratio; smaller is better)."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    ratio = mine / other
    return Figure(name, unit, mine, (min(ours), max(ours)), other, reference, round(ratio, 3), goal, ratio <= goal)


def milliseconds(work: Callable[[], object]) -> list[float]:
    """Wall-clock times of several runs."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return times


def plan_figure() -> Figure:
    """Planning on a large host, beside reading that host's guests from their XML, which every look needs anyway."""
    texts = [guest_xml(f"guest{n}", uuid=UUID.format(n)) for n in range(GUESTS)]
    guests = [GuestXml(UUID.format(n), f"guest{n}", None, text) for n, text in enumerate(texts)]
    addresses = [PciAddress(0, n // 32, n % 32, 0) for n in range(DEVICES)]
    devices = {
        a: PciDevice(a, 0x8086, 0x10C9, 0x020000, driver="igb", iommu_group=n // 2) for n, a in enumerate(addresses)
    }
    host = Observation(
        devices=MappingProxyType(devices),
        guests=tuple(domain_xml.guest(xml, {}) for xml in guests),
        platform=Platform(iommu=True, interrupt_remapping=True, unsafe_interrupts=False, vfio=True),
    )
    intent = Intent("uid", "default", "bench", addresses[40], UUID.format(7), "guest7")

    def plan() -> None:
        fresh = Observation(host.devices, host.guests, host.platform)  # without the cached groups of the last run
        if not isinstance(plan_assign(intent, fresh), Plan):
            raise SystemExit("bench: the plan was refused")

    ours = milliseconds(plan)
    theirs = milliseconds(lambda: [domain_xml.guest(xml, {}) for xml in guests])
    return figure(
        f"plan on a host of {DEVICES} devices and {GUESTS} guests", "ms", ours, theirs, "parsing its guests' XML", 0.5
    )


def resident_megabytes(modules: str) -> float:
    """Memory of a Python process that has imported these modules."""
    script = f"import {modules}; print(int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6)"
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def memory_figure() -> Figure:
    """What the agent adds to kopf, which is most of its memory."""
    agent = "hostdev_operator.shell.agent, hostdev_operator.adapters.kube, hostdev_operator.adapters.hypervisor"
    ours = [resident_megabytes(agent) for _ in range(3)]
    theirs = [resident_megabytes("kopf") for _ in range(3)]
    return figure("the agent's resident memory after its imports", "MB", ours, theirs, "kopf alone", 2.0)


def main() -> int:
    """Measure, print, write build/bench.json."""
    figures = [plan_figure(), memory_figure()]
    for f in figures:
        verdict = "holds" if f.holds else "MISSED"
        spread = f"{f.spread[0]:.2f}-{f.spread[1]:.2f}"
        print(f"{f.name}: {f.operator:.2f} {f.unit} ({spread}); {f.reference_name}: {f.reference:.2f} {f.unit};")
        print(f"  ratio {f.ratio}, goal <= {f.goal}: {verdict}")
    target = REPOSITORY / "build/bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    return 0 if all(f.holds for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
