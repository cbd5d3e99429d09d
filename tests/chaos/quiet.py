"""What must hold when no fault is left and time has passed: all is explained, told truly, and nothing goes on."""

from __future__ import annotations

import asyncio
from typing import Any

from lxml import etree

from hostdev_operator.core import reasons
from hostdev_operator.core.conditions import READY
from hostdev_operator.core.reasons import CATALOGUE
from hostdev_operator.core.record import Record
from hostdev_operator.ports import Body
from hostdev_operator.simulation.host import FakeGuest
from tests.chaos.faults import heal
from tests.chaos.invariants import Watch, is_as_it_was
from tests.chaos.operations import OPERATIONS, delete_object
from tests.chaos.samples import PF
from tests.chaos.truth import PREFIX, Owned, endpoints, of_alias, on_host_driver, owned
from tests.chaos.world import World
from tests.fakes.samples import LONER, NODE

SETTLES = "the node comes to rest"
NO_WRITES = "no API writes at idle"
FEW_CALLS = "a bounded number of calls at idle"
EXPLAINED = "each record has its object, or is told as an orphan"
TRUTHFUL = "status says what is"
NO_HALF = "a claim that failed is given back as a whole"
HUNG_IS_NAMED = "who waits for a call that hangs names the device"
OTHERS_GO_ON = "others go on while a call hangs"
WHY = "what is not ready says why, in words of the catalogue"
RECOVERED = "what was no more than a fault is tried again"
ALL_BACK = "everything is given back in the end"
INNOCENT = "what nobody has changed is not called drift"
PUT_RIGHT = "what has drifted is put right when that is asked for"

_IDLE_SECONDS = 95.0
#: Three scans of the host, each of which reads it once, and reads it once more for the report.
_IDLE_CALLS = 160
#: Reasons that name a fault which is over.
_PASSED = {str(r) for r in (reasons.LIBVIRT_UNAVAILABLE, reasons.STATE_DIRECTORY_FAILED, reasons.HOST_USE_UNKNOWN)}


_HUNG = {str(r) for r in (reasons.DETACH_BLOCKED, reasons.REATTACH_BLOCKED)}
#: Reasons that leave a claim as it is though the guest has nothing of it: it is not known what would be given back.
_STANDS = {str(r) for r in (reasons.DETACH_BLOCKED, reasons.PAUSED, reasons.DRIFTED, reasons.DRIFTS_AGAIN)}
_DRIFT = {str(r) for r in (reasons.DRIFTED, reasons.DRIFTS_AGAIN)}


async def settle(world: World) -> None:
    """All is well again; time passes until nothing has happened for a minute, and nobody waits to try again.

    What fails for a reason that lasts is tried again for ever, each 5 minutes in the end: that is rest as well.
    """
    heal(world)
    world.news()
    still = False
    for _ in range(14):
        before = len(world.cluster.writes), world.changes
        await asyncio.sleep(62.0)
        still = before == (len(world.cluster.writes), world.changes)
        agent = world.agent if world.agent and not world.agent.dead else None
        if still and agent and not agent.agent.queue._timers:
            return
    if not still:
        world.violate(SETTLES, f"after 14 minutes: {world.cluster.writes[-4:]}, {world.host.calls[-4:]}")


async def _while_a_call_hangs(world: World, watch: Watch) -> None:
    """Whoever waits for it names the device and says so; all the others are as they should be."""
    heal(world, but_hung=True)
    world.news()
    await asyncio.sleep(62.0)
    hung, records = {str(a) for a in world.host.blocked}, watch.records()
    for body in world.cluster.all("DeviceAssignment") if hung else ():
        ready, reason, message = _ready(body)
        record = records.get(body["metadata"]["uid"])
        waits = record is not None and any(str(m.address) in hung for m in record.members)
        if reason in _HUNG:
            _check(world, HUNG_IS_NAMED, any(address in message for address in hung), f"{hung}: {message}")
        elif waits:
            _check(world, HUNG_IS_NAMED, not ready or not _is_held_back(record, world), f"{hung}: {message}")
        if not waits:
            _check(world, OTHERS_GO_ON, reason not in _HUNG, f"{hung}: {message}")
            _assignment(world, watch, body)


