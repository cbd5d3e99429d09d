"""What may happen to a node: each operation is a name and plain arguments, so a run is a list that can be kept.

An operation that makes no sense at the moment does nothing and returns False; so a list can be shortened at will.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from hostdev_operator.api import API_VERSION
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.simulation.host import FakeGuest
from tests.chaos.samples import DEVICES, GUESTS, OTHER_CARD, PF, POOLS, SLOTS, VFS, source_of, uuid_of
from tests.chaos.truth import endpoints, holders, on_host_driver
from tests.chaos.world import World
from tests.fakes.samples import LONER, NODE, device

Perform = Callable[..., bool]


@dataclass(frozen=True)
class Operation:
    """How it is done, how often it is drawn, and what each of its arguments may be.

    ``fault``: no user's doing. ``meddles``: it changes by hand what the product has set, or what it knows of that.
    """

    perform: Perform
    weight: int
    choices: Mapping[str, Sequence[Any]]
    fault: bool
    meddles: bool


@dataclass(frozen=True)
class Step:
    """One operation of a run, and how many seconds pass after it."""

    name: str
    arguments: Mapping[str, Any]
    wait: float

    def __str__(self) -> str:
        said = ", ".join(f"{k}={v}" for k, v in self.arguments.items())
        return f"{self.name}({said}), {self.wait} s"


OPERATIONS: dict[str, Operation] = {}


def operation(
    weight: int, *, fault: bool = False, meddles: bool = False, **choices: Sequence[Any]
) -> Callable[[Perform], Perform]:
    """Register one."""

    def register(perform: Perform) -> Perform:
        OPERATIONS[perform.__name__] = Operation(perform, weight, choices, fault, meddles)
        return perform

    return register


# -- what users do ----------------------------------------------------------------------------------------------------


@operation(
    14,
    slot=SLOTS,
    what=(*DEVICES, *DEVICES, "any", *(f"vf {vf}" for vf in VFS), *(f"pool {p}" for p in POOLS * 2), DEVICES[0]),
    guest=(*GUESTS, *GUESTS, None),
    attach=("Auto", "Live", "NextBoot"),
    detach=("WhenOff", "Live"),
    managed=(True, True, False),
    policy=("DetachUnused", "DetachUnused", "AssignAll", "RequireFree"),
    drift=("Report", "Correct"),
)
def assign(
    world: World, slot: str, what: str, guest: str | None, policy: str, drift: str = "Report", **more: Any
) -> bool:
    source = source_of(what)
    plain = "network" not in source and "pool" not in source["source"]
    if world.cluster.exists(slot) or (guest is None and not plain):
        return False
    spec: dict[str, Any] = {**source, "driftPolicy": drift}
    if guest is None:
        spec |= {"nodeName": NODE, "groupPolicy": "DetachUnused"}
    else:
        spec |= {"domain": {"name": guest}, **more}
        if "pool" in source["source"]:
            spec["managed"] = True
        else:
            spec["groupPolicy"] = policy
    body = {"kind": "DeviceAssignment", "metadata": {"name": slot, "namespace": "default"}, "spec": spec}
    world.cluster.create({"apiVersion": API_VERSION, **body})
    return True


@operation(12, slot=SLOTS)
def delete(world: World, slot: str) -> bool:
    return delete_object(world, slot, "DeviceAssignment")


@operation(1)
def delete_all(world: World) -> bool:
    return sum(delete_object(world, slot, "DeviceAssignment") for slot in SLOTS) > 0


def delete_object(world: World, name: str, kind: str) -> bool:
    """Kubectl delete; whose deletion was asked for is remembered."""
    if not world.cluster.exists(name, None, kind):
        return False
    uid = world.cluster.get(name, None, kind)["metadata"]["uid"]
    world.asked_for.add(uid)
    if kind == "VFPool":
        found = world.cluster.all("NodeVFPool")
        world.asked_for |= {b["metadata"]["uid"] for b in found if b["spec"]["poolName"] == name}
    world.cluster.delete(name, None, kind)
    return True


@operation(4, slot=SLOTS, attach=("Auto", "Live", "NextBoot"), detach=("WhenOff", "Live", "Live"), vlan=(7, 8))
def edit(world: World, slot: str, attach: str, detach: str, vlan: int) -> bool:
    if not world.cluster.exists(slot):
        return False
    spec = world.cluster.get(slot)["spec"]
    if "domain" not in spec:
        return False
    network = {"network": {**spec["network"], "vlan": vlan}} if "network" in spec else {}
    world.cluster.edit(slot, {"attach": attach, "detach": detach, **network})
    return True


@operation(
    7,
    pool=POOLS,
    vfs=(2, 3, 4),
    split=(False, False, True),
    trust=(None, None, True),
    link=(True, True, False),
    drift=("Report", "Correct"),
)
def make_pool(
    world: World,
    pool: str,
    vfs: int,
    split: bool,  # noqa: FBT001
    trust: bool | None,  # noqa: FBT001
    link: bool,  # noqa: FBT001
    drift: str = "Report",
) -> bool:
    if world.cluster.exists(pool, None, "VFPool"):
        return False
    half = {"vfs": "0-0" if pool == "lan" else "1-1"} if split else {}
    settings = {} if trust is None else {"vfSettings": {"trust": trust}}
    spec = {"pf": {"mac": "52:54:00:10:00:01", **half}, "numVFs": vfs, "linkUp": link, "nodeSelector": {}, **settings}
    spec |= {"network": {"portgroups": [{"name": "blue", "vlan": 42}]}, "driftPolicy": drift}
    world.cluster.create({"apiVersion": API_VERSION, "kind": "VFPool", "metadata": {"name": pool}, "spec": spec})
    return True


@operation(5, pool=POOLS, vfs=(None, None, 1, 2, 3, 4), vlan=(42, 43))
def edit_pool(world: World, pool: str, vfs: int | None, vlan: int) -> bool:
    if not world.cluster.exists(pool, None, "VFPool"):
        return False
    network = {"portgroups": [{"name": "blue", "vlan": vlan}]}
    count = {} if vfs is None else {"numVFs": vfs}
    world.cluster.edit(pool, {**count, "network": network}, None, "VFPool")
    return True


@operation(4, pool=POOLS)
def delete_pool(world: World, pool: str) -> bool:
    return delete_object(world, pool, "VFPool")


@operation(1, seconds=(20.0, 90.0))
def pause(world: World, seconds: float) -> bool:
    world.cluster.edit(NODE, {"paused": True}, None, "DeviceHost")
    world.later(seconds, unpause)
    return True


def unpause(world: World) -> None:
    """The administrator has done what he wanted."""
    if world.cluster.get(NODE, None, "DeviceHost").get("spec", {}).get("paused"):
        world.cluster.edit(NODE, {"paused": False}, None, "DeviceHost")


# -- what guests do ---------------------------------------------------------------------------------------------------


def _guest(world: World, name: str) -> FakeGuest | None:
    return next((g for g in world.host.guests.values() if g.name == name), None)


@operation(14, guest=GUESTS, told=(True, True, False))
def start(world: World, guest: str, told: bool) -> bool:  # noqa: FBT001
    found = _guest(world, guest)
    if found is None or found.live or found.config is None or world.host.down:
        return False
    with suppress(HostError):
        world.host.start(found.uuid)
    return told_of(world, told)


@operation(10, guest=GUESTS, told=(True, True, False))
def destroy(world: World, guest: str, told: bool) -> bool:  # noqa: FBT001
    found = _guest(world, guest)
    if found is None or not found.live or world.host.down:
        return False
    world.host.stop(found.uuid)
    return told_of(world, told)


@operation(3, guest=GUESTS, version=(0, 0, 1))
def define(world: World, guest: str, version: int) -> bool:
    """By another tool, of a guest that is not there; with another UUID it is another guest."""
    if _guest(world, guest) or uuid_of(guest, version) in world.host.guests or world.host.down:
        return False
    world.host.define(uuid_of(guest, version), guest)
    return told_of(world, told=True)


@operation(2, meddles=True, guest=GUESTS, foreign=(None, *DEVICES))
def redefine(world: World, guest: str, foreign: str | None) -> bool:
    """Its XML is written anew, without what was added to it; perhaps with a device by hand."""
    found = _guest(world, guest)
    if found is None or world.host.down:
        return False
    address = PciAddress.parse(foreign) if foreign else None
    world.host.define(found.uuid, guest, _by_hand(address) if address else "")
    return told_of(world, told=True)


def _by_hand(address: PciAddress) -> str:
    where = f"domain='{address.domain:#x}' bus='{address.bus:#x}' slot='{address.slot:#x}'"
    inside = f"<source><address {where} function='{address.function:#x}'/></source>"
    return f"<hostdev mode='subsystem' type='pci' managed='yes'>{inside}</hostdev>"


@operation(3, guest=GUESTS)
def undefine(world: World, guest: str) -> bool:
    found = _guest(world, guest)
    if found is None or found.config is None or world.host.down:
        return False
    world.host.undefine(found.uuid)
    return told_of(world, told=True)


@operation(2, guest=GUESTS)
def rename(world: World, guest: str) -> bool:
    """Virsh domrename, and back at the next time: only of a guest that is off."""
    found = _guest(world, guest) or _guest(world, f"{guest}-old")
    if found is None or found.live or not found.config or world.host.down:
        return False
    new = guest if found.name != guest else f"{guest}-old"
    if _guest(world, new):
        return False
    found.config = found.config.replace(f"<name>{found.name}</name>", f"<name>{new}</name>")
    found.name = new
    return told_of(world, told=True)


@operation(5, guest=GUESTS, manner=("answers", "is silent", "refuses"))
def behave(world: World, guest: str, manner: str) -> bool:
    found = _guest(world, guest)
    if found is None:
        return False
    found.manner = manner
    return True


def told_of(world: World, told: bool) -> bool:  # noqa: FBT001
    """Not every change raises an event that arrives."""
    if told:
        world.news()
    return True


# -- what happens to the host -----------------------------------------------------------------------------------------


@operation(2, meddles=True, address=(*DEVICES, *VFS))
def bind_by_hand(world: World, address: str) -> bool:
    """A driver of the host takes a device that nobody has."""
    where = PciAddress.parse(address)
    group = endpoints(world.host, where)
    if not group or any(holders(world.host, d.address) for d in group):
        return False
    world.host.bind(where, world.host.native[where])
    return told_of(world, told=True)


@operation(3, address=DEVICES)
def host_needs(world: World, address: str) -> bool:
    """The host begins to use a device that its own driver has."""
    found = world.host.devices.get(PciAddress.parse(address))
    if found is None or not on_host_driver(found) or holders(world.host, found.address):
        return False
    world.host.use(found.address, "carries the default route")
    return told_of(world, told=True)


@operation(3)
def host_needs_nothing(world: World) -> bool:
    many = len(world.host.uses)
    del world.host.uses[1:]
    return many > 1 and told_of(world, told=True)


@operation(3, address=DEVICES, refuses=(True, True, False))
def vfio_refuses(world: World, address: str, refuses: bool) -> bool:  # noqa: FBT001
    """Vfio-pci does not bind the device, for whatever reason, until it does again."""
    where = PciAddress.parse(address)
    if refuses == (where in world.host.refused_by_vfio):
        return False
    (world.host.refused_by_vfio.add if refuses else world.host.refused_by_vfio.discard)(where)
    return True


@operation(2, told=(True, False))
def pull_card(world: World, told: bool) -> bool:  # noqa: FBT001
    if LONER not in world.host.devices:
        return False
    world.host.remove(LONER)
    world.host.native.pop(LONER)
    world.host.uses[:] = [u for u in world.host.uses if u.address != LONER]
    return told_of(world, told)


@operation(4, other=(False, False, True))
def put_card_in(world: World, other: bool) -> bool:  # noqa: FBT001
    if LONER in world.host.devices:
        return False
    world.host.insert(OTHER_CARD if other else device(LONER, "igb", 13))
    return told_of(world, told=True)


@operation(2, meddles=True, count=(0, 2, 4), told=(True, False))
def set_vfs_by_hand(world: World, count: int, told: bool) -> bool:  # noqa: FBT001
    """Echo into sriov_numvfs; whose VFs a guest has does not return, so it is left."""
    if any(holders(world.host, vf.address) for vf in world.host.sriov.vfs(PF)):
        return False
    world.host.sriov.set_count(PF, count)
    return told_of(world, told)


@operation(2, meddles=True, up=(True, False))
def set_link_by_hand(world: World, up: bool) -> bool:  # noqa: FBT001
    world.host.sriov.pfs[PF].up = up
    return told_of(world, told=True)


@operation(1, netdev=("eth3", "eth7"))
def rename_netdev(world: World, netdev: str) -> bool:
    """As udev does. libvirt's networks name the PF by it."""
    if world.host.sriov.pfs[PF].netdev == netdev:
        return False
    world.host.sriov.pfs[PF].netdev = netdev
    return told_of(world, told=True)


@operation(2, index=(0, 1), trust=(True, False))
def set_vf_by_hand(world: World, index: int, trust: bool) -> bool:  # noqa: FBT001
    """Ip link set PF vf N trust on."""
    configs = world.host.sriov.pfs[PF].configs
    if index not in configs:
        return False
    configs[index] = replace(configs[index], trust=trust, spoof_check=not trust)
    world.vf_set_by_hand(index)
    return told_of(world, told=True)


@operation(2, meddles=True, pool=POOLS, how=("destroy", "undefine", "start"))
def change_network_by_hand(world: World, pool: str, how: str) -> bool:
    network = world.host.networks.by_name.get(pool)
    if network is None or network.connections or world.host.down:
        return False
    with suppress(HostError):
        if how == "start" or network.live or how == "undefine":
            getattr(world.host.networks, how)(pool)
    return told_of(world, told=True)


@operation(1, meddles=True, pool=POOLS)
def make_network_by_hand(world: World, pool: str) -> bool:
    """One of the pool's name, that hands out what the pool would, or something else."""
    if pool in world.host.networks.by_name or world.host.down:
        return False
    world.host.networks.append(f"<network><name>{pool}</name><forward mode='nat'/></network>")
    return told_of(world, told=True)
