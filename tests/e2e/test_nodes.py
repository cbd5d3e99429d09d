"""A node is lost, comes back, and is gone for good, while the other one goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.installation import GUESTS, Installation
from tests.e2e.kind.cluster import CONTROL_PLANE, SYSTEM, WORKER, Body, Kind

CARD, MATE = "0000:04:01.0", "0000:04:02.0"


def assignment(name: str, guest: str) -> str:
    body = {
        "apiVersion": "hostdev.dev/v1alpha1",
        "kind": "DeviceAssignment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"domain": {"name": guest}, "source": {"pci": {"address": CARD}}},
    }
    return json.dumps(body)


def node_ready(kind: Kind, node: str) -> str:
    """The status of the Node's condition Ready, as the control plane has it."""
    conditions = (kind.get("node", node) or {}).get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == "Ready"), "")


def bring_back(installation: Installation) -> None:
    """The worker, with its agent at work."""
    kind = installation.kind
    kind.docker("start", WORKER)
    kind.wait("the node is ready", lambda: node_ready(kind, WORKER) == "True")
    kind.wait("the agent has been started", lambda: agent_is_ready(installation))
    installation.wait_until_ready()


def agent_is_ready(installation: Installation) -> bool:
    """Of this start: its node's kubelet says so."""
    label, at = "app.kubernetes.io/component=agent", f"spec.nodeName={WORKER}"
    pods = installation.kind.items("pods", "-n", SYSTEM, "-l", label, "--field-selector", at)
    conditions = [one for pod in pods for one in pod["status"].get("conditions", [])]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.fixture
def lost(installation: Installation) -> Iterator[Installation]:
    """With a card of the worker for web; then the worker is stopped. It is back afterwards."""
    kind = installation.kind
    kind.kubectl("apply", "-f", "-", stdin=assignment("web-nic", "web"))
    installation.wait_for("deviceassignment/web-nic", "Assigned")
    kind.docker("stop", WORKER)
    kind.wait("the node is lost", lambda: node_ready(kind, WORKER) == "Unknown")
    yield installation
    bring_back(installation)


def accepted(installation: Installation) -> Body:
    shown = installation.kind.get("deviceassignment", "web-nic")
    assert shown
    return next(one for one in shown["status"]["conditions"] if one["type"] == "Accepted")


def the_rest_goes_on(installation: Installation) -> None:
    installation.kind.kubectl("apply", "-f", "-", stdin=assignment("mail-nic", "mail"))
    installation.wait_for("deviceassignment/mail-nic", "Assigned")
    assert installation.host(CONTROL_PLANE)["guests"]["mail"]["config"] == [CARD]
    installation.kind.kubectl("delete", "deviceassignment", "mail-nic", "--timeout=120s")
    assert installation.drivers(CARD, MATE, node=CONTROL_PLANE) == ["e1000", "e1000"]


def test_a_node_is_lost_and_comes_back(lost: Installation) -> None:
    kind = lost.kind
    the_rest_goes_on(lost)
    # it can run, so what is bound there stays so
    bound = kind.get("deviceassignment", "web-nic")
    assert bound
    assert bound["status"]["nodeName"] == WORKER
    # without a Node object, whoever looks is told
    kind.kubectl("delete", "node", WORKER)
    said = lost.wait_for("deviceassignment/web-nic", "NodeGone", "Accepted")
    assert said["status"] == "False"
    assert "kubectl annotate" in said["message"]
    bring_back(lost)
    kind.wait("it is accepted again", lambda: accepted(lost)["status"] == "True")
    lost.done_again("web-nic", "web", CARD)
    assert lost.drivers(MATE) == ["vfio-pci"]


def test_a_node_is_gone_for_good(lost: Installation) -> None:
    kind, uid = lost.kind, lost.uid("web-nic")
    kind.kubectl("delete", "deviceassignment", "web-nic", "--wait=false")
    kind.kubectl("delete", "node", WORKER)
    lost.wait_for("deviceassignment/web-nic", "NodeGone", "Accepted")
    word = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    kind.kubectl("annotate", "--overwrite", "devicehost", WORKER, f"hostdev.dev/node-gone={word}")
    lost.wait_until_gone("deviceassignment/web-nic")
    lost.wait_for_events(uid, "NodeGone")
    kind.kubectl("delete", "devicehost", WORKER)
    the_rest_goes_on(lost)
    # another host takes its name
    bring_back(lost)
    kind.wait("it reports", lambda: (kind.get("devicehost", WORKER) or {}).get("status", {}).get("guests") is not None)
    reported = kind.get("devicehost", WORKER)
    assert reported
    assert {guest["name"] for guest in reported["status"]["guests"]} == GUESTS[WORKER].keys()
