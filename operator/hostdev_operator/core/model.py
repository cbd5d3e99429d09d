"""One consistent snapshot of a host, as frozen data. Adapters fill it in; plans are made from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from .identity import Identity
from .intent import Wish
from .network import Network
from .pci import PciAddress
from .pool import PoolRecord, PoolWish
from .record import Record
from .settings import Settings
from .slots import Slots
from .sriov import Pf
from .topology import Topology

VFIO_DRIVER = "vfio-pci"


def is_vfio(driver: str | None) -> bool:
    """Whether it is vfio-pci or a variant of it, such as mlx5_vfio_pci, which libvirt may prefer for a device."""
    return driver is not None and "vfio" in driver


class Role(StrEnum):
    """What a PCI function is to an IOMMU group. Only endpoints are ever detached or assigned."""

    ENDPOINT = "Endpoint"
    BRIDGE = "Bridge"
    ROOT_PORT = "RootPort"
    HOST_BRIDGE = "HostBridge"


@dataclass(frozen=True)
class PciDevice:
    """One PCI function, as sysfs shows it.

    ``vendor`` and ``product`` are PCI IDs, ``class_code`` is the 24-bit class (0x020000 = Ethernet).
    ``driver`` is None where none is bound. ``iommu_group`` is None on a host without an active IOMMU. ``slot_path`` is
    the way from the root bus without bus numbers (0000:00/1c.0/00.0); ``pf_mac`` a VF's PF's permanent MAC.
    ``express``: it needs a PCI Express slot in a guest that has such; a conventional device never fits one.
    """

    address: PciAddress
    vendor: int
    product: int
    class_code: int
    role: Role = Role.ENDPOINT
    driver: str | None = None
    iommu_group: int | None = None
    numa_node: int | None = None
    physfn: PciAddress | None = None
    vf_index: int | None = None
    total_vfs: int = 0
    num_vfs: int = 0
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    serial: str | None = None
    serial_source: str | None = None
    slot_path: str = ""
    pf_mac: str | None = None
    express: bool = False

    @property
    def identity(self) -> Identity:
        """The fingerprint by which it is known again."""
        return Identity(
            self.vendor,
            self.product,
            self.subsystem_vendor,
            self.subsystem_device,
            self.address.function,
            self.serial,
            self.serial_source,
            self.slot_path,
            self.pf_mac,
            self.vf_index,
        )

    @property
    def on_host_driver(self) -> bool:
        """Whether a driver of the host is bound (vfio-pci and its variants are none)."""
        return self.driver is not None and not is_vfio(self.driver)

    @property
    def label(self) -> str:
        """How messages name it: address and PCI IDs."""
        return f"{self.address} [{self.vendor:04x}:{self.product:04x}]"


@dataclass(frozen=True)
class Hostdev:
    """A host PCI device in a guest's XML: ``element`` is hostdev, interface (type='hostdev') or disk (type='nvme').

    ``driver`` is what the XML says of it; None if it says nothing. ``guest_address`` is where the guest sees it.
    """

    address: PciAddress
    alias: str | None = None
    managed: bool = False
    element: str = "hostdev"
    driver: str | None = None
    guest_address: PciAddress | None = None


@dataclass(frozen=True)
class Nic:
    """A guest's <interface>. One that has a VF, or gets one, is of a libvirt network, or has a VF's own address.

    ``network`` and ``portgroup`` are those of <source>. In a running guest libvirt puts the VF that it handed out in
    their place, as ``address``; the network is told by the persistent XML then. ``mac`` is lower case; ``vlan`` None:
    none, or several; ``profile`` is the 802.1Qbh profile ID; ``guest_address`` is where the guest sees it.
    """

    alias: str | None = None
    mac: str | None = None
    network: str | None = None
    portgroup: str | None = None
    vlan: int | None = None
    profile: str | None = None
    address: PciAddress | None = None
    guest_address: PciAddress | None = None


@dataclass(frozen=True)
class Saved:
    """What a managed save image has: the next start resumes it, whatever the persistent XML says by then.

    ``known`` is False if it cannot be read.
    """

    hostdevs: tuple[Hostdev, ...] = ()
    nics: tuple[Nic, ...] = ()
    known: bool = True

    def has(self, alias: str | None, address: PciAddress | None) -> bool:
        """Whether the device or NIC with this alias, or at this address of the host, is in it."""
        aliases = {h.alias for h in self.hostdevs} | {n.alias for n in self.nics}
        return (alias is not None and alias in aliases) or any(h.address == address for h in self.hostdevs)


@dataclass(frozen=True)
class Guest:
    """One libvirt domain. ``live`` is empty while it does not run, ``config`` if it is transient.

    ``nics`` are of its persistent definition, ``live_nics`` of its running one. ``run`` is libvirt's id of this run,
    which changes with each start; ``slots`` are free for hot plug. ``topology`` is that of its persistent definition,
    ``live_topology`` of its running one. ``memory`` and ``hard_limit`` (memtune) are in KiB. ``viommu``: it has an
    IOMMU of its own. ``virtio_devices`` and ``scsi_disks`` are counts.
    ``saved``: it is off and has a managed save image. ``asked``: what its Guest has asked for when it was defined.
    """

    uuid: str
    name: str
    active: bool
    persistent: bool
    live: tuple[Hostdev, ...] = ()
    config: tuple[Hostdev, ...] = ()
    nics: tuple[Nic, ...] = ()
    live_nics: tuple[Nic, ...] = ()
    run: int | None = None
    slots: Slots = Slots()  # noqa: RUF009 - frozen
    topology: Topology = Topology()  # noqa: RUF009 - frozen
    live_topology: Topology = Topology()  # noqa: RUF009 - frozen
    block_paths: frozenset[str] = frozenset()
    volume_pools: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    memory: int = 0
    hard_limit: int | None = None
    viommu: bool = False
    virtio_devices: int = 0
    scsi_disks: int = 0
    saved: Saved | None = None
    asked: str | None = None

    @property
    def hostdevs(self) -> tuple[Hostdev, ...]:
        """All that it has, or will have: running, saved and defined."""
        return (*self.live, *(self.saved.hostdevs if self.saved else ()), *self.config)

    def uses(self, address: PciAddress) -> bool:
        """Whether the running guest, its saved state or its definition has the device."""
        return any(h.address == address for h in self.hostdevs)


@dataclass(frozen=True)
class Use:
    """Somebody's need for a device: ``what`` is a sentence fragment such as 'carries the default route'.

    An administrator's override lifts the host's needs, never a guest's.
    """

    address: PciAddress
    what: str
    by_guest: bool = False


@dataclass(frozen=True)
class Pool:
    """A libvirt network that hands out VFs (forward mode hostdev): by address, or all of a PF's netdev."""

    name: str
    addresses: frozenset[PciAddress]


