"""Which device a DeviceAssignment means: by address, by properties, or any VF of a pool."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from .common import AddressInput, IntOrHex, Model, PciId, PoolName, rules
from .network import MacAddress, PortgroupName


def _number(limit: int, digits: str) -> dict[str, Any]:
    """An integer up to the limit, or hexadecimal text with 0x.

    Native validation, since CEL cannot bound the cost of text that may be a number: the pattern holds for text alone,
    the limits for numbers alone.
    """
    return {"pattern": f"^0x{digits}$", "minimum": 0, "maximum": limit}


class PciSource(Model):
    """A device by its address, written in one of three ways."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.address) ? !has(self.domain) && !has(self.bus) && !has(self.slot)"
                " && !has(self.function) : has(self.bus) && has(self.slot) && has(self.function)",
                "give the device once: either address, or bus, slot and function (and domain)",
            ),
        )
    )

    address: AddressInput | None = Field(
        default=None,
        description="The address in lspci's form 0000:01:00.0 (hexadecimal; without the domain it is 0000)"
        " or libvirt's name pci_0000_01_00_0.",
    )
    domain: IntOrHex | None = Field(
        default=None,
        json_schema_extra=_number(0x7FFFFFFF, "[0-9a-fA-F]{1,7}"),
        description="PCI domain: an integer or 0x text; 0 if absent.",
    )
    bus: IntOrHex | None = Field(
        default=None, json_schema_extra=_number(0xFF, "[0-9a-fA-F]{1,2}"), description="PCI bus: an integer or 0x text."
    )
    slot: IntOrHex | None = Field(
        default=None,
        json_schema_extra=_number(0x1F, "[01]?[0-9a-fA-F]"),
        description="PCI slot (device): an integer or 0x text.",
    )
    function: IntOrHex | None = Field(
        default=None, json_schema_extra=_number(0x7, "0?[0-7]"), description="PCI function: an integer or 0x text."
    )


class MatchSource(Model):
    """A device by what it is: all fields that are given must fit."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.vendor) || has(self.device) || has(self.class) || has(self.serial) || has(self.slotPath)"
                " || has(self.pfMAC) || has(self.numaNode)",
                "say what to match: vendor, device, class, serial, slotPath, pfMAC with vfIndex, or numaNode",
            ),
            ("has(self.pfMAC) == has(self.vfIndex)", "a VF is named by both: pfMAC and vfIndex"),
        )
    )

    vendor: PciId | None = Field(default=None, description="PCI vendor, for example 0x8086.")
    device: PciId | None = Field(default=None, description="PCI device (product), for example 0x10c9.")
    class_: Annotated[str, Field(max_length=8, pattern="^0x[0-9a-fA-F]{2}([0-9a-fA-F]{2}){0,2}$")] | None = Field(
        default=None,
        alias="class",
        description="PCI class: base class (0x02), with subclass (0x0200), or with programming interface (0x020000).",
    )
    serial: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Serial number, as status.devices[].serial of the DeviceHost shows it."
    )
    slot_path: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="The way from the root bus without bus numbers, for example 0000:00/1c.0/00.0; it stays the same"
        " when buses are numbered anew.",
    )
    pf_mac: MacAddress | None = Field(default=None, alias="pfMAC", description="A VF: permanent MAC address of its PF.")
    vf_index: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="A VF: its index on that PF, from 0."
    )
    numa_node: Annotated[int, Field(ge=0, le=1023)] | None = Field(default=None, description="NUMA node.")
    any: bool = Field(
        default=False,
        description="false: exactly one device may fit. true: the first free one that fits is chosen once; from then on"
        " status.identity says which.",
    )


class PoolSource(Model):
    """Any free VF of a pool: libvirt takes one at each start of the guest, and gives it back at its end."""

    name: PoolName = Field(description="The VFPool.")
    portgroup: PortgroupName | None = Field(
        default=None,
        description="A portgroup of the VFPool, for its VLAN; the pool's default portgroup if absent. One that the pool"
        " does not have is refused.",
    )


class Source(Model):
    """Which device is meant. Exactly one of the fields."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.pci) ? 1 : 0) + (has(self.match) ? 1 : 0) + (has(self.pool) ? 1 : 0) == 1",
                "name the device once: either source.pci, source.match or source.pool",
            )
        )
    )

    pci: PciSource | None = Field(default=None, description="A device by its PCI address on the node.")
    match: MatchSource | None = Field(default=None, description="A device by its properties.")
    pool: PoolSource | None = Field(default=None, description="Any VF of a VFPool.")
