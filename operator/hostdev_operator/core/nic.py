"""What an assignment wants of a guest's NIC, what the guest has of it, and the settings of a VF behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .actions import NicXml
from .intent import Intent, NicIntent
from .mac import derived_mac
from .model import Guest, Nic, Observation, PciDevice
from .pci import PciAddress
from .pool_actions import ConfigureVf
from .record import Record
from .sriov import Pf, VfConfig

#: A VF without a MAC address of its own. Some drivers do not take it back; libvirt sets the other one then
#: (libvirt 11.3, virnetdev.c: virNetDevSetVfMac).
NO_MACS = ("00:00:00:00:00:00", "02:00:00:00:00:00")
#: What libvirt sets itself when it gives the VF to the guest.
_BY_LIBVIRT = VfConfig(mac="", vlan=0)


def of_alias(nics: Iterable[Nic], alias: str) -> Nic | None:
    """The NIC with our alias."""
    return next((n for n in nics if n.alias == alias), None)


def of_vf(nics: Iterable[Nic], intent: Intent) -> Nic | None:
    """The NIC that is the assignment's VF, whatever its alias: a guest has a VF once."""
    return next((n for n in nics if n.address == intent.address), None)


def wanted_nic(intent: Intent | NicIntent, config: Nic | None, live: Nic | None) -> NicXml | None:
    """What the guest's XML is to say of the NIC; None if the device is none.

    Without a MAC asked for, the one that the guest's XML has stays: nothing that is lost can change it. ``config`` and
    ``live`` are the guest's NIC as it is.
    """
    nic = intent.nic
    if nic is None or intent.domain_uuid is None:
        return None
    has = next((n.mac for n in (config, live) if n is not None), None)
    mac = nic.mac or has or derived_mac(intent.namespace, intent.name, intent.domain_uuid)
    return NicXml(mac, nic.vlan, nic.profile, config.guest_address if config else None)


def is_as(nic: Nic | None, wanted: NicXml) -> bool:
    """Whether the guest's NIC has this MAC, VLAN and profile."""
    return nic is not None and (nic.mac, nic.vlan, nic.profile) == (wanted.mac, wanted.vlan, wanted.profile)


def words(mac: str | None, vlan: int | None, profile: str | None) -> str:
    """A NIC in messages."""
    parts = [f"MAC {mac}", f"VLAN {vlan}" if vlan is not None else "no VLAN"]
    parts += [f"profile {profile}"] if profile is not None else []
    return ", ".join(parts)


def holder_of_mac(mac: str, guest: Guest, mine: tuple[Nic | None, ...], host: Observation) -> str | None:
    """The guest that has the MAC address on another NIC than ours; None if nobody has it."""
    for other in host.guests:
        for nic in (*other.nics, *other.live_nics):
            if nic.mac == mac and not (other.uuid == guest.uuid and nic in mine):
                return f"guest {other.name} ({'running' if other.active else 'defined'})"
    return None


def pf_of(device: PciDevice, host: Observation) -> Pf | None:
    """The PF of a VF, if it can be seen."""
    return host.pfs.get(device.physfn) if device.physfn else None


def config_now(device: PciDevice, host: Observation) -> VfConfig:
    """What the PF's driver tells of the VF; nothing if it tells nothing."""
    pf = pf_of(device, host)
    return pf.vfs.get(device.vf_index, VfConfig()) if pf and device.vf_index is not None else VfConfig()


def before(intent: Intent, record: Record | None, device: PciDevice, host: Observation) -> VfConfig | None:
    """``Record.vf`` as it must stand before anything is changed; what was recorded once stays.

    Only what libvirt or we change is recorded: what somebody else sets meanwhile is not ours to undo. While a guest
    runs with the VF, its MAC and VLAN are the guest's, and nobody but libvirt knows what they were before.
    """
    known = record.vf if record else None
    if intent.nic is None:
        return known
    now = config_now(device, host).only(intent.nic.settings.or_else(_BY_LIBVIRT))
    if any(h.address == device.address for guest in host.guests for h in guest.live):
        now = replace(now, mac=None, vlan=None)
    return known.or_else(now) if known else now


def to_configure(intent: Intent, record: Record, device: PciDevice, host: Observation) -> tuple[ConfigureVf, ...]:
    """The settings that libvirt does not set: as asked, or, if they are asked for no more, as they were before."""
    if intent.nic is None or record.vf is None:
        return ()
    wanted = intent.nic.settings.or_else(replace(record.vf, mac=None, vlan=None))
    return _configure(device, config_now(device, host).lacking(wanted))


def to_restore(record: Record, host: Observation) -> tuple[ConfigureVf, ...]:
    """What of the recorded VF is not as it was before, once no guest has it."""
    device = host.devices.get(record.address)
    if record.vf is None or device is None or (record.identity and not record.identity.same(device.identity)):
        return ()
    lacking = config_now(device, host).lacking(record.vf)
    if record.vf.mac in NO_MACS and config_now(device, host).mac in NO_MACS:
        lacking = replace(lacking, mac=None)
    return _configure(device, lacking)


def _configure(device: PciDevice, lacking: VfConfig) -> tuple[ConfigureVf, ...]:
    if lacking.empty or device.physfn is None or device.vf_index is None:
        return ()
    return (ConfigureVf(device.physfn, device.vf_index, lacking),)


def vf_inputs(address: PciAddress, host: Observation) -> tuple[object, ...]:
    """What the fate of a VF depends on beyond its group: its settings, and whether its PF is up."""
    device = host.devices.get(address)
    pf = pf_of(device, host) if device else None
    return (pf.netdev, pf.up, config_now(device, host)) if device and pf else ()
