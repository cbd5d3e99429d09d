"""What uninstall-check says, on the API server of tests/fakes."""

from __future__ import annotations

from typing import Any

import pytest

from hostdev_operator.ports import Body, ClusterError
from hostdev_operator.shell.uninstall import Installation, installation, told

LABELS = {"app.kubernetes.io/name": "hostdev-operator"}
RUNS: tuple[Body, ...] = tuple(
    {"kind": kind, "metadata": {"name": "any", "labels": LABELS}} for kind in ("DaemonSet", "Deployment")
)


def one(kind: str, name: str, *, deleting: bool = False, **status: Any) -> Body:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    return {"kind": kind, "metadata": {"name": name, **deleted}, "status": status}


WAITS = {"conditions": [{"type": "Ready", "status": "False", "reason": "GuestRunning", "message": "guest web runs"}]}
ASSIGNMENT, GOING = one("DeviceAssignment", "a"), one("DeviceAssignment", "a", deleting=True, nodeName="n1", **WAITS)
POOL, GOING_POOL = one("VFPool", "p"), one("VFPool", "p", deleting=True)
ORPHANS = one("DeviceHost", "n1", orphans=[{"uid": "u-7"}])


@pytest.mark.parametrize(
    ("assignments", "pools", "hosts", "workloads", "words"),
    [
        ([ASSIGNMENT], [POOL], [], RUNS, "kubectl delete deviceassignments --all -A"),
        ([ASSIGNMENT, GOING], [POOL], [], RUNS, "kubectl delete deviceassignments --all -A"),
        ([GOING], [POOL], [], RUNS, "Wait"),
        ([], [POOL], [], RUNS, "kubectl delete vfpools --all"),
        ([], [GOING_POOL], [], RUNS, "Wait"),
        ([], [], [ORPHANS], RUNS, "releaseOrphans"),
        ([GOING], [], [], RUNS[:1], "kubectl apply -k"),
        ([], [POOL], [], RUNS[1:], "kubectl apply -k"),
        ([], [], [ORPHANS], (), "kubectl apply -k"),
    ],
)
def test_the_next_step_is_told_while_something_is_left(
    assignments: list[Body], pools: list[Body], hosts: list[Body], workloads: tuple[Body, ...], words: str
) -> None:
    text, left = told(Installation(assignments, pools, hosts, workloads))
    assert left
    assert words in text.partition("Next:")[2]


def test_each_object_says_what_it_waits_for() -> None:
    text, _ = told(Installation([GOING], [], [ORPHANS], RUNS))
    assert "DeviceAssignment a on node n1, being deleted: GuestRunning: guest web runs\n" in text
    assert "orphan u-7 on node n1\n" in text


@pytest.mark.parametrize("workloads", [RUNS, ()])
def test_with_nothing_left_the_definitions_may_go(workloads: tuple[Body, ...]) -> None:
    text, left = told(Installation([], [], [one("DeviceHost", "n1")], workloads))
    assert not left
    assert text.splitlines()[-1] == "  kubectl delete -k manifests/overlays/default"


class Server:
    """Knows the kinds that it is given, with what there is of them."""

    def __init__(self, code: int, **kinds: list[Body]) -> None:
        self._code = code
        self._kinds = kinds

    async def objects(self, kind: str, node: str | None = None) -> list[Body]:
        if kind not in self._kinds:
            raise ClusterError(self._code, kind)
        return self._kinds[kind]


async def test_of_kinds_that_are_not_known_there_is_nothing() -> None:
    others = {"kind": "DaemonSet", "metadata": {"name": "other"}}
    server = Server(404, DaemonSet=[others, RUNS[0]], Deployment=[RUNS[1]], VFPool=[POOL])
    assert await installation(server) == Installation(None, [POOL], [], list(RUNS))  # type: ignore[arg-type]


def test_an_uninstalled_one_is_told_so() -> None:
    assert told(Installation(None, [], [], ())) == ("It is not installed.\n", False)
    assert "kubectl delete -k" in told(Installation(None, [], [], RUNS))[0]


async def test_a_server_that_refuses_is_no_empty_one() -> None:
    with pytest.raises(ClusterError):
        await installation(Server(403, DaemonSet=[], Deployment=[]))  # type: ignore[arg-type]
