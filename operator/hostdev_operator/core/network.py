"""A libvirt network, as far as the engine must know it."""

from __future__ import annotations

from dataclasses import dataclass

from .pci import PciAddress


@dataclass(frozen=True)
class NetworkPortgroup:
    """A <portgroup>; ``vlan`` is None if it has none, or several."""

    name: str
    vlan: int | None = None
    default: bool = False


@dataclass(frozen=True)
class NetworkDefinition:
    """What a network that hands out VFs is to be: the part of its XML that a pool owns.

    Either ``pf`` (a netdev's name: all of its VFs) or ``addresses``, in this order.
    """

    name: str
    pf: str | None = None
    addresses: tuple[PciAddress, ...] = ()
    vlan: int | None = None
    portgroups: tuple[NetworkPortgroup, ...] = ()
    managed: bool = True


@dataclass(frozen=True)
class Network:
    """One network. ``interfaces``: its bridge, and the host's netdevs that it forwards to.

    ``hands_out``: what it hands out by its persistent definition, None if that has no VFs; ``running``: the same for
    the started network, with the VFs that libvirt has found. ``strange`` and ``running_strange`` say in words what of
    both no pool would write. ``connections`` counts NICs of running guests. ``xml`` is the persistent definition, None
    if it has none.
    """

    name: str
    uuid: str = ""
    active: bool = True
    autostart: bool = True
    persistent: bool = True
    interfaces: frozenset[str] = frozenset()
    hands_out: NetworkDefinition | None = None
    running: NetworkDefinition | None = None
    strange: str | None = None
    running_strange: str | None = None
    connections: int = 0
    xml: str | None = None

    @property
    def hands_out_vfs(self) -> bool:
        """Whether guests get VFs of it."""
        return self.hands_out is not None or self.running is not None

    @property
    def pfs(self) -> frozenset[str]:
        """The netdevs whose VFs it hands out."""
        return frozenset(d.pf for d in (self.hands_out, self.running) if d and d.pf)

    @property
    def addresses(self) -> frozenset[PciAddress]:
        """The VFs that it hands out by address."""
        return frozenset(a for d in (self.hands_out, self.running) if d for a in d.addresses)
