"""observe: one consistent snapshot of the host through its ports."""

from __future__ import annotations

from types import MappingProxyType

from ..core import domain_xml
from ..core.errors import HostError
from ..core.model import Guest, Observation, PciDevice, Use
from ..ports import Host

_STORAGE_CLASS = 0x01


def observe(host: Host) -> Observation:
    """Read everything a plan depends on. HostError LibvirtUnavailable if libvirt does not answer."""
    networks = dict(domain_xml.network_interfaces(text) for text in host.hypervisor.networks())
    guests = tuple(domain_xml.guest(xml, networks) for xml in host.hypervisor.guests())
    return _observation(host, guests)


def observe_without_libvirt(host: Host, guests: tuple[Guest, ...]) -> Observation:
    """What the kernel alone shows, with the guests as they were seen last: for reporting, never for planning."""
    return _observation(host, guests)


def _observation(host: Host, guests: tuple[Guest, ...]) -> Observation:
    devices = host.devices.devices()
    unknown: str | None = None
    uses: tuple[Use, ...] = ()
    try:
        uses = host.devices.uses()
    except HostError as error:
        unknown = error.message
    return Observation(
        devices=MappingProxyType({d.address: d for d in devices}),
        guests=guests,
        platform=host.devices.platform(),
        uses=(*uses, *_guest_uses(host, guests, devices)),
        unknown_use=unknown,
        records=MappingProxyType(dict(host.records.load())),
        blocked=host.hypervisor.blocked(),
    )


def _guest_uses(host: Host, guests: tuple[Guest, ...], devices: tuple[PciDevice, ...]) -> tuple[Use, ...]:
    """What guests use through the host: block disks, volumes, SCSI devices, bridges, macvtap.

    A disk that cannot be followed could be on any storage controller, so all of them count as used.
    """
    found = []
    for guest in guests:
        for path in sorted(guest.block_paths):
            addresses = host.devices.block_device(path)
            what = f"carries the disk {path} of guest {guest.name}"
            if addresses is None:
                addresses = frozenset(d.address for d in devices if d.class_code >> 16 == _STORAGE_CLASS)
                what = f"may carry the disk {path} of guest {guest.name} (it cannot be followed)"
            found += [Use(a, what) for a in sorted(addresses)]
        for name in sorted(guest.interfaces):
            what = f"carries {name}, which guest {guest.name} uses"
            found += [Use(a, what) for a in sorted(host.devices.interface(name))]
    return tuple(found)
