"""Figures: what was measured, what it is compared with, and whether its goal holds; as JSON and as a table."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Times = list[float]


@dataclass(frozen=True)
class Goal:
    """At most so much: of the operator's own median, of its ratio to the reference's, or of what it is above it.

    What it is above is the median of the runs' differences, each to the reference's run beside it. Single runs can
    differ by more than the goal: it is missed if the interval that the true median is in, is above it as a whole.
    """

    text: str
    ratio: float | None = None
    operator: float | None = None
    difference: float | None = None

    def holds(self, operator: float, reference: float | None, least: float | None) -> bool:
        """Whether it is met; one that compares is missed where the reference was not measured.

        ``least``: what it is above the reference at least, with 95 % confidence.
        """
        if self.operator is not None and operator > self.operator:
            return False
        if self.ratio is None and self.difference is None:
            return True
        if reference is None:
            return False
        return (self.ratio is None or operator <= self.ratio * reference) and (
            self.difference is None or (least is not None and least <= self.difference)
        )

    def wire(self) -> dict[str, Any]:
        """The text, and the number that it states."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def at_most(number: float, unit: str) -> Goal:
    """A goal for the operator's own median."""
    return Goal(f"at most {number:g} {unit}", operator=number)


def at_most_times(ratio: float) -> Goal:
    """A goal for the ratio to the reference."""
    return Goal(f"at most {ratio:g} times the reference", ratio=ratio)


def at_most_more(number: float, unit: str) -> Goal:
    """A goal for the difference to the reference."""
    return Goal(f"at most {number:g} {unit} more than the reference", difference=number)


def figure(
    name: str,
    unit: str,
    ours: Times,
    reference: tuple[str, Times] | None = None,
    goal: Goal | None = None,
) -> dict[str, Any]:
    """One object of build/bench.json: medians, spreads, and the verdict. Smaller is better, always."""
    mine = statistics.median(ours)
    reference_name, theirs = reference or (None, [])
    other = statistics.median(theirs) if theirs else None
    ratio = mine / other if other else None
    differences = sorted(map(operator.sub, ours, theirs))
    above = statistics.median(differences) if differences else None
    interval = _interval(differences)
    least = interval[0] if interval else above
    measured = reference is None or other is not None
    return {
        "name": name,
        "unit": unit,
        "operator": round(mine, 3),
        "reference": None if other is None else round(other, 3),
        "reference_name": reference_name,
        "ratio": None if ratio is None else round(ratio, 3),
        "above": None if above is None else round(above, 3),
        "above_95": interval,
        "goal": goal.wire() if goal else None,
        "holds": measured and (goal is None or goal.holds(mine, other, least)),
        "spread": {"operator": _spread(ours), "reference": _spread(theirs)},
        "runs": len(ours),
    }


def _interval(ordered: Times) -> list[float] | None:
    """Where the true median is with 95 % confidence, whatever the distribution: the bounds of a sign test."""
    count, out, probability = len(ordered), 0, 0.0
    while (probability := probability + math.comb(count, out) / 2**count) <= 0.025:
        out += 1
    return [round(ordered[out - 1], 3), round(ordered[-out], 3)] if out else None


def _spread(values: Times) -> list[float] | None:
    return [round(min(values), 3), round(max(values), 3)] if values else None


def table(figures: Iterable[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table, for the terminal and for docs/benchmarks.md."""
    rows = [("figure", "operator", "reference", "ratio or difference", "goal", "runs", "goal met")]
    for f in figures:
        spread, unit = f["spread"], f["unit"]
        reference = "-"
        if f["reference_name"]:
            value = "NOT MEASURED" if f["reference"] is None else _value(f["reference"], unit, spread["reference"])
            reference = f"{f['reference_name']}: {value}"
        verdict = "holds" if f["goal"] else ""
        rows.append(
            (
                f["name"],
                _value(f["operator"], unit, spread["operator"]),
                reference,
                _comparison(f),
                f["goal"]["text"] if f["goal"] else "-",
                str(f["runs"]),
                verdict if f["holds"] else "MISSED",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _comparison(f: Mapping[str, Any]) -> str:
    """As the goal puts it."""
    if f["reference"] is not None and "difference" in (f["goal"] or {}):
        low, high = f["above_95"] or (math.nan, math.nan)
        return f"{f['above']:+.0f} {f['unit']} (95 %: {low:+.0f} to {high:+.0f})"
    return "-" if f["ratio"] is None else f"{f['ratio']:.2f}"


def _value(median: float, unit: str, spread: list[float]) -> str:
    digits = 0 if median >= 100 else 1 if median >= 20 else 2
    return f"{median:.{digits}f} {unit} ({spread[0]:.{digits}f}-{spread[1]:.{digits}f})"
