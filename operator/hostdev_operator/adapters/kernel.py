"""HostDevices of ports.py on a real (or, in tests, a made-up) /sys and /proc."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from ..core.model import PciDevice, Platform, Use
from ..core.pci import PciAddress
from ..core.sriov import Pf, VfConfig
from .hostuse import HostUse
from .netlink import Netlink
from .sriov import Sriov
from .sysfs import PciSysfs

_POLL_SECONDS = 0.05


class Kernel:
    """The host's kernel below ``host_root``: ``/`` on the host itself, ``/host`` in a pod that mounts it there."""

    def __init__(self, host_root: Path, netlink: Netlink | None = None) -> None:
        self._root = host_root
        self._pci = PciSysfs(host_root)
        self._sriov = Sriov(self._pci, netlink or Netlink())
        self._use = HostUse(host_root, self._pci)
        self._uses: tuple[float, tuple[Use, ...]] = (-math.inf, ())

    def devices(self) -> tuple[PciDevice, ...]:
        """All PCI functions."""
        return self._pci.devices()

    def device(self, address: PciAddress) -> PciDevice | None:
        """One PCI function, read now."""
        return self._pci.device(address)

    def iommu_group(self, address: PciAddress) -> int | None:
        """The device's IOMMU group now."""
        return self._pci.iommu_group(address)

    def driver(self, address: PciAddress) -> str | None:
        """The driver that is bound now."""
        return self._pci.driver(address)

    def wait_for_driver(self, address: PciAddress, wanted: Callable[[str | None], bool], seconds: float) -> str | None:
        """Look until the driver is as wanted: sysfs has no events for it that a container would get."""
        deadline = time.monotonic() + seconds
        while True:
            current = self.driver(address)
            if wanted(current) or time.monotonic() >= deadline:
                return current
            time.sleep(_POLL_SECONDS)

    def platform(self) -> Platform:
        """What assignments need of the host."""
        sys = self._root / "sys"
        groups = sys / "kernel/iommu_groups"
        unsafe = sys / "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
        return Platform(
            iommu=groups.is_dir() and any(groups.iterdir()),
            interrupt_remapping=self._interrupt_remapping(),
            unsafe_interrupts=unsafe.exists() and unsafe.read_text().strip() == "Y",
            vfio=(sys / "bus/pci/drivers/vfio-pci").is_dir(),
            boot_id=self._boot_id(),
        )

    def _boot_id(self) -> str:
        try:
            return (self._root / "proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""

    def _interrupt_remapping(self) -> bool | None:
        """On x86 remapped interrupts have chips named IR-... (arch/x86, irq_remapping); None elsewhere."""
        try:
            text = (self._root / "proc/interrupts").read_text()
        except OSError:
            return None
        if " IR-" in text:
            return True
        return False if "IO-APIC" in text or "PCI-MSI" in text else None

    def uses(self, age: float = 0.0) -> tuple[Use, ...]:
        """What the host itself needs."""
        began = time.monotonic()
        when, known = self._uses
        if began - when >= age:
            known = self._use.uses()
            self._uses = began, known
        return known

    def block_device(self, path: str) -> frozenset[PciAddress] | None:
        """The PCI controllers under a block device."""
        return self._use.block_device(path)

    def scsi_host(self, name: str) -> frozenset[PciAddress]:
        """The PCI devices behind a SCSI host."""
        return self._use.scsi_host(name)

    def interface(self, name: str) -> frozenset[PciAddress]:
        """The PCI devices under an interface."""
        return self._use.interface(name)

    def pfs(self) -> tuple[Pf, ...]:
        """The network side of the PFs."""
        return self._sriov.pfs()

    def set_num_vfs(self, address: PciAddress, count: int, seconds: float) -> None:
        """Make so many VFs of a PF."""
        self._sriov.set_num_vfs(address, count, seconds)

    def set_autoprobe(self, address: PciAddress, *, on: bool) -> None:
        """Whether new VFs get a driver of the host."""
        self._sriov.set_autoprobe(address, on=on)

    def set_link(self, address: PciAddress, *, up: bool) -> None:
        """Bring a PF's netdev up or down."""
        self._sriov.set_link(address, up=up)

    def configure_vf(self, address: PciAddress, index: int, config: VfConfig) -> None:
        """Set what the PF's driver does for a VF."""
        self._sriov.configure_vf(address, index, config)

    def blocked(self) -> frozenset[PciAddress]:
        """PFs of which a change has not returned within its deadline, and still has not."""
        return self._sriov.blocked()
