"""The composition root: ``python -m hostdev_operator agent | controller | plan | import | record | ...``.

Each role imports only what it needs: the controller never loads libvirt, ``crds`` loads neither.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from .commands.controller_arguments import add_controller_arguments
from .commands.hosts import add_host_arguments, add_state_dir, node_name
from .commands.import_command import add_import, run_import
from .commands.plan_command import add_plan, run_plan
from .commands.record_command import add_record, run_record
from .commands.uninstall_command import add_uninstall_check, run_uninstall_check

if TYPE_CHECKING:
    from prometheus_client import Metric

    from .adapters.kernel_events import KernelEvents
    from .ports import Cluster, Host
    from .shell.agent import Senses
    from .shell.leadership import Leadership

#: In the state directory of an agent that simulates.
_SOCKET = "simulation.sock"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hostdev_operator", description="Gives PCI devices of hosts to their libvirt guests."
    )
    roles = parser.add_subparsers(dest="role", required=True)
    agent = roles.add_parser("agent", help="the agent of one node")
    agent.add_argument("--node-name", required=True, type=node_name, help="the Kubernetes node it runs on")
    add_host_arguments(agent)
    agent.add_argument(
        "--simulate",
        type=Path,
        metavar="RECORDING",
        help="work on a made-up host that begins as the recorded one; nothing of this host is read or changed",
    )
    controller = roles.add_parser("controller", help="the controller: of several replicas one works, the others wait")
    add_controller_arguments(controller)
    for role, port in ((agent, 9440), (controller, 9441)):
        role.add_argument(
            "--probe-address", default="127.0.0.1", help="for /healthz and /readyz (default: %(default)s)"
        )
        role.add_argument("--probe-port", type=int, default=port, help="0: no probes (default: %(default)s)")
        role.add_argument("--metrics-address", default="127.0.0.1", help="for /metrics (default: %(default)s)")
        role.add_argument("--metrics-port", type=int, default=0, help="default: 0, no metrics")
        role.add_argument("--log-format", choices=("human", "json"), default="human")
        role.add_argument("--verbose", action="store_true", help="log debug messages")
    for add in (add_plan, add_import, add_record, add_uninstall_check):
        add(roles)
    simulation = roles.add_parser("simulation", help="change the host of an agent that simulates; docs/recording.md")
    simulation.add_argument("words", nargs="+", metavar="WORD", help="such as: show, start GUEST, remove ADDRESS")
    add_state_dir(simulation)
    crds = roles.add_parser("crds", help="write the CustomResourceDefinitions, and the documentation of reasons")
    crds.add_argument("--output", type=Path, default=Path("crds"), help="folder (default: %(default)s)")
    crds.add_argument("--docs", type=Path, help="also write what is generated of the documentation to this folder")
    return parser


def _configure_logging(arguments: argparse.Namespace) -> None:
    import kopf

    chosen = kopf.LogFormat.JSON if arguments.log_format == "json" else kopf.LogFormat.FULL
    kopf.configure(verbose=arguments.verbose, log_format=chosen)
    if not arguments.verbose:
        for chatty in ("httpx2", "kopf.objects"):  # one line for each request, and for each event of the watch
            logging.getLogger(chatty).setLevel(logging.WARNING)


async def _agent(arguments: argparse.Namespace) -> None:
    from .adapters.kube import KubeCluster
    from .shell.agent import Agent, run_agent
    from .shell.pages import probes

    loop = asyncio.get_running_loop()

    def host_changed() -> None:  # called in the event threads of libvirt and kernel, perhaps before the agent is made
        loop.call_soon_threadsafe(lambda: agent.host_event())  # noqa: PLW0108 - agent is made below

    with (_simulated_host if arguments.simulate else _real_host)(arguments, host_changed) as (host, senses, events):
        cluster = KubeCluster("hostdev-agent", arguments.node_name)
        agent = Agent(arguments.node_name, host, cluster, senses)
        pages = [probes(arguments.probe_address, arguments.probe_port, agent.unready)]
        if arguments.metrics_port:
            from .shell.metrics import metrics, of_agent

            def told() -> Iterator[Metric]:
                assignments, pools = agent.assignments.objects.bodies(), agent.pools.objects.bodies()
                return of_agent(assignments, pools, agent.host.status, connected=senses.connected())

            pages.append(metrics(arguments.metrics_address, arguments.metrics_port, told))
        with events:
            await run_agent(agent, arguments.node_name, *pages)


#: A host's ports, how its changes are noticed, and what tells of them while it is entered.
_Parts = tuple["Host", "Senses", AbstractContextManager[None]]


@contextmanager
def _real_host(arguments: argparse.Namespace, host_changed: Callable[[], None]) -> Iterator[_Parts]:
    from .adapters.clock import SystemClock
    from .adapters.crash import boundary_from_environment
    from .adapters.hypervisor import LibvirtHypervisor
    from .adapters.journal import Journal
    from .adapters.kernel import Kernel
    from .adapters.kernel_events import KernelEvents
    from .adapters.libvirt_connection import LibvirtConnection
    from .adapters.preparation import UnitFiles
    from .adapters.start_gate import GateFiles
    from .ports import Host
    from .shell.agent import Senses

    connection = LibvirtConnection(arguments.connect, host_changed)
    journal = Journal(arguments.state_dir)
    journal.open()
    kernel = Kernel(arguments.host_root)
    hypervisor = LibvirtHypervisor(connection)
    host = Host(
        hypervisor,
        kernel,
        journal.assignments,
        journal.pools,
        journal.approvals,
        UnitFiles(arguments.host_root, arguments.state_dir),
        GateFiles(arguments.host_root, arguments.state_dir),
        SystemClock(),
        boundary_from_environment(),
    )
    senses = Senses(connection.get, lambda: connection.connected, hypervisor.starting)
    yield host, senses, _told(KernelEvents(arguments.host_root, host_changed))


@contextmanager
def _told(events: KernelEvents) -> Iterator[None]:
    events.start()
    try:
        yield
    finally:
        events.stop()


@contextmanager
def _simulated_host(arguments: argparse.Namespace, host_changed: Callable[[], None]) -> Iterator[_Parts]:
    """All of it is in memory: a restart of the agent is the recorded host anew."""
    from .adapters.clock import SystemClock
    from .adapters.recording import open_recording
    from .shell.agent import Senses
    from .simulation.control import Commands, Control
    from .simulation.ports import ports
    from .simulation.recorded import simulated

    with open_recording(arguments.simulate) as recorded:
        host = simulated(recorded)
        senses = Senses(lambda: None, lambda: True)
        arguments.state_dir.mkdir(parents=True, exist_ok=True)
        control = Control(Commands(host, host_changed), arguments.state_dir / _SOCKET)
        yield ports(host, SystemClock()), senses, control


def _simulation(arguments: argparse.Namespace) -> int:
    from .simulation.control import ask

    answer = ask(arguments.state_dir / _SOCKET, arguments.words)
    sys.stdout.write(f"{answer}\n")
    return 1 if answer.startswith("error") else 0


async def _controller(arguments: argparse.Namespace) -> None:
    from .adapters.clock import SystemClock
    from .adapters.kube import KubeCluster
    from .shell.controller import Controller
    from .shell.controller_run import run_controller
    from .shell.pages import probes

    cluster: Cluster = KubeCluster("hostdev-controller", os.uname().nodename)
    leadership = None if arguments.no_lease else _leadership(arguments)
    controller = Controller(leadership.fenced(cluster) if leadership else cluster, SystemClock(), arguments.gone_after)

    def unready() -> str | None:
        waits = leadership is not None and leadership.waits
        return (leadership.unready() if leadership else None) or (None if waits else controller.unready())

    pages = [probes(arguments.probe_address, arguments.probe_port, unready)]
    if arguments.metrics_port:
        from .shell.metrics import metrics, of_controller

        def told() -> Iterator[Metric]:
            return of_controller(controller.assignments(), leads=leadership is None or leadership.leads())

        pages.append(metrics(arguments.metrics_address, arguments.metrics_port, told))
    await run_controller(controller, leadership, *pages)


def _leadership(arguments: argparse.Namespace) -> Leadership:
    from .adapters.clock import seconds_of_life
    from .adapters.kube_lease import KubeLease
    from .core.lease import Timing
    from .shell.leadership import Leadership

    store = KubeLease(arguments.lease_namespace, arguments.lease_name)
    me = f"{os.uname().nodename}_{uuid4()}"
    return Leadership(store, me, seconds_of_life, Timing(arguments.lease_seconds))


def main() -> int:
    """Parse the command line and run a role; 2 for wrong usage, 1 for a failure that is explained."""
    os.environ["LC_ALL"] = "C"  # before libvirt is loaded: its messages are matched with the failure catalogue
    arguments = _parser().parse_args()
    from .core.errors import HostError
    from .core.lease import LeadershipLostError
    from .core.recording import RecordingError

    try:
        return _run(arguments)
    except LeadershipLostError as error:
        sys.stderr.write(f"hostdev_operator: {error}\n")
    except HostError as error:
        sys.stderr.write(f"hostdev_operator: {error.reason}: {error.message}\n")
    except (OSError, RecordingError) as error:
        if isinstance(error, OSError) and arguments.role in {"agent", "controller"}:
            raise  # unforeseen: with its traceback
        sys.stderr.write(f"hostdev_operator: {error}\n")
    return 1


def _run(arguments: argparse.Namespace) -> int:
    match arguments.role:
        case "crds":
            _crds(arguments)
        case "import":
            run_import(arguments)
        case "plan":
            return run_plan(arguments)
        case "record":
            run_record(arguments)
        case "uninstall-check":
            return run_uninstall_check(arguments)
        case "simulation":
            return _simulation(arguments)
        case role:
            _configure_logging(arguments)
            asyncio.run(_agent(arguments) if role == "agent" else _controller(arguments))
    return 0


def _crds(arguments: argparse.Namespace) -> None:
    from .api import crd
    from .core import catalogue

    crd.write(arguments.output)
    if arguments.docs:
        catalogue.write(arguments.docs)


if __name__ == "__main__":
    sys.exit(main())
