"""A made-up host: PCI devices with drivers and IOMMU groups, libvirt guests, a journal. All fake ports share it.

Its VFs are in sriov.py, its libvirt networks in networks.py.

It behaves as kernel and libvirt do where the product depends on it, and fails where a test tells it to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lxml import etree

from ..core import domain_xml, reasons
from ..core.errors import HostError
from ..core.model import VFIO_DRIVER, Hostdev, PciDevice, Platform, Role, Use
from ..core.pci import PciAddress
from ..core.pci_xml import Element, read_address
from ..core.preparation import BootFacts
from ..core.reasons import Reason
from ..core.sriov import VfConfig
from ..ports import HostDevices
from .networks import FakeNetworks
from .sriov import FakeSriov


@dataclass
class FakeGuest:
    """One domain: the texts of its XML; ``live`` is None while it is off, ``config`` if it is transient."""

    uuid: str
    name: str
    config: str | None
    live: str | None = None
    #: The XML in its managed save image.
    saved: str | None = None
    #: What managed devices were bound to when the guest was started.
    before: dict[PciAddress, str | None] = field(default_factory=dict)
    #: MAC and VLAN of its VFs from before it got them.
    configs: dict[PciAddress, VfConfig] = field(default_factory=dict)
    #: What it does with an unplug request: "answers", "is silent", or "refuses".
    manner: str = "answers"

    def hostdevs(self, *, live: bool = False) -> tuple[Hostdev, ...]:
        """The host devices in the live or persistent XML."""
        text = self.live if live else self.config
        return domain_xml.hostdevs(domain_xml.parse(text)) if text else ()


@dataclass
class Fault:
    """One injected failure of the next call whose text starts with ``call``."""

    call: str
    error: HostError
    after: bool
    down: bool
    times: int


class Outside(NamedTuple):
    """What stands outside of our own journal. ``guests``: UUID -> the texts of persistent and live XML."""

    drivers: dict[PciAddress, str | None]
    sriov: object
    networks: object
    guests: dict[str, tuple[str | None, str | None]]


class FakeHost:
    """The state. ``calls`` lists every call that changed something, as text such as 'detach_driver 0000:01:00.0'."""

    def __init__(self, *devices: PciDevice) -> None:
        self.devices = {d.address: d for d in devices}
        #: What the kernel binds to a device that is given back.
        self.native = {d.address: d.driver for d in devices}
        self.guests: dict[str, FakeGuest] = {}
        self.sriov = FakeSriov(self)
        self.networks = FakeNetworks(self)
        self.storage_pools: list[str] = []
        self.scsi_hosts: dict[str, frozenset[PciAddress]] = {}
        self.rejections: set[tuple[str, str]] = set()
        self.runs = 0
        self.boots = 1
        self.platform = Platform(True, interrupt_remapping=True, unsafe_interrupts=False, vfio=True, boot_id="boot-1")
        self.uses: list[Use] = []
        self.unknown_use: str | None = None
        self.disks: dict[str, frozenset[PciAddress]] = {}
        self.interfaces: dict[str, frozenset[PciAddress]] = {}
        #: Of a host that was recorded: the names of devices, and who is asked of disks and interfaces not listed here.
        self.names: dict[PciAddress, tuple[str | None, str | None]] = {}
        self.recorded: HostDevices | None = None
        self.records: dict[str, str] = {}
        self.pool_records: dict[str, str] = {}
        self.approvals: dict[str, str] = {}
        #: What the host's boot unit would read.
        self.boot_file = ""
        #: How it was booted, what its unit hostdev-prepare is asked for and answers; None: it has no such unit.
        self.boot_facts = BootFacts(vendor="GenuineIntel", table="DMAR", iommus=("dmar0",), words=("intel_iommu=on",))
        self.request: str | None = None
        self.unit: Callable[[str | None], str | None] | None = None
        #: Whether libvirt's hook is installed, and what it reads: an assignment's UID -> the guest's UUID, and why.
        self.start_hook = False
        self.closed: dict[str, tuple[str, str]] = {}
        self.calls: list[str] = []
        self.down = False
        #: Devices that vfio-pci does not bind: a detach ends without any driver, and libvirt calls it success.
        self.refused_by_vfio: set[PciAddress] = set()
        self.blocked: set[PciAddress] = set()
        #: PFs of which the kernel does not give the VFs up.
        self.blocked_pfs: set[PciAddress] = set()
        self.hook: Callable[[str], None] = lambda _call: None
        self.lock = threading.RLock()
        self._faults: list[Fault] = []

    # -- for tests: what is there -------------------------------------------------------------------------------

    def drivers(self) -> dict[PciAddress, str | None]:
        """Who is bound where."""
        return {a: d.driver for a, d in self.devices.items()}

    def state(self) -> object:
        """Everything that an assignment or a pool could change, for comparing two moments."""
        configs = {uuid: guest.config for uuid, guest in self.guests.items()}
        records = dict(self.records), dict(self.pool_records), dict(self.closed)
        return self.drivers(), configs, records, self.sriov.state(), self.networks.state()

    def outside(self) -> Outside:
        """The same without our own journal, and with what runs."""
        guests = {uuid: (guest.config, guest.live) for uuid, guest in self.guests.items()}
        return Outside(self.drivers(), self.sriov.state(), self.networks.state(), guests)

    def changes(self) -> list[str]:
        """The calls that have changed something outside of it."""
        ours = ("save ", "drop ", "pool_save ", "pool_drop ", "gate_")
        return [call for call in self.calls if not call.startswith(ours)]

    def use(self, address: PciAddress, what: str) -> None:
        """The host needs a device."""
        self.uses.append(Use(address, what))

    def group(self, address: PciAddress) -> list[PciDevice]:
        """The members of a device's group."""
        number = self.devices[address].iommu_group
        return [d for d in self.devices.values() if d.iommu_group == number]

    def holders(self, address: PciAddress) -> list[FakeGuest]:
        """The running guests that have a device."""
        return [g for g in self.guests.values() if any(h.address == address for h in g.hostdevs(live=True))]

    # -- for tests: failures ------------------------------------------------------------------------------------

    def fail(
        self,
        call: str,
        reason: Reason,
        message: str = "injected",
        *,
        after: bool = False,
        down: bool = False,
        times: int = 1,
    ) -> None:
        """Let the next call that starts so fail; ``after``: when it has done its work; ``down``: libvirt stays away."""
        self._faults.append(Fault(call, HostError(reason, message), after, down, times))

    def heal(self) -> None:
        """No failures any more."""
        self._faults.clear()
        self.down = False

    @contextmanager
    def change(self, call: str) -> Iterator[None]:
        """Around the work of a changing call."""
        with self.lock:
            self.hook(call)
            self.trip(call, after=False)
            yield
            self.calls.append(call)
            self.trip(call, after=True)

    def trip(self, call: str, *, after: bool) -> None:
        """Raise the failure that is meant for this call."""
        fault = next((f for f in self._faults if call.startswith(f.call) and f.after is after and f.times > 0), None)
        if fault:
            fault.times -= 1
            self.down = self.down or fault.down
            raise fault.error

    # -- what libvirt and the kernel do -------------------------------------------------------------------------

    def bind(self, address: PciAddress, driver: str | None) -> None:
        """A driver is bound, or unbound."""
        with self.lock:
            self.devices[address] = replace(self.devices[address], driver=driver)

    def define(self, uuid: str, name: str, devices: str = "") -> FakeGuest:
        """Virsh define of a new guest, or of a changed one."""
        text = f"<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><devices>{devices}</devices></domain>"
        guest = self.guests.setdefault(uuid, FakeGuest(uuid, name, None))
        guest.config = etree.tostring(domain_xml.parse(text), encoding="unicode")
        return guest

    def undefine(self, uuid: str) -> None:
        """Virsh undefine: a running guest becomes transient."""
        guest = self.guests[uuid]
        guest.config = None
        if guest.live is None:
            del self.guests[uuid]

    def start(self, uuid: str) -> None:
        """Virsh start: NICs of pools get VFs, managed devices go to vfio-pci; a failure is undone as a whole.

        One that is saved is resumed with what its image has.
        """
        guest = self.guests[uuid]
        if guest.config is None or guest.live is not None:
            raise HostError(reasons.LIBVIRT_ERROR, "domain is already running or has no definition")
        self._ask_hook(uuid)
        tree = domain_xml.parse(guest.saved or guest.config)
        self._attach(guest, _devices(tree), _devices(tree))
        self.runs += 1
        tree.set("id", str(self.runs))
        guest.saved = None
        guest.live = etree.tostring(tree, encoding="unicode")

    def _ask_hook(self, uuid: str) -> None:
        why = next((why for guest, why in self.closed.values() if guest == uuid), None)
        if self.start_hook and why:
            raise HostError(reasons.LIBVIRT_ERROR, f"Hook script execution failed: {why}")

    def _attach(self, guest: FakeGuest, new: Element, devices: Element) -> None:
        """Make what stands in ``new`` ready, all of it or nothing; ``devices`` is where it belongs."""
        before: dict[PciAddress, str | None] = {}
        configs: dict[PciAddress, VfConfig] = {}
        self.networks.allocate(guest.uuid, new)
        found = domain_xml.hostdevs(_domain(new))
        try:
            for hostdev in found:
                self._prepare(hostdev, guest, before)
            for hostdev in found:
                self._check_viable(hostdev.address)
            for nic in new.findall("interface[@type='hostdev']"):
                vf = read_address(nic.find("source/address"))
                assert vf is not None
                mac, tag = nic.find("mac"), nic.find("vlan/tag")
                vlan = int(tag.get("id") or "0") if tag is not None else None
                configs[vf] = self.sriov.dress(vf, mac.get("address") if mac is not None else None, vlan)
        except HostError:
            for vf, config in configs.items():
                self.sriov.undress(vf, config)
            for address, driver in before.items():
                self.bind(address, driver)
            self.networks.give_back(guest.uuid, {hostdev.address for hostdev in found})
            raise
        guest.before.update(before)
        guest.configs.update(configs)
        if new is not devices:
            devices.extend(list(new))

    def _give_back(
        self, guest: FakeGuest, before: dict[PciAddress, str | None], configs: dict[PciAddress, VfConfig]
    ) -> None:
        """What the guest had: settings, drivers, places in networks."""
        for address, config in configs.items():
            self.sriov.undress(address, config)
        for address, driver in before.items():
            if address in self.devices:
                self.bind(address, VFIO_DRIVER if driver == VFIO_DRIVER else self.native[address])
        self.networks.give_back(guest.uuid, {*before, *configs})

    def plug(self, guest: FakeGuest, xml: str) -> None:
        """Virsh attach-device --live of one <hostdev> or <interface>."""
        assert guest.live
        tree = domain_xml.parse(guest.live)
        new = etree.Element("devices")
        new.append(domain_xml.parse(xml))
        self._attach(guest, new, _devices(tree))
        guest.live = etree.tostring(tree, encoding="unicode")

    def eject(self, guest: FakeGuest, address: PciAddress) -> None:
        """The running guest lets go of a device; libvirt gives a managed one back to the host."""
        if guest.live:
            guest.live = without(guest.live, address)
        configs = {address: guest.configs.pop(address)} if address in guest.configs else {}
        self._give_back(guest, {address: guest.before.pop(address, VFIO_DRIVER)}, configs)

    def remove(self, address: PciAddress) -> PciDevice:
        """Surprise removal: the device is gone from the host, and from the guest that had it."""
        for guest in self.holders(address):
            guest.live = without(guest.live or "", address)
            guest.before.pop(address, None)
            guest.configs.pop(address, None)
        return self.devices.pop(address)

    def insert(self, device: PciDevice) -> None:
        """A device appears."""
        self.devices[device.address] = device
        self.native[device.address] = device.driver

    def put_back(self, device: PciDevice) -> None:
        """A device that was removed is in its slot again, and gets its driver of the host."""
        native = self.native.get(device.address)
        self.insert(replace(device, driver=native))

    def stop(self, uuid: str) -> None:
        """Virsh destroy: managed devices go back to what they had, VFs to their networks."""
        guest = self.guests[uuid]
        if guest.live is None:
            raise HostError(reasons.LIBVIRT_ERROR, "domain is not running")
        self._give_back(guest, guest.before, guest.configs)
        self.networks.leave(uuid)
        guest.live, guest.before, guest.configs = None, {}, {}
        if guest.config is None:
            del self.guests[uuid]

    def save(self, uuid: str) -> None:
        """Virsh managedsave. The real one refuses while the guest has a device that cannot be migrated, as most."""
        guest = self.guests[uuid]
        saved = guest.live
        self.stop(uuid)
        guest.saved = saved

    def reboot(self, *, unit: bool = True) -> None:
        """Power off and on. ``unit``: the host's boot unit makes VFs before libvirtd starts its networks."""
        for guest in [g for g in self.guests.values() if g.live]:
            self.stop(guest.uuid)
        self.blocked.clear()
        self.blocked_pfs.clear()
        self.rejections.clear()
        self.sriov.power_cycle(self.boot_file if unit else "")
        for address, driver in self.native.items():
            self.bind(address, driver)
        self.networks.power_cycle()
        self.boots += 1
        self.platform = replace(self.platform, boot_id=f"boot-{self.boots}")

    def _prepare(self, hostdev: Hostdev, guest: FakeGuest, before: dict[PciAddress, str | None]) -> None:
        device = self.devices.get(hostdev.address)
        if device is None or device.role is not Role.ENDPOINT:
            raise HostError(reasons.DEVICE_NOT_FOUND, f"no endpoint at {hostdev.address}")
        for mate in self.group(hostdev.address):
            other = next((g for g in self.holders(mate.address) if g is not guest), None)
            if other:
                raise HostError(reasons.DEVICE_IN_USE, f"{mate.address} is in use by driver QEMU, domain {other.name}")
        if hostdev.managed:
            before[hostdev.address] = device.driver
            self.bind(hostdev.address, VFIO_DRIVER)
        elif device.driver != VFIO_DRIVER:
            raise HostError(reasons.NOT_DETACHED, f"{hostdev.address} must be manually detached from the host")

    def _check_viable(self, address: PciAddress) -> None:
        for member in self.group(address):
            if member.role in (Role.ENDPOINT, Role.HOST_BRIDGE) and member.on_host_driver:
                raise HostError(reasons.IOMMU_GROUP_NOT_VIABLE, f"group {member.iommu_group} is not viable")


