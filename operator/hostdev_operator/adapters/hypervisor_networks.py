"""libvirt's networks: what LibvirtHypervisor does with them on an open connection."""

from __future__ import annotations

import re
from typing import Any

import libvirt

from ..core import reasons
from ..core.errors import HostError
from ..core.network_xml import NetworkXml
from .libvirt_errors import unless_gone

#: Of a text by libvirt's own formatter.
_HANDS_OUT_VFS = re.compile(r"<forward\b[^>]*\smode='hostdev'")
_CONNECTIONS = re.compile(r"<network\b[^>]*\sconnections='(\d+)'")
#: From networkObjAssignDef (src/conf/virnetworkobj.c).
_OTHER_UUID = ("already exists with uuid", "is already defined with uuid")


def read(connection: Any) -> tuple[NetworkXml, ...]:
    """Every network; one that vanishes meanwhile is left out.

    A call takes as long as a round trip to libvirtd, so one for each network must do. Only where VFs are handed out is
    it asked which networks are started, autostarted and persistent, by three lists.
    """
    found = []
    for network in connection.listAllNetworks(0):
        text = unless_gone(network.XMLDesc, 0)
        if text is not None:
            found.append((network, text))
    ours = [(network, text) for network, text in found if _HANDS_OUT_VFS.search(text)]
    rest = (_plain(network, text) for network, text in found if not _HANDS_OUT_VFS.search(text))
    return (*rest, *(_with_vfs(connection, ours) if ours else ()))


def _plain(network: Any, text: str) -> NetworkXml:
    return NetworkXml(
        name=network.name(),
        uuid=network.UUIDString(),
        active=True,
        autostart=True,
        persistent=True,
        live=text,
        config=text,
    )


def _with_vfs(connection: Any, networks: list[tuple[Any, str]]) -> tuple[NetworkXml, ...]:
    active, autostarted, persistent = (
        {network.UUIDString() for network in connection.listAllNetworks(flag)}
        for flag in (
            libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE,
            libvirt.VIR_CONNECT_LIST_NETWORKS_AUTOSTART,
            libvirt.VIR_CONNECT_LIST_NETWORKS_PERSISTENT,
        )
    )
    found = []
    for network, text in networks:
        uuid = network.UUIDString()
        live = text if uuid in active else None
        config = None
        if uuid in persistent:  # without the flag, a network that is not started shows its definition as well
            config = unless_gone(network.XMLDesc, libvirt.VIR_NETWORK_XML_INACTIVE) if live else text
        if live or config:
            found.append(
                NetworkXml(
                    name=network.name(),
                    uuid=uuid,
                    active=live is not None,
                    autostart=uuid in autostarted,
                    persistent=config is not None,
                    live=live,
                    config=config,
                )
            )
    return tuple(found)


def define(connection: Any, xml: str) -> None:
    """VirNetworkDefineXML: libvirt looks whether name and UUID belong together."""
    try:
        connection.networkDefineXML(xml)
    except libvirt.libvirtError as error:
        if any(words in str(error) for words in _OTHER_UUID):
            raise HostError(reasons.NETWORK_DIFFERS, f"defining a network: {error}") from error
        raise


def start(connection: Any, name: str) -> None:
    """VirNetworkCreate."""
    network = connection.networkLookupByName(name)
    if network.isActive():
        return
    try:
        network.create()
    except libvirt.libvirtError:  # somebody else may have been faster
        if not network.isActive():
            raise


def autostart(connection: Any, name: str) -> None:
    """VirNetworkSetAutostart."""
    connection.networkLookupByName(name).setAutostart(1)


def stop(connection: Any, name: str) -> None:
    """VirNetworkDestroy, unless somebody is on it: libvirt itself would not mind (tried with 11.3)."""
    network = unless_gone(connection.networkLookupByName, name)
    if network is None or not network.isActive():
        return
    connections = _CONNECTIONS.search(network.XMLDesc(0))
    if connections and int(connections[1]):
        raise HostError(
            reasons.HOST_CHANGED,
            f"network {name} was not stopped: it had no connections a moment ago, and has {connections[1]} now",
        )
    try:
        network.destroy()
    except libvirt.libvirtError:
        if unless_gone(network.isActive):
            raise


def undefine(connection: Any, name: str, uuid: str) -> None:
    """VirNetworkUndefine."""
    network = unless_gone(connection.networkLookupByName, name)
    if network is not None and network.UUIDString() == uuid and network.isPersistent():
        unless_gone(network.undefine)
