"""What must hold at every moment: before each change that the product makes, and after each step of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from hostdev_operator.core.model import PciDevice
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord
from hostdev_operator.core.record import Record
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.simulation.host import FakeHost
from tests.chaos.samples import PF
from tests.chaos.truth import PREFIX, endpoints, has_anything_of, holders, on_host_driver, owned
from tests.chaos.world import World
from tests.fakes.samples import DISK

ONE_AGENT = "one agent for a node"
ONE_OWNER = "no group is claimed for two"
NOT_SPLIT = "no group is split"
RECORDED = "what is changed is recorded before, durably"
IN_USE = "nothing is unbound while a guest uses it"
NEEDED = "nothing that the host needs is taken"
ASKED = "nothing is given back unasked"
VFS_KEPT = "the number of VFs is not changed while one is in use"
NETWORK_KEPT = "no network is stopped under a guest"
OWNED = "what is off its driver is recorded, or a guest has it"
RESTORABLE = "a record tells what was there before"
RESTORED = "a VF gets back what it had"

#: Phases of the engine in which something is given back.
_GIVING_BACK = ("release", "rollback", "orphan", "pool release", "pool orphan")
_NONE = ("00:00:00:00:00:00", "02:00:00:00:00:00")  # libvirt sets the second one where a driver refuses the first


@dataclass
class _Before:
    """A VF's settings when its record was first written; ``foreign``: what is not ours to judge."""

    pf: PciAddress
    index: int
    config: VfConfig
    foreign: set[str]


