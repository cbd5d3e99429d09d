"""Reads libvirt's XML of storage pools (formatstorage.html): what of the host's storage a pool is made of."""

from __future__ import annotations

from dataclasses import dataclass

from .domain_xml import parse
from .pci import PciAddress
from .pci_xml import Element, read_address

# Made of files on a mounted file system, or of something behind a network.
_NOTHING_LOCAL = frozenset(
    ["dir", "gluster", "iscsi", "iscsi-direct", "netfs", "rbd", "sheepdog", "vstorage"],
)
_OF_DEVICES = frozenset(["disk", "fs", "logical", "zfs"])


@dataclass(frozen=True)
class StoragePool:
    """A storage pool: paths of its block devices, names of its SCSI hosts, or the addresses of their controllers.

    ``followable`` is False where the pool does not say (all of) what it is made of: it could be on any controller.
    """

    name: str
    kind: str
    paths: frozenset[str]
    hosts: frozenset[str]
    followable: bool
    addresses: frozenset[PciAddress] = frozenset()


def storage_pool(text: str) -> StoragePool:
    """One pool from its XML; etree.XMLSyntaxError if that is broken."""
    pool = parse(text)
    name, kind = pool.findtext("name") or "", pool.get("type") or ""
    nothing = frozenset[str]()
    if kind in _NOTHING_LOCAL:
        return StoragePool(name, kind, nothing, nothing, followable=True)
    if kind in _OF_DEVICES:
        paths = frozenset(device.get("path") or "" for device in pool.findall("source/device"))
        return StoragePool(name, kind, paths - {""}, nothing, followable=bool(paths) and "" not in paths)
    if kind == "scsi":
        return _of_adapter(name, kind, pool.find("source/adapter"))
    return StoragePool(name, kind, nothing, nothing, followable=False)  # mpath: all multipath devices; unknown kinds


def _of_adapter(name: str, kind: str, adapter: Element | None) -> StoragePool:
    """A SCSI host is named (scsi_host3, or host3 of old), or found by its controller; a virtual port by its parent."""
    nothing = frozenset[str]()
    host = address = None
    if adapter is not None:
        host = adapter.get("parent" if adapter.get("type") == "fc_host" else "name")
        address = read_address(adapter.find("parentaddr/address"))
    return StoragePool(
        name,
        kind,
        nothing,
        frozenset([host]) if host else nothing,
        followable=bool(host or address),
        addresses=frozenset([address]) if address else frozenset(),
    )
