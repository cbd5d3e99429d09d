"""The node's DeviceHost: what the agent sees, whether libvirt answers or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ..api.devicehost import DeviceHostStatus
from ..core.conditions import stamp
from ..core.errors import HostError
from ..core.host_status import Names, Trouble, host_status
from ..core.model import Guest, Observation
from ..core.orphans import Orphan, foreign_nics, recorded_orphans
from ..core.pci import PciAddress
from ..ports import Host
from .looker import Looker
from .preparation import Preparer


class HostReporter:
    """Computes the DeviceHost's status; keeps device names, which never change, and the guests seen last."""

    def __init__(self, host: Host, looker: Looker) -> None:
        self._host = host
        self._looker = looker
        self._names: dict[PciAddress, tuple[int, int, tuple[str | None, str | None]]] = {}
        self._guests: tuple[Guest, ...] | None = None
        self.preparer = Preparer(host)

    def foreign_nics(self, alive: frozenset[str]) -> frozenset[str]:
        """UIDs in the aliases of NICs that no record and none of the node's assignments (``alive``) knows."""
        seen, trouble = self._looker.what_can_be(self._guests or ())
        return frozenset() if trouble.journal else frozenset(o.uid for o in foreign_nics(seen, alive))

    def orphans(self, alive: frozenset[str], gone: frozenset[str]) -> tuple[Orphan, ...]:
        """Records without an object, and NICs whose assignment is nowhere (``gone``)."""
        return _orphans(self._looker.what_can_be(self._guests or ())[0], alive, gone)

    def status(
        self,
        old: DeviceHostStatus,
        alive: frozenset[str] | None,
        gone: frozenset[str] = frozenset(),
        waits: Mapping[str, str] = MappingProxyType({}),
    ) -> DeviceHostStatus:
        """The status now. ``alive``: UIDs of the objects that the API has for this node; None: not known yet.

        ``gone``: those of ``foreign_nics`` that no node has. ``waits``: UIDs of orphans that are to be released, and
        what for.
        """
        seen, trouble = self._looker.what_can_be(self._guests or ())
        if trouble.libvirt is None:
            self._guests = seen.guests
            trouble = self._learn_names(seen, trouble)
        orphans = _orphans(seen, alive, gone) if alive is not None else ()
        status = host_status(seen, self._known_names(), orphans, waits, trouble)
        better = {c.type: c for c in self.preparer.conditions(seen)}
        told = (*(better.pop(c.type, c) for c in status.conditions), *better.values())
        stamped = stamp(told, old.conditions, self._host.clock.now(), None)
        # libvirt has not answered this agent yet: "no guests" would be a lie that the controller acts on
        guests = old.guests if self._guests is None else status.guests
        return status.model_copy(update={"conditions": stamped, "guests": guests})

    def _learn_names(self, seen: Observation, trouble: Trouble) -> Trouble:
        """Node device XML costs about 10 ms a device: it is read once for each device, not at each look."""
        ids = {d.address: (d.vendor, d.product) for d in seen.devices.values()}
        new = tuple(a for a in ids if self._names.get(a, (None, None))[:2] != ids[a])
        try:
            for address, names in (self._host.hypervisor.names(new) if new else {}).items():
                self._names[address] = (*ids[address], names)
        except HostError as error:
            return replace(trouble, libvirt=error.message)
        return trouble

    def _known_names(self) -> Names:
        return {address: names for address, (_, _, names) in self._names.items()}


def _orphans(host: Observation, alive: frozenset[str], gone: frozenset[str]) -> tuple[Orphan, ...]:
    nics = (orphan for orphan in foreign_nics(host, alive) if orphan.uid in gone)
    return (*recorded_orphans(host, alive), *nics)
