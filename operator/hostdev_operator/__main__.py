"""The composition root: ``python -m hostdev_operator agent | controller | plan | crds``.

Each role imports only what it needs: the controller never loads libvirt, ``crds`` loads neither.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ports import Body, Host

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def _node_name(text: str) -> str:
    """An empty name would select every assignment that is not bound at all, so it is refused here."""
    if not _NODE_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a node name; in a pod set it from spec.nodeName by the downward API"
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hostdev_operator", description=__doc__.split("\n")[0])
    roles = parser.add_subparsers(dest="role", required=True)
    agent = roles.add_parser("agent", help="the agent of one node")
    agent.add_argument("--node-name", required=True, type=_node_name, help="the Kubernetes node it runs on")
    plan = roles.add_parser("plan", help="print what the agent would do on this host for objects in files; do nothing")
    plan.add_argument("-f", "--filename", action="append", required=True, metavar="FILE", help="YAML; - for stdin")
    plan.add_argument(
        "--node-name", default=os.uname().nodename, type=_node_name, help="the node's name (default: %(default)s)"
    )
    plan.add_argument("--kubeconfig", help="also take what the cluster has of this node (default: $KUBECONFIG)")
    plan.add_argument("-o", "--output", choices=("text", "yaml", "json"), default="text")
    for role in (agent, plan):
        _add_host_arguments(role)
    controller = roles.add_parser("controller", help="the controller, one for the cluster")
    for role, port in ((agent, 9440), (controller, 9441)):
        role.add_argument(
            "--probe-address", default="127.0.0.1", help="for /healthz and /readyz (default: %(default)s)"
        )
        role.add_argument("--probe-port", type=int, default=port, help="0: no probes (default: %(default)s)")
        role.add_argument("--log-format", choices=("human", "json"), default="human")
        role.add_argument("--verbose", action="store_true", help="log debug messages")
    crds = roles.add_parser("crds", help="write the CustomResourceDefinitions, and the documentation of reasons")
    crds.add_argument("--output", type=Path, default=Path("crds"), help="folder (default: %(default)s)")
    crds.add_argument("--docs", type=Path, help="also write what is generated of the documentation to this folder")
    return parser


def _add_host_arguments(role: argparse.ArgumentParser) -> None:
    role.add_argument("--connect", default="qemu:///system", metavar="URI", help="libvirt (default: %(default)s)")
    role.add_argument(
        "--host-root",
        type=Path,
        default=Path("/"),
        help="where the host's /proc and /sys are (default: %(default)s)",
    )
    role.add_argument(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/hostdev-operator"),
        help="the journal; must survive restarts of agent and host (default: %(default)s)",
    )


def _configure_logging(arguments: argparse.Namespace) -> None:
    import kopf

    chosen = kopf.LogFormat.JSON if arguments.log_format == "json" else kopf.LogFormat.FULL
    kopf.configure(verbose=arguments.verbose, log_format=chosen)
    if not arguments.verbose:
        for chatty in ("httpx2", "kopf.objects"):  # one line for each request, and for each event of the watch
            logging.getLogger(chatty).setLevel(logging.WARNING)


async def _agent(arguments: argparse.Namespace) -> None:
    from .adapters.clock import SystemClock
    from .adapters.crash import boundary_from_environment
    from .adapters.hypervisor import LibvirtHypervisor
    from .adapters.journal import Journal
    from .adapters.kernel import Kernel
    from .adapters.kernel_events import KernelEvents
    from .adapters.kube import KubeCluster
    from .adapters.libvirt_connection import LibvirtConnection
    from .ports import Host
    from .shell.agent import Agent, Senses, run_agent
    from .shell.probes import Probes

    loop = asyncio.get_running_loop()

    def host_changed() -> None:  # called in the event threads of libvirt and kernel, perhaps before the agent is made
        loop.call_soon_threadsafe(lambda: agent.host_changed())  # noqa: PLW0108 - agent is made below

    connection = LibvirtConnection(arguments.connect, host_changed)
    journal = Journal(arguments.state_dir)
    journal.open()
    kernel = Kernel(arguments.host_root)
    host = Host(
        LibvirtHypervisor(connection),
        kernel,
        journal.assignments,
        journal.pools,
        journal.approvals,
        SystemClock(),
        boundary_from_environment(),
    )
    senses = Senses(connection.get, lambda: connection.connected)
    cluster = KubeCluster("hostdev-agent", arguments.node_name)
    agent = Agent(arguments.node_name, host, cluster, senses)
    probes = Probes(arguments.probe_address, arguments.probe_port, agent.unready)
    events = KernelEvents(arguments.host_root, host_changed)
    events.start()
    try:
        await run_agent(agent, arguments.node_name, probes)
    finally:
        events.stop()


async def _controller(arguments: argparse.Namespace) -> None:
    from .adapters.clock import SystemClock
    from .adapters.kube import KubeCluster
    from .shell.controller import Controller, run_controller
    from .shell.probes import Probes

    controller = Controller(KubeCluster("hostdev-controller", os.uname().nodename), SystemClock())
    await run_controller(controller, Probes(arguments.probe_address, arguments.probe_port, controller.unready))


def _local_host(arguments: argparse.Namespace) -> Host:
    """This host, to be read: without the lock of the journal, and without events."""
    from .adapters.clock import SystemClock
    from .adapters.hypervisor import LibvirtHypervisor
    from .adapters.journal import Journal, NoRecords
    from .adapters.kernel import Kernel
    from .adapters.libvirt_connection import LibvirtConnection
    from .ports import Host

    journal, folder = Journal(arguments.state_dir), arguments.state_dir
    return Host(
        LibvirtHypervisor(LibvirtConnection(arguments.connect, lambda: None)),
        Kernel(arguments.host_root),
        journal.assignments if (folder / "assignments").exists() else NoRecords(),
        journal.pools if (folder / "pools").exists() else NoRecords(),
        journal.approvals if (folder / "approvals").exists() else NoRecords(),
        SystemClock(),
    )


async def _known(arguments: argparse.Namespace, asked: list[Body]) -> list[Body]:
    """What the cluster has; nothing without one."""
    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = arguments.kubeconfig
    if not (os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST")):
        return []
    from .adapters.kube import KubeCluster
    from .shell import manifests

    cluster = KubeCluster("hostdev-plan", arguments.node_name)
    return [*await manifests.asked_in(cluster, asked), *await manifests.known_to(cluster, arguments.node_name)]


def _plan(arguments: argparse.Namespace) -> int:
    """Print the plans; 1 if one is refused, 2 if a file cannot be read."""
    from .ports import ClusterError
    from .reconcile.preview import preview
    from .shell import manifests
    from .shell.plan_output import output

    try:
        texts = [sys.stdin.read() if name == "-" else Path(name).read_text() for name in arguments.filename]
        asked = manifests.read(texts)
        objects = manifests.objects(asked, asyncio.run(_known(arguments, asked)), arguments.node_name)
    except ClusterError as error:
        sys.stderr.write(f"hostdev_operator: {error}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"hostdev_operator: {error}\n")
        return 2
    plans = preview(_local_host(arguments), arguments.node_name, objects)
    sys.stdout.write(output(plans, arguments.node_name, arguments.output))
    return int(any(plan.refused for plan in plans))


def main() -> int:
    """Parse the command line and run a role; 2 for wrong usage, 1 for a failure that is explained."""
    os.environ["LC_ALL"] = "C"  # before libvirt is loaded: its messages are matched with the failure catalogue
    arguments = _parser().parse_args()
    if arguments.role == "crds":
        from .api import crd
        from .core import catalogue

        crd.write(arguments.output)
        if arguments.docs:
            catalogue.write(arguments.docs)
        return 0
    from .core.errors import HostError

    try:
        if arguments.role == "plan":
            return _plan(arguments)
        _configure_logging(arguments)
        asyncio.run(_agent(arguments) if arguments.role == "agent" else _controller(arguments))
    except HostError as error:
        sys.stderr.write(f"hostdev_operator: {error.reason}: {error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
