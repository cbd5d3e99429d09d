"""The ports of hostdev_operator.ports on a FakeHost. Texts of calls: method, then what it is done to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, Self, TypeVar

from ..core import domain_xml, reasons
from ..core.actions import (
    AddHostdev,
    AddInterface,
    PlugHostdev,
    PlugInterface,
    RemoveHostdev,
    RemoveInterface,
    UnplugHostdev,
    UnplugInterface,
)
from ..core.approval import Approval
from ..core.boot_file import boot_file
from ..core.domain_xml import GuestXml
from ..core.errors import HostError
from ..core.host_status import Names
from ..core.model import VFIO_DRIVER, PciDevice, Platform, Use
from ..core.network_xml import NetworkXml
from ..core.pci import PciAddress
from ..core.pci_xml import read_address
from ..core.pool import PoolRecord
from ..core.record import Record
from ..core.sriov import Pf, VfConfig
from ..ports import Clock, Host
from .definitions import FakeDefinitions
from .host import FakeGuest, FakeHost, insert, without, without_nic
from .preparation import FakePreparation
from .start_gate import FakeGate


class FakeHypervisor(FakeDefinitions):
    """libvirt: every call fails while the host's ``down`` is set."""

    def guests(self) -> tuple[GuestXml, ...]:
        self._reach("guests")
        with self._host.lock:
            return tuple(GuestXml(g.uuid, g.name, g.live, g.config, g.saved) for g in self._host.guests.values())

    def networks(self) -> tuple[NetworkXml, ...]:
        self._reach("networks")
        with self._host.lock:
            return self._host.networks.look()

    def define_network(self, xml: str) -> None:
        self._reach("define_network")
        with self._host.change(f"define_network {domain_xml.parse(xml).findtext('name')}"):
            self._host.networks.define(xml)

    def start_network(self, name: str) -> None:
        self._reach("start_network")
        if self._host.networks.need(name).live is None:
            with self._host.change(f"start_network {name}"):
                self._host.networks.start(name)

    def autostart_network(self, name: str) -> None:
        self._reach("autostart_network")
        network = self._host.networks.need(name)
        with self._host.change(f"autostart_network {name}"):
            network.autostart = True

    def stop_network(self, name: str) -> None:
        self._reach("stop_network")
        network = self._host.networks.by_name.get(name)
        if network is None or network.live is None:
            return
        if network.connections:
            raise HostError(reasons.HOST_CHANGED, f"network {name} has {network.connections} connections by now")
        with self._host.change(f"stop_network {name}"):
            self._host.networks.destroy(name)

    def undefine_network(self, name: str, uuid: str) -> None:
        self._reach("undefine_network")
        network = self._host.networks.by_name.get(name)
        if network is None or network.uuid != uuid or network.config is None:
            return
        with self._host.change(f"undefine_network {name}"):
            self._host.networks.undefine(name)

    def names(self, addresses: tuple[PciAddress, ...]) -> Names:
        self._reach("names")
        names, there = self._host.names, [a for a in addresses if a in self._host.devices]
        if self._host.recorded is not None:
            return {a: names[a] for a in there if a in names}
        return {a: ("Intel Corporation", f"device {a}") for a in there}

    def detach_driver(self, address: PciAddress) -> None:
        self._reach("detach")
        with self._host.change(f"detach_driver {address}"):
            self._exists(address)
            self._host.bind(address, None if address in self._host.refused_by_vfio else VFIO_DRIVER)

    def reattach_driver(self, address: PciAddress) -> None:
        self._reach("reattach")
        with self._host.change(f"reattach_driver {address}"):
            self._exists(address)
            holder = next(iter(self._host.holders(address)), None)
            if holder:
                raise HostError(reasons.DEVICE_IN_USE, f"{address} is in use by driver QEMU, domain {holder.name}")
            self._host.bind(address, self._host.native[address])

    def storage_pools(self) -> tuple[str, ...] | None:
        self._reach("storage_pools")
        return tuple(self._host.storage_pools)

    def add_hostdev(self, action: AddHostdev) -> None:
        self._reach("add")
        address = action.hostdev.address
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.config is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"no domain {action.domain_uuid}")
        if any(h.address == address for h in guest.hostdevs()):
            return
        with self._host.change(f"add_hostdev {address}"):
            guest.config = insert(guest.config, domain_xml.parse(domain_xml.hostdev_xml(action.hostdev)))

    def remove_hostdev(self, action: RemoveHostdev) -> None:
        self._reach("remove")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.config is None or all(h.address != action.address for h in guest.hostdevs()):
            return
        with self._host.change(f"remove_hostdev {action.address}"):
            guest.config = without(guest.config, action.address)

    def plug_hostdev(self, action: PlugHostdev) -> None:
        self._reach("plug")
        address = action.hostdev.address
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.live is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"domain {action.domain_uuid} does not run")
        if any(h.address == address for h in guest.hostdevs(live=True)):
            return
        with self._host.change(f"plug_hostdev {address}"):
            self._host.plug(guest, domain_xml.hostdev_xml(action.hostdev))

    def unplug_hostdev(self, action: UnplugHostdev) -> None:
        self._reach("unplug")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or all(h.address != action.address for h in guest.hostdevs(live=True)):
            return
        with self._host.change(f"unplug_hostdev {action.address}"):
            self._ask(guest, action.alias, str(action.address))
            self._host.eject(guest, action.address)

    def _ask(self, guest: FakeGuest, alias: str | None, what: str) -> None:
        """What the guest says to an unplug request."""
        self._host.rejections.discard((guest.uuid, alias or ""))
        if guest.manner == "refuses":
            self._host.rejections.add((guest.uuid, alias or ""))
            raise HostError(reasons.UNPLUG_REJECTED, f"guest {guest.name} refuses to let go of {what}")
        if guest.manner == "is silent":
            raise HostError(reasons.UNPLUG_PENDING, f"guest {guest.name} has not answered about {what}")

    def add_interface(self, action: AddInterface) -> None:
        self._reach("add")
        alias = action.interface.alias
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.config is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"no domain {action.domain_uuid}")
        if domain_xml.find_interface(guest.config, alias) is None:
            with self._host.change(f"add_interface {alias}"):
                guest.config = insert(guest.config, domain_xml.parse(domain_xml.interface_xml(action.interface)))

    def remove_interface(self, action: RemoveInterface) -> None:
        self._reach("remove")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.config is None or _nic(guest.config, action) is None:
            return
        with self._host.change(f"remove_interface {action.alias or action.mac}"):
            guest.config = without_nic(guest.config, action.alias, action.mac)

    def plug_interface(self, action: PlugInterface) -> None:
        self._reach("plug")
        alias = action.interface.alias
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.live is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"domain {action.domain_uuid} does not run")
        if domain_xml.find_interface(guest.live, alias) is None:
            with self._host.change(f"plug_interface {alias}"):
                self._host.plug(guest, domain_xml.interface_xml(action.interface))

    def unplug_interface(self, action: UnplugInterface) -> None:
        self._reach("unplug")
        guest = self._host.guests.get(action.domain_uuid)
        nic = _nic(guest.live, action) if guest and guest.live else None
        if guest is None or guest.live is None or nic is None:
            return
        with self._host.change(f"unplug_interface {action.alias or action.mac}"):
            self._ask(guest, action.alias, str(action.alias or action.mac))
            address = read_address(domain_xml.parse(nic).find("source/address"))
            if address:
                self._host.eject(guest, address)
            else:
                guest.live = without_nic(guest.live, action.alias, action.mac)

    def rejections(self) -> frozenset[tuple[str, str]]:
        return frozenset(self._host.rejections)

    def blocked(self) -> frozenset[PciAddress]:
        return frozenset(self._host.blocked)

    def _exists(self, address: PciAddress) -> None:
        if address not in self._host.devices:
            raise HostError(reasons.DEVICE_NOT_FOUND, f"no node device with matching name {address.libvirt_name}")


