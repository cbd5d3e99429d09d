"""The libvirt network of a pool: how it is to be, and whether it is the pool's own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields, replace
from functools import cached_property

from .model import Observation, PciDevice
from .network import Network, NetworkDefinition, NetworkPortgroup
from .network_xml import difference
from .pci import PciAddress
from .pool import PoolRecord, PoolWish
from .pool_source import recorded_pf
from .pool_use import User, has_from, on_network, users
from .sriov import Pf, VfConfig

#: For UUIDs of networks: one pool on one node has always the same.
_NAMESPACE = uuid.UUID("6d0f9ab6-0f6c-4a9e-9a39-6a4f0a3d6b5e")


@dataclass(frozen=True)
class PoolCase:
    """What is asked for a pool, and what is there."""

    wish: PoolWish
    host: Observation
    device: PciDevice

    @cached_property
    def pf(self) -> Pf:
        """The PF's network side."""
        return self.host.pfs.get(self.device.address) or Pf(self.device.address)

    @property
    def record(self) -> PoolRecord | None:
        """What was recorded."""
        return self.host.pool_records.get(self.wish.uid)

    @cached_property
    def siblings(self) -> tuple[PoolRecord, ...]:
        """Records of other pools that have changed the same PF."""
        return siblings(self.wish.uid, self.device, self.host)

    @cached_property
    def own_networks(self) -> tuple[Network, ...]:
        """The libvirt networks of pools that share the PF, its own one included; of none that is being deleted."""
        wished = {wish.uid for wish in self.host.pool_wishes}
        known = [(r.network_name, r.network_uuid) for r in self.siblings if r.uid in wished]
        found = (
            (self.host.networks.get(name), uid) for name, uid in ((self.wish.network_name, self.ownership[0]), *known)
        )
        return tuple(network for network, uid in found if network is not None and network.uuid == uid)

    @cached_property
    def vfs(self) -> tuple[PciDevice, ...]:
        """The pool's VFs, as far as they are there."""
        return pool_vfs(self.wish, self.device, self.host)

    @property
    def count(self) -> int | None:
        """How many VFs the PF shall have; None if that is somebody else's business."""
        return None if self.wish.spec.externally_managed else self.wish.spec.num_vfs

    @property
    def count_differs(self) -> bool:
        """Whether VFs are to be made, or fewer to be left."""
        return self.count is not None and self.count != self.device.num_vfs

    @property
    def vfs_are_there(self) -> bool:
        """Whether the PF has VFs, and all that the pool names."""
        indices = self.wish.indices
        return bool(self.vfs) and (indices is None or len(self.vfs) == len(indices))

    @property
    def name(self) -> str:
        """How messages name the PF."""
        return f"PF {self.pf.netdev} ({self.device.address})" if self.pf.netdev else f"PF {self.device.address}"

    @property
    def network(self) -> Network | None:
        """The libvirt network of that name, whoever made it."""
        return self.host.networks.get(self.wish.network_name)

    @property
    def owned(self) -> bool:
        """Whether the network of that name is the pool's: made or adopted by it."""
        return self.network is not None and self.record is not None and self.network.uuid == self.record.network_uuid

    @cached_property
    def ownership(self) -> tuple[str | None, bool]:
        """The UUID by which the network is the pool's from now on, and whether it was there before.

        None: it is somebody else's, and whether it is as the pool wants it shows when the VFs are there.
        """
        network, record = self.network, self.record
        if network is None:
            return (record.network_uuid if record else None) or network_uuid(self.wish.uid), False
        if self.owned and record:
            return network.uuid, record.adopted
        told = self.wish.indices is None or self.vfs_are_there
        equal = told and self.difference is None
        return (network.uuid, True) if equal or self.wish.spec.network.adopt == "Replace" else (None, False)

    @cached_property
    def held(self) -> dict[PciAddress, tuple[str, ...]]:
        """The pool's VFs that others have, and who: libvirt would hand them out all the same."""
        found = {vf.address: held_by_others(vf, self.wish.network_name, self.host) for vf in self.vfs}
        return {address: who for address, who in found.items() if who}

    @cached_property
    def wanted(self) -> NetworkDefinition:
        """The network as it is to be. The VFs must be there."""
        whole = self.wish.indices is None and not self.held
        network = self.wish.spec.network
        return NetworkDefinition(
            name=self.wish.network_name,
            pf=self.pf.netdev if whole else None,
            addresses=() if whole else tuple(vf.address for vf in self.vfs if vf.address not in self.held),
            vlan=network.vlan,
            portgroups=tuple(NetworkPortgroup(g.name, g.vlan, g.default) for g in network.portgroups),
        )

    @property
    def difference(self) -> str | None:
        """In words, how the network that is there differs; as far as that can be told before the VFs are there."""
        network, wanted = self.network, self.wanted
        if network is None:
            return None
        if not self.vfs_are_there and self.wish.indices is not None and network.hands_out:
            wanted = replace(wanted, addresses=network.hands_out.addresses)
        return difference(network, wanted)

    @property
    def must_be_restarted(self) -> bool:
        """Whether the started network is not what is to be defined: libvirt looks at its PF at the start alone."""
        network, wanted = self.network, self.wanted
        if network is None or not network.active:
            return False
        now = network.running
        if now is None or now.pf != wanted.pf or network.running_strange:
            return True
        expected = {vf.address for vf in self.vfs} if wanted.pf else set(wanted.addresses)
        return set(now.addresses) != expected or replace(
            now, addresses=(), portgroups=tuple(sorted(now.portgroups, key=_name))
        ) != replace(wanted, addresses=(), portgroups=tuple(sorted(wanted.portgroups, key=_name)))

    @property
    def network_users(self) -> tuple[str, ...]:
        """Whom it would hurt if the network was stopped."""
        return on_network(self.network, self.host) if self.network else ()

    def config(self, vf: PciDevice) -> VfConfig:
        """The VF's settings now; nothing where the driver tells nothing."""
        return self.pf.vfs.get(vf.vf_index, VfConfig()) if vf.vf_index is not None else VfConfig()

    @cached_property
    def lacking(self) -> tuple[tuple[PciDevice, VfConfig], ...]:
        """The pool's VFs that have not the settings that all of them shall have, and what of these is to be set."""
        wanted = VfConfig.of(self.wish.spec.vf_settings)
        asked = [(f.name, value) for f in fields(wanted) if (value := getattr(wanted, f.name)) is not None]
        found = ((vf, self.config(vf)) for vf in (self.vfs if asked else ()))
        return tuple(
            (vf, now.lacking(wanted)) for vf, now in found if any(getattr(now, name) != value for name, value in asked)
        )


