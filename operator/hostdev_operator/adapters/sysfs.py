"""PCI devices in /sys (kernel: Documentation/ABI/testing/sysfs-bus-pci)."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from ..core.model import PciDevice, Role
from ..core.pci import PciAddress

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_ROOT_BUS = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_HEADER_TYPE_OFFSET = 0x0E
_BRIDGE_HEADERS = (1, 2)
_CLASS_BRIDGE = 0x06


class PciSysfs:
    """Reads PCI functions below ``<host root>/sys``."""

    def __init__(self, host_root: Path) -> None:
        self._devices = host_root / "sys/bus/pci/devices"

    def devices(self) -> tuple[PciDevice, ...]:
        """All PCI functions, in order of address; one that goes away while it is read (ENOENT, ENODEV) is left out."""
        found = []
        for path in sorted(self._devices.iterdir()) if self._devices.is_dir() else ():
            try:
                found.append(self._read(path))
            except OSError:
                continue
        return tuple(found)

    def classes(self) -> dict[Path, int]:
        """The 24-bit class of every function, by its folder; one that goes away meanwhile is left out."""
        found = {}
        for path in sorted(self._devices.glob("*")):
            with suppress(OSError):
                found[path] = _hex(path / "class")
        return found

    def iommu_group(self, address: PciAddress) -> int | None:
        """The device's group: one link."""
        group = link_name(self._devices / str(address) / "iommu_group")
        return int(group) if group is not None else None

    def driver(self, address: PciAddress) -> str | None:
        """The driver that is bound now."""
        return link_name(self._devices / str(address) / "driver")

    def _read(self, path: Path) -> PciDevice:
        class_code = _hex(path / "class")
        driver = link_name(path / "driver")
        group = link_name(path / "iommu_group")
        physfn = link_name(path / "physfn")
        return PciDevice(
            address=PciAddress.parse(path.name),
            vendor=_hex(path / "vendor"),
            product=_hex(path / "device"),
            class_code=class_code,
            role=_role(path, class_code, driver),
            driver=driver,
            iommu_group=int(group) if group is not None else None,
            numa_node=_numa_node(path),
            physfn=PciAddress.parse(physfn) if physfn else None,
            vf_index=_vf_index(path) if physfn else None,
            total_vfs=_optional_int(path / "sriov_totalvfs"),
            num_vfs=_optional_int(path / "sriov_numvfs"),
        )


def addresses_in(path: Path) -> tuple[PciAddress, ...]:
    """The PCI addresses on the way to a device in /sys, outermost first."""
    return tuple(PciAddress.parse(part) for part in path.parts if _ADDRESS.fullmatch(part))


def functions_behind(path: Path) -> frozenset[PciAddress]:
    """What an object in /sys hangs on: its function, and the controllers of domains of their own (Intel VMD) above it.

    Such a controller's folder has the domain's root bus (pci10000:e0) right below it.
    """
    resolved = path.resolve()
    above = [p for p, below in pairwise(resolved.parts) if _ADDRESS.fullmatch(p) and _ROOT_BUS.fullmatch(below)]
    return frozenset((*addresses_in(resolved)[-1:], *map(PciAddress.parse, above)))


def link_name(path: Path) -> str | None:
    """The last part of where a link leads; None if there is none."""
    try:
        return path.readlink().name
    except OSError:
        return None


def _hex(path: Path) -> int:
    return int(path.read_text().strip(), 16)


def _optional_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _numa_node(path: Path) -> int | None:
    """The kernel writes -1 where the firmware names no node."""
    try:
        node = int((path / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _header_type(path: Path) -> int | None:
    """PCI header type: 0 for endpoints, 1 for PCI-to-PCI bridges, 2 for CardBus; None if it cannot be read."""
    try:
        with (path / "config").open("rb") as config:
            head = config.read(_HEADER_TYPE_OFFSET + 1)
    except OSError:
        return None
    return head[_HEADER_TYPE_OFFSET] & 0x7F if len(head) > _HEADER_TYPE_OFFSET else None


def _role(path: Path, class_code: int, driver: str | None) -> Role:
    """Libvirt calls an endpoint what has header type 0; of those, class 06 (host, ISA) belongs to the host.

    Header types that do not exist (0x7f: a device that answers no more reads 0xff) leave it to the class.
    """
    header = _header_type(path)
    is_bridge_class = class_code >> 16 == _CLASS_BRIDGE
    if header not in _BRIDGE_HEADERS and not is_bridge_class:
        return Role.ENDPOINT
    if header == 0:
        return Role.HOST_BRIDGE
    on_root_bus = len(addresses_in(path.resolve())) == 1
    return Role.ROOT_PORT if on_root_bus and driver == "pcieport" else Role.BRIDGE


def _vf_index(path: Path) -> int | None:
    """The n of the PF's virtfn<n> that points here."""
    for link in (path / "physfn").glob("virtfn*"):
        if link_name(link) == path.name:
            return int(link.name.removeprefix("virtfn"))
    return None