def _nic(xml: str, action: RemoveInterface | UnplugInterface) -> str | None:
    return domain_xml.find_interface(xml, action.alias, action.mac)


class FakeDevices:
    """The kernel. Waiting for a driver is looking once: nothing happens meanwhile."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def devices(self) -> tuple[PciDevice, ...]:
        self._host.hook("devices")
        with self._host.lock:
            return tuple(d for _, d in sorted(self._host.devices.items()))

    def device(self, address: PciAddress) -> PciDevice | None:
        self._host.hook("device")
        return self._host.devices.get(address)

    def iommu_group(self, address: PciAddress) -> int | None:
        self._host.hook("iommu_group")
        device = self._host.devices.get(address)
        return device.iommu_group if device else None

    def driver(self, address: PciAddress) -> str | None:
        device = self._host.devices.get(address)
        return device.driver if device else None

    def wait_for_driver(self, address: PciAddress, wanted: Callable[[str | None], bool], seconds: float) -> str | None:
        del wanted, seconds
        return self.driver(address)

    def platform(self) -> Platform:
        return self._host.platform

    def uses(self, age: float = 0.0) -> tuple[Use, ...]:
        del age
        if self._host.unknown_use is not None:
            raise HostError(reasons.HOST_USE_UNKNOWN, self._host.unknown_use)
        return tuple(self._host.uses)

    def block_device(self, path: str) -> frozenset[PciAddress] | None:
        if path in self._host.disks or self._host.recorded is None:
            return self._host.disks.get(path)
        return self._host.recorded.block_device(path)

    def scsi_host(self, name: str) -> frozenset[PciAddress]:
        if name in self._host.scsi_hosts or self._host.recorded is None:
            return self._host.scsi_hosts.get(name, frozenset())
        return self._host.recorded.scsi_host(name)

    def interface(self, name: str) -> frozenset[PciAddress]:
        pf = self._host.sriov.by_netdev(name)
        if pf is None and name not in self._host.interfaces and self._host.recorded is not None:
            return self._host.recorded.interface(name)
        return self._host.interfaces.get(name, frozenset({pf.address} if pf else ()))

    def pfs(self) -> tuple[Pf, ...]:
        self._host.hook("pfs")
        with self._host.lock:
            return self._host.sriov.look()

    def set_num_vfs(self, address: PciAddress, count: int, seconds: float) -> None:
        del seconds
        with self._host.change(f"set_num_vfs {address} {count}"):
            self._host.sriov.set_num_vfs(address, count)

    def set_autoprobe(self, address: PciAddress, *, on: bool) -> None:
        with self._host.change(f"set_autoprobe {address} {int(on)}"):
            self._host.sriov.set_autoprobe(address, on=on)

    def set_link(self, address: PciAddress, *, up: bool) -> None:
        with self._host.change(f"set_link {address} {'up' if up else 'down'}"):
            self._host.sriov.set_link(address, up=up)

    def configure_vf(self, address: PciAddress, index: int, config: VfConfig) -> None:
        with self._host.change(f"configure_vf {address} {index}"):
            self._host.sriov.configure(address, index, config)

    def blocked(self) -> frozenset[PciAddress]:
        return frozenset(self._host.blocked_pfs)


class _Recorded(Protocol):
    """What all kinds of records have."""

    @property
    def uid(self) -> str: ...
    def to_json(self) -> str: ...
    @classmethod
    def from_json(cls, text: str) -> Self: ...


R = TypeVar("R", bound=_Recorded)


class _Texts(Generic[R]):
    """Keeps texts, as files do."""

    def __init__(self, host: FakeHost, texts: dict[str, str], kind: type[R], prefix: str) -> None:
        self._host = host
        self._texts = texts
        self._kind = kind
        self._prefix = prefix

    def load(self) -> Mapping[str, R]:
        self._host.hook(f"{self._prefix}load")
        self._host.trip(f"{self._prefix}load", after=False)
        with self._host.lock:
            return {uid: self._kind.from_json(text) for uid, text in self._texts.items()}

    def save(self, record: R) -> None:
        with self._host.change(f"{self._prefix}save {record.uid}"):
            self._texts[record.uid] = record.to_json()

    def drop(self, uid: str) -> None:
        if uid in self._texts:
            with self._host.change(f"{self._prefix}drop {uid}"):
                del self._texts[uid]


class FakeRecords(_Texts[Record]):
    """The journal's records of assignments: calls are 'load', 'save UID', 'drop UID'."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, host.records, Record, "")


