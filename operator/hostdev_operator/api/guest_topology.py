"""Where in its PCI topology a guest gets a device, and what may be added to that for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import Model, rules

GuestAddress = Annotated[
    str,
    Field(
        max_length=12,
        json_schema_extra=rules(
            (
                "self.matches('^0000:[0-9a-f]{2}:[01][0-9a-f][.][0-7]$')",
                "guestAddress is an address in the guest, in full and in lower case: 0000:05:00.0",
            )
        ),
    ),
]


class GuestTopology(Model):
    """The part of an assignment's spec that is about the guest's PCI topology (docs/topology.md)."""

    guest_address: GuestAddress | None = Field(
        default=None,
        description="Where the guest sees the device: 0000:05:00.0 is on bus 5, that of the PCI controller with index"
        " 5, which must be there. Without it libvirt chooses. It must be free, in the persistent XML and, to be plugged"
        " in, in the running guest.",
    )
    multifunction: bool = Field(
        default=False,
        description="true: the device shares its guest slot (guestAddress) with other functions, each of an assignment"
        " of its own. The one at function 0 comes first: without it the guest does not look at the others. A guest that"
        " runs gets such a device at its next boot; attach: Live is refused while it runs.",
    )
    topology: Literal["Auto", "Keep"] = Field(
        default="Auto",
        description="What may be added to the guest's persistent XML so that it has a slot for the device. Auto: the"
        " PCI controllers that it takes, most of which libvirt adds by itself. Keep: none; a guest without a free slot"
        " is refused with NoGuestPCISlot.",
    )
    spare_hotplug_ports: Annotated[int, Field(ge=0, le=32)] = Field(
        default=0,
        description="So many slots that hot plug can fill are kept free in the guest's persistent XML, beside that of"
        " the device: root ports (q35), or slots of PCI bridges (i440fx). A guest that runs has them from its next boot"
        " on. What was added for it is removed with the assignment, if it is empty and nothing comes after it.",
    )


TOPOLOGY_RULES = (
    (
        "(has(self.spec.domain) && !has(self.spec.source.pool) && !self.spec.adopt) || (!has(self.spec.guestAddress)"
        " && self.spec.topology == 'Auto' && self.spec.spareHotplugPorts == 0)",
        "guestAddress, topology and spareHotplugPorts are about a certain device that is added to a guest: leave them"
        " out of a reservation, with source.pool, and with adopt",
    ),
    (
        "!self.spec.multifunction || has(self.spec.guestAddress)",
        "multifunction shares a slot of the guest: say which one by guestAddress",
    ),
    (
        "!has(self.spec.guestAddress) || self.spec.multifunction || self.spec.guestAddress.endsWith('.0')",
        "a guestAddress with another function than 0 shares its slot: set multifunction to true",
    ),
    (
        "self.spec.topology == 'Auto' || self.spec.spareHotplugPorts == 0",
        "topology: Keep adds no PCI controllers, and spareHotplugPorts asks for some: leave one of them out",
    ),
)
#: What of it a bound assignment keeps.
TOPOLOGY_KEPT = (
    " && has(self.spec.guestAddress) == has(oldSelf.spec.guestAddress)"
    " && (!has(self.spec.guestAddress) || self.spec.guestAddress == oldSelf.spec.guestAddress)"
    " && self.spec.multifunction == oldSelf.spec.multifunction"
)
