"""Hypervisor of ports.py on libvirt."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from ..core import domain_xml, reasons
from ..core.actions import (
    AddController,
    AddHostdev,
    AddInterface,
    DropSavedImage,
    HostdevXml,
    InterfaceXml,
    PlugHostdev,
    PlugInterface,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    UnplugHostdev,
    UnplugInterface,
)
from ..core.domain_xml import GuestXml
from ..core.errors import HostError
from ..core.guest import DefineGuest, ShutDownGuest, StartGuest, UndefineGuest
from ..core.host_status import Names
from ..core.network_xml import NetworkXml
from ..core.pci import PciAddress
from ..core.reasons import Reason
from ..core.release import refused_unplug
from . import deadline, hypervisor_domains, hypervisor_networks
from .hypervisor_domains import config_of, xml_of
from .libvirt_connection import LibvirtConnection
from .libvirt_errors import reason_of, unless_gone

T = TypeVar("T")
#: Finds a device of ours in a domain's XML; its text, or None.
_Find = Callable[[str], str | None]

READ_SECONDS = 30.0
CHANGE_SECONDS = 60.0
#: How long a guest has to let go of a device after libvirt's own 5 s; later it counts as pending, and events tell.
UNPLUG_SECONDS = 3.0
_POLL_SECONDS = 0.1
#: Also for hot plug and unplug. Unbinding a driver can take long (a NIC that drains) and can hang for ever
#: (kubernetes#112795).
DRIVER_SECONDS = 120.0


class LibvirtHypervisor:
    """Every call has a deadline and ends in a HostError with a reason of the catalogue if it fails."""

    def __init__(self, connection: LibvirtConnection) -> None:
        self._connection = connection
        self._driver_calls: dict[str, PciAddress] = {}

    def guests(self) -> tuple[GuestXml, ...]:
        """Every domain; one that vanishes meanwhile is left out."""
        return self._call("reading the guests", hypervisor_domains.read)

    def starting(self) -> bool:
        """Whether libvirt is starting a guest: it has an id, and is not running yet (qemuProcessStart). One call."""
        return self._call("looking for guests that are being started", hypervisor_domains.any_starting)

    def networks(self) -> tuple[NetworkXml, ...]:
        """Every network."""
        return self._call("reading the networks", hypervisor_networks.read)

    def define_network(self, xml: str) -> None:
        """VirNetworkDefineXML."""
        self._call("defining a network", lambda c: hypervisor_networks.define(c, xml), CHANGE_SECONDS)

    def start_network(self, name: str) -> None:
        """VirNetworkCreate."""
        self._call(f"starting network {name}", lambda c: hypervisor_networks.start(c, name), CHANGE_SECONDS)

    def autostart_network(self, name: str) -> None:
        """VirNetworkSetAutostart."""
        self._call(f"autostarting network {name}", lambda c: hypervisor_networks.autostart(c, name), CHANGE_SECONDS)

    def stop_network(self, name: str) -> None:
        """VirNetworkDestroy."""
        self._call(f"stopping network {name}", lambda c: hypervisor_networks.stop(c, name), CHANGE_SECONDS)

    def undefine_network(self, name: str, uuid: str) -> None:
        """VirNetworkUndefine."""
        self._call(f"undefining network {name}", lambda c: hypervisor_networks.undefine(c, name, uuid), CHANGE_SECONDS)

    def storage_pools(self) -> tuple[str, ...] | None:
        """XML of every storage pool; None where libvirt has no storage driver (it is a package of its own)."""

        def read(connection: Any) -> tuple[str, ...] | None:
            try:
                found = connection.listAllStoragePools(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                    return None
                raise
            texts = (unless_gone(pool.XMLDesc, 0) for pool in found)
            return tuple(xml for xml in texts if xml is not None)

        return self._call("reading the storage pools", read)

    def names(self, addresses: tuple[PciAddress, ...]) -> Names:
        """Names of the devices that libvirt knows."""

        def read(connection: Any) -> Names:
            found = {}
            for address in addresses:
                device = unless_gone(connection.nodeDeviceLookupByName, address.libvirt_name)
                if device is not None:
                    found[address] = domain_xml.node_device_names(device.XMLDesc(0))
            return found

        return self._call("reading the names of devices", read)

    def detach_driver(self, address: PciAddress) -> None:
        """VirNodeDeviceDetachFlags to vfio."""
        self._change_driver(
            f"detaching {address} from its host driver",
            address,
            lambda c: c.nodeDeviceLookupByName(address.libvirt_name).detachFlags("vfio", 0),
            reasons.DETACH_BLOCKED,
        )

    def reattach_driver(self, address: PciAddress) -> None:
        """VirNodeDeviceReAttach. That it succeeds does not prove that a driver is bound: the caller looks."""
        self._change_driver(
            f"giving {address} back to its host driver",
            address,
            lambda c: c.nodeDeviceLookupByName(address.libvirt_name).reAttach(),
            reasons.REATTACH_BLOCKED,
        )

    def blocked(self) -> frozenset[PciAddress]:
        """By the calls that missed their deadline. A restart of the agent forgets them."""
        return frozenset(self._driver_calls[what] for what in deadline.late() if what in self._driver_calls)

    def _change_driver(
        self, what: str, address: PciAddress | None, work: Callable[[Any], object], blocked: Reason
    ) -> None:
        """``address``: what is blocked if it hangs; None if libvirt alone chooses the device."""
        if address is not None:
            if address in self.blocked():
                raise HostError(blocked, f"{what}: an earlier change of it has not returned yet")
            self._driver_calls[what] = address
        self._call(what, work, DRIVER_SECONDS, blocked)

    def add_hostdev(self, action: AddHostdev) -> None:
        """virDomainAttachDeviceFlags(CONFIG): libvirt edits the definition under its own lock, so that nobody's
        change is lost and what we do not own stays as it is.
        """  # noqa: D205
        what = f"adding {action.hostdev.address} to guest {action.domain_uuid}"
        self._call(what, _attach_to_config(action.domain_uuid, *_hostdev(action.hostdev)), CHANGE_SECONDS)

    def add_controller(self, action: AddController) -> None:
        """virDomainAttachDeviceFlags(CONFIG). Libvirt refuses an index that is taken."""
        what = f"adding PCI controller {action.controller} to guest {action.domain_uuid}"
        ours = _by_index(action.controller.index, action.alias)

        def add(connection: Any) -> None:
            domain = connection.lookupByUUIDString(action.domain_uuid)
            config = config_of(domain)
            if ours(config) is None and _by_index(action.controller.index)(config) is not None:
                raise HostError(reasons.HOST_CHANGED, f"{what}: it has one of that index by now")
            if ours(config) is None:
                _attach(domain, domain_xml.controller_xml(action), ours, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

        self._call(what, add, CHANGE_SECONDS)

    def remove_controller(self, action: RemoveController) -> None:
        """virDomainDetachDeviceFlags(CONFIG)."""
        what = f"removing PCI controller {action.controller} from guest {action.domain_uuid}"
        found = _by_index(action.controller.index, action.alias)
        self._call(what, _detach_from_config(action.domain_uuid, found), CHANGE_SECONDS)

    def drop_saved_image(self, action: DropSavedImage) -> None:
        """VirDomainManagedSaveRemove."""
        what = f"dropping the managed save image of guest {action.domain_uuid}"
        self._call(what, lambda c: hypervisor_domains.drop_image(c, action.domain_uuid), CHANGE_SECONDS)

    def define_guest(self, step: DefineGuest) -> None:
        """virDomainDefineXMLFlags(VALIDATE)."""
        self._call(str(step), lambda c: hypervisor_domains.define(c, step.definition), CHANGE_SECONDS)

    def start_guest(self, step: StartGuest) -> None:
        """virDomainCreate, which takes managed devices from their host drivers."""
        self._call(str(step), lambda c: hypervisor_domains.start(c, step.uuid), DRIVER_SECONDS)

    def shut_down_guest(self, step: ShutDownGuest) -> None:
        """VirDomainShutdown."""
        self._call(str(step), lambda c: hypervisor_domains.shut_down(c, step.uuid), CHANGE_SECONDS)

    def undefine_guest(self, step: UndefineGuest) -> None:
        """virDomainUndefineFlags: a guest that is saved, or has snapshots, is refused."""
        self._call(str(step), lambda c: hypervisor_domains.undefine(c, step.uuid), CHANGE_SECONDS)

    def plug_hostdev(self, action: PlugHostdev) -> None:
        """virDomainAttachDeviceFlags(LIVE). VFIO locks all of the guest's memory at the first device."""
        what = f"plugging {action.hostdev.address} into guest {action.domain_uuid}"
        work = _attach_to_running(what, action.domain_uuid, *_hostdev(action.hostdev))
        self._change_driver(what, action.hostdev.address, work, reasons.DETACH_BLOCKED)

    def add_interface(self, action: AddInterface) -> None:
        """virDomainAttachDeviceFlags(CONFIG)."""
        what = f"adding a NIC of network {action.interface.network} to guest {action.domain_uuid}"
        self._call(what, _attach_to_config(action.domain_uuid, *_interface(action.interface)), CHANGE_SECONDS)

    def plug_interface(self, action: PlugInterface) -> None:
        """virDomainAttachDeviceFlags(LIVE): the network allocates one of its VFs."""
        what = f"plugging a NIC of network {action.interface.network} into guest {action.domain_uuid}"
        work = _attach_to_running(what, action.domain_uuid, *_interface(action.interface))
        self._change_driver(what, None, work, reasons.DETACH_BLOCKED)

    def unplug_hostdev(self, action: UnplugHostdev) -> None:
        """virDomainDetachDeviceFlags(LIVE). It waits 5 s for the guest, and then calls it a success: so look."""
        self._unplug(action.domain_uuid, action.address, action.alias, _by_address(action.address))

    def unplug_interface(self, action: UnplugInterface) -> None:
        """The same for a NIC, which is known by its alias."""
        self._unplug(action.domain_uuid, action.address, action.alias, _by_alias(action.alias, action.mac))

    def _unplug(self, domain_uuid: str, address: PciAddress | None, alias: str | None, find: _Find) -> None:
        device = str(address or alias)
        what = f"unplugging {device} from guest {domain_uuid}"

        def unplug(connection: Any) -> None:
            domain = unless_gone(connection.lookupByUUIDString, domain_uuid)
            if domain is None or not domain.isActive():
                return
            found = find(xml_of(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE))
            if found is None:
                return
            self._connection.rejections.discard((domain_uuid, alias or ""))
            self._connection.asked.add((domain_uuid, alias or ""))
            domain.detachDeviceFlags(found, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            self._wait_until_out(domain, device, alias, find)

        try:
            self._change_driver(what, address, unplug, reasons.DETACH_BLOCKED)
        except HostError as error:
            if error.reason is reasons.NO_GUEST_PCI_SLOT:  # "does not support hotplugging" is about its slot here
                raise HostError(reasons.UNPLUG_REJECTED, error.message) from error
            raise

    def _wait_until_out(self, domain: Any, device: str, alias: str | None, find: _Find) -> None:
        """Until the live XML is without it; HostError UnplugRejected or UnplugPending if it stays."""
        end = time.monotonic() + UNPLUG_SECONDS
        while True:
            xml = _unless_off(xml_of, domain, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            if xml is None or find(xml) is None:
                return
            if (domain.UUIDString(), alias) in self._connection.rejections:
                raise HostError(reasons.UNPLUG_REJECTED, refused_unplug(domain.name(), device))
            if time.monotonic() >= end:
                raise HostError(
                    reasons.UNPLUG_PENDING,
                    f"guest {domain.name()} was asked to let go of {device} and has not answered; it is given back when"
                    f" the guest lets go or is shut off (virsh shutdown {domain.name()})",
                )
            time.sleep(_POLL_SECONDS)

    def rejections(self) -> frozenset[tuple[str, str]]:
        """By DEVICE_REMOVAL_FAILED; forgotten with the next request, and with the connection."""
        return frozenset(self._connection.rejections)

    def remove_hostdev(self, action: RemoveHostdev) -> None:
        """virDomainDetachDeviceFlags(CONFIG)."""
        what = f"removing {action.address} from guest {action.domain_uuid}"
        self._call(what, _detach_from_config(action.domain_uuid, _by_address(action.address)), CHANGE_SECONDS)

    def remove_interface(self, action: RemoveInterface) -> None:
        """The same for a NIC, which is known by its alias."""
        what = f"removing NIC {action.alias or action.mac} from guest {action.domain_uuid}"
        found = _by_alias(action.alias, action.mac)
        self._call(what, _detach_from_config(action.domain_uuid, found), CHANGE_SECONDS)

    def _call(
        self,
        what: str,
        work: Callable[[Any], T],
        seconds: float = READ_SECONDS,
        blocked: Reason = reasons.LIBVIRT_UNAVAILABLE,
    ) -> T:
        connection = self._connection.get()
        try:
            return deadline.call(lambda: work(connection), seconds, blocked, what)
        except deadline.NotTriedError:  # what hangs may hang on an older connection
            raise
        except HostError as error:
            if error.reason is reasons.LIBVIRT_UNAVAILABLE:  # it hangs: a new connection may not
                self._connection.lost(connection)
            raise
        except libvirt.libvirtError as error:
            reason = reason_of(error)
            if reason is reasons.LIBVIRT_UNAVAILABLE:
                self._connection.lost(connection)
            raise HostError(reason, f"{what}: {error}") from error


def _hostdev(hostdev: HostdevXml) -> tuple[str, _Find]:
    """Its text, and how it is found again."""
    return domain_xml.hostdev_xml(hostdev), _by_address(hostdev.address)


def _interface(interface: InterfaceXml) -> tuple[str, _Find]:
    return domain_xml.interface_xml(interface), _by_alias(interface.alias)


def _by_address(address: PciAddress) -> _Find:
    return lambda xml: domain_xml.find_hostdev(xml, address)


def _by_index(index: int, alias: str | None = None) -> _Find:
    return lambda xml: domain_xml.find_controller(xml, index, alias)


def _by_alias(alias: str | None, mac: str | None = None) -> _Find:
    return lambda xml: domain_xml.find_interface(xml, alias, mac)


def _attach_to_config(domain_uuid: str, device: str, find: _Find) -> Callable[[Any], None]:
    return lambda c: _attach(c.lookupByUUIDString(domain_uuid), device, find, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _attach_to_running(what: str, domain_uuid: str, device: str, find: _Find) -> Callable[[Any], None]:
    def attach(connection: Any) -> None:
        domain = connection.lookupByUUIDString(domain_uuid)
        if not domain.isActive():
            raise HostError(reasons.HOST_CHANGED, f"{what}: it ran a moment ago, and is off now")
        _attach(domain, device, find, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    return attach


def _attach(domain: Any, device: str, find: _Find, flag: int) -> None:
    try:
        domain.attachDeviceFlags(device, flag)
    except libvirt.libvirtError:  # it refuses what is there already
        if find(xml_of(domain, flag)) is None:
            raise


def _detach_from_config(domain_uuid: str, find: _Find) -> Callable[[Any], None]:
    def remove(connection: Any) -> None:
        domain = unless_gone(connection.lookupByUUIDString, domain_uuid)
        if domain is None:
            return
        config = unless_gone(config_of, domain)
        found = find(config) if config else None
        if found is not None:
            domain.detachDeviceFlags(found, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    return remove


def _unless_off(work: Callable[..., T], domain: Any, *arguments: object) -> T | None:
    """None if the domain is gone or not running any more."""
    found = unless_gone(work, domain, *arguments)
    return found if found is None or domain.isActive() else None
