"""``python -m hostdev_operator uninstall-check``: says what is left in a cluster, and what to do next."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..shell.uninstall import Installation


def add_uninstall_check(roles: Any) -> None:
    """Its part of the command line. ``roles``: the subparsers."""
    parser = roles.add_parser("uninstall-check", help="say what is left to give back before an uninstallation")
    parser.add_argument("--kubeconfig", help="an administrator's (default: $KUBECONFIG)")


def run_uninstall_check(arguments: argparse.Namespace) -> int:
    """1 if something is left, 2 if the cluster cannot be asked."""
    from ..ports import ClusterError
    from ..shell.uninstall import told

    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = arguments.kubeconfig
    try:
        text, left = told(asyncio.run(_asked()))
    except ClusterError as error:
        sys.stderr.write(f"hostdev_operator: {error}\n")
        return 2
    sys.stdout.write(text)
    return int(left)


async def _asked() -> Installation:
    from ..adapters.kube import KubeCluster
    from ..shell.uninstall import installation

    return await installation(KubeCluster("hostdev-uninstall", ""))
