"""The record of one assignment: what was there before, so that it can be given back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from .identity import Identity
from .intent import ASSIGN_ALL, DETACH_UNUSED
from .pci import PciAddress
from .sriov import VfConfig

FORMAT = 1


@dataclass(frozen=True)
class Member:
    """An endpoint of the claimed group before it was touched; ``driver`` is None if it had none."""

    address: PciAddress
    identity: Identity
    driver: str | None


@dataclass(frozen=True)
class Record:
    """Written and fsynced before the first change, removed after the last one was undone.

    While it exists the group belongs to the assignment ``uid``; ``domain_uuid`` is None for a reservation. ``sequence``
    grows with every change, so that of two copies (state directory, status) the newer is known. ``vf``: of a VF that
    the guest has as its NIC, the settings that were or will be changed, as they were before; None if there are none.
    ``adopted``: the guest had the device in its XML before; what the host had before that is not known.
    """

    uid: str
    namespace: str
    name: str
    address: PciAddress
    domain_uuid: str | None
    domain_name: str | None
    managed: bool
    members: tuple[Member, ...]
    group_policy: str = DETACH_UNUSED
    sequence: int = 1
    vf: VfConfig | None = None
    adopted: bool = False

    @property
    def owner(self) -> str:
        """The assignment as namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def purpose(self) -> str:
        """What it holds its group for, in messages."""
        return f"for guest {self.domain_name or self.domain_uuid}" if self.domain_uuid else "as a reservation"

    @property
    def identity(self) -> Identity | None:
        """The fingerprint of the assigned device."""
        member = self.member(self.address)
        return member.identity if member else None

    def member(self, address: PciAddress) -> Member | None:
        """What is recorded of one endpoint."""
        return next((m for m in self.members if m.address == address), None)

    def covers(self, address: PciAddress) -> bool:
        """Whether the device is claimed by this assignment, as its device or as a mate."""
        return address == self.address or self.member(address) is not None

    @property
    def targets(self) -> frozenset[PciAddress]:
        """The endpoints that the guest gets; the other members are held."""
        return (
            frozenset(m.address for m in self.members) if self.group_policy == ASSIGN_ALL else frozenset({self.address})
        )

    def changed(self, address: PciAddress, members: tuple[Member, ...]) -> Record:
        """The next version of the record with this device and these members."""
        return replace(self, address=address, members=members, sequence=self.sequence + 1)

    def to_json(self) -> str:
        """The journal's text: one JSON object with its format number."""
        return json.dumps(
            {
                "format": FORMAT,
                "sequence": self.sequence,
                "uid": self.uid,
                "namespace": self.namespace,
                "name": self.name,
                "address": str(self.address),
                "domainUUID": self.domain_uuid,
                "domainName": self.domain_name,
                "managed": self.managed,
                "groupPolicy": self.group_policy,
                "members": [
                    {"address": str(m.address), "identity": asdict(m.identity), "driver": m.driver}
                    for m in self.members
                ],
                "vf": asdict(self.vf) if self.vf else None,
                "adopted": self.adopted,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read ``to_json``'s text; ValueError, TypeError or KeyError if it is not one."""
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("a record is a JSON object")  # noqa: TRY004 - to the caller it is a text that is wrong
        if data.get("format") != FORMAT:
            raise ValueError(f"record of format {data.get('format')!r}; this version reads {FORMAT}")
        return cls(
            uid=data["uid"],
            namespace=data["namespace"],
            name=data["name"],
            address=PciAddress.parse(data["address"]),
            domain_uuid=data["domainUUID"],
            domain_name=data["domainName"],
            managed=data["managed"],
            group_policy=data["groupPolicy"],
            members=tuple(
                Member(PciAddress.parse(m["address"]), Identity(**m["identity"]), m["driver"]) for m in data["members"]
            ),
            sequence=data["sequence"],
            vf=VfConfig(**data["vf"]) if data.get("vf") else None,  # older records have none
            adopted=data.get("adopted", False),
        )
