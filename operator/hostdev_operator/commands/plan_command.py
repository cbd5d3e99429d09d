"""``python -m hostdev_operator plan``: prints what the agent would do for objects in files, and does nothing."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .hosts import add_host_arguments, looked_at, node_name

if TYPE_CHECKING:
    from ..ports import Body


def add_plan(roles: Any) -> None:
    """Its part of the command line. ``roles``: the subparsers."""
    parser = roles.add_parser("plan", help="print what the agent would do for objects in files; do nothing")
    parser.add_argument("-f", "--filename", action="append", required=True, metavar="FILE", help="YAML; - for stdin")
    parser.add_argument("--host", type=Path, metavar="RECORDING", help="a recorded host instead of this one")
    parser.add_argument("--node-name", type=node_name, help="the node's name (default: that of the host)")
    parser.add_argument("--kubeconfig", help="also take what the cluster has of this node (default: $KUBECONFIG)")
    parser.add_argument("-o", "--output", choices=("text", "yaml", "json"), default="text")
    add_host_arguments(parser)


def run_plan(arguments: argparse.Namespace) -> int:
    """1 if a plan is refused, 2 if a file cannot be read. HostError if the host cannot be."""
    from ..adapters.recording import open_recording, read_head
    from ..ports import ClusterError
    from ..reconcile.preview import preview
    from ..shell import manifests
    from ..shell.plan_output import output

    node = arguments.node_name or (read_head(arguments.host).node if arguments.host else os.uname().nodename)
    try:
        texts = [sys.stdin.read() if name == "-" else Path(name).read_text() for name in arguments.filename]
        asked = manifests.read(texts)
        objects = manifests.objects(asked, asyncio.run(_known(arguments, node, asked)), node)
    except ClusterError as error:
        sys.stderr.write(f"hostdev_operator: {error}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"hostdev_operator: {error}\n")
        return 2
    recorded = open_recording(arguments.host) if arguments.host else None
    with recorded or nullcontext(looked_at(arguments, "plan changes nothing")) as host:
        plans = preview(host, node, objects)
    sys.stdout.write(output(plans, node, arguments.output))
    return int(any(plan.refused for plan in plans))


async def _known(arguments: argparse.Namespace, node: str, asked: list[Body]) -> list[Body]:
    """What the cluster has; nothing without one."""
    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = arguments.kubeconfig
    if not (os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST")):
        return []
    from ..adapters.kube import KubeCluster
    from ..shell import manifests

    cluster = KubeCluster("hostdev-plan", node)
    return [*await manifests.asked_in(cluster, asked), *await manifests.known_to(cluster, node)]
