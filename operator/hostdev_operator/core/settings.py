"""What the administrator says of one node, in the spec of its DeviceHost."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

from ..api.devicehost import DEVICES_PER_GUEST, DeviceHostSpec
from ..api.preparation import Preparation
from .pci import PciAddress

#: Of spec.approval.
MANUAL = "Manual"
#: spec.driftPolicy.
CORRECT = "Correct"


@dataclass(frozen=True)
class Settings:
    """``paused``: look and report, change nothing. ``overrides``: device -> why it may be taken from the host.

    ``release_orphans``: UIDs of records whose assignment is gone, and whose devices shall be given back. ``manual``:
    every plan must be approved. ``devices_per_guest``: how many host devices a guest may have.
    ``preparation``: what the host must bring along.
    """

    paused: bool = False
    overrides: Mapping[PciAddress, str] = field(default_factory=lambda: MappingProxyType({}))
    release_orphans: frozenset[str] = frozenset()
    manual: bool = False
    devices_per_guest: int = DEVICES_PER_GUEST
    preparation: Preparation | None = None

    @classmethod
    def of(cls, spec: DeviceHostSpec | None) -> Settings:
        """From a DeviceHost's spec; an override whose address is malformed is left out: it overrides nothing."""
        if spec is None:
            return cls()
        overrides = {}
        for override in spec.critical_overrides:
            with suppress(ValueError):
                overrides[PciAddress.parse(override.device)] = override.reason
        manual = spec.approval == MANUAL
        orphans = frozenset(spec.release_orphans)
        per_guest = spec.limits.devices_per_guest
        return cls(spec.paused, MappingProxyType(overrides), orphans, manual, per_guest, spec.preparation)