class FakePoolRecords(_Texts[PoolRecord]):
    """Those of pools: calls are 'pool_load', 'pool_save UID', 'pool_drop UID'."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, host.pool_records, PoolRecord, "pool_")

    def save(self, record: PoolRecord) -> None:
        super().save(record)
        self._write_boot_file()

    def drop(self, uid: str) -> None:
        super().drop(uid)
        self._write_boot_file()

    def _write_boot_file(self) -> None:
        self._host.boot_file = boot_file(map(PoolRecord.from_json, self._host.pool_records.values()))


class FakeApprovals(_Texts[Approval]):
    """What was approved: calls are 'approval_load', 'approval_save UID', 'approval_drop UID'."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, host.approvals, Approval, "approval_")


class FakeClock:
    """Stands still until it is told otherwise."""

    def __init__(self, time: str = "2026-01-01T00:00:00Z") -> None:
        self.time = time
        self.seconds = 0.0

    def now(self) -> str:
        return self.time

    def monotonic(self) -> float:
        return self.seconds


def ports(host: FakeHost, clock: Clock | None = None, boundary: Callable[[str], None] = lambda _n: None) -> Host:
    """All ports of one fake host in one hand."""
    return Host(
        FakeHypervisor(host),
        FakeDevices(host),
        FakeRecords(host),
        FakePoolRecords(host),
        FakeApprovals(host),
        FakePreparation(host),
        FakeGate(host),
        clock or FakeClock(),
        boundary,
    )
