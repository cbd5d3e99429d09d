"""What a NodeVFPool asks for, and the record of what was there before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..api.vfpool import NodeVFPoolSpec
from .identity import Identity
from .pci import PciAddress
from .sriov import VfConfig


@dataclass(frozen=True)
class PoolWish:
    """One NodeVFPool of this node. ``name`` is the VFPool's; ``created`` its creationTimestamp (RFC 3339)."""

    uid: str
    name: str
    created: str
    generation: int
    spec: NodeVFPoolSpec

    @property
    def rank(self) -> tuple[str, str]:
        """Age; of two of the same second the UID decides."""
        return self.created, self.uid

    @property
    def network_name(self) -> str:
        """The libvirt network's name."""
        return self.spec.network.name or self.name

    @property
    def indices(self) -> range | None:
        """The VFs of the pool; None: all of the PF."""
        if self.spec.pf.vfs is None:
            return None
        first, last = map(int, self.spec.pf.vfs.split("-"))
        return range(first, last + 1)


@dataclass(frozen=True)
class PoolRecord:
    """Written and fsynced before the first change for a pool, removed after the last one was undone.

    ``num_vfs_before``, ``autoprobe_before`` (None: not changed) and ``up_before`` are the PF's from before any pool;
    ``num_vfs`` and ``autoprobe`` what it shall have after a reboot (None: externally managed, or left alone).
    ``adopted``: the network was there before, and stays. ``vfs_before``: settings of VFs that were changed, by index.
    """

    uid: str
    name: str
    pf: PciAddress
    identity: Identity
    pf_mac: str | None
    num_vfs_before: int
    up_before: bool
    network_name: str
    autoprobe_before: bool | None = None
    num_vfs: int | None = None
    autoprobe: bool | None = None
    network_uuid: str | None = None
    adopted: bool = False
    vfs_before: Mapping[int, VfConfig] = field(default_factory=lambda: MappingProxyType({}))
    sequence: int = 1
