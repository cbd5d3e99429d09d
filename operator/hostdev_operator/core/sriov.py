"""What the host says of SR-IOV: a PF's network side, and the settings of its VFs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

from ..api.network import VfSettings
from .pci import PciAddress


@dataclass(frozen=True)
class VfConfig:
    """A VF's settings as its PF's driver has them (rtnetlink IFLA_VF_*, `ip link show PF`).

    None: not told, or not asked for. ``mac`` is lower case, ``vlan`` 0 is untagged, ``link_state`` is auto, enable or
    disable, rates are Mbit/s (0: no limit).
    """

    mac: str | None = None
    vlan: int | None = None
    trust: bool | None = None
    spoof_check: bool | None = None
    link_state: str | None = None
    min_tx_rate: int | None = None
    max_tx_rate: int | None = None

    def lacking(self, wanted: VfConfig) -> VfConfig:
        """What of ``wanted`` is not so yet; all None if nothing is."""
        kept = {f.name: None for f in fields(self) if getattr(wanted, f.name) == getattr(self, f.name)}
        return replace(wanted, **kept)

    def only(self, asked: VfConfig) -> VfConfig:
        """These settings where ``asked`` says something."""
        return VfConfig(**{f.name: getattr(self, f.name) for f in fields(self) if getattr(asked, f.name) is not None})

    def or_else(self, other: VfConfig) -> VfConfig:
        """These settings, and those of the other one where these say nothing."""
        unsaid = {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **unsaid)

    @property
    def empty(self) -> bool:
        """Whether nothing is said."""
        return self == VfConfig()

    @classmethod
    def of(cls, settings: VfSettings) -> VfConfig:
        """What a resource asks for beyond MAC and VLAN."""
        return cls(
            trust=settings.trust,
            spoof_check=settings.spoof_check,
            link_state=settings.link_state.lower() if settings.link_state else None,
            min_tx_rate=settings.min_tx_rate,
            max_tx_rate=settings.max_tx_rate,
        )


@dataclass(frozen=True)
class Pf:
    """A PF's network side. ``netdev`` is None where its driver has none (vfio-pci, or still starting).

    ``mac`` is the permanent one (lower case); ``autoprobe``: sriov_drivers_autoprobe, None where the kernel has no such
    file; ``vfs`` by index, empty where they cannot be read.
    """

    address: PciAddress
    netdev: str | None = None
    mac: str | None = None
    up: bool = False
    autoprobe: bool | None = None
    vfs: Mapping[int, VfConfig] = field(default_factory=lambda: MappingProxyType({}))
