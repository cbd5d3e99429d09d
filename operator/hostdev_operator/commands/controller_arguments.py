"""The options of the controller that the agent does not have."""

from __future__ import annotations

import argparse

#: With less the renewals of a loaded machine come too late.
_SHORTEST_LEASE = 3


def add_controller_arguments(parser: argparse.ArgumentParser) -> None:
    """Who leads, and when a node that is gone is waited for no longer."""
    lease = parser.add_argument_group("the Lease that says which replica works (docs/controller.md)")
    lease.add_argument("--lease-namespace", default="hostdev-system", metavar="NAME", help="default: %(default)s")
    lease.add_argument("--lease-name", default="hostdev-controller", metavar="NAME", help="default: %(default)s")
    lease.add_argument(
        "--lease-seconds",
        type=_seconds,
        default=30,
        metavar="N",
        help="how long after a leader's end another replica takes its place; it is renewed each third of it"
        " (default: %(default)s)",
    )
    lease.add_argument(
        "--no-lease", action="store_true", help="there is no other replica, for certain: for tests and development"
    )
    parser.add_argument(
        "--gone-after",
        type=_hours,
        metavar="HOURS",
        help="let what is being deleted go without its node, if that has had no Node object, and nothing was heard of"
        " it, for so long (default: only if an administrator says that it is gone, docs/controller.md)",
    )


def _hours(text: str) -> float:
    """In seconds. Less than an hour is no sign of anything."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours, 1 at least")
    return int(text) * 3600.0


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < _SHORTEST_LEASE:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, {_SHORTEST_LEASE} at least")
    return int(text)
