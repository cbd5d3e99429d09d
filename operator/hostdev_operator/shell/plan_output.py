"""How plans are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import yaml

from ..reconcile.preview import Preview


def output(previews: Iterable[Preview], node: str, form: str) -> str:
    """The plans as text for people, or as a list in YAML or JSON."""
    if form == "text":
        return "\n".join(_text(told, node) for told in previews)
    data = [_data(told, node) for told in previews]
    if form == "json":
        return json.dumps(data, indent=2) + "\n"
    return yaml.safe_dump(data, sort_keys=False, width=110)


def _data(told: Preview, node: str) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": told.kind, "name": told.name, "node": node}
    if told.namespace:
        found["namespace"] = told.namespace
    if told.plan:
        found["plan"] = told.plan.wire()
    for name, why in (("refused", told.refused), ("awaitingApproval", told.waits)):
        if why:
            found[name] = {"reason": str(why.reason), "message": why.message}
    return found


def _text(told: Preview, node: str) -> str:
    lines = [f"{told.kind} {told.namespace + '/' if told.namespace else ''}{told.name} on node {node}:"]
    if told.refused:
        lines.append(f"  refused: {told.refused.reason}: {told.refused.message}")
    elif told.plan is None:
        lines.append("  nothing to do: it is as asked")
    else:
        lines.append(f"  plan {told.plan.hash}")
        for number, action in enumerate(told.plan.actions, 1):
            lines.append(f"  {number}. {action.summary}")
            rows = (("before", action.before), ("after", action.after), ("reason", action.reason))
            lines += [f"       {name + ':':<11} {value}" for name, value in rows if value]
            lines += [f"       disruption: {action.disruption}"] if action.disruption != "None" else []
    if told.waits:
        lines.append(f"  {told.waits.message}")
    return "\n".join(lines) + "\n"
