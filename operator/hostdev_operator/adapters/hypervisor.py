"""Hypervisor of ports.py on libvirt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from ..core import domain_xml, reasons
from ..core.actions import AddHostdev, HostdevXml, PlugHostdev, RemoveHostdev, UnplugHostdev
from ..core.domain_xml import GuestXml
from ..core.errors import HostError
from ..core.host_status import Names
from ..core.pci import PciAddress
from ..core.reasons import Reason
from ..core.release import refused_unplug
from . import deadline
from .libvirt_connection import LibvirtConnection

T = TypeVar("T")

READ_SECONDS = 30.0
CHANGE_SECONDS = 60.0
#: How long a guest has to let go of a device after libvirt's own 5 s; later it counts as pending, and events tell.
UNPLUG_SECONDS = 3.0
_POLL_SECONDS = 0.1
#: Only a running domain's XML has an id.
_RUNNING = re.compile(r"<domain\b[^>]*\sid=")
#: Also for hot plug and unplug. Unbinding a driver can take long (a NIC that drains) and can hang for ever
#: (kubernetes#112795).
DRIVER_SECONDS = 120.0


class LibvirtHypervisor:
    """Every call has a deadline and ends in a HostError with a reason of the catalogue if it fails."""

    def __init__(self, connection: LibvirtConnection) -> None:
        self._connection = connection
        self._driver_calls: dict[str, PciAddress] = {}

    def guests(self) -> tuple[GuestXml, ...]:
        """Every domain; one that vanishes meanwhile is left out.

        A call takes as long as a round trip to libvirtd, so no more are made than one for each XML: what runs is told
        by the list (a domain's id), and what is persistent by a second list: whatever does not run, is.
        """

        def read(connection: Any) -> tuple[GuestXml, ...]:
            domains = connection.listAllDomains(0)
            transient = set[str]()
            if any(domain.ID() >= 0 for domain in domains):
                without_definition = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
                transient = {domain.UUIDString() for domain in without_definition}
            found = (_read_domain(domain, domain.UUIDString() not in transient) for domain in domains)
            return tuple(xml for xml in found if xml is not None)

        return self._call("reading the guests", read)

    def networks(self) -> tuple[str, ...]:
        """XML of every network."""

        def read(connection: Any) -> tuple[str, ...]:
            found = (_unless_gone(network.XMLDesc, 0) for network in connection.listAllNetworks(0))
            return tuple(xml for xml in found if xml is not None)

        return self._call("reading the networks", read)

    def storage_pools(self) -> tuple[str, ...] | None:
        """XML of every storage pool; None where libvirt has no storage driver (it is a package of its own)."""

        def read(connection: Any) -> tuple[str, ...] | None:
            try:
                found = connection.listAllStoragePools(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                    return None
                raise
            texts = (_unless_gone(pool.XMLDesc, 0) for pool in found)
            return tuple(xml for xml in texts if xml is not None)

        return self._call("reading the storage pools", read)

    def names(self, addresses: tuple[PciAddress, ...]) -> Names:
        """Names of the devices that libvirt knows."""

        def read(connection: Any) -> Names:
            found = {}
            for address in addresses:
                device = _unless_gone(connection.nodeDeviceLookupByName, address.libvirt_name)
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

    def _change_driver(self, what: str, address: PciAddress, work: Callable[[Any], object], blocked: Reason) -> None:
        if address in self.blocked():
            raise HostError(blocked, f"{what}: an earlier change of it has not returned yet")
        self._driver_calls[what] = address
        self._call(what, work, DRIVER_SECONDS, blocked)

    def add_hostdev(self, action: AddHostdev) -> None:
        """virDomainAttachDeviceFlags(CONFIG): libvirt edits the definition under its own lock, so that nobody's
        change is lost and what we do not own stays as it is.
        """  # noqa: D205
        what = f"adding {action.hostdev.address} to guest {action.domain_uuid}"
        self._attach(what, action.domain_uuid, action.hostdev, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def plug_hostdev(self, action: PlugHostdev) -> None:
        """virDomainAttachDeviceFlags(LIVE)."""
        what = f"plugging {action.hostdev.address} into guest {action.domain_uuid}"
        self._attach(what, action.domain_uuid, action.hostdev, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def _attach(self, what: str, domain_uuid: str, hostdev: HostdevXml, flag: int) -> None:
        def attach(connection: Any) -> None:
            domain = connection.lookupByUUIDString(domain_uuid)
            if flag == libvirt.VIR_DOMAIN_AFFECT_LIVE and not domain.isActive():
                raise HostError(reasons.HOST_CHANGED, f"{what}: it ran a moment ago, and is off now")
            try:
                domain.attachDeviceFlags(domain_xml.hostdev_xml(hostdev), flag)
            except libvirt.libvirtError:  # it refuses what is there already
                if domain_xml.find_hostdev(_xml(domain, flag), hostdev.address) is None:
                    raise

        if flag == libvirt.VIR_DOMAIN_AFFECT_LIVE:  # VFIO locks all of the guest's memory at the first device
            self._change_driver(what, hostdev.address, attach, reasons.DETACH_BLOCKED)
        else:
            self._call(what, attach, CHANGE_SECONDS)

    def unplug_hostdev(self, action: UnplugHostdev) -> None:
        """virDomainDetachDeviceFlags(LIVE). It waits 5 s for the guest, and then calls it a success: so look."""
        what = f"unplugging {action.address} from guest {action.domain_uuid}"

        def unplug(connection: Any) -> None:
            domain = _unless_gone(connection.lookupByUUIDString, action.domain_uuid)
            if domain is None or not domain.isActive():
                return
            hostdev = domain_xml.find_hostdev(_xml(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE), action.address)
            if hostdev is None:
                return
            self._connection.rejections.discard((action.domain_uuid, action.alias))
            domain.detachDeviceFlags(hostdev, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            self._wait_until_out(domain, action)

        try:
            self._change_driver(what, action.address, unplug, reasons.DETACH_BLOCKED)
        except HostError as error:
            if error.reason is reasons.NO_GUEST_PCI_SLOT:  # "does not support hotplugging" is about its slot here
                raise HostError(reasons.UNPLUG_REJECTED, error.message) from error
            raise

    def _wait_until_out(self, domain: Any, action: UnplugHostdev) -> None:
        """Until the live XML is without it; HostError UnplugRejected or UnplugPending if it stays."""
        end = time.monotonic() + UNPLUG_SECONDS
        while True:
            xml = _unless_off(_xml, domain, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            if xml is None or domain_xml.find_hostdev(xml, action.address) is None:
                return
            if (action.domain_uuid, action.alias) in self._connection.rejections:
                raise HostError(reasons.UNPLUG_REJECTED, refused_unplug(domain.name(), action.address))
            if time.monotonic() >= end:
                raise HostError(
                    reasons.UNPLUG_PENDING,
                    f"guest {domain.name()} was asked to let go of {action.address} and has not answered; it is given"
                    f" back when the guest lets go or is shut off (virsh shutdown {domain.name()})",
                )
            time.sleep(_POLL_SECONDS)

    def rejections(self) -> frozenset[tuple[str, str]]:
        """By DEVICE_REMOVAL_FAILED; forgotten with the next request, and with the connection."""
        return frozenset(self._connection.rejections)

    def remove_hostdev(self, action: RemoveHostdev) -> None:
        """virDomainDetachDeviceFlags(CONFIG)."""

        def remove(connection: Any) -> None:
            domain = _unless_gone(connection.lookupByUUIDString, action.domain_uuid)
            if domain is None:
                return
            config = _unless_gone(_config, domain)
            hostdev = domain_xml.find_hostdev(config, action.address) if config else None
            if hostdev is not None:
                domain.detachDeviceFlags(hostdev, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

        self._call(f"removing {action.address} from guest {action.domain_uuid}", remove, CHANGE_SECONDS)

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
            reason = _reason(error)
            if reason is reasons.LIBVIRT_UNAVAILABLE:
                self._connection.lost(connection)
            raise HostError(reason, f"{what}: {error}") from error


def _config(domain: Any) -> str:
    return _xml(domain, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _xml(domain: Any, flag: int) -> str:
    """The live or the persistent XML: a running domain's inactive XML is the persistent one."""
    live = flag == libvirt.VIR_DOMAIN_AFFECT_LIVE
    return str(domain.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE))


