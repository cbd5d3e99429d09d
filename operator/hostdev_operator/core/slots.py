"""Where a running guest can take one more PCI device: hot plug adds no controllers (libvirt, "PCI topology")."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slots:
    """Free slots for hot plug. ``has_express``: the guest has PCI Express, so that devices need a fitting kind.

    ``known`` is False for a guest whose slots cannot be counted: nothing is said to be lacking then.
    """

    has_express: bool = False
    express: int = 0
    conventional: int = 0
    known: bool = True

    def lack(self, *, express: int, conventional: int) -> str | None:
        """What is missing for so many devices of each kind; None if they fit, or if that cannot be told."""
        if not self.known:
            return None
        if not self.has_express:
            express, conventional = 0, express + conventional
        for wanted, free, kind in (
            (express, self.express, "PCI Express (a pcie-root-port without a device)"),
            (conventional, self.conventional, "conventional PCI (pci-root, pci-bridge or pcie-to-pci-bridge)"),
        ):
            if wanted > free:
                return f"{wanted} free hot-pluggable slot(s) of {kind} needed, {free} there"
        return None
