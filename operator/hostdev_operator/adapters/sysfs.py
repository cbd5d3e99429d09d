"""PCI devices in /sys (kernel: Documentation/ABI/testing/sysfs-bus-pci)."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from threading import Lock

from ..core.model import PciDevice, Role
from ..core.pci import PciAddress
from .files import absolute, exists, inode, link_name, listing, opened, read_text, resolve, text_if_any
from .pci_serial import nvme_serial, serial_number, vpd_serial

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_ROOT_BUS = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_HEADER_TYPE_OFFSET = 0x0E
_NO_HEADER = 0x7F  # of a device that answers no more: it reads 0xff
_BRIDGE_HEADERS = (1, 2)
_CLASS_BRIDGE, _CLASS_NVME = 0x06, 0x0108
_CONVENTIONAL_CONFIG = 256
_VPD_TRIES = 3
_READS = 3

parse_address = lru_cache(4096)(PciAddress.parse)


@dataclass(frozen=True)
class _Facts:
    """What the kernel never changes while a device object lives.

    ``header`` is None where it could not be read; ``sriov``: it is a PF (its files are there from the start).
    """

    address: PciAddress
    vendor: int
    product: int
    class_code: int
    subsystem_vendor: int
    subsystem_device: int
    numa_node: int | None
    header: int | None
    express: bool
    slot_path: str
    on_root_bus: bool
    sriov: bool

    @property
    def complete(self) -> bool:
        """Whether all of it could be read, so that it need not be read again."""
        return self.header is not None and self.header != _NO_HEADER

    @property
    def can_be_vf(self) -> bool:
        """A VF has no VFs, and is no bridge."""
        return not self.sriov and self.header not in _BRIDGE_HEADERS


@dataclass
class _Object:
    """What is known of one device object of the kernel. What could not be read is not kept (Nones are read again)."""

    inode: int
    facts: _Facts | None = None
    serial: str | None = None
    serial_source: str | None = None
    vpd_tries: int = _VPD_TRIES  # a VPD that fails does so after a timeout, and the kernel complains each time
    kernel_tells: bool = True  # whether there may be a file serial_number
    physfn: PciAddress | None = None
    vf_index: int | None = None


class PciSysfs:
    """Reads PCI functions below ``<host root>/sys``; any thread may ask.

    The inode number of a folder in /sys is never given again: a device that is plugged anew, or another one at its
    address, has another. (The folder's ctime says nothing: where the kernel keeps one, it changes with each driver.)
    """

    def __init__(self, host_root: Path) -> None:
        self._devices = absolute(host_root / "sys/bus/pci/devices")
        self._objects: dict[str, _Object] = {}
        self._lock = Lock()

    def names(self) -> list[str]:
        """The addresses of all functions, as folders are named."""
        return listing(self._devices)

    def folder(self, name: str) -> str:
        """The folder of a function."""
        return f"{self._devices}/{name}"

    def devices(self) -> tuple[PciDevice, ...]:
        """All PCI functions, in order of address; one that goes away while it is read (ENOENT, ENODEV) is left out."""
        names = self.names()
        with self._lock:
            for name in self._objects.keys() - set(names):
                del self._objects[name]
        found, macs = [], dict[PciAddress, str | None]()
        for name in names:
            with suppress(OSError):
                found.append(self._read(name, macs))
        return tuple(sorted(found, key=lambda device: device.address))

    def device(self, address: PciAddress) -> PciDevice | None:
        """One function, read now; None if there is none."""
        try:
            return self._read(str(address), {})
        except OSError:
            return None

    def classes(self) -> dict[str, int]:
        """The 24-bit class of every function, by its name; one that goes away meanwhile is left out."""
        found = {}
        for name in sorted(self.names()):
            with suppress(OSError):
                path = self.folder(name)
                known = self._object(name, inode(path))
                found[name] = known.facts.class_code if known.facts else _hex(f"{path}/class")
        return found

    def physical_functions(self) -> list[str]:
        """The functions that can have VFs, in order of address; one that goes away meanwhile is left out."""
        found = []
        for name in self.names():
            with suppress(OSError):
                path = self.folder(name)
                known = self._object(name, inode(path))
                if known.facts.sriov if known.facts else exists(f"{path}/sriov_totalvfs"):
                    found.append(name)
        return sorted(found, key=parse_address)

    def iommu_group(self, address: PciAddress) -> int | None:
        """The device's group: one link."""
        return _group(self.folder(str(address)))

    def driver(self, address: PciAddress) -> str | None:
        """The driver that is bound now."""
        return link_name(f"{self.folder(str(address))}/driver")

    def _object(self, name: str, number: int) -> _Object:
        """What is known of the object with that inode at that address: nothing, if there was another one."""
        with self._lock:
            known = self._objects.get(name)
            if known is None or known.inode != number:
                known = self._objects[name] = _Object(number)
            return known

    def _read(self, name: str, macs: dict[PciAddress, str | None]) -> PciDevice:
        """One function; all of it is of one object, the one that is there now."""
        path = self.folder(name)
        for _ in range(_READS):
            number = inode(path)
            device = _read_object(path, name, self._object(name, number), macs)
            if inode(path) == number:
                return device
        raise FileNotFoundError(path)


def _read_object(path: str, name: str, known: _Object, macs: dict[PciAddress, str | None]) -> PciDevice:
    """A device from what is known of its object, and from what can change meanwhile."""
    facts = known.facts or _read_facts(path, name)
    if facts.complete:
        known.facts = facts
    physfn = known.physfn
    if physfn is None and facts.can_be_vf:
        physfn = known.physfn = _physfn(path)  # the link appears shortly after the VF itself
    if physfn is not None and known.vf_index is None:
        known.vf_index = _vf_index(path, name)
    driver = link_name(f"{path}/driver")
    role = _role(facts, driver)
    if known.serial is None and role is Role.ENDPOINT:
        known.serial, known.serial_source = _serial(path, facts, known)
    if physfn is not None and physfn not in macs:
        macs[physfn] = permanent_mac(f"{path}/physfn/net")
    return PciDevice(
        address=facts.address,
        vendor=facts.vendor,
        product=facts.product,
        class_code=facts.class_code,
        role=role,
        driver=driver,
        iommu_group=_group(path),
        numa_node=facts.numa_node,
        physfn=physfn,
        vf_index=known.vf_index,
        total_vfs=_optional_int(f"{path}/sriov_totalvfs") if facts.sriov else 0,  # drivers limit it
        num_vfs=len(vf_links(path)) if facts.sriov else 0,
        subsystem_vendor=facts.subsystem_vendor,
        subsystem_device=facts.subsystem_device,
        serial=known.serial,
        serial_source=known.serial_source,
        slot_path=facts.slot_path,
        pf_mac=macs[physfn] if physfn is not None else None,
        express=facts.express,
    )


def _read_facts(path: str, name: str) -> _Facts:
    folder = resolve(path)
    header, size = _config(path)
    return _Facts(
        address=parse_address(name),
        vendor=_hex(f"{path}/vendor"),
        product=_hex(f"{path}/device"),
        class_code=_hex(f"{path}/class"),
        subsystem_vendor=_optional_int(f"{path}/subsystem_vendor", 16),
        subsystem_device=_optional_int(f"{path}/subsystem_device", 16),
        numa_node=_numa_node(path),
        header=header,
        express=size > _CONVENTIONAL_CONFIG,
        slot_path=slot_path(folder),
        on_root_bus=len(_addresses_in(folder)) == 1,
        sriov=exists(f"{path}/sriov_totalvfs"),
    )


def _addresses_in(folder: str) -> list[str]:
    return [part for part in folder.split("/") if _ADDRESS.fullmatch(part)]


@lru_cache(4096)
def functions_behind(folder: str) -> frozenset[PciAddress]:
    """What an object in /sys hangs on: its function, and the controllers of domains of their own (Intel VMD) above it.

    Such a controller's folder has the domain's root bus (pci10000:e0) right below it. ``folder`` has no links.
    """
    above = [p for p, below in pairwise(folder.split("/")) if _ADDRESS.fullmatch(p) and _ROOT_BUS.fullmatch(below)]
    return frozenset(map(parse_address, (*_addresses_in(folder)[-1:], *above)))


def slot_path(folder: str) -> str:
    """The way to a function: domain and bus of its root bus, then slot and function of each hop.

    The root bus of a domain of its own (Intel VMD) is left out: such domains get the next free number at each boot,
    and its controller has one alone.
    """
    roots = [part.removeprefix("pci") for part in folder.split("/") if _ROOT_BUS.fullmatch(part)]
    return "/".join((*roots[:1], *(part.rsplit(":", 1)[-1] for part in _addresses_in(folder))))


def vf_links(folder: str) -> list[str]:
    """The names of a PF's links to its VFs: virtfn0 and so on.

    sriov_numvfs says how many there are as well, but reading it waits for whoever is writing it, perhaps for ever: a
    write waits for a guest that has a VF (sriov_numvfs_show, drivers/pci/iov.c).
    """
    return [name for name in listing(folder) if name.startswith("virtfn")]


def _hex(path: str) -> int:
    return int(read_text(path), 16)


def _optional_int(path: str, base: int = 10) -> int:
    try:
        return int(read_text(path), base)
    except (OSError, ValueError):
        return 0


def _numa_node(path: str) -> int | None:
    """The kernel writes -1 where the firmware names no node."""
    try:
        node = int(read_text(f"{path}/numa_node"))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _group(path: str) -> int | None:
    group = link_name(f"{path}/iommu_group")
    return int(group) if group is not None else None


def _physfn(path: str) -> PciAddress | None:
    name = link_name(f"{path}/physfn")
    return parse_address(name) if name else None


def _config(path: str) -> tuple[int | None, int]:
    """PCI header type (0: endpoint, 1: PCI-to-PCI bridge, 2: CardBus), None if it cannot be read; size of the space.

    Without CAP_SYS_ADMIN only the first 64 bytes can be read; the file's size tells how much there is. libvirt's rule
    for a device that takes an Express slot in a guest (qemu_domain_address.c) is the same size.
    """
    try:
        with opened(f"{path}/config") as config:
            head, size = os.pread(config, _HEADER_TYPE_OFFSET + 1, 0), os.fstat(config).st_size
    except OSError:
        return None, 0
    return head[_HEADER_TYPE_OFFSET] & 0x7F if len(head) > _HEADER_TYPE_OFFSET else None, size


def _role(facts: _Facts, driver: str | None) -> Role:
    """Libvirt calls an endpoint what has header type 0; of those, class 06 (host, ISA) belongs to the host.

    Header types that do not exist (0x7f: a device that answers no more reads 0xff) leave it to the class.
    """
    is_bridge_class = facts.class_code >> 16 == _CLASS_BRIDGE
    if facts.header not in _BRIDGE_HEADERS and not is_bridge_class:
        return Role.ENDPOINT
    if facts.header == 0:
        return Role.HOST_BRIDGE
    return Role.ROOT_PORT if facts.on_root_bus and driver == "pcieport" else Role.BRIDGE


def _vf_index(path: str, name: str) -> int | None:
    """The n of the PF's virtfn<n> that points here."""
    with suppress(OSError):
        for entry in listing(f"{path}/physfn"):
            if entry.startswith("virtfn") and link_name(f"{path}/physfn/{entry}") == name:
                return int(entry.removeprefix("virtfn"))
    return None


def _serial(path: str, facts: _Facts, known: _Object) -> tuple[str | None, str | None]:
    """The card's serial number and who tells it: vital product data, the NVMe driver, or the kernel (DSN).

    The kernel makes the files before it shows the device: one that is not there will not be.
    """
    serial = None
    if known.vpd_tries > 0:
        try:
            serial = vpd_serial(path)
        except FileNotFoundError:
            known.vpd_tries = 0 if facts.complete else known.vpd_tries
        except OSError:
            known.vpd_tries -= 1
        else:
            known.vpd_tries = 0  # it has been read: a number that is not in there will not be
    if serial is not None:
        return serial, "VPD"
    if facts.class_code >> 8 == _CLASS_NVME and (serial := nvme_serial(path)):
        return serial, "NVMe"
    if known.kernel_tells:
        serial = serial_number(path)
        known.kernel_tells = serial is not None or exists(f"{path}/serial_number") or not facts.complete
    return serial, "DSN" if serial else None


def permanent_mac(net: str) -> str | None:
    """The MAC of a PF's interface as its maker gave it; of several the smallest: names change.

    It is the current one (addr_assign_type 0), or the one that the port of a bond had before (kernel:
    drivers/net/bonding/bond_sysfs_slave.c): what the host's boot script can read as well. rtnetlink's IFLA_PERM_ADDRESS
    would tell more, but the script could not find a PF by it, and asking waits for rtnetlink's lock.
    """
    found = []
    with suppress(OSError):
        for name in listing(net):
            with suppress(OSError):
                found.append(_permanent_mac(f"{net}/{name}").lower())
    return min((mac for mac in found if _MAC.fullmatch(mac) and mac.strip("0:")), default=None)


def _permanent_mac(netdev: str) -> str:
    """Empty if it cannot be told; OSError if the netdev is gone."""
    before = text_if_any(f"{netdev}/bonding_slave/perm_hwaddr")
    if before:
        return before
    return read_text(f"{netdev}/address") if read_text(f"{netdev}/addr_assign_type") == "0" else ""
