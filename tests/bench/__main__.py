"""`make bench`: figures into build/bench.json, and a table. Each has its reference measured in the same run.

Fails if a goal is missed or a reference could not be measured. ``--table`` prints the table of the last run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import local, pools, scale, system
from tests.bench.figures import table
from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.lab import image
from tests.lab.host import LabHost
from tests.system.stack import REPOSITORY, Stack

RESULT = REPOSITORY / "build/bench.json"


def measure() -> list[dict[str, Any]]:
    """One control plane and one lab host for all figures; those that need neither come before, on a quiet machine."""
    programs = binaries.ensure()
    image.ensure()
    found = [*local.figures(), *scale.figures()]
    with tempfile.TemporaryDirectory(prefix="hostdev-bench-") as name:
        folder = Path(name)
        with (
            ControlPlane.start(folder / "control-plane", programs) as plane,
            LabHost.boot(folder / "lab") as lab,
            Stack.start(folder, lab, plane) as stack,
        ):
            stack.wait_host()
            return [*system.Bench(stack).figures(), *pools.PoolBench(stack).figures(), *found]


def main() -> int:
    """Measure, write build/bench.json, print the table; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the table of the last run and measure nothing")
    if parser.parse_args().table:
        print(table(json.loads(RESULT.read_text())))
        return 0
    figures = measure()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    print(table(figures))
    missed = [f["name"] for f in figures if not f["holds"]]
    for name in missed:
        print(f"MISSED: {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