def _is_held_back(record: Record | None, world: World) -> bool:
    """Whether a device of an unmanaged claim is still the host's."""
    there = [world.host.devices.get(m.address) for m in record.members] if record and not record.managed else []
    return any(d is not None and on_host_driver(d) for d in there)


async def quiet(world: World, watch: Watch) -> None:
    """No fault, no operation: what is, and that nothing happens."""
    if world.host.blocked:
        await _while_a_call_hangs(world, watch)
    await settle(world)
    writes, calls, changes = len(world.cluster.writes), world.calls, world.changes
    await asyncio.sleep(_IDLE_SECONDS)
    _check(world, NO_WRITES, len(world.cluster.writes) == writes, world.cluster.writes[writes:])
    found = world.calls - calls
    _check(world, FEW_CALLS, found <= _IDLE_CALLS and world.changes == changes, f"{found} calls in {_IDLE_SECONDS} s")
    watch.after_step()
    _records(world, watch)
    for body in world.cluster.all("DeviceAssignment"):
        _assignment(world, watch, body)
    for body in world.cluster.all("NodeVFPool"):
        _pool(world, body)
    _drift(world)
    _device_host(world)


def _check(world: World, invariant: str, holds: object, text: object) -> None:
    world.checked[invariant] += 1
    if not holds:
        world.violate(invariant, str(text))


def _records(world: World, watch: Watch) -> None:
    status = world.cluster.get(NODE, None, "DeviceHost").get("status", {})
    told = {o["uid"] for o in status.get("orphans", [])}
    alive = {b["metadata"]["uid"] for b in world.cluster.all("DeviceAssignment")}
    for uid in watch.records():
        _check(world, EXPLAINED, (uid in alive) != (uid in told), f"record {uid}: alive {uid in alive}, told {told}")
    known = alive | set(watch.records())
    for uid in _nics(world) - known:
        _check(world, EXPLAINED, uid in told, f"a NIC of {uid}, which is gone, is not told")
    there = set(watch.records()) | _nics(world) | set(watch.pool_records())
    _check(world, EXPLAINED, told <= there, f"orphans of which nothing is there: {told}")
    pools = {b["metadata"]["uid"] for b in world.cluster.all("NodeVFPool")}
    for uid in watch.pool_records():
        _check(world, EXPLAINED, (uid in pools) != (uid in told), f"record of pool {uid}: alive {uid in pools}, {told}")


def _ready(body: Body) -> tuple[bool, str, str]:
    rows = {c["type"]: c for c in body.get("status", {}).get("conditions", [])}
    row = rows.get(READY, {})
    return row.get("status") == "True", row.get("reason", ""), row.get("message", "")


def _condition(body: Body, kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in body.get("status", {}).get("conditions", []))


