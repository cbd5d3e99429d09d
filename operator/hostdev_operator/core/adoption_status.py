"""What the status says of the IOMMU group of a device that was adopted."""

from __future__ import annotations

from ..api.common import Condition
from . import reasons
from .conditions import GROUP_READY, condition
from .model import Observation, PciDevice
from .plan import not_held
from .record import Record


def group_left(device: PciDevice, record: Record, host: Observation, guest: str) -> Condition:
    """An adopted device's group is not touched: whether the guest can start with it, others decide."""
    loose = not_held(device, host.mates(device), record)
    if not loose:
        text = f"IOMMU group {device.iommu_group} of {device.address} is left as it is"
        return condition(GROUP_READY, True, "Adopted", text)
    names = ", ".join(f"{d.label} (driver {d.driver or 'none'})" for d in loose)
    text = (
        f"{names} of IOMMU group {device.iommu_group} must be on vfio-pci before guest {guest} can start with"
        " it, and an adopted device's group is left as it is: detach them (virsh nodedev-detach), or set spec.adopt to"
        " false, and they are held"
    )
    return condition(GROUP_READY, False, reasons.IOMMU_GROUP_NOT_VIABLE, text)
