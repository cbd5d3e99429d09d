"""One consistent snapshot of a host, as frozen data. Adapters fill it in; plans are made from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from .identity import Identity
from .intent import Wish
from .pci import PciAddress
from .record import Record
from .settings import Settings
from .slots import Slots

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
    """A host PCI device in a guest's XML, as <hostdev> or as <interface type='hostdev'>."""

    address: PciAddress
    alias: str | None = None
    managed: bool = False


@dataclass(frozen=True)
class Guest:
    """One libvirt domain. ``live`` is empty while it does not run, ``config`` if it is transient.

    ``run`` is libvirt's id of this run, which changes with each start; ``slots`` are free for hot plug.
    """

    uuid: str
    name: str
    active: bool
    persistent: bool
    live: tuple[Hostdev, ...] = ()
    config: tuple[Hostdev, ...] = ()
    run: int | None = None
    slots: Slots = Slots()  # noqa: RUF009 - frozen
    block_paths: frozenset[str] = frozenset()
    volume_pools: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()

    def uses(self, address: PciAddress) -> bool:
        """Whether the running guest or its definition has the device."""
        return any(h.address == address for h in (*self.live, *self.config))


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
    """What the host can do. ``interrupt_remapping`` is None where it cannot be told."""

    iommu: bool
    interrupt_remapping: bool | None
    unsafe_interrupts: bool
    vfio: bool


@dataclass(frozen=True)
class Observation:
    """The host at one moment.

    ``uses`` says who needs which device (host and guests, hostdevs aside); it is incomplete, and nothing may be
    detached, if ``unknown_use`` says why it could not be read. ``blocked`` are devices whose driver is being changed by
    a call that has not returned: how they will end is not known. ``networks`` are libvirt's, each with the host's
    interfaces under it; ``pools`` those of them that hand out VFs. ``rejections`` are hostdevs (guest's UUID, alias)
    whose last unplug request the guest has refused. ``wishes`` are the assignments of this node that are not being
    deleted.
    """

    devices: Mapping[PciAddress, PciDevice]
    guests: tuple[Guest, ...]
    platform: Platform
    uses: tuple[Use, ...] = ()
    unknown_use: str | None = None
    records: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))
    blocked: frozenset[PciAddress] = frozenset()
    networks: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    pools: tuple[Pool, ...] = ()
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

    def guest(self, uuid: str) -> Guest | None:
        """The guest of that UUID."""
        return next((g for g in self.guests if g.uuid == uuid), None)

    def holders(self, address: PciAddress) -> tuple[Guest, ...]:
        """The guests, running or defined, that have the device in their XML."""
        return tuple(g for g in self.guests if g.uses(address))