def insert(domain: str, element: Element) -> str:
    """The domain's XML with one more device."""
    tree = domain_xml.parse(domain)
    _devices(tree).append(element)
    return etree.tostring(tree, encoding="unicode")


def without(domain: str, address: PciAddress) -> str:
    """The domain's XML without the <hostdev> or <interface> that has this device."""
    tree = domain_xml.parse(domain)
    devices = _devices(tree)
    for element in [*devices.findall("hostdev"), *devices.findall("interface")]:
        if read_address(element.find("source/address")) == address:
            devices.remove(element)
    return etree.tostring(tree, encoding="unicode")


def without_controller(domain: str, index: int) -> str:
    """The domain's XML without the PCI controller of this index."""
    tree = domain_xml.parse(domain)
    devices = _devices(tree)
    for element in devices.findall("controller[@type='pci']"):
        if element.get("index") == str(index):
            devices.remove(element)
    return etree.tostring(tree, encoding="unicode")


def without_nic(domain: str, alias: str | None, mac: str | None = None) -> str:
    """The domain's XML without the <interface> of this alias; without alias, of this MAC address."""
    tree = domain_xml.parse(domain)
    for element in domain_xml.interfaces(tree, alias, mac):
        _devices(tree).remove(element)
    return etree.tostring(tree, encoding="unicode")


def _devices(domain: Element) -> Element:
    found = domain.find("devices")
    assert found is not None
    return found


def _domain(devices: Element) -> Element:
    """A domain with a copy of these devices."""
    domain = etree.Element("domain")
    domain.append(domain_xml.parse(etree.tostring(devices, encoding="unicode")))
    return domain
