"""Hypervisor of ports.py on libvirt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from ..core import domain_xml, reasons
from ..core.actions import AddHostdev, RemoveHostdev
from ..core.domain_xml import GuestXml
from ..core.errors import HostError
from ..core.host_status import Names
from ..core.pci import PciAddress
from ..core.reasons import Reason
from . import deadline
from .libvirt_connection import LibvirtConnection

T = TypeVar("T")

READ_SECONDS = 30.0
CHANGE_SECONDS = 60.0
#: Unbinding a driver can take long (a NIC that drains) and can hang for ever (kubernetes#112795).
DRIVER_SECONDS = 120.0


class LibvirtHypervisor:
    """Every call has a deadline and ends in a HostError with a reason of the catalogue if it fails."""

    def __init__(self, connection: LibvirtConnection) -> None:
        self._connection = connection
        self._driver_calls: dict[str, PciAddress] = {}

    def guests(self) -> tuple[GuestXml, ...]:
        """Every domain; one that vanishes meanwhile is left out."""

        def read(connection: Any) -> tuple[GuestXml, ...]:
            found = (_read_domain(domain) for domain in connection.listAllDomains(0))
            return tuple(xml for xml in found if xml is not None)

        return self._call("reading the guests", read)

    def networks(self) -> tuple[str, ...]:
        """XML of every network."""

        def read(connection: Any) -> tuple[str, ...]:
            found = (_unless_gone(network.XMLDesc, 0) for network in connection.listAllNetworks(0))
            return tuple(xml for xml in found if xml is not None)

        return self._call("reading the networks", read)

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
            raise HostError(blocked, f"{what}: an earlier change of its driver has not returned yet")
        self._driver_calls[what] = address
        self._call(what, work, DRIVER_SECONDS, blocked)

    def add_hostdev(self, action: AddHostdev) -> None:
        """virDomainAttachDeviceFlags(CONFIG): libvirt edits the definition under its own lock, so that nobody's
        change is lost and what we do not own stays as it is.
        """  # noqa: D205

        def add(connection: Any) -> None:
            domain = connection.lookupByUUIDString(action.domain_uuid)
            if domain_xml.find_hostdev(_config(domain), action.address) is None:
                domain.attachDeviceFlags(domain_xml.hostdev_xml(action), libvirt.VIR_DOMAIN_AFFECT_CONFIG)

        self._call(f"adding {action.address} to guest {action.domain_uuid}", add, CHANGE_SECONDS)

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
    return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def _read_domain(domain: Any) -> GuestXml | None:
    def read() -> GuestXml:
        return GuestXml(
            uuid=domain.UUIDString(),
            name=domain.name(),
            live=domain.XMLDesc(0) if domain.isActive() else None,
            config=_config(domain) if domain.isPersistent() else None,
        )

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
