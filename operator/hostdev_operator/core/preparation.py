"""Preparing a host: what is asked of it as a file for the host's unit, and that unit's answer.

The agent writes no boot configuration: it leaves a file of a fixed vocabulary in its state directory, and a unit of the
host (manifests/host/hostdev-prepare) carries it out and leaves an answer beside it. docs/host.md has both formats.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..api.preparation import Preparation
from .model import Observation, PciDevice, Role
from .pci import PciAddress

#: Of both files; the script's own must be the same.
VERSION = "1"
NOTHING = "none"
APPLY = "Apply"
INTEL, AMD = "intel_iommu=on", "amd_iommu=on"
_HEADER = "# Written by hostdev-operator for hostdev-prepare: what the DeviceHost's spec.preparation asks for\n"
_ANSWER_LINES = 300
_TEXT = 300


@dataclass(frozen=True)
class DaemonLimits:
    """What libvirt's daemon may have. ``may_raise``: it may give guests more than it has (CAP_SYS_RESOURCE).

    ``locked`` is in bytes and None without a limit; ``files`` is how many files it may raise its own limit to.
    """

    name: str
    may_raise: bool
    locked: int | None
    files: int


@dataclass(frozen=True)
class BootFacts:
    """What the kernel says of its boot and of the hardware. ``words`` are those of its command line.

    ``table`` is the firmware's table of IOMMUs, DMAR (Intel) or IVRS (AMD), ``vendor`` the processor's. ``efi``: it was
    booted by EFI. ``daemon`` is libvirt's, None where it was not found; ``files`` are open in all, of at most so many.
    """

    vendor: str = ""
    table: str | None = None
    iommus: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    efi: bool = False
    daemon: DaemonLimits | None = None
    files: tuple[int, int] | None = None

    @property
    def boot_word(self) -> str:
        """The kernel's word that turns this host's IOMMU on; the table decides where there is one."""
        amd = self.table == "IVRS" or (self.table is None and self.vendor == "AuthenticAMD")
        return AMD if amd else INTEL

    def says(self, word: str) -> bool:
        """Whether the command line turns the IOMMU on by that word: of several the kernel takes the last."""
        key = word.partition("=")[0]
        states = [part for part in self._parts(key) if part in {"on", "off"}]
        return states[-1:] == ["on"]

    @property
    def blocked_by(self) -> str | None:
        """The word that turns the IOMMU off, whatever stands behind it (iommu_setup, parse_amd_iommu_options)."""
        for name in ("iommu", "amd_iommu") if self.boot_word == AMD else ("iommu",):
            if "off" in self._parts(name):
                return f"{name}=off"
        return None

    def _parts(self, key: str) -> list[str]:
        values = (word.partition("=")[2] for word in self.words if word.startswith(f"{key}="))
        return [part for value in values for part in value.split(",")]


@dataclass(frozen=True)
class Answer:
    """What the host's unit has left. ``next``: words that stand for the next boot; ``undone``: taken off in ``boot``.

    ``early``: what became, at this boot, of devices for vfio-pci. ``failed``: what it could not do, and why.
    """

    version: str
    request: str = NOTHING
    boot: str = ""
    loader: str = ""
    next: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    early: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    failed: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Answer:
        """From the file's text; what is not understood is left out."""
        found: dict[str, list[str]] = {}
        for line in text.splitlines()[:_ANSWER_LINES]:
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value.strip()[:_TEXT])

        def one(key: str) -> str:
            return found.get(key, [""])[0]

        return cls(
            one("version"),
            one("request"),
            one("boot"),
            one("loader"),
            tuple(found.get("next", ())),
            tuple(found.get("undone", ())),
            MappingProxyType({a: result for a, _, result in (v.partition(" ") for v in found.get("early", ()))}),
            tuple(found.get("failed", ())),
        )


@dataclass(frozen=True)
class Request:
    """What the unit is to see to. ``early``: devices (address, vendor:product) for vfio-pci at boot."""

    word: str | None = None
    unsafe_interrupts: bool = False
    modules: bool = False
    early: tuple[tuple[str, str], ...] = ()

    @property
    def _lines(self) -> str:
        lines = (
            *((f"boot-word {self.word}",) if self.word else ()),
            *(("unsafe-interrupts yes",) if self.unsafe_interrupts else ()),
            *(("modules vfio-pci",) if self.modules else ()),
            *(f"early {address} {product}" for address, product in self.early),
        )
        return "".join(f"{line}\n" for line in lines)

    @property
    def id(self) -> str:
        """What the answer names: the same for the same request."""
        return hashlib.sha256(self._lines.encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The file."""
        return f"{_HEADER}version {VERSION}\nrequest {self.id}\n{self._lines}"


def early_of(text: str | None) -> dict[str, str]:
    """The devices that a request's text has: a device that is not there for a while stays asked for."""
    return dict(re.findall(r"^early (\S+) (\S+)$", text or "", re.MULTILINE))


def request(asked: Preparation | None, host: Observation, facts: BootFacts, before: str | None) -> Request:
    """What the unit is asked for; nothing unless the mode is Apply."""
    if asked is None or asked.mode != APPLY:
        return Request()
    known = early_of(before)
    left_out = needed(asked, host)
    early = []
    for text in sorted(set(asked.early_binding)):
        device = _device(host, text)
        product = f"{device.vendor:04x}:{device.product:04x}" if device else known.get(text)
        stays = host.unknown_use and text in known
        if product and (stays or text not in left_out):
            early.append((text, product))
    return Request(
        facts.boot_word if asked.iommu else None,
        asked.unsafe_interrupts is not None and not host.platform.interrupt_remapping,
        asked.vfio_modules is not None,
        tuple(early),
    )


def needed(asked: Preparation, host: Observation) -> dict[str, str]:
    """The devices that are not taken from the host at boot, and why; an override lifts the host's needs."""
    found = {}
    lifted = host.settings.overrides
    for device in filter(None, (_device(host, text) for text in asked.early_binding)):
        uses = [u.what for u in host.uses_of(device.address) if u.by_guest or device.address not in lifted]
        if device.role is not Role.ENDPOINT:
            found[str(device.address)] = f"it is a {device.role.value}"
        elif uses:
            found[str(device.address)] = "; ".join(uses)
        elif host.unknown_use:
            found[str(device.address)] = f"what the host needs cannot be told ({host.unknown_use})"
    return found


def _device(host: Observation, text: str) -> PciDevice | None:
    try:
        return host.devices.get(PciAddress.parse(text))
    except ValueError:
        return None
