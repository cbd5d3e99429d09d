"""``python -m hostdev_operator import``: writes manifests for what this host has already, and changes nothing."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a namespace")
    return text


def add_import(roles: Any, node_name: Any) -> None:
    """Its part of the command line. ``roles``: the subparsers; ``node_name`` checks the name of a node."""
    parser = roles.add_parser("import", help="write manifests for what this host's guests have already")
    parser.add_argument("--libvirt", default="qemu:///system", metavar="URI", help="libvirt (default: %(default)s)")
    parser.add_argument(
        "--host-root", type=Path, default=Path("/"), help="where the host's /proc and /sys are (default: %(default)s)"
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/hostdev-operator"),
        help="the agent's journal, if there is one: what it has is left out (default: %(default)s)",
    )
    parser.add_argument(
        "--node-name", type=node_name, default=os.uname().nodename, help="the Kubernetes node (default: %(default)s)"
    )
    parser.add_argument(
        "--namespace", type=_namespace, default="default", help="for the assignments (default: %(default)s)"
    )


def run_import(arguments: argparse.Namespace) -> None:
    """Write the manifests to the standard output. HostError if libvirt does not answer."""
    from .adapters.clock import SystemClock
    from .adapters.hypervisor import LibvirtHypervisor
    from .adapters.journal import Journal, ReadOnlyRecords
    from .adapters.kernel import Kernel
    from .adapters.libvirt_connection import LibvirtConnection
    from .core.manifests import manifests
    from .ports import Host
    from .reconcile.context import Context
    from .reconcile.observe import observe

    connection = LibvirtConnection(arguments.libvirt, lambda: None, read_only=True)
    journal = Journal(arguments.state_dir)
    why = "import changes nothing"
    host = Host(
        LibvirtHypervisor(connection),
        Kernel(arguments.host_root),
        ReadOnlyRecords(journal.assignments, why),
        ReadOnlyRecords(journal.pools, why),
        SystemClock(),
    )
    sys.stdout.write(manifests(observe(host, Context()), arguments.node_name, arguments.namespace))