def _name(group: NetworkPortgroup) -> str:
    return group.name


def network_uuid(uid: str) -> str:
    """The UUID of the network that a pool makes: known, and recorded, before libvirt knows it."""
    return str(uuid.uuid5(_NAMESPACE, uid))


def pool_vfs(wish: PoolWish, pf: PciDevice, host: Observation) -> tuple[PciDevice, ...]:
    """The VFs that the pool names, as far as they are there."""
    indices = wish.indices
    return tuple(vf for vf in host.vfs(pf.address) if indices is None or vf.vf_index in indices)


def siblings(uid: str, device: PciDevice, host: Observation) -> tuple[PoolRecord, ...]:
    """Records of the PF, but this pool's."""
    return tuple(r for other, r in sorted(host.pool_records.items()) if other != uid and recorded_pf(r, host) == device)


def held_by_others(vf: PciDevice, network_name: str, host: Observation) -> tuple[str, ...]:
    """In words, who has the VF, those aside who have got it from the network itself; empty if nobody."""
    network = host.networks.get(network_name)
    found = [str(user) for user in users(vf, host) if user.claims and not _from(user, vf, network)]
    found += [f"libvirt network {name} hands it out" for name in host.handed_out_by(vf.address) if name != network_name]
    return tuple(found)


def _from(user: User, vf: PciDevice, network: Network | None) -> bool:
    return user.guest is not None and network is not None and has_from(user.guest, vf.address, network)
