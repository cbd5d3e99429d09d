"""observe: one consistent snapshot of the host through its ports."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType

from ..core import domain_xml, network_xml, reasons
from ..core.domain_xml import GuestXml
from ..core.errors import HostError
from ..core.host_status import Trouble
from ..core.model import Guest, Observation, PciDevice, Platform, Pool, Use
from ..core.network import Network
from ..core.network_xml import NetworkXml
from ..core.pci import PciAddress
from ..core.pool import PoolRecord
from ..core.record import Record
from ..core.sriov import Pf
from ..core.storage_xml import StoragePool, storage_pool
from ..ports import Host
from .context import Context

_STORAGE_CLASS = 0x01
#: Of which the texts are kept, 10 KB each.
_KNOWN_GUESTS = 512
#: Asks libvirt beside the kernel. Each look waits for its own question, and each of libvirt's answers has a deadline.
_side = ThreadPoolExecutor(thread_name_prefix="libvirt")


@dataclass(frozen=True)
class _Libvirt:
    """What libvirt says."""

    guests: tuple[Guest, ...]
    networks: tuple[Network, ...] = ()
    storage: tuple[StoragePool, ...] = ()


@dataclass(frozen=True)
class _Kernel:
    """What the kernel says."""

    devices: tuple[PciDevice, ...]
    pfs: tuple[Pf, ...]
    platform: Platform
    uses: tuple[Use, ...]
    unknown_use: str | None


@dataclass(frozen=True)
class _Journal:
    """What was claimed, by assignments and by pools."""

    records: Mapping[str, Record] = field(default_factory=dict)
    pools: Mapping[str, PoolRecord] = field(default_factory=dict)


def observe(host: Host, context: Context) -> Observation:
    """Read everything a plan depends on. HostError if libvirt does not answer, or the journal cannot be read.

    Kernel and libvirt are asked side by side: most of libvirt's time is libvirtd's.
    """
    asked = _side.submit(_ask_libvirt, host)
    kernel = _ask_kernel(host)
    return _observation(host, context, kernel, asked.result(), _read_journal(host))


def _read_journal(host: Host) -> _Journal:
    return _Journal(host.records.load(), host.pool_records.load())


def observe_again(
    host: Host, context: Context, before: Observation, touched: frozenset[PciAddress] | None = None
) -> Observation:
    """What an assignment's actions can have changed since a look: drivers, guests, records, VFs' settings.

    The rest is as it was then. ``touched``: of the devices, only these and their groups' are read again.
    """
    asked = _side.submit(_guests, host, {name: network.interfaces for name, network in before.networks.items()})
    devices = _all_devices(host) if touched is None else _devices_again(host, before, touched)
    pfs = _pfs_again(host, before, touched)
    seen = replace(
        before,
        devices=MappingProxyType(devices),
        pfs=pfs,
        guests=asked.result(),
        records=MappingProxyType(dict(host.records.load())),
        blocked=_blocked(host),
        rejections=host.hypervisor.rejections(),
    )
    return with_context(seen, context)


def with_context(seen: Observation, context: Context) -> Observation:
    """The same host, with what is asked for by now."""
    return replace(seen, settings=context.settings(), wishes=context.wishes(), pool_wishes=context.pool_wishes())


def observe_libvirt_again(host: Host, context: Context, before: Observation) -> Observation:
    """What a change of networks can have changed since a look: networks, and the guests on them. The rest as it was."""
    libvirt = _ask_libvirt(host)
    seen = replace(
        before,
        guests=libvirt.guests,
        networks=MappingProxyType({n.name: n for n in libvirt.networks}),
        pools=_pools(host, tuple(before.devices.values()), libvirt.networks),
        pool_records=MappingProxyType(dict(host.pool_records.load())),
    )
    return with_context(seen, context)


def _pfs_again(host: Host, before: Observation, touched: frozenset[PciAddress] | None) -> Mapping[PciAddress, Pf]:
    """The settings of a VF change when a guest gets or loses it."""
    there = (before.devices.get(address) for address in touched or ())
    concerned = touched is None or any(d.address in before.pfs or d.physfn in before.pfs for d in there if d)
    if not before.pfs or not concerned:
        return before.pfs
    return MappingProxyType({pf.address: pf for pf in host.devices.pfs()})


def _pools(host: Host, devices: tuple[PciDevice, ...], networks: tuple[Network, ...]) -> tuple[Pool, ...]:
    """Networks with all the VFs that they hand out: by address, or those of their PF."""
    vfs: dict[PciAddress, set[PciAddress]] = {}
    for device in devices:
        if device.physfn:
            vfs.setdefault(device.physfn, set()).add(device.address)
    found = []
    for network in networks:
        if network.hands_out_vfs:
            pfs = {address for name in network.pfs for address in host.devices.interface(name)}
            found.append(Pool(network.name, network.addresses.union(*(vfs.get(pf, set()) for pf in pfs))))
    return tuple(found)


def _blocked(host: Host) -> frozenset[PciAddress]:
    return host.hypervisor.blocked() | host.devices.blocked()


def _all_devices(host: Host) -> dict[PciAddress, PciDevice]:
    return {device.address: device for device in host.devices.devices()}


def _devices_again(host: Host, before: Observation, touched: frozenset[PciAddress]) -> dict[PciAddress, PciDevice]:
    devices = dict(before.devices)
    groups = (before.group_of(before.devices[address]) for address in touched if address in before.devices)
    for address in touched.union(device.address for group in groups for device in group):
        now = host.devices.device(address)
        if now:
            devices[address] = now
        else:
            devices.pop(address, None)
    return devices


def libvirt_differs(host: Host, before: Observation) -> bool:
    """Whether guests or networks are not as they were then. HostError as ``observe``."""
    networks, guests = _networks_and_guests(host)
    return guests != before.guests or {n.name: n for n in networks} != dict(before.networks)


def observe_what_can_be(host: Host, context: Context, guests: tuple[Guest, ...]) -> tuple[Observation, Trouble]:
    """For reporting, never for planning: where libvirt does not answer, with the guests as they were seen last."""
    trouble = Trouble()
    try:
        libvirt = _ask_libvirt(host)
    except HostError as error:
        libvirt, trouble = _Libvirt(guests), replace(trouble, libvirt=error.message)
    journal = _Journal()
    try:
        journal = _read_journal(host)
    except HostError as error:
        trouble = replace(trouble, journal=error.message)
    return _observation(host, context, _ask_kernel(host), libvirt, journal), trouble


def _ask_libvirt(host: Host) -> _Libvirt:
    networks, guests = _networks_and_guests(host)
    return _Libvirt(guests, networks, tuple(storage_pool(text) for text in host.hypervisor.storage_pools() or ()))


def _networks_and_guests(host: Host) -> tuple[tuple[Network, ...], tuple[Guest, ...]]:
    networks = tuple(_network(xml) for xml in host.hypervisor.networks())
    return networks, _guests(host, {n.name: n.interfaces for n in networks})


def _network(xml: NetworkXml) -> Network:
    try:
        return network_xml.network(xml)
    except SyntaxError as error:  # of lxml
        raise HostError(
            reasons.LIBVIRT_ERROR, f"the XML of network {xml.name} ({xml.uuid}) cannot be read: {error}"
        ) from error


def _guests(host: Host, networks: Mapping[str, frozenset[str]]) -> tuple[Guest, ...]:
    named = tuple(networks.items())
    return tuple(_guest(xml, named) for xml in host.hypervisor.guests())


@lru_cache(_KNOWN_GUESTS)
def _guest(xml: GuestXml, networks: tuple[tuple[str, frozenset[str]], ...]) -> Guest:
    """Most texts are those of the last look, and reading one takes longer than all the rest of it."""
    try:
        return domain_xml.guest(xml, dict(networks))
    except SyntaxError as error:  # of lxml: what the guest holds is not known, so nothing is planned
        raise HostError(
            reasons.LIBVIRT_ERROR, f"the XML of guest {xml.name} ({xml.uuid}) cannot be read: {error}"
        ) from error


def _ask_kernel(host: Host) -> _Kernel:
    unknown: str | None = None
    uses: tuple[Use, ...] = ()
    devices = host.devices.devices()
    try:
        uses = host.devices.uses()
    except HostError as error:
        unknown = error.message
    return _Kernel(devices, host.devices.pfs(), host.devices.platform(), uses, unknown)


def _observation(host: Host, context: Context, kernel: _Kernel, libvirt: _Libvirt, journal: _Journal) -> Observation:
    follow = _Follow(host, kernel.devices)
    seen = Observation(
        devices=MappingProxyType({d.address: d for d in kernel.devices}),
        guests=libvirt.guests,
        platform=kernel.platform,
        uses=(*kernel.uses, *follow.guests(libvirt), *follow.storage(libvirt)),
        unknown_use=kernel.unknown_use,
        records=MappingProxyType(dict(journal.records)),
        blocked=_blocked(host),
        networks=MappingProxyType({n.name: n for n in libvirt.networks}),
        pools=_pools(host, kernel.devices, libvirt.networks),
        pfs=MappingProxyType({pf.address: pf for pf in kernel.pfs}),
        pool_records=MappingProxyType(dict(journal.pools)),
        rejections=host.hypervisor.rejections(),
    )
    return with_context(seen, context)


class _Follow:
    """From what libvirt names (paths, interfaces, pools) down to PCI devices.

    A disk that cannot be followed could be on any storage controller, so all of them count as used.
    """

    def __init__(self, host: Host, devices: tuple[PciDevice, ...]) -> None:
        self._host = host
        self._devices = devices

    def guests(self, libvirt: _Libvirt) -> tuple[Use, ...]:
        """What guests use through the host: block disks, volumes, SCSI devices, bridges, macvtap."""
        pools = {pool.name: pool for pool in libvirt.storage}
        found: list[Use] = []
        for guest in libvirt.guests:
            for path in sorted(guest.block_paths):
                found += self._disk(path, f"the disk {path} of guest {guest.name}")
            for name in sorted(guest.volume_pools):
                pool = pools.get(name)
                found += self._pool(pool, name, f"a volume of storage pool {name}, a disk of guest {guest.name}")
            for name in sorted(guest.interfaces):
                what = f"carries {name}, which guest {guest.name} uses"
                found += [Use(a, what, by_guest=True) for a in sorted(self._host.devices.interface(name))]
        return tuple(found)

    def storage(self, libvirt: _Libvirt) -> tuple[Use, ...]:
        """What libvirt's own storage pools are on, whether a guest uses them or not.

        One that does not say is left to the guard while it is active: its members are mounted, imported or mapped.
        """
        pools = (pool for pool in libvirt.storage if pool.followable)
        found = (u for pool in pools for u in self._pool(pool, pool.name, f"storage pool {pool.name}"))
        return tuple(replace(use, by_guest=False) for use in found)

    def _disk(self, path: str, thing: str) -> list[Use]:
        return self._uses(self._host.devices.block_device(path), thing)

    def _pool(self, pool: StoragePool | None, name: str, thing: str) -> list[Use]:
        if pool is None or not pool.followable:
            return self._uses(None, f"{thing} ({name})" if pool is None else thing)
        found = [use for path in sorted(pool.paths) for use in self._disk(path, thing)]
        found += self._uses(pool.addresses, thing)
        for host in sorted(pool.hosts):
            found += self._uses(self._host.devices.scsi_host(host) or None, thing)
        return found

    def _uses(self, addresses: frozenset[PciAddress] | None, thing: str) -> list[Use]:
        what = f"carries {thing}"
        if addresses is None:
            addresses = frozenset(d.address for d in self._devices if d.class_code >> 16 == _STORAGE_CLASS)
            what = f"may carry {thing} (it cannot be followed)"
        return [Use(a, what, by_guest=True) for a in sorted(addresses)]
