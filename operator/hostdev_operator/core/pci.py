"""PCI addresses in the spellings of lspci, sysfs, libvirt and the guide."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LSPCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])", re.IGNORECASE)
_LIBVIRT = re.compile(r"pci_([0-9a-f]{4,8})_([0-9a-f]{2})_([01][0-9a-f])_([0-7])", re.IGNORECASE)
_LIMITS = {"domain": 0x7FFFFFFF, "bus": 0xFF, "slot": 0x1F, "function": 0x7}


@dataclass(frozen=True, order=True)
class PciAddress:
    """Domain, bus, slot and function of a device. Domains above 0xffff exist (Intel VMD: 0x10000)."""

    domain: int
    bus: int
    slot: int
    function: int

    def __post_init__(self) -> None:
        for field, limit in _LIMITS.items():
            if not 0 <= getattr(self, field) <= limit:
                found = f"{getattr(self, field):#x}"
                raise ValueError(f"PCI {field} {found} is not between 0 and {limit:#x}; lspci -D lists what there is")

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """Read ``0000:01:00.0``, ``01:00.0`` or ``pci_0000_01_00_0``; ValueError for anything else."""
        match = _LSPCI.fullmatch(text) or _LIBVIRT.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not a PCI address: write 0000:01:00.0 or pci_0000_01_00_0")
        return cls(*(int(part or "0", 16) for part in match.groups()))

    @classmethod
    def from_numbers(cls, domain: int | str | None, bus: int | str, slot: int | str, function: int | str) -> PciAddress:
        """Take integers, or text with 0x. Decimal text is refused: bus '10' is 16 to lspci and 10 to virsh."""
        return cls(*(_number(value) for value in (domain or 0, bus, slot, function)))

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"

    @property
    def libvirt_name(self) -> str:
        """The node device's name in libvirt: ``pci_0000_01_00_0``."""
        return f"pci_{self.domain:04x}_{self.bus:02x}_{self.slot:02x}_{self.function:x}"


def _number(value: int | str) -> int:
    if isinstance(value, int):
        return value
    if not value.lower().startswith("0x"):
        raise ValueError(f"{value!r} is ambiguous: write an integer, or hexadecimal text with 0x")
    return int(value, 16)