def _unless_off(work: Callable[..., T], domain: Any, *arguments: object) -> T | None:
    """None if the domain is gone or not running any more."""
    found = _unless_gone(work, domain, *arguments)
    return found if found is None or domain.isActive() else None


def _read_domain(domain: Any, persistent: bool) -> GuestXml | None:  # noqa: FBT001
    def read() -> GuestXml | None:
        live = _xml(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE) if domain.ID() >= 0 else None
        if live is not None and not _RUNNING.match(live):  # it was shut off since the list was made
            live = None
        config = _config(domain) if persistent else None
        if live is None and config is None:
            return None
        return GuestXml(uuid=domain.UUIDString(), name=domain.name(), live=live, config=config)

    return _unless_gone(read)


_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_NODE_DEVICE,
)


def _unless_gone(work: Callable[..., T], *arguments: object) -> T | None:
    """None if the object vanished between listing and reading."""
    try:
        return work(*arguments)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise


def _reason(error: libvirt.libvirtError) -> Reason:
    code = error.get_error_code()
    if code in (libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN):
        return reasons.LIBVIRT_UNAVAILABLE
    if code == libvirt.VIR_ERR_NO_NODE_DEVICE:
        return reasons.DEVICE_NOT_FOUND
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return reasons.GUEST_NOT_FOUND
    return reasons.from_words(str(error))