def _assignment(world: World, watch: Watch, body: Body) -> None:
    status, meta = body.get("status", {}), body["metadata"]
    ready, reason, message = _ready(body)
    name = f"{meta['name']} ({reason}: {message})"
    _check(world, RECOVERED, reason not in _PASSED, name)
    if not status.get("nodeName"):
        _check(world, TRUTHFUL, not ready, f"{name} is not bound")
        return
    _check(world, WHY, ready or reason in CATALOGUE, name)
    if "deletionTimestamp" in meta:
        return
    guest = world.host.guests.get(status.get("domainUUID", ""))
    record = watch.records().get(meta["uid"])
    config, live = (_has(guest, meta["uid"], record, live=live) if guest else () for live in (False, True))
    told = status.get("guest") or {}
    if guest:
        _check(world, TRUTHFUL, told.get("persistent") == bool(config), f"{name}: persistent {told}, {config}")
        _check(world, TRUTHFUL, told.get("live") == bool(live), f"{name}: live {told}, {live}")
        _check(world, TRUTHFUL, told.get("active") == bool(guest.live), f"{name}: {told}")
    device = (status.get("device") or {}).get("address")  # of another assignment's hand, perhaps: Attached all the same
    runs_with = live or (guest and any(str(o.address) == device for o in owned(guest.live)))
    _check(world, TRUTHFUL, runs_with or not _condition(body, "Attached"), f"{name}: Attached, the guest runs without")
    _check(world, TRUTHFUL, meta["generation"] == status.get("observedGeneration"), f"{name}: an old generation")
    if record and guest and not (config or live or ready):
        group = endpoints(world.host, record.address)
        held = [str(d.address) for d in group if not is_as_it_was(world.host, d)]
        stays = reason in _STANDS or status.get("settled")  # the guest had it, and another hand has taken it out
        _check(world, NO_HALF, not held or stays, f"{name}: the guest has nothing, and {held} are held")
    if ready:
        _is_ready(world, watch, body, bool(config), name)


def _has(guest: FakeGuest, uid: str, record: Record | None, *, live: bool) -> tuple[Owned, ...]:
    """By alias; the device itself also by its address: its alias may be edited away (core/plan.py: our_hostdevs)."""
    mine = record is not None and record.domain_uuid == guest.uuid
    found = owned(guest.live if live else guest.config)
    bare = (o for o in found if record and mine and o.address == record.address and not o.alias.startswith(PREFIX))
    return (*of_alias(guest, uid, live=live), *bare)


def _is_ready(world: World, watch: Watch, body: Body, configured: bool, name: str) -> None:  # noqa: FBT001
    meta, status, spec = body["metadata"], body["status"], body["spec"]
    _check(world, TRUTHFUL, configured or "domain" not in spec, f"{name}: Ready, and not in the persistent XML")
    if "pool" in spec["source"]:
        network = world.host.networks.by_name.get(spec["source"]["pool"]["name"])
        _check(world, TRUTHFUL, network and network.live, f"{name}: Ready without its network")
        return
    record = watch.records().get(meta["uid"])
    _check(world, TRUTHFUL, record and str(record.address) == status["device"]["address"], f"{name}: {record}")
    if record:
        group = endpoints(world.host, record.address)
        ours = {record.address, *(record.targets if record.managed else ())} if "domain" in spec else set()
        loose = [d for d in group if on_host_driver(d) and d.address not in ours]
        _check(world, TRUTHFUL, group and not loose, f"{name}: Ready, and the host has {loose}")


def _pool(world: World, body: Body) -> None:
    ready, reason, message = _ready(body)
    name = f"{body['metadata']['name']} ({reason}: {message})"
    _check(world, RECOVERED, reason not in _PASSED, name)
    if "deletionTimestamp" in body["metadata"] or not ready:
        return
    spec, host = body["spec"], world.host
    vfs = host.sriov.vfs(PF)
    network = host.networks.by_name.get(spec["poolName"])
    _check(world, TRUTHFUL, len(vfs) == spec["numVFs"], f"{name}: Ready with {len(vfs)} of {spec['numVFs']} VFs")
    _check(world, TRUTHFUL, network and network.live and network.autostart, f"{name}: Ready without its network")
    told: dict[str, Any] = {v["address"]: v.get("driver") for v in body["status"].get("vfs", [])}
    there = {str(v.address): v.driver for v in vfs if str(v.address) in told}
    _check(world, TRUTHFUL, told == there, f"{name}: {told}, {there}")


def _device_host(world: World) -> None:
    status, host = world.cluster.get(NODE, None, "DeviceHost").get("status", {}), world.host
    told = {d["address"]: d.get("driver") for d in status.get("devices", [])}
    _check(world, TRUTHFUL, told == {str(a): d.driver for a, d in host.devices.items()}, f"devices: {told}")
    guests = {(g["uuid"], g["name"], g["active"]) for g in status.get("guests", [])}
    _check(world, TRUTHFUL, guests == {(g.uuid, g.name, bool(g.live)) for g in host.guests.values()}, f"{guests}")


