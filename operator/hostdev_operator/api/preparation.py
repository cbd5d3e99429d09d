"""DeviceHost.spec.preparation: what the host must bring along before guests can have its devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import Model, rules

EarlyAddress = Annotated[
    str,
    Field(
        max_length=16,
        json_schema_extra=rules(
            (
                "self.matches('^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f][.][0-7]$')",
                "a device is an address in lspci's form: 0000:01:00.0",
            )
        ),
    ),
]


class UnsafeInterrupts(Model):
    """The opt-in for hosts without interrupt remapping."""

    risk: Literal["Accepted"] = Field(
        description="Accepted: every guest that has a device is trusted not to inject interrupts into the host."
    )
    reason: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Why that is so: shown in the conditions of the DeviceHost."
    )


class Preparation(Model):
    """What is asked of the host. What is absent is not asked for, and not looked at."""

    mode: Literal["Check", "Apply"] = Field(
        default="Check",
        description="Check: conditions say what is missing, each with the commands that mend it; nothing is changed."
        " Apply: the host's own unit hostdev-prepare, which an administrator has installed there, changes the boot"
        " configuration. The host is never rebooted. Check, or no preparation at all, takes all of it back.",
    )
    iommu: Literal["Required"] | None = Field(
        default=None,
        description="Required: the IOMMU is on. Apply adds intel_iommu=on or amd_iommu=on to its command line.",
    )
    unsafe_interrupts: UnsafeInterrupts | None = Field(
        default=None,
        description="Guests get devices although the host has no interrupt remapping. Apply sets"
        " allow_unsafe_interrupts of vfio_iommu_type1, at once and for each boot, and only where there is no remapping."
        " Absent: they do not.",
    )
    vfio_modules: Literal["AtBoot"] | None = Field(
        default=None, description="AtBoot: vfio-pci is loaded. Apply has it loaded at each boot."
    )
    early_binding: Annotated[
        tuple[EarlyAddress, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(
        default=(),
        description="Devices that no driver of the host may touch, by address in full and in lower case: they are on"
        " vfio-pci. Apply binds them at boot before drivers are loaded, each alone and not all of its kind; a device"
        " that the host needs is left out.",
    )
