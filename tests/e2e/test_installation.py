"""Two nodes, installed by `kubectl apply -k`: both agents report, and kubectl explains and shows what there is."""

from __future__ import annotations

import itertools
import re

import pytest
import yaml

from tests.e2e.installation import GUESTS, Installation
from tests.e2e.kind.cluster import CONTROL_PLANE, SYSTEM, WORKER, Body, Kind, plain
from tests.e2e.kind.recorded import REPOSITORY

CRDS = [yaml.safe_load(path.read_text()) for path in sorted((REPOSITORY / "crds").glob("hostdev.dev_*.yaml"))]
KINDS = [crd["spec"]["names"]["plural"] for crd in CRDS]


@pytest.mark.skipif(plain(), reason="the network is that of the user's docker")
def test_the_clusters_network_leads_nowhere(kind: Kind) -> None:
    """Neither from where docker is, nor from a node: 192.0.2.1 is an address that nobody has (RFC 5737)."""
    assert kind.network("ip", "route", "show", "default").stdout == ""
    assert "unreachable" in kind.network("ip", "route", "get", "192.0.2.1").stderr
    links = {line.split(": ")[1].split("@")[0] for line in kind.network("ip", "-o", "link").stdout.splitlines()}
    assert {link for link in links if not link.startswith(("lo", "br-", "veth", "tunl", "sit", "ip6"))} == set()
    tried = "timeout 60 bash -c 'echo > /dev/tcp/192.0.2.1/53' 2>&1; true"
    assert "unreachable" in kind.docker("exec", WORKER, "bash", "-c", tried)


def test_both_nodes_have_an_agent_and_one_controller_leads(installed: Installation) -> None:
    kind = installed.kind
    assert {node["metadata"]["name"] for node in kind.items("nodes")} == {CONTROL_PLANE, WORKER}
    for node in GUESTS:
        images = [one["name"] for one in installed.agent(node)["spec"]["containers"]]
        assert images == ["agent"]
        host = kind.get("devicehost", node)
        assert host
        assert {guest["name"]: guest["uuid"] for guest in host["status"]["guests"]} == GUESTS[node]
        assert {device["address"] for device in host["status"]["devices"]} == installed.host(node)["devices"].keys()
    lease = kind.get("lease", "-n", SYSTEM, "hostdev-controller")
    assert lease
    label = "app.kubernetes.io/component=controller"
    pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in kind.items("pods", "-n", SYSTEM, "-l", label)}
    assert set(pods.values()) == {CONTROL_PLANE, WORKER}
    assert any(lease["spec"]["holderIdentity"].startswith(pod) for pod in pods)


@pytest.mark.parametrize("crd", CRDS, ids=KINDS)
def test_kubectl_explains_each_field(installed: Installation, crd: Body) -> None:
    """Each of spec and status with its description: it is the manual."""
    version = crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    plural = crd["spec"]["names"]["plural"]
    for part in ("spec", "status"):
        shown = " ".join(installed.kind.kubectl("explain", f"{plural}.{part}").stdout.split())
        for name, field in schema["properties"][part]["properties"].items():
            assert f" {name} <" in shown
            assert " ".join(field["description"].split()) in shown, name


def _rows(text: str) -> list[dict[str, str]]:
    """A table of kubectl: its columns begin where their names do."""
    lines = text.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", lines[0])]
    cells = [[line[a:b].strip() for a, b in itertools.zip_longest(starts, starts[1:])] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def test_kubectl_shows_the_columns(installation: Installation) -> None:
    kind = installation.kind
    installation.apply("first-light")
    installation.apply("pool")
    installation.wait_for("deviceassignment/web-nic", "Assigned")
    installation.wait_for("vfpool/passthrough", "AllNodesReady")
    counts = {"TOTAL": "7", "ALLOCATED": "0", "FREE": "7", "READY": "True"}
    part = {"NAME": f"passthrough.{WORKER}", "POOL": "passthrough", "NODE": WORKER, "PF": "enp1s0"}
    assigned = {"NAME": "web-nic", "NODE": WORKER, "DOMAIN": "web", "DEVICE": "0000:04:01.0", "GROUP": "15"}
    ready = {"IOMMU": "True", "INTREMAP": "True", "VFIO": "True", "LIBVIRT": "True"}
    wanted = {
        "deviceassignments": [{**assigned, "READY": "True", "REASON": "Assigned"}],
        "vfpools": [{"NAME": "passthrough", "NODES": "1", "NODESREADY": "1", **counts, "REASON": "AllNodesReady"}],
        "nodevfpools": [{**part, **counts, "NETWORKACTIVE": "true", "REASON": "PoolReady"}],
        "devicehosts": [{"NAME": node, **ready} for node in (CONTROL_PLANE, WORKER)],
    }
    for plural, rows in wanted.items():
        shown = _rows(kind.kubectl("get", plural).stdout)
        assert all(row.pop("AGE") for row in shown)
        if plural == "devicehosts":
            for row in shown:
                devices, _, guests = row.pop("SUMMARY").split(", ")
                host = installation.host(row["NAME"])
                assert devices == f"{len(host['devices'])} devices"
                assert guests == f"{len(host['guests'])} guests"
        assert shown == rows