def _drift(world: World) -> None:
    for kind in ("DeviceAssignment", "NodeVFPool"):
        for body in world.cluster.all(kind):
            _, reason, message = _ready(body)
            innocent = reason not in _DRIFT or world.meddled
            _check(world, INNOCENT, innocent, f"{body['metadata']['name']} ({reason}: {message})")


async def put_right(world: World) -> None:
    """Near the end: what has drifted shall be as asked again; what a running guest would lose waits for its stop."""
    heal(world)
    for kind in ("DeviceAssignment", "VFPool"):
        for body in world.cluster.all(kind):
            name, namespace = body["metadata"]["name"], body["metadata"].get("namespace")
            if "deletionTimestamp" not in body["metadata"]:
                world.cluster.edit(name, {"driftPolicy": "Correct"}, namespace, kind)
    await settle(world)
    for kind in ("DeviceAssignment", "NodeVFPool"):
        for body in world.cluster.all(kind):
            _, reason, message = _ready(body)
            waits = "takes nothing from a running guest" in message
            _check(world, PUT_RIGHT, reason not in _DRIFT or waits, f"{body['metadata']['name']}: {message}")


async def give_all_back(world: World, watch: Watch) -> None:
    """The end of a run: guests are shut off, all objects are deleted, orphans are released. Nothing is left."""
    heal(world)
    host, cluster = world.host, world.cluster
    if LONER not in host.devices:
        OPERATIONS["put_card_in"].perform(world, other=False)
    del host.uses[1:]
    host.refused_by_vfio.clear()
    for guest in list(host.guests.values()):
        if guest.live:
            host.stop(guest.uuid)
    for kind in ("DeviceAssignment", "VFPool"):
        for body in cluster.all(kind):
            delete_object(world, body["metadata"]["name"], kind)
    await settle(world)
    orphans = sorted(set(watch.records()) | _nics(world) | set(watch.pool_records()))
    world.asked_for |= set(orphans)
    cluster.edit(NODE, {"releaseOrphans": orphans}, None, "DeviceHost")
    await settle(world)
    _nothing_is_left(world, watch)


def _nics(world: World) -> set[str]:
    """UIDs of assignments whose NICs guests have, in persistent XML, or until they stop."""
    texts = (text for guest in world.host.guests.values() for text in (guest.config, guest.live) if text)
    aliases = (str(e.get("name")) for text in texts for e in etree.fromstring(text).iterfind("devices/interface/alias"))
    return {alias.removeprefix(PREFIX) for alias in aliases if alias.startswith(PREFIX)}


def _nothing_is_left(world: World, watch: Watch) -> None:
    host = world.host
    left = [b["metadata"]["name"] for k in ("DeviceAssignment", "NodeVFPool", "VFPool") for b in world.cluster.all(k)]
    why = [_ready(b) for k in ("DeviceAssignment", "NodeVFPool") for b in world.cluster.all(k)]
    _check(world, ALL_BACK, not left, f"objects: {left} {why}")
    _check(world, ALL_BACK, not watch.records(), f"records: {sorted(watch.records())}")
    _check(world, ALL_BACK, not watch.pool_records(), f"records of pools: {sorted(watch.pool_records())}")
    strange = {str(a): d.driver for a, d in host.devices.items() if not is_as_it_was(host, d)}
    _check(world, ALL_BACK, not strange, f"drivers: {strange}")
    for guest in host.guests.values():
        ours = _uids(guest.config)
        _check(world, ALL_BACK, not ours, f"guest {guest.name} has {ours}")


def _uids(text: str | None) -> list[str]:
    return [o.alias.removeprefix(PREFIX)[:36] for o in owned(text) if o.alias.startswith(PREFIX)]
