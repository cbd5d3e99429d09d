"""The ports of hostdev_operator.ports on a FakeHost. Texts of calls: method, then what it is done to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hostdev_operator.core import domain_xml, reasons
from hostdev_operator.core.actions import AddHostdev, PlugHostdev, RemoveHostdev, UnplugHostdev
from hostdev_operator.core.domain_xml import GuestXml
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.host_status import Names
from hostdev_operator.core.model import VFIO_DRIVER, PciDevice, Platform, Use
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.record import Record
from hostdev_operator.ports import Host
from tests.fakes.host import FakeHost, insert, without


class FakeHypervisor:
    """libvirt: every call fails while the host's ``down`` is set."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def _reach(self, call: str) -> None:
        self._host.hook(call)
        if self._host.down:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket to libvirt-sock")
        self._host.trip(call, after=False)

    def guests(self) -> tuple[GuestXml, ...]:
        self._reach("guests")
        with self._host.lock:
            return tuple(GuestXml(g.uuid, g.name, g.live, g.config) for g in self._host.guests.values())

    def networks(self) -> tuple[str, ...]:
        self._reach("networks")
        return tuple(self._host.networks)

    def names(self, addresses: tuple[PciAddress, ...]) -> Names:
        self._reach("names")
        return {a: ("Intel Corporation", f"device {a}") for a in addresses if a in self._host.devices}

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
            self._host.rejections.discard((guest.uuid, action.alias or ""))
            if guest.manner == "refuses":
                self._host.rejections.add((guest.uuid, action.alias or ""))
                raise HostError(reasons.UNPLUG_REJECTED, f"guest {guest.name} refuses to let go of {action.address}")
            if guest.manner == "is silent":
                raise HostError(reasons.UNPLUG_PENDING, f"guest {guest.name} has not answered about {action.address}")
            self._host.eject(guest, action.address)

    def rejections(self) -> frozenset[tuple[str, str]]:
        return frozenset(self._host.rejections)

    def blocked(self) -> frozenset[PciAddress]:
        return frozenset(self._host.blocked)

    def _exists(self, address: PciAddress) -> None:
        if address not in self._host.devices:
            raise HostError(reasons.DEVICE_NOT_FOUND, f"no node device with matching name {address.libvirt_name}")


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
        if self._host.unknown_use is not None:
            raise HostError(reasons.HOST_USE_UNKNOWN, self._host.unknown_use)
        return tuple(self._host.uses)

    def block_device(self, path: str) -> frozenset[PciAddress] | None:
        return self._host.disks.get(path)

    def scsi_host(self, name: str) -> frozenset[PciAddress]:
        return self._host.scsi_hosts.get(name, frozenset())

    def interface(self, name: str) -> frozenset[PciAddress]:
        return self._host.interfaces.get(name, frozenset())


class FakeRecords:
    """The journal: keeps texts, as the files do."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def load(self) -> Mapping[str, Record]:
        self._host.hook("load")
        self._host.trip("load", after=False)
        with self._host.lock:
            return {uid: Record.from_json(text) for uid, text in self._host.records.items()}

    def save(self, record: Record) -> None:
        with self._host.change(f"save {record.uid}"):
            self._host.records[record.uid] = record.to_json()

    def drop(self, uid: str) -> None:
        if uid in self._host.records:
            with self._host.change(f"drop {uid}"):
                del self._host.records[uid]


class FakeClock:
    """Stands still until it is told otherwise."""

    def __init__(self, time: str = "2026-01-01T00:00:00Z") -> None:
        self.time = time
        self.seconds = 0.0

    def now(self) -> str:
        return self.time

    def monotonic(self) -> float:
        return self.seconds


def ports(host: FakeHost, clock: FakeClock | None = None, boundary: Callable[[str], None] = lambda _n: None) -> Host:
    """All ports of one fake host in one hand."""
    return Host(FakeHypervisor(host), FakeDevices(host), FakeRecords(host), clock or FakeClock(), boundary)
