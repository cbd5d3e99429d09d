"""Where the parts of a host are, by the command line; and that host to be looked at, never to be changed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..adapters.libvirt_connection import LibvirtConnection
    from ..ports import Host

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def node_name(text: str) -> str:
    """An empty name would select every assignment that is not bound at all, so it is refused here."""
    if not _NODE_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a node name; in a pod set it from spec.nodeName by the downward API"
        )
    return text


def add_host_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for libvirt, /proc and /sys, and the journal."""
    parser.add_argument("--connect", default="qemu:///system", metavar="URI", help="libvirt (default: %(default)s)")
    parser.add_argument(
        "--host-root",
        type=Path,
        default=Path("/"),
        help="where the host's /proc and /sys are (default: %(default)s)",
    )
    add_state_dir(parser)


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """The option for the journal alone."""
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/hostdev-operator"),
        help="the agent's journal; must survive restarts of agent and host (default: %(default)s)",
    )


def read_only(arguments: argparse.Namespace) -> LibvirtConnection:
    """Libvirt, by these options."""
    from ..adapters.libvirt_connection import LibvirtConnection

    return LibvirtConnection(arguments.connect, lambda: None, read_only=True)


def looked_at(arguments: argparse.Namespace, why: str, connection: LibvirtConnection | None = None) -> Host:
    """The host of these options, beside a running agent or without one: libvirt is opened read-only, no lock is taken.

    ``why`` is what a HostError says to whoever would change its records; ``connection``: one that is there already.
    """
    from ..adapters.clock import SystemClock
    from ..adapters.hypervisor import LibvirtHypervisor
    from ..adapters.journal import Journal, ReadOnlyRecords
    from ..adapters.kernel import Kernel
    from ..adapters.preparation import UnitFiles
    from ..adapters.start_gate import GateFiles
    from ..ports import Host

    journal = Journal(arguments.state_dir)
    return Host(
        LibvirtHypervisor(connection or read_only(arguments)),
        Kernel(arguments.host_root),
        ReadOnlyRecords(journal.assignments, why),
        ReadOnlyRecords(journal.pools, why),
        ReadOnlyRecords(journal.approvals, why),
        UnitFiles(arguments.host_root, arguments.state_dir),
        GateFiles(arguments.host_root, arguments.state_dir),
        SystemClock(),
    )