class Watch:
    """Looks on. It reads the made-up host alone, and the journal as a power cut would leave it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._had_it = False
        self._hits = 0
        self._vfs: dict[str, _Before] = {}
        world.on_call = self.before_change
        world.on_run = self._begin
        world.on_journal = self._journal
        world.vf_set_by_hand = self._set_by_hand

    def _check(self, invariant: str, holds: object, text: object) -> None:
        self._world.checked[invariant] += 1
        if not holds:
            world = self._world
            where = f"{world.phase} of {getattr(world.current, 'uid', None)}" if world.current else "after the step"
            world.violate(invariant, f"{text} ({where})")

    def _begin(self, obj: Any) -> None:
        """A run of the engine."""
        self._had_it = has_anything_of(self._world.host, obj.uid)
        self._hits = sum(self._world.hits.values())

    def records(self) -> dict[str, Record]:
        """As the files are."""
        return _read(self._world, "assignments", Record)

    def pool_records(self) -> dict[str, PoolRecord]:
        """The same of pools."""
        return _read(self._world, "pools", PoolRecord)

    # -- before each change ---------------------------------------------------------------------------------------

    def before_change(self, call: str) -> None:
        """Of the host, by the product."""
        kind, *rest = call.split()
        world, phase = self._world, self._world.phase
        uid = getattr(world.current, "uid", "")
        if phase in ("assign", "pool"):
            self._is_recorded(kind, rest, uid, pool=phase == "pool")
        if phase in _GIVING_BACK:
            self._may_give_back(uid, call)
        if kind in ("detach_driver", "reattach_driver"):
            who = [
                g.name for d in endpoints(world.host, PciAddress.parse(rest[0])) for g in holders(world.host, d.address)
            ]
            busy = [g.name for g in holders(world.host, PciAddress.parse(rest[0]))]
            self._check(
                IN_USE, not (who if kind == "reattach_driver" else busy), f"{call}, and {who} run with its group"
            )
        if kind == "detach_driver":
            self._may_take(PciAddress.parse(rest[0]))
        if kind == "reattach_driver":
            self._is_nobody_elses(PciAddress.parse(rest[0]), uid)
        if kind == "set_num_vfs":
            self._vfs_are_free(call)
        if kind == "stop_network":
            network = world.host.networks.by_name[rest[0]]
            self._check(NETWORK_KEPT, not network.connections, f"{call} with {network.connections} connections")

    def _is_recorded(self, kind: str, rest: list[str], uid: str, *, pool: bool) -> None:
        text = self._world.disk.durable("pools" if pool else "assignments", uid)
        if pool:
            self._check(RECORDED, text, f"{kind} {rest}")
        elif kind in ("detach_driver", "plug_hostdev", "add_hostdev"):
            record = Record.from_json(text) if text else None
            self._check(RECORDED, record and record.covers(PciAddress.parse(rest[0])), f"{kind} {rest}")
        elif kind == "configure_vf":
            record = Record.from_json(text) if text else None
            self._check(RECORDED, record and record.vf, f"{kind} {rest}")

    def _may_give_back(self, uid: str, call: str) -> None:
        """Somebody deleted it, or it is a claim that was begun in vain, of which the guest had nothing."""
        world = self._world
        begun = world.phase == "rollback" and (not self._had_it or self._struck_again())
        self._check(ASKED, uid in world.asked_for or begun or self._is_ghost(uid), call)
        if call.startswith("unplug_"):
            asked = world.phase != "rollback" and world.current.spec.detach == "Live"
            self._check(ASKED, asked or begun, f"{call}: nobody asked the running guest to let go")

    def _is_ghost(self, uid: str) -> bool:
        """A NodeVFPool that was made after etcd was restored, for a VFPool that only its controller remembered.

        Nobody has asked for it in the history that is true by now, and what it made was made after that had begun.
        """
        world = self._world
        bodies = {body["metadata"]["uid"]: body for body in world.cluster._objects.values()}
        body = bodies.get(uid)
        if body is None or body["kind"] != "NodeVFPool" or world.restored is None or uid in world.restored:
            return False
        return all(owner["uid"] not in bodies for owner in body["metadata"].get("ownerReferences", ()))

    def _struck_again(self) -> bool:
        """Whether a fault struck in this very run: a change of what the guest has can be left half done by it."""
        return sum(self._world.hits.values()) > self._hits

    def _may_take(self, address: PciAddress) -> None:
        host = self._world.host
        needed = [u for d in endpoints(host, address) for u in host.uses if u.address == d.address]
        self._check(NEEDED, not needed and host.unknown_use is None, f"{address}: {needed}, {host.unknown_use}")

    def _is_nobody_elses(self, address: PciAddress, uid: str) -> None:
        others = [r.owner for other, r in self.records().items() if other != uid and r.covers(address)]
        self._check(ONE_OWNER, not others, f"{address} is given back, and {others} have it")

    def _vfs_are_free(self, call: str) -> None:
        host, records = self._world.host, self.records().values()
        for vf in host.sriov.vfs(PF):
            guests = [g.name for g in host.guests.values() if vf.address in _devices(g.live) | _devices(g.config)]
            claims = [r.owner for r in records if r.covers(vf.address)]
            uses = [u for u in host.uses if u.address == vf.address]
            self._check(VFS_KEPT, not (guests or claims or uses), f"{call}: VF {vf.address} {guests} {claims} {uses}")

    # -- the journal ----------------------------------------------------------------------------------------------

    def _journal(self, name: str, what: Any) -> None:
        """A record of an assignment is about to be written, or dropped."""
        if name == "save":
            self._vf_before(what)
            return
        world, phase = self._world, self._world.phase
        if what in self.records():
            begun = phase == "rollback" and (not self._had_it or self._struck_again())
            self._check(ASKED, what in world.asked_for or begun, f"the record {what} is dropped")
            self._check(
                OWNED, not has_anything_of(world.host, what), f"record {what} dropped, and a guest has the device"
            )
            self._is_given_back(what)
            self._vf_after(what)

    def _is_given_back(self, uid: str) -> None:
        host, records = self._world.host, self.records()
        for member in records[uid].members:
            device = host.devices.get(member.address)
            mine = (
                device is not None and member.identity.same(device.identity) and member.driver not in (None, "vfio-pci")
            )
            kept = mine and device is not None and device.driver == "vfio-pci"
            group = {d.address for d in endpoints(host, member.address)}
            others = any(r.covers(a) for other, r in records.items() if other != uid for a in group)
            self._check(OWNED, not kept or others, f"the record {uid} is dropped, and {member.address} is on vfio-pci")

    def _vf_before(self, record: Record) -> None:
        host = self._world.host
        device = host.devices.get(record.address)
        if record.vf is None or record.uid in self._vfs or device is None or device.physfn is None:
            return
        index = device.vf_index or 0
        foreign = {"mac", "vlan"} if any(g.live for g in holders(host, device.address)) else set()
        config = host.sriov.pfs[device.physfn].configs[index]
        self._vfs[record.uid] = _Before(device.physfn, index, config, foreign)

    def _set_by_hand(self, index: int) -> None:
        """Somebody else has changed these of a VF: they are not ours to judge."""
        for known in self._vfs.values():
            if known.index == index:
                known.foreign |= {"trust", "spoof_check"}

    def _vf_after(self, uid: str) -> None:
        known = self._vfs.pop(uid, None)
        record = self.records()[uid]
        configs = self._world.host.sriov.pfs[PF].configs
        if known is None or known.index not in configs or record.vf is None:
            return
        now = configs[known.index]
        for field in fields(VfConfig):
            had, has = getattr(known.config, field.name), getattr(now, field.name)
            same = had == has or (field.name == "mac" and {had, has} <= set(_NONE))
            if field.name not in known.foreign:
                self._check(RESTORED, same, f"VF {known.index} had {field.name} {had} and has {has}")

    # -- after each step ------------------------------------------------------------------------------------------

    def after_step(self) -> None:
        """The state of the host."""
        self._groups()
        self._off_their_drivers()
        disk = self._world.host.devices[DISK].driver
        self._check(NEEDED, disk == "nvme", f"the disk has driver {disk}")

    def _groups(self) -> None:
        host = self._world.host
        claims: dict[int, set[str]] = {}
        for record in self.records().values():
            for address in {record.address, *(m.address for m in record.members)}:
                device = host.devices.get(address)
                if device is not None and device.iommu_group is not None and _is_recorded_one(record, address, host):
                    claims.setdefault(device.iommu_group, set()).add(record.domain_uuid or record.uid)
        for group, owners in claims.items():
            self._check(ONE_OWNER, len(owners) <= 1, f"group {group}: {owners}")
        for live in (True, False):
            for group, names in self._guests_of_groups(live=live).items():
                self._check(NOT_SPLIT, len(names) <= 1, f"group {group}: {names}")

    def _guests_of_groups(self, *, live: bool) -> dict[int, set[str]]:
        """Who runs with endpoints of each group; or who will, by what we have written into the persistent XML."""
        host = self._world.host
        found: dict[int, set[str]] = {}
        for guest in host.guests.values():
            for thing in owned(guest.live if live else guest.config):
                device = host.devices.get(thing.address) if thing.address else None
                if device is None or device.iommu_group is None or not (live or thing.alias.startswith(PREFIX)):
                    continue
                found.setdefault(device.iommu_group, set()).add(guest.name)
                loose = [str(d.address) for d in endpoints(host, device.address) if on_host_driver(d)]
                self._check(NOT_SPLIT, not (live and loose), f"{guest.name} runs with {device.address}, not {loose}")
        return found

    def _off_their_drivers(self) -> None:
        host, records = self._world.host, list(self.records().values())
        for address, device in host.devices.items():
            if is_as_it_was(host, device):
                continue
            held = any(address in guest.before for guest in host.guests.values())
            known = [m.driver for r in records if (m := r.member(address))]
            self._check(OWNED, held or known, f"{address} has {device.driver}")
            native = {host.native[address], None, *((host.sriov.pfs[PF].vf_driver,) if device.physfn else ())}
            self._check(RESTORABLE, held or not known or native & set(known), f"{address}: {known}")


def is_as_it_was(host: FakeHost, device: PciDevice) -> bool:
    """Whether it has its driver. A VF may have none, or one: that depends on how its PF was probed when it was made."""
    if device.physfn is not None:
        return device.driver in (None, host.sriov.pfs[PF].vf_driver)
    return device.driver == host.native[device.address]


def _is_recorded_one(record: Record, address: PciAddress, host: Any) -> bool:
    member = record.member(address)
    return member is None or member.identity.same(host.devices[address].identity)


def _devices(text: str | None) -> set[PciAddress]:
    return {o.address for o in owned(text) if o.address}


def _read(world: World, kind: str, of: Any) -> dict[str, Any]:
    found = {}
    for path in sorted((world.disk.path / kind).glob("*.json")):
        text = path.read_text()
        if text:
            found[path.stem] = of.from_json(text)
    return found
