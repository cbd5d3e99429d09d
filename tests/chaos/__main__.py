"""`make chaos`: a campaign on the made-up host, and its report in build/chaos.json.

CHAOS_SECONDS (600): how long. CHAOS_SEED: which runs; without it the time decides, and it is printed. CHAOS_RUN: only
the run of that number. MUTANT: a planted bug (tests/chaos/mutants.py), which is to be found. Ends with 1 if an
invariant was broken, after it has printed a list of steps that breaks it, as short as it could be made.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Outcome, run, shortened
from tests.chaos.draw import steps_of
from tests.chaos.mutants import MUTANTS, planted

_REPORT = Path("build/chaos.json")
_TOLD_SECONDS = 60.0


def main() -> int:
    """Run until the time is over, or an invariant is broken."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets are gone through in an order that depends on it
        os.execve(sys.executable, [sys.executable, "-m", "tests.chaos"], {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606
    seconds = float(os.environ.get("CHAOS_SECONDS") or 600)
    seed = os.environ.get("CHAOS_SEED") or str(int(time.time()))
    mutant = os.environ.get("MUTANT") or None
    if mutant and mutant not in MUTANTS:
        print(f"there is no mutant {mutant}: {', '.join(MUTANTS)}")
        return 2
    only = os.environ.get("CHAOS_RUN")
    print(f"seed {seed}, {seconds:.0f} s{f', with the planted bug {mutant}' if mutant else ''}", flush=True)
    total, report = Outcome(), dict[str, Any]()
    began = told = time.monotonic()
    number = int(only or 0)
    while not total.violations and (number == 0 or time.monotonic() - began < seconds):
        with planted(mutant):
            found = run(steps_of(f"{seed}/{number}"), f"{seed}/{number}")
        total.add(found)
        if found.violations:
            report = _broken(seed, number, mutant, found)
        if time.monotonic() - told > _TOLD_SECONDS:
            told = time.monotonic()
            print(f"{told - began:.0f} s: {total.runs} runs, {total.operations} operations", flush=True)
        number += 1
        if only:
            break
    _tell(total, seed, mutant, time.monotonic() - began, report)
    return 1 if total.violations else 0


def _broken(seed: str, number: int, mutant: str | None, found: Outcome) -> dict[str, Any]:
    """What was broken, and how to see it again."""
    name = f"{seed}/{number}"
    print(f"run {number}: shortening what breaks it", flush=True)
    with planted(mutant):
        steps = shortened(steps_of(name), name)
    for invariant, text in found.violations[:5]:
        print(f"  VIOLATION {invariant}: {text[:500]}")
    for step in steps:
        print(f"  {step}")
    again = f"make chaos CHAOS_SEED={seed} CHAOS_RUN={number}{f' MUTANT={mutant}' if mutant else ''}"
    print(f"again: {again}")
    return {"run": number, "again": again, "steps": [asdict(step) for step in steps]}


def _tell(total: Outcome, seed: str, mutant: str | None, seconds: float, broken: dict[str, Any]) -> None:
    report = {
        "seed": seed,
        "mutant": mutant,
        "seconds": round(seconds, 1),
        "runs": total.runs,
        "operations": total.operations,
        "operationsPerSecond": round(total.operations / seconds, 1),
        "operationsByName": dict(total.by_name.most_common()),
        "faults": dict(total.hits.most_common()),
        "invariantsChecked": dict(total.checked.most_common()),
        "violations": [{"invariant": invariant, "text": text} for invariant, text in total.violations],
        "broken": broken or None,
    }
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{total.runs} runs, {total.operations} operations ({report['operationsPerSecond']}/s)")
    for title, counts in (("faults that struck", total.hits), ("invariants checked", total.checked)):
        print(f"{title}: {sum(counts.values())}")
        for name, count in counts.most_common():
            print(f"  {count:8} {name}")
    print(f"violations: {len(total.violations)}; {_REPORT}")


if __name__ == "__main__":
    sys.exit(main())
