"""How often a pool makes the agent look at the host, and that an old look does no harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hostdev_operator.core import reasons
from hostdev_operator.core.kinds import network_lock, pf_lock
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.locks import NamedLocks
from hostdev_operator.reconcile.looker import Looker
from hostdev_operator.reconcile.pools import PoolReconciler
from hostdev_operator.simulation.ports import ports
from tests.fakes.samples import NODE
from tests.reconcile.pool_running import PF, Pools, node_pool, ready

ADDRESS = PciAddress.parse(PF)


class Noticing(Pools):
    """Nothing is noticed of the host unless the test says so. ``held``: the locks that were held, one after another."""

    version = 0

    def restart(self) -> None:
        self.looks: Counter[str] = Counter()
        self.held: list[frozenset[str]] = []
        host = ports(self.host, self.clock, self._boundary)
        wishes = lambda: tuple(self.wishes.values())  # noqa: E731
        self.looker = Looker(host, Context(version=lambda: self.version, pool_wishes=wishes))
        self.reconciler = PoolReconciler(host, self.looker, _Recording(self.held))

    def count(self) -> None:
        """From now on, looks at the kernel (devices) and at libvirt (networks)."""
        self.looks.clear()
        self.host.hook = lambda call: self.looks.update([call] if call in ("devices", "networks") else [])


class _Recording(NamedLocks):
    def __init__(self, held: list[frozenset[str]]) -> None:
        super().__init__()
        self._held = held

    @contextmanager
    def hold(self, names: frozenset[str]) -> Iterator[None]:
        self._held.append(names)
        with super().hold(names):
            yield


def test_a_new_pool_is_claimed_without_a_look_and_made_with_three() -> None:
    pools = Noticing()
    pools.looker.fresh()
    pools.version += 1  # the watch tells of the pool
    pools.count()
    assert pools.once(node_pool()).claim
    assert pools.looks == {}
    assert ready(pools.once(node_pool())) == ("True", "PoolReady")
    # before the VFs, after them, and after the network, of libvirt alone
    assert pools.looks == {"devices": 2, "networks": 3}


def test_a_claim_by_an_old_look_is_looked_at_before_anything_is_done() -> None:
    pools = Noticing()
    pools.looker.fresh()
    pools.host.remove(ADDRESS)
    pools.version += 1
    before = pools.host.state()
    assert pools.once(node_pool()).claim
    result = pools.once(node_pool())
    assert ready(result) == ("False", str(reasons.DEVICE_NOT_FOUND))
    assert result.status.node_name == NODE
    assert pools.host.state() == before
    assert pools.once(node_pool(deleting=True)).released


def test_a_pool_that_an_old_look_refuses_is_looked_at_anew() -> None:
    pools = Noticing()
    pf = pools.host.remove(ADDRESS)
    pools.looker.fresh()
    pools.host.insert(pf)
    pools.version += 1
    assert pools.once(node_pool()).claim
    assert ready(pools.once(node_pool())) == ("True", "PoolReady")


def test_nothing_is_done_under_the_locks_of_an_old_look() -> None:
    """The other pool of the PF was made since: its network must not be used meanwhile, either."""
    pools = Noticing()
    pools.looker.fresh()
    other = Pools(pools.host)
    left = node_pool("left", "left-uid", vfs="0-1")
    assert ready(other.run(left)) == ("True", "PoolReady")
    pools.wishes[left.uid] = left.wish()
    pools.version += 1
    assert pools.once(node_pool("right", "right-uid", vfs="2-3")).claim
    changes: list[frozenset[str]] = []
    pools.host.hook = lambda call: changes.append(pools.held[-1]) if call.startswith("pool_save") else None
    assert ready(pools.once(node_pool("right", "right-uid", vfs="2-3"))) == ("True", "PoolReady")
    assert changes
    assert set(changes) == {frozenset({pf_lock(ADDRESS), network_lock("left"), network_lock("right")})}
