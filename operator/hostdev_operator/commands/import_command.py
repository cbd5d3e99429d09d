"""``python -m hostdev_operator import``: writes manifests for what this host has already, and changes nothing."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any

from .hosts import add_host_arguments, looked_at, node_name

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a namespace")
    return text


def add_import(roles: Any) -> None:
    """Its part of the command line. ``roles``: the subparsers."""
    parser = roles.add_parser("import", help="write manifests for what this host's guests have already")
    add_host_arguments(parser)
    parser.add_argument(
        "--node-name", type=node_name, default=os.uname().nodename, help="the Kubernetes node (default: %(default)s)"
    )
    parser.add_argument(
        "--namespace", type=_namespace, default="default", help="for the assignments (default: %(default)s)"
    )


def run_import(arguments: argparse.Namespace) -> None:
    """Write the manifests to the standard output; what the agent's journal has is left out.

    HostError if libvirt does not answer.
    """
    from ..core.manifests import manifests
    from ..reconcile.context import Context
    from ..reconcile.observe import observe

    host = looked_at(arguments, "import changes nothing")
    sys.stdout.write(manifests(observe(host, Context()), arguments.node_name, arguments.namespace))
