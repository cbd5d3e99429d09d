"""What somebody else changes by hand, and what becomes of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import AddressText, Model

#: What becomes of what somebody else has changed.
DriftPolicy = Literal["Report", "Correct"]


class SettledStatus(Model):
    """What stood when nothing was left to do: what differs from it later, somebody else has changed."""

    wanted: Annotated[str, Field(max_length=32, pattern="^[0-9a-f]{32}$")] = Field(
        description="Digest of what was asked for, and of what decides on the host what that means."
    )
    boot_id: Annotated[str, Field(max_length=64)] = Field(
        default="",
        alias="bootID",
        description="The host's boot (/proc/sys/kernel/random/boot_id): what a reboot changes is nobody's doing.",
    )


class GuestSettledStatus(SettledStatus):
    """The same of an assignment."""

    run: int | None = Field(
        default=None,
        description="libvirt's ID of the guest's run in which the guest had all of it; absent if it was off, or lacked"
        " something until its next boot.",
    )


class PoolSettledStatus(SettledStatus):
    """The same of a pool on one node."""

    left_out: tuple[AddressText, ...] | None = Field(
        default=None,
        max_length=1024,
        description="VFs that others had, and that were left out of the network for it; absent while the network is"
        " still to become so.",
    )
