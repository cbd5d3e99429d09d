"""What a NodeVFPool asks for, and the record of what was there before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from ..api.vfpool import NodeVFPoolSpec
from .identity import Identity
from .pci import PciAddress
from .sriov import VfConfig

FORMAT = 1


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
    ``num_vfs`` and ``autoprobe`` what it shall have after a reboot (None: externally managed, or left alone), and
    ``link_up`` whether its netdev shall be brought up then.
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
    link_up: bool = False
    network_uuid: str | None = None
    adopted: bool = False
    vfs_before: Mapping[int, VfConfig] = field(default_factory=lambda: MappingProxyType({}))
    sequence: int = 1

    @property
    def owner(self) -> str:
        """The pool, in messages."""
        return f"pool {self.name}"

    def to_json(self) -> str:
        """The journal's text: one JSON object with its format number."""
        return json.dumps(
            {
                "format": FORMAT,
                "sequence": self.sequence,
                "uid": self.uid,
                "name": self.name,
                "pf": str(self.pf),
                "identity": asdict(self.identity),
                "pfMAC": self.pf_mac,
                "numVFsBefore": self.num_vfs_before,
                "upBefore": self.up_before,
                "autoprobeBefore": self.autoprobe_before,
                "numVFs": self.num_vfs,
                "autoprobe": self.autoprobe,
                "linkUp": self.link_up,
                "networkName": self.network_name,
                "networkUUID": self.network_uuid,
                "adopted": self.adopted,
                "vfsBefore": {str(index): asdict(config) for index, config in sorted(self.vfs_before.items())},
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> PoolRecord:
        """Read ``to_json``'s text; ValueError, TypeError or KeyError if it is not one."""
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("a record is a JSON object")  # noqa: TRY004 - to the caller it is a text that is wrong
        if data.get("format") != FORMAT:
            raise ValueError(f"record of format {data.get('format')!r}; this version reads {FORMAT}")
        vfs = {int(index): VfConfig(**config) for index, config in dict(data["vfsBefore"]).items()}
        return cls(
            uid=data["uid"],
            name=data["name"],
            pf=PciAddress.parse(data["pf"]),
            identity=Identity(**data["identity"]),
            pf_mac=data["pfMAC"],
            num_vfs_before=data["numVFsBefore"],
            up_before=data["upBefore"],
            network_name=data["networkName"],
            autoprobe_before=data["autoprobeBefore"],
            num_vfs=data["numVFs"],
            autoprobe=data["autoprobe"],
            link_up=data["linkUp"],
            network_uuid=data["networkUUID"],
            adopted=data["adopted"],
            vfs_before=MappingProxyType(vfs),
            sequence=data["sequence"],
        )
