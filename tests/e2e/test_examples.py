"""Every file of examples/, applied with kubectl: conditions, events, what the host has then, and the deletion."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from tests.e2e.installation import EXAMPLES, GUESTS, Installation
from tests.e2e.kind.cluster import WORKER
from tests.e2e.kind.recorded import guest

CARD, MATE = "0000:04:01.0", "0000:04:02.0"
PFS = ("0000:01:00.0", "0000:02:00.0")
HELD = "vfio-pci"


@dataclass(frozen=True)
class Case:
    """An example that is applied alone: assignment -> reason of Ready, guest -> what its persistent XML has."""

    name: str
    ready: dict[str, str]
    guests: dict[str, list[str]]
    drivers: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()


#: managed='yes': libvirt detaches the card when the guest starts, and its mate is held from the beginning.
KEPT = {CARD: "e1000", MATE: HELD}
CASES = (
    Case("first-light", {"web-nic": "Assigned"}, {"web": [CARD]}, KEPT),
    Case(
        "group-mate", {"web-nic": "Assigned", "db-nic": "GroupInUse"}, {"web": [CARD], "db": []}, KEPT, ("first-light",)
    ),
    Case("host-needed", {"host-needed": "HostCritical"}, {"db": []}, {CARD: "e1000", MATE: "e1000"}),
    Case("by-numbers", {"by-numbers": "Assigned"}, {"web": [CARD]}, {CARD: HELD, MATE: HELD}),
    Case("match", {"any-82576": "Assigned"}, {"web": [PFS[0]]}),
    Case("reservation", {"kept-free": "Reserved"}, {"web": [], "db": []}, {CARD: HELD, MATE: HELD}),
    Case("whole-group", {"whole-group": "Assigned"}, {"web": [CARD, MATE]}),
)


def test_none_is_forgotten() -> None:
    elsewhere = {
        *("adopt", "approval", "devicehost", "guest", "hot-plug", "namespace", "pool", "pool-guests", "vf"),
        "stubborn-guest",
    }
    assert {case.name for case in CASES} | elsewhere == {path.stem for path in EXAMPLES.glob("*.yaml")}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_example(installation: Installation, case: Case) -> None:
    for name in (*case.before, case.name):
        installation.apply(name)
    for name, reason in case.ready.items():
        ready = installation.wait_for(f"deviceassignment/{name}", reason)
        assert ready["status"] == ("True" if reason in {"Assigned", "Reserved"} else "False")
        installation.wait_for_events(installation.uid(name), "Bound", reason)
    host = installation.host()
    for name, addresses in case.guests.items():
        assert host["guests"][name]["config"] == addresses
    for address, driver in case.drivers.items():
        assert host["devices"][address]["driver"] == driver
    for name in case.ready:
        installation.kind.kubectl("delete", "deviceassignment", name, "--timeout=60s")
    for name in case.guests:
        assert installation.host()["guests"][name]["config"] == []
    assert installation.drivers(CARD, MATE) == ["e1000", "e1000"]


def test_hot_plug_and_unplug(installation: Installation) -> None:
    installation.simulation(WORKER, "start", "web")
    installation.apply("hot-plug")
    installation.wait_for("deviceassignment/hot-nic", "Assigned")
    assert installation.host()["guests"]["web"]["live"] == [CARD]
    assert installation.drivers(CARD, MATE) == [HELD, HELD]
    installation.kind.kubectl("delete", "deviceassignment", "hot-nic", "--timeout=60s")
    assert installation.host()["guests"]["web"] == {"running": True, "config": [], "live": []}
    assert installation.drivers(CARD, MATE) == ["e1000", "e1000"]


def test_a_guest_that_is_made_with_its_device(installation: Installation) -> None:
    installation.apply("guest")
    installation.wait_for("guest/app", "AsAsked")
    made = installation.host()["guests"]["app"]
    assert (made["running"], made["live"]) == (True, [CARD])
    shown = installation.kind.kubectl("get", "guest", "app").stdout.split()
    assert shown[shown.index("app") + 2 : shown.index("app") + 5] == ["Running", "True", "AsAsked"]
    installation.kind.kubectl("delete", "deviceassignment", "app-nic", "--wait=false")
    installation.kind.kubectl("delete", "guest", "app", "--timeout=60s")
    installation.wait_until_gone("deviceassignment/app-nic")
    assert "app" not in installation.host()["guests"]
    assert installation.drivers(CARD, MATE) == ["e1000", "e1000"]


def test_a_guest_that_does_not_let_go(installation: Installation) -> None:
    installation.simulation(WORKER, "start", "db")
    installation.simulation(WORKER, "manner", "db", "silent")
    installation.apply("stubborn-guest")
    installation.wait_for("deviceassignment/stubborn-nic", "Assigned")
    installation.kind.kubectl("delete", "deviceassignment", "stubborn-nic", "--wait=false")
    installation.wait_for("deviceassignment/stubborn-nic", "UnplugPending")
    assert installation.host()["guests"]["db"]["live"] == [CARD]
    installation.simulation(WORKER, "stop", "db")
    installation.wait_until_gone("deviceassignment/stubborn-nic")
    assert installation.drivers(CARD, MATE) == ["e1000", "e1000"]
    installation.simulation(WORKER, "manner", "db", "answers")


def test_what_a_guest_has_already_is_adopted_and_kept(installation: Installation) -> None:
    installation.apply("first-light")
    installation.wait_for("deviceassignment/web-nic", "Assigned")
    installation.kind.kubectl(
        "patch", "deviceassignment", "web-nic", "--type=merge", "-p", '{"spec":{"releasePolicy":"Keep"}}'
    )
    installation.kind.kubectl("delete", "deviceassignment", "web-nic", "--timeout=60s")
    left = installation.host()
    assert left["guests"]["web"]["config"] == [CARD]
    installation.apply("adopt")
    installation.wait_for("deviceassignment/web-card", "Adopted")
    assert installation.host() == left
    installation.kind.kubectl("delete", "deviceassignment", "web-card", "--timeout=60s")
    assert installation.host() == left
    # as an administrator would end it
    installation.simulation(WORKER, "define", "/dev/stdin", stdin=guest("web", GUESTS[WORKER]["web"]))
    installation.simulation(WORKER, "reboot")


def test_nothing_is_done_before_its_plan_is_approved(installation: Installation) -> None:
    before = installation.host()
    installation.apply("approval")
    waits = installation.wait_for("deviceassignment/web-nic", "AwaitingApproval", "Planned")
    pool = f"nodevfpool/passthrough.{WORKER}"
    pool_waits = installation.wait_for(pool, "AwaitingApproval", "Planned")
    assert installation.host() == before
    installation.follow(waits["message"])
    installation.follow(pool_waits["message"])
    installation.wait_for("deviceassignment/web-nic", "Assigned")
    installation.wait_for(pool, "PoolReady")
    assert installation.host()["guests"]["web"]["config"] == [CARD]


def test_a_pool_and_its_guests(installation: Installation) -> None:
    before = installation.host()["devices"].keys()
    installation.apply("pool")
    installation.wait_for("vfpool/passthrough", "AllNodesReady")
    assert len(installation.host()["devices"].keys() - before) == 7
    assert installation.host()["networks"]["passthrough"] == {"active": True}
    installation.apply("pool-guests")
    for name in ("web-finance", "db-backup"):
        installation.wait_for(f"deviceassignment/{name}", "Assigned")
    installation.simulation(WORKER, "start", "web")
    counts = "{.status.counts.allocated} {.status.counts.free}"

    def shown() -> str:
        return installation.kind.kubectl("get", "vfpool", "passthrough", "-o", f"jsonpath={counts}").stdout

    installation.kind.wait("one VF is taken", lambda: shown() == "1 6")
    # who uses it keeps it
    installation.kind.kubectl("delete", "vfpool", "passthrough", "--wait=false")
    installation.wait_for(f"nodevfpool/passthrough.{WORKER}", "PoolInUse")
    assert installation.host()["networks"]["passthrough"] == {"active": True}
    installation.simulation(WORKER, "stop", "web")
    installation.kind.kubectl("delete", "deviceassignments", "--all", "--timeout=60s")
    installation.wait_until_gone("vfpool/passthrough")
    assert installation.host()["devices"].keys() == before
    assert "passthrough" not in installation.host()["networks"]


POOL_OF_THE_SECOND_PF = {
    "apiVersion": "hostdev.dev/v1alpha1",
    "kind": "VFPool",
    "metadata": {"name": "second"},
    "spec": {
        "nodeSelector": {"kubernetes.io/hostname": WORKER},
        "pf": {"mac": "52:54:00:10:00:02", "vfs": "1-3"},
        "numVFs": 4,
        "linkUp": True,
    },
}


def test_a_certain_vf(installation: Installation) -> None:
    installation.kind.kubectl("apply", "-f", "-", stdin=json.dumps(POOL_OF_THE_SECOND_PF))
    installation.wait_for("vfpool/second", "AllNodesReady")
    installation.apply("vf")
    installation.wait_for("deviceassignment/web-vf", "Assigned")
    shown = installation.kind.get("deviceassignment", "web-vf")
    assert shown
    assert shown["status"]["device"]["address"] in installation.host()["devices"]
    installation.kind.kubectl("delete", "deviceassignment", "web-vf", "--timeout=60s")


def test_an_administrator_speaks_of_a_node(installation: Installation) -> None:
    installation.apply("devicehost")
    installation.wait_for(f"devicehost/{WORKER}", "CriticalOverride", "CriticalOverrides")
    installation.kind.kubectl(
        "replace", "-f", "-", stdin=installation.text("devicehost").partition("spec:")[0] + "spec: {}\n"
    )


def test_a_namespace_has_what_it_was_allowed(installation: Installation) -> None:
    installation.apply("pool")
    installation.apply("namespace")
    guests = installation.text("pool-guests").replace("namespace: default", "namespace: team-finance")
    done = installation.kind.kubectl("apply", "-f", "-", stdin=guests, check=False)
    installation.wait_for("deviceassignment/web-finance", "Assigned", namespace="team-finance")
    # the other one is for a guest that the annotation does not name
    assert "db-backup" in done.stderr
    assert installation.kind.get("-n", "team-finance", "deviceassignment", "db-backup") is None
    installation.kind.kubectl("delete", "namespace", "team-finance", "--timeout=120s")
