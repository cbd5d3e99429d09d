"""A guest's PCI topology: what is free, what a device needs beside it, and who puts that there.

Most of it libvirt does by itself when a device is added to the persistent XML (measured with libvirt 11.3, one device
after the other): nested pci-bridges on i440fx, root ports and the first pcie-to-pci-bridge on q35. It fails where all
conventional slots of a q35 guest are taken: there a pcie-to-pci-bridge is ours, as are ports that nobody needs yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .pci import PciAddress
from .slots import Slots

PORT, BRIDGE, EXPRESS_BRIDGE = "pcie-root-port", "pci-bridge", "pcie-to-pci-bridge"
ROOT, EXPRESS_ROOT = "pci-root", "pcie-root"
#: One PCI Express slot each, at slot 0 of their bus.
EXPRESS_MODELS = frozenset({PORT, "pcie-switch-downstream-port"})
#: Slots 1 to 31 of their bus. pci-expander-bus is left out: libvirt counts it, QEMU does not plug into it.
CONVENTIONAL_MODELS = frozenset({ROOT, BRIDGE, EXPRESS_BRIDGE})
CONVENTIONAL_SLOTS = range(1, 32)
FUNCTIONS = 8
#: Bus numbers of one PCI domain.
LAST_BUS = 255
#: A pci-bridge takes one of the slots that there are, and brings 31.
_BRIDGE_GAIN = len(CONVENTIONAL_SLOTS) - 1


@dataclass(frozen=True)
class Bus:
    """A PCI controller; ``index`` is the number of its bus. ``alias`` only if somebody gave it one."""

    index: int
    model: str
    hot: bool = True
    alias: str | None = None


@dataclass(frozen=True)
class Place:
    """An address in the guest that is taken. ``who`` is for messages; ``is_port``: by a root port."""

    address: PciAddress
    who: str
    alias: str | None = None
    multifunction: bool = False
    is_port: bool = False


@dataclass(frozen=True)
class NewController:
    """A PCI controller to be added."""

    index: int
    model: str

    def __str__(self) -> str:
        return f"{self.model} {self.index}"


@dataclass(frozen=True)
class Growth:
    """What the topology needs to take some devices: ``ours`` is added by us, ``libvirts`` by libvirt.

    ``full`` says why it cannot take them at all.
    """

    ours: tuple[NewController, ...] = ()
    libvirts: tuple[tuple[int, str], ...] = ()
    full: str | None = None

    @property
    def words(self) -> str:
        """All controllers; empty if none is needed."""
        counts: dict[str, int] = {model: count for count, model in self.libvirts}
        for new in self.ours:
            counts[new.model] = counts.get(new.model, 0) + 1
        return ", ".join(f"{count} {model}" for model, count in counts.items() if count)


@dataclass(frozen=True)
class Topology:
    """The PCI controllers of one XML of a guest, and what is taken. ``known`` False: it cannot be told."""

    buses: tuple[Bus, ...] = ()
    places: tuple[Place, ...] = ()
    known: bool = False

    @property
    def has_express(self) -> bool:
        """Whether it has PCI Express (q35), so that devices need a fitting kind of slot."""
        return any(b.model == EXPRESS_ROOT for b in self.buses)

    def slots(self, *, hot: bool) -> Slots:
        """The free slots; ``hot``: only those that hot plug can fill."""
        if not self.known:
            return Slots(known=False)
        taken = {(p.address.bus, p.address.slot) for p in self.places}
        express = conventional = 0
        for bus in self.buses:
            if hot and not bus.hot:
                continue
            if bus.model in EXPRESS_MODELS:
                express += (bus.index, 0) not in taken
            elif bus.model in CONVENTIONAL_MODELS:
                conventional += sum((bus.index, slot) not in taken for slot in CONVENTIONAL_SLOTS)
        return Slots(self.has_express, express, conventional)

    def with_place(self, address: PciAddress, who: str) -> Topology:
        """The same with one more place taken."""
        return replace(self, places=(*self.places, Place(address, who)))

    def without(self, aliases: frozenset[str]) -> Topology:
        """The same without the devices of these aliases."""
        return replace(self, places=tuple(p for p in self.places if p.alias not in aliases))

    def growth(self, *, express: int, conventional: int, spare: int = 0) -> Growth:
        """What it takes to add so many devices one by one, and to have ``spare`` slots left that hot plug can fill.

        Of spare ones only a PCI Express guest's are root ports; the others' buses are hot-pluggable as they are.
        """
        if not self.known:
            return Growth()
        grow = self._grow_express if self.has_express else self._grow_conventional
        return grow(express, conventional, spare)

    @property
    def _top(self) -> int:
        return max(b.index for b in self.buses)

    def _grow_conventional(self, express: int, conventional: int, spare: int) -> Growth:
        """Libvirt always keeps a slot for one more bridge, and nests them as it likes; without any, it cannot."""
        wanted, free = express + conventional, self.slots(hot=False).conventional
        ours = _times(wanted + spare - self.slots(hot=True).conventional, _BRIDGE_GAIN) if spare else 0
        libvirts = _times(wanted + 1 - free, _BRIDGE_GAIN) if wanted and not ours else 0
        if (wanted or ours) and not free:
            text = f"all slots of its PCI buses are taken ({len(self.places)} addresses), so there is none for a bridge"
            return Growth(full=text)
        new = tuple(NewController(self._top + 1 + n, BRIDGE) for n in range(ours))
        return self._unless_too_many(Growth(new, ((libvirts, BRIDGE),)))

    def _grow_express(self, express: int, conventional: int, spare: int) -> Growth:
        free, hot = self.slots(hot=False), self.slots(hot=True)
        has_bus = any(b.model in CONVENTIONAL_MODELS for b in self.buses)
        first = int(not has_bus and 0 < conventional <= len(CONVENTIONAL_SLOTS))  # libvirt's own, in a root port
        room = len(CONVENTIONAL_SLOTS) if first else free.conventional
        bridges = _times(conventional - room, len(CONVENTIONAL_SLOTS))
        wanted = express + first
        ports = max(0, wanted + spare - hot.express) if spare else 0
        left = max(0, wanted - free.express - ports)
        models = [PORT, EXPRESS_BRIDGE] * bridges + [PORT] * ports
        new = tuple(NewController(self._top + 1 + n, model) for n, model in enumerate(models))
        needed = bridges + ports + left
        if needed > (possible := self._room_for_ports()):
            return Growth(full=f"{needed} more {PORT}(s) needed, and its root bus has room for {possible}")
        return self._unless_too_many(Growth(new, ((left, PORT), (first, EXPRESS_BRIDGE))))

    def _unless_too_many(self, growth: Growth) -> Growth:
        last = self._top + len(growth.ours) + sum(count for count, _ in growth.libvirts)
        if last <= LAST_BUS:
            return growth
        return Growth(full=f"its PCI buses would be {last + 1}, and there can be {LAST_BUS + 1}")

    def _room_for_ports(self) -> int:
        """Root ports share slots of bus 0 with each other alone, eight in each; 0 is the host bridge's."""
        slots: dict[int, list[Place]] = {}
        for place in self.places:
            if place.address.bus == 0:
                slots.setdefault(place.address.slot, []).append(place)
        there = (slots.get(slot, []) for slot in CONVENTIONAL_SLOTS)
        return sum(FUNCTIONS - len(places) for places in there if all(p.is_port for p in places))

    def occupant(self, address: PciAddress, *, shared: bool) -> Place | None:
        """Who is in the way at an address; ``shared``: others may have other functions of the slot.

        What did not ask to share its slot (multifunction) does not get company.
        """
        there = [p for p in self.places if (p.address.bus, p.address.slot) == (address.bus, address.slot)]
        if not shared:
            return next(iter(there), None)
        alone = (p for p in there if p.address.function == 0 and not p.multifunction)
        return next((p for p in there if p.address == address), None) or next(alone, None)

    def has_function_zero(self, address: PciAddress) -> bool:
        """Whether function 0 of its slot is there: without it a guest does not look at the others."""
        zero = replace(address, function=0)
        return any(p.address == zero for p in self.places)

    def not_offered(self, address: PciAddress) -> str | None:
        """Why no device can have the address; None if one can."""
        bus = next((b for b in self.buses if b.index == address.bus), None)
        if address.domain:
            return "a guest has PCI domain 0000 alone"
        if bus is None:
            numbers = ", ".join(f"{b.index:02x} ({b.model})" for b in self.buses)
            return f"it has no PCI bus {address.bus:02x}; its buses are {numbers}"
        if bus.model in EXPRESS_MODELS:
            return None if address.slot == 0 else f"bus {bus.index:02x} is a {bus.model}, which has slot 00 alone"
        if bus.model not in CONVENTIONAL_MODELS and bus.model != EXPRESS_ROOT:
            return f"bus {bus.index:02x} is a {bus.model}, which takes no devices"
        return None if address.slot else f"slot 00 of bus {bus.index:02x} ({bus.model}) is not for devices"

    def is_hot(self, address: PciAddress) -> bool:
        """Whether the bus of the address takes devices while the guest runs."""
        models = EXPRESS_MODELS | CONVENTIONAL_MODELS
        return any(b.index == address.bus and b.hot and b.model in models for b in self.buses)

    def to_remove(self, is_ours: frozenset[str]) -> Iterator[Bus]:
        """Our controllers that can go: empty, and the last ones. Libvirt would put others back, to leave no gap.

        Nor one at function 0 of a slot with others: those would be seen no more.
        """
        left = self
        for bus in sorted(self.buses, key=lambda b: b.index, reverse=True):
            if bus.alias not in is_ours or any(p.address.bus == bus.index for p in left.places):
                return
            own = next((p for p in left.places if p.alias == bus.alias), None)
            if own and own.address.function == 0:
                there = (p for p in left.places if p is not own)
                if any((p.address.bus, p.address.slot) == (own.address.bus, own.address.slot) for p in there):
                    return
            yield bus
            left = left.without(frozenset({bus.alias or ""}))


def _times(count: int, each: int) -> int:
    """How many of a kind that holds so many are needed."""
    return max(0, -(-count // each))