@dataclass(frozen=True)
class Platform:
    """What the host can do. ``interrupt_remapping`` is None where it cannot be told.

    ``boot_id`` tells one boot from another; empty where the host does not say it.
    """

    iommu: bool
    interrupt_remapping: bool | None
    unsafe_interrupts: bool
    vfio: bool
    boot_id: str = ""


@dataclass(frozen=True)
class Observation:
    """The host at one moment.

    ``uses`` says who needs which device (host and guests, hostdevs aside); it is incomplete, and nothing may be
    detached, if ``unknown_use`` says why it could not be read. ``blocked`` are devices whose driver is being changed by
    a call that has not returned: how they will end is not known. ``networks`` are libvirt's, by name; ``pools`` those
    of them that hand out VFs. ``pfs`` are the PFs that have VFs, or could have. ``rejections`` are hostdevs (guest's
    UUID, alias) whose last unplug request the guest has refused. ``wishes`` are the assignments of this node that are
    not being deleted, ``pool_wishes`` its VF pools; ``records`` and ``pool_records`` are what both have claimed.
    """

    devices: Mapping[PciAddress, PciDevice]
    guests: tuple[Guest, ...]
    platform: Platform
    uses: tuple[Use, ...] = ()
    unknown_use: str | None = None
    records: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))
    blocked: frozenset[PciAddress] = frozenset()
    networks: Mapping[str, Network] = field(default_factory=lambda: MappingProxyType({}))
    pools: tuple[Pool, ...] = ()
    pfs: Mapping[PciAddress, Pf] = field(default_factory=lambda: MappingProxyType({}))
    pool_records: Mapping[str, PoolRecord] = field(default_factory=lambda: MappingProxyType({}))
    pool_wishes: tuple[PoolWish, ...] = ()
    rejections: frozenset[tuple[str, str]] = frozenset()
    settings: Settings = Settings()  # noqa: RUF009 - frozen
    wishes: tuple[Wish, ...] = ()
    #: What plan.decide has found out of the wishes of this moment, by UID.
    decisions: dict[str, object] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def groups(self) -> Mapping[int, tuple[PciDevice, ...]]:
        """IOMMU group number -> its members in order of address."""
        groups: dict[int, list[PciDevice]] = {}
        for device in sorted(self.devices.values(), key=lambda d: d.address):
            if device.iommu_group is not None:
                groups.setdefault(device.iommu_group, []).append(device)
        return {number: tuple(members) for number, members in sorted(groups.items())}

    def group_of(self, device: PciDevice) -> tuple[PciDevice, ...]:
        """All members of the device's IOMMU group, itself included."""
        return self.groups[device.iommu_group] if device.iommu_group is not None else (device,)

    def mates(self, device: PciDevice) -> tuple[PciDevice, ...]:
        """The other endpoints of the group: what must be claimed together with the device."""
        return tuple(d for d in self.group_of(device) if d.address != device.address and d.role is Role.ENDPOINT)

    @cached_property
    def functions(self) -> tuple[PciDevice, ...]:
        """All but VFs, in order of address: those who could be PFs."""
        return tuple(sorted((d for d in self.devices.values() if d.physfn is None), key=lambda d: d.address))

    @cached_property
    def _vfs(self) -> Mapping[PciAddress, tuple[PciDevice, ...]]:
        found: dict[PciAddress, list[PciDevice]] = {}
        for device in self.devices.values():
            if device.physfn is not None:
                found.setdefault(device.physfn, []).append(device)
        return {pf: tuple(sorted(vfs, key=lambda d: (d.vf_index or 0, d.address))) for pf, vfs in found.items()}

    def vfs(self, pf: PciAddress) -> tuple[PciDevice, ...]:
        """The VFs of a PF in order of index."""
        return self._vfs.get(pf, ())

    @cached_property
    def _holders(self) -> Mapping[PciAddress, tuple[Guest, ...]]:
        found: dict[PciAddress, list[Guest]] = {}
        for guest in self.guests:
            for address in {h.address for h in guest.hostdevs}:
                found.setdefault(address, []).append(guest)
        return {address: tuple(guests) for address, guests in found.items()}

    def holders(self, address: PciAddress) -> tuple[Guest, ...]:
        """The guests, running, saved or defined, that have the device in their XML."""
        return self._holders.get(address, ())

    @cached_property
    def _uses(self) -> Mapping[PciAddress, tuple[Use, ...]]:
        found: dict[PciAddress, list[Use]] = {}
        for use in self.uses:
            found.setdefault(use.address, []).append(use)
        return {address: tuple(uses) for address, uses in found.items()}

    def uses_of(self, address: PciAddress) -> tuple[Use, ...]:
        """Who needs the device, hostdevs aside."""
        return self._uses.get(address, ())

    @cached_property
    def _claims(self) -> Mapping[PciAddress, tuple[Record, ...]]:
        found: dict[PciAddress, list[Record]] = {}
        for _, record in sorted(self.records.items()):
            for address in {record.address, *(member.address for member in record.members)}:
                found.setdefault(address, []).append(record)
        return {address: tuple(records) for address, records in found.items()}

    def claims(self, address: PciAddress) -> tuple[Record, ...]:
        """The assignments that have claimed the device, as theirs or as a mate."""
        return self._claims.get(address, ())

    @cached_property
    def _handed_out(self) -> Mapping[PciAddress, tuple[str, ...]]:
        found: dict[PciAddress, list[str]] = {}
        for pool in self.pools:
            for address in pool.addresses:
                found.setdefault(address, []).append(pool.name)
        return {address: tuple(names) for address, names in found.items()}

    def handed_out_by(self, address: PciAddress) -> tuple[str, ...]:
        """The libvirt networks that hand the VF out."""
        return self._handed_out.get(address, ())

    def guest(self, uuid: str) -> Guest | None:
        """The guest of that UUID."""
        return next((g for g in self.guests if g.uuid == uuid), None)
