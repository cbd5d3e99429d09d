"""What a look reads, and what it does not read again."""

from __future__ import annotations

from collections import Counter

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.network import NetworkDefinition
from hostdev_operator.core.network_xml import network_text
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.simulation.ports import ports
from tests.fakes.samples import WEB, assignment
from tests.reconcile.pool_running import PF, Pools, node_pool, pf_host
from tests.reconcile.running import Engine, ready

ADDRESS = PciAddress.parse(PF)


def test_a_look_shows_pfs_networks_and_what_pools_have_recorded() -> None:
    pools = Pools()
    pools.run(node_pool())
    context = Context(pool_wishes=lambda: (node_pool().wish(),))
    seen = observe(ports(pools.host), context)
    assert (seen.pfs[ADDRESS].netdev, seen.pfs[ADDRESS].up, sorted(seen.pfs[ADDRESS].vfs)) == (
        "eth3",
        True,
        [0, 1, 2, 3],
    )
    vfs = tuple(vf.address for vf in seen.vfs(ADDRESS))
    network = seen.networks["fast"]
    assert network.hands_out == NetworkDefinition("fast", "eth3")
    assert network.running == NetworkDefinition("fast", "eth3", vfs)
    assert [(pool.name, pool.addresses) for pool in seen.pools] == [("fast", frozenset(vfs))]
    assert [record.name for record in seen.pool_records.values()] == ["fast"]
    assert [wish.name for wish in seen.pool_wishes] == ["fast"]


def test_networks_that_are_off_hand_out_what_they_are_defined_with() -> None:
    host = pf_host()
    host.sriov.set_count(ADDRESS, 2)
    vfs = tuple(vf.address for vf in host.sriov.vfs(ADDRESS))
    host.networks.define(network_text(NetworkDefinition("whole", "eth3")))
    host.networks.define(network_text(NetworkDefinition("one", addresses=vfs[:1])))
    host.networks.define(network_text(NetworkDefinition("gone", "eth9")))
    seen = observe(ports(host), Context())
    found = {pool.name: pool.addresses for pool in seen.pools}
    assert found == {"whole": frozenset(vfs), "one": frozenset(vfs[:1]), "gone": frozenset()}


def test_a_change_that_hangs_is_known_from_both_sides() -> None:
    host = pf_host()
    host.blocked.add(ADDRESS)
    assert observe(ports(host), Context()).blocked == {ADDRESS}


def test_a_network_that_cannot_be_read_stops_all_planning() -> None:
    host = pf_host()
    host.networks.define("<network><name>vfs</name></network>").config = "<network>"
    with pytest.raises(HostError, match="network vfs") as caught:
        observe(ports(host), Context())
    assert caught.value.reason is reasons.LIBVIRT_ERROR


def test_what_an_assignment_cannot_change_is_not_read_again_after_it() -> None:
    """The way of an assignment is short: one look before, and after it only what its actions can have changed."""
    engine = Engine(pf_host())
    calls: list[str] = []
    engine.host.hook = calls.append
    assert ready(engine.run(assignment())) == ("True", "Assigned")
    read = Counter(calls)
    assert read["networks"] == read["pfs"] == 1
    assert read["guests"] == 2
    calls.clear()
    engine.host.start(WEB)
    engine.run(assignment(deleting=True, detach="Live"))
    read = Counter(calls)
    assert (read["networks"], read["pfs"]) == (0, 1)
