"""Pools over VFs and networks that somebody else has made, and pools that are deleted and kept, on the fake host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core.network import NetworkDefinition
from hostdev_operator.core.network_xml import network_text
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord
from hostdev_operator.core.settings import Settings
from tests.fakes.samples import WEB, assignment
from tests.reconcile.pool_running import PF, Pools, message, node_pool, ready

ADDRESS = PciAddress.parse(PF)
NIC = "<interface type='network'><mac address='52:54:00:00:00:07'/><source network='fast'/></interface>"
#: As somebody else has made it.
EXISTING: dict[str, Any] = {"numVFs": None, "externallyManaged": True, "bindHostDriver": True, "linkUp": False}


@pytest.fixture(params=[None, "1-2"], ids=["all VFs", "a range"])
def by_hand(request: pytest.FixtureRequest) -> tuple[Pools, dict[str, Any]]:
    """Four VFs and the network fast of all or two of them, by hand; guest web runs with one."""
    pools = Pools()
    host = pools.host
    host.sriov.set_count(ADDRESS, 4)
    host.sriov.set_link(ADDRESS, up=True)
    vfs = tuple(vf.address for vf in host.sriov.vfs(ADDRESS))
    definition = NetworkDefinition("fast", pf=None if request.param else "eth3", addresses=())
    if request.param:
        definition = replace(definition, addresses=vfs[1:3])
    host.networks.append(network_text(definition))
    host.define(WEB, "web", NIC)
    host.start(WEB)
    host.calls.clear()
    return pools, {**EXISTING, "vfs": request.param}


@pytest.mark.parametrize("policy", ["Return", "Keep"])
@pytest.mark.parametrize("count", [None, 4], ids=["externally managed", "as many as there are"])
def test_a_pool_over_what_is_there_changes_nothing_and_neither_does_its_end(
    by_hand: tuple[Pools, dict[str, Any]], policy: str, count: int | None
) -> None:
    pools, spec = by_hand
    spec = {**spec, "releasePolicy": policy}
    if count:
        spec |= {"numVFs": count, "externallyManaged": False}
    before = pools.host.outside()
    result = pools.run(node_pool(**spec))
    assert ready(result) == ("True", "PoolReady"), message(result)
    (record,) = map(PoolRecord.from_json, pools.host.pool_records.values())
    assert (record.adopted, record.num_vfs_before) == (True, 4)
    assert result.status.counts
    assert (result.status.counts.total, result.status.counts.allocated) == (2 if spec["vfs"] else 4, 1)
    pools.restart()
    assert pools.run(node_pool(**spec)).status == result.status
    assert pools.host.outside() == before
    pools.host.stop(WEB)
    pools.host.start(WEB)
    assert ready(pools.run(node_pool(**spec))) == ("True", "PoolReady")
    before = pools.host.outside()
    assert pools.run(node_pool(deleting=True, **spec)).released
    assert pools.host.outside() == before
    assert pools.host.changes() == []
    assert not pools.host.pool_records


def test_keep_leaves_what_the_pool_has_made_guests_included() -> None:
    pools = Pools()
    spec: dict[str, Any] = {"releasePolicy": "Keep", "vfSettings": {"trust": True}}
    pools.run(node_pool(**spec))
    pools.host.define(WEB, "web", NIC)
    pools.host.start(WEB)
    assert ready(pools.run(node_pool(deleting=True, **{**spec, "releasePolicy": "Return"}))) == ("False", "PoolInUse")
    before = pools.host.outside()
    pools.host.calls.clear()
    assert pools.run(node_pool(deleting=True, **spec)).released
    assert pools.host.outside() == before
    assert pools.host.changes() == []
    assert not pools.host.pool_records
    assert PF not in pools.host.boot_file


def test_keep_waits_for_assignments_that_name_the_pool_and_for_a_paused_node() -> None:
    pools = Pools()
    pools.run(node_pool())
    naming = assignment(None, source={"pool": {"name": "fast"}}).wish()
    pools.settings = Settings(paused=True)
    assert ready(pools.run(node_pool(deleting=True, releasePolicy="Keep"))) == ("False", "Paused")
    pools.settings = Settings()
    pools.assignments = (naming,)
    result = pools.run(node_pool(deleting=True, releasePolicy="Keep"))
    assert ready(result) == ("False", "PoolInUse")
    assert naming.owner in message(result)
    pools.assignments = ()
    assert pools.run(node_pool(deleting=True, releasePolicy="Keep")).released
