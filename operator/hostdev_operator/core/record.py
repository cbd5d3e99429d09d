"""The record of one assignment: what was there before, so that it can be given back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from .pci import PciAddress

FORMAT = 1


@dataclass(frozen=True)
class Member:
    """An endpoint of the claimed group before it was touched; ``driver`` is None if it had none."""

    address: PciAddress
    vendor: int
    product: int
    driver: str | None


@dataclass(frozen=True)
class Record:
    """Written and fsynced before the first change, removed after the last one was undone.

    While it exists the group belongs to the assignment ``uid``. ``sequence`` grows with every change, so that of
    two copies (state directory, status) the newer is known.
    """

    uid: str
    namespace: str
    name: str
    address: PciAddress
    domain_uuid: str
    domain_name: str
    managed: bool
    members: tuple[Member, ...]
    sequence: int = 1

    @property
    def owner(self) -> str:
        """The assignment as namespace/name."""
        return f"{self.namespace}/{self.name}"

    def member(self, address: PciAddress) -> Member | None:
        """What is recorded of one endpoint."""
        return next((m for m in self.members if m.address == address), None)

    def covers(self, address: PciAddress) -> bool:
        """Whether the device is claimed by this assignment, as its device or as a mate."""
        return address == self.address or self.member(address) is not None

    def with_members(self, members: tuple[Member, ...]) -> Record:
        """The next version of the record with these members."""
        return replace(self, members=members, sequence=self.sequence + 1)

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
                "members": [
                    {"address": str(m.address), "vendor": m.vendor, "product": m.product, "driver": m.driver}
                    for m in self.members
                ],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read ``to_json``'s text; ValueError or KeyError if it is not one."""
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
            members=tuple(
                Member(PciAddress.parse(m["address"]), m["vendor"], m["product"], m["driver"]) for m in data["members"]
            ),
            sequence=data["sequence"],
        )
