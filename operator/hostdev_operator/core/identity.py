"""Which device is meant, whatever its address is: addresses change when cards are added, removed or moved.

Sources: PCI subsystem IDs (header), the vital product data's SN, an NVMe controller's serial, the way through the
slots (no bus numbers: those are handed out anew at each boot), for a VF its PF's permanent MAC and its index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Identity:
    """A device's fingerprint. ``serial`` and ``pf_mac`` are None where they cannot be read (now).

    ``serial_source`` (VPD, NVMe, DSN) says who told the serial: numbers of two sources say nothing about each other.
    """

    vendor: int
    product: int
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    function: int = 0
    serial: str | None = None
    serial_source: str | None = None
    slot_path: str = ""
    pf_mac: str | None = None
    vf_index: int | None = None

    @property
    def model(self) -> tuple[int, int, int, int]:
        """What a card of the same kind has as well."""
        return self.vendor, self.product, self.subsystem_vendor, self.subsystem_device

    def same(self, other: Identity) -> bool:
        """Whether both are one device.

        The best that both tell decides: a VF's PF and index; the serial (all functions of a card share it); the slot.
        """
        if self.model != other.model or self.vf_index != other.vf_index:
            return False
        if self.pf_mac and other.pf_mac:
            return self.pf_mac == other.pf_mac
        if self.serial and other.serial and self.serial_source == other.serial_source:
            return (self.serial, self.function) == (other.serial, other.function)
        return self.slot_path == other.slot_path

    def __str__(self) -> str:
        parts = [f"{self.vendor:04x}:{self.product:04x}"]
        parts += [f"serial {self.serial}"] if self.serial else []
        parts += [f"VF {self.vf_index} of {self.pf_mac or 'its PF'}"] if self.vf_index is not None else []
        parts += [f"slot path {self.slot_path}"] if self.slot_path else []
        return f"[{', '.join(parts)}]"


class Identified(Protocol):
    """Something with a fingerprint."""

    @property
    def identity(self) -> Identity:
        """The fingerprint."""


T = TypeVar("T", bound=Identified)


def find(wanted: Identity, devices: Iterable[T]) -> tuple[T, ...]:
    """All that can be the device; those at the same slot path alone, if there are such (serials that repeat)."""
    found = tuple(d for d in devices if wanted.same(d.identity))
    in_place = tuple(d for d in found if d.identity.slot_path == wanted.slot_path)
    return in_place or found
