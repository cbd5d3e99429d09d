"""Guests that somebody has made by hand, and the assignments that fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import MAC, MAC2, PF
from tests.fakes.samples import LONER, OTHER_UID, WEB, assignment
from tests.reconcile.imported_host import plain, pool_nic, vf_nic
from tests.reconcile.nic_running import make_pool, of_pool, of_vf, vf_host, vfs
from tests.reconcile.running import Engine

ADOPTED = ("True", "Adopted")


class Case:
    """A guest that was made by hand, and the assignment that fits it."""

    def __init__(self, make: Callable[[FakeHost, Engine], Assignment]) -> None:
        self.host = vf_host()
        self.engine = Engine(self.host)
        self.obj = make(self.host, self.engine)
        self.host.calls.clear()


def plain_device(host: FakeHost, _engine: Engine) -> Assignment:
    host.define(WEB, "web", plain(LONER))
    return assignment(LONER, adopt=True, releasePolicy="Keep")


def unmanaged(host: FakeHost, _engine: Engine) -> Assignment:
    """Its administrator has bound it to vfio-pci, once for all."""
    host.define(WEB, "web", plain(LONER, managed="no"))
    host.bind(LONER, "vfio-pci")
    return assignment(LONER, adopt=True, managed=False, releasePolicy="Keep")


def unmanaged_vf(host: FakeHost, _engine: Engine) -> Assignment:
    """The same with a VF; the kernel would bind nothing to it, since its PF's autoprobe is off."""
    host.define(WEB, "web", plain(vfs(host)[0], managed="no"))
    host.bind(vfs(host)[0], "vfio-pci")
    return of_vf(host, adopt=True, managed=False, releasePolicy="Keep")


def left_behind(host: FakeHost, _engine: Engine) -> Assignment:
    """Made by an assignment that was deleted with Keep."""
    host.define(WEB, "web", plain(LONER, alias=f"ua-hostdev-{OTHER_UID}"))
    return assignment(LONER, adopt=True, releasePolicy="Keep")


def vf_as_nic(host: FakeHost, _engine: Engine) -> Assignment:
    host.define(WEB, "web", vf_nic(vfs(host)[0]))
    host.sriov.configure(PF, 0, VfConfig(mac="52:54:00:99:99:99", vlan=7, max_tx_rate=10))
    return of_vf(host, adopt=True, releasePolicy="Keep", network={"mac": MAC, "vlan": 5})


def nic_of_pool(host: FakeHost, engine: Engine) -> Assignment:
    make_pool(host, engine)
    host.define(WEB, "web", pool_nic())
    return of_pool(adopt=True, releasePolicy="Keep", network={"mac": MAC2})


def nic_of_pool_without_mac(host: FakeHost, engine: Engine) -> Assignment:
    obj = nic_of_pool(host, engine)
    return replace(obj, spec=obj.spec.model_copy(update={"network": None}))


MAKERS = [plain_device, unmanaged, unmanaged_vf, left_behind, vf_as_nic, nic_of_pool, nic_of_pool_without_mac]
CASES = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
Maker = Callable[[FakeHost, Engine], Assignment]


def is_recorded(make: Maker) -> bool:
    return not make.__name__.startswith("nic_of_pool")
