"""The checks that stand before every change for a pool, in order. Each is pure and returns a refusal or nothing.

To add one: write a function from PoolCase to Refusal | None, put it where its question belongs (SUBJECTS: whatever is
to be done; COUNT: before the number of VFs is changed; CHANGE: before any change), give it a reason in reasons.py and a
row in tests/core/test_pool_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import reasons
from .checks import Refusal, is_overridden
from .model import Observation, PciDevice
from .pool import PoolRecord, PoolWish
from .pool_network import PoolCase
from .pool_source import pf_meant, recorded_pf
from .pool_use import listed, on_network, taken


def makes_sense(case: PoolCase) -> Refusal | None:
    """What the API server refuses as well; a file without one does not."""
    spec, indices = case.wish.spec, case.wish.indices
    if (spec.num_vfs is None) != spec.externally_managed:
        text = "say how many VFs the PF shall have (numVFs), or that somebody else makes them (externallyManaged)"
    elif indices is not None and not indices:
        text = f"pf.vfs {spec.pf.vfs} is no range: it goes from the first index to the last, as in 0-3"
    elif sum(group.default for group in spec.network.portgroups) > 1:
        text = "only one portgroup can be the default one"
    else:
        return None
    return Refusal(reasons.INVALID_SOURCE, f"pool {case.wish.name}: {text}")


def vfs_can_be_had(case: PoolCase) -> Refusal | None:
    """As many as the PF can have, and the range within them."""
    limit, wish = case.device.total_vfs, case.wish
    if not limit:
        return Refusal(
            reasons.SRIOV_UNSUPPORTED,
            f"{case.name} (driver {case.device.driver or 'none'}) of pool {wish.name} cannot have VFs: turn SR-IOV on"
            " in the firmware and in the card's setup, and look at dmesg",
        )
    count = case.count if case.count is not None else case.device.num_vfs
    if count > limit:
        return Refusal(
            reasons.VF_COUNT_TOO_HIGH,
            f"pool {wish.name} wants {count} VFs, and {case.name} can have {limit}: lower numVFs",
        )
    indices = wish.indices
    if indices and count and indices[-1] >= count:
        return Refusal(
            reasons.VF_COUNT_TOO_HIGH,
            f"pool {wish.name} wants VFs {wish.spec.pf.vfs}, and {case.name} has {count}: the last one is {count - 1}",
        )
    return None


def no_other_pool_is_in_the_way(case: PoolCase) -> Refusal | None:
    """Of two pools that want the same, the one that has begun has it, else the older one."""
    wish, host = case.wish, case.host
    mine = _seniority(wish, host)
    for other in sorted(host.pool_wishes, key=lambda w: _seniority(w, host)):
        if other.uid == wish.uid or _seniority(other, host) > mine:
            continue
        if why := _disagreement(wish, other, case):
            return Refusal(
                reasons.POOL_CONFLICT,
                f"pool {wish.name} waits for pool {other.name}, which is older: {why}; change one of them, or delete"
                " it",
            )
    for record in _without_wish(case):
        if why := _in_the_way(record, case):
            return Refusal(
                reasons.POOL_CONFLICT,
                f"pool {wish.name} waits for pool {record.name}, which is not given back yet: {why}",
            )
    return None


def _seniority(wish: PoolWish, host: Observation) -> tuple[bool, str, str]:
    return (wish.uid not in host.pool_records, *wish.rank)


def _without_wish(case: PoolCase) -> Iterator[PoolRecord]:
    """Pools that are being deleted, or whose objects are gone."""
    wished = {wish.uid for wish in case.host.pool_wishes} | {case.wish.uid}
    return (record for uid, record in sorted(case.host.pool_records.items()) if uid not in wished)


def _disagreement(mine: PoolWish, other: PoolWish, case: PoolCase) -> str | None:
    """In words, what both pools cannot have."""
    if other.network_name == mine.network_name:
        return f"both want the libvirt network {mine.network_name}"
    pf = pf_meant(other, case.host)
    if isinstance(pf, Refusal) or pf.address != case.device.address:
        return None
    ours, theirs = mine.indices, other.indices
    if ours is None or theirs is None:
        return f"both want VFs of {case.name}, and one wants all of them; give each a range in pf.vfs"
    if max(ours.start, theirs.start) < min(ours.stop, theirs.stop):
        return f"their ranges of {case.name} overlap: {mine.spec.pf.vfs} and {other.spec.pf.vfs}"
    for field in ("num_vfs", "externally_managed", "bind_host_driver", "link_up"):
        asked, said = getattr(mine.spec, field), getattr(other.spec, field)
        if asked != said:
            return f"they do not agree on {case.name}: {_word(field)} {_value(asked)} and {_value(said)}"
    return None


def _word(field: str) -> str:
    words = {"num_vfs": "numVFs", "externally_managed": "externallyManaged", "bind_host_driver": "bindHostDriver"}
    return words.get(field, "linkUp")


def _value(value: object) -> str:
    return "none" if value is None else str(value).lower()


def _in_the_way(record: PoolRecord, case: PoolCase) -> str | None:
    if record.network_name == case.wish.network_name:
        return f"it has the libvirt network {record.network_name}"
    pf = recorded_pf(record, case.host)
    same = not isinstance(pf, Refusal) and pf.address == case.device.address
    if same and record.num_vfs != case.count and case.count_differs:
        return f"it has {record.num_vfs or 'its own'} VFs of {case.name}, and {case.count} are wanted"
    return None


def pf_has_a_netdev(case: PoolCase) -> Refusal | None:
    """Without it nobody can set MAC and VLAN of a VF, and libvirt cannot find the PF."""
    if case.pf.netdev is not None:
        return None
    return Refusal(
        reasons.PF_DOWN,
        f"{case.name} of pool {case.wish.name} has no netdev (driver {case.device.driver or 'none'}): bind it to its"
        " host driver; lspci -k shows which one",
    )


def somebody_made_the_vfs(case: PoolCase) -> Refusal | None:
    """externallyManaged: nobody else makes them."""
    if case.count is not None or case.vfs_are_there:
        return None
    wanted = f"VFs {case.wish.spec.pf.vfs}" if case.wish.spec.pf.vfs else "VFs"
    return Refusal(
        reasons.VFS_NOT_CREATED,
        f"{case.name} has {case.device.num_vfs or 'no'} VFs, and pool {case.wish.name} wants {wanted} of it; it is"
        " externallyManaged: make them (sriov_numvfs in the PF's folder of /sys), or say numVFs instead",
    )


def network_can_be_had(case: PoolCase) -> Refusal | None:
    """A network of that name that somebody else made is taken over only if that changes nothing for anybody."""
    network = case.network
    if network is None or case.owned:
        return None
    differs = case.difference
    if differs is None:
        return None
    if case.wish.spec.network.adopt != "Replace":
        return Refusal(
            reasons.NETWORK_DIFFERS,
            f"libvirt network {network.name} was not made by pool {case.wish.name}, and differs: {differs}. Give the"
            " pool another network.name, make them equal (virsh net-edit), or set network.adopt: Replace",
        )
    if case.network_users:
        return Refusal(
            reasons.PENDING_IDLE,
            f"libvirt network {network.name} is to be replaced by that of pool {case.wish.name} ({differs}), once"
            f" nobody is on it any more: {listed(case.network_users)}; shut them off",
        )
    return None


def a_vf_is_left(case: PoolCase) -> Refusal | None:
    """Of a network without any VF libvirt would hand out nothing, and could not start it."""
    foreign = sorted(
        n.name
        for n in case.host.networks.values()
        if n.name != case.wish.network_name and n.hands_out and n.hands_out.pf == case.pf.netdev
    )
    if foreign and not case.vfs:
        return Refusal(
            reasons.VFS_IN_USE,
            f"libvirt network {foreign[0]} hands out all VFs of {case.name}, which pool {case.wish.name} wants; take"
            f" the PF out of that network (virsh net-edit {foreign[0]}), or undefine it",
        )
    if not case.vfs or any(vf.address not in case.held for vf in case.vfs):
        return None
    return Refusal(
        reasons.VFS_IN_USE,
        f"others have all VFs of pool {case.wish.name}, so none is left for its network: {listed(held_words(case))}",
    )


def held_words(case: PoolCase) -> tuple[str, ...]:
    """In words, each VF that others have, and who."""
    found = ((vf, case.held.get(vf.address)) for vf in case.vfs)
    return tuple(f"VF {vf.vf_index} ({vf.address}): {'; '.join(who)}" for vf, who in found if who)


def pf_can_be_spared(case: PoolCase) -> Refusal | None:
    """Some drivers drop the link for a moment when the number of VFs changes."""
    return spared(case.device, case.name, case.host)


def spared(device: PciDevice, name: str, host: Observation) -> Refusal | None:
    """Whether the number of a PF's VFs may change, as to those who use the PF itself."""
    if host.unknown_use:
        return Refusal(
            reasons.HOST_USE_UNKNOWN,
            f"whether the host needs {name} or its VFs cannot be told ({host.unknown_use}), so their number is not"
            " changed; check the agent's mounts of /proc and /sys",
        )
    use = next((use for use in host.uses_of(device.address) if not is_overridden(use, host)), None)
    if use is None:
        return None
    return Refusal(
        reasons.HOST_CRITICAL,
        f"{name} {use.what}: some drivers drop the link for a moment when the number of VFs changes; choose another PF,"
        " or allow it (criticalOverrides of the DeviceHost)",
    )


def vfs_are_unused(case: PoolCase) -> Refusal | None:
    """All VFs go when their number changes, so nobody may have one, of whatever pool."""
    users = vf_users(case.device, case.host, {network.name for network in case.own_networks})
    if not users:
        return None
    return Refusal(
        reasons.VFS_IN_USE,
        f"the number of VFs of {case.name} is to be changed from {case.device.num_vfs} to {case.count}, which takes all"
        f" of them away for a moment, and they are in use: {listed(users)}",
    )


def vf_users(device: PciDevice, host: Observation, ours: set[str]) -> tuple[str, ...]:
    """In words, who uses VFs of the PF; libvirt networks as well, of ``ours`` only those that somebody is on."""
    vfs = host.vfs(device.address)
    networks = {name for vf in vfs for name in host.handed_out_by(vf.address)}
    foreign = (f"libvirt network {name} hands them out" for name in sorted(networks - ours))
    busy = (host.networks[name] for name in sorted(networks & ours) if name in host.networks)
    connected = (f"{who} is on libvirt network {network.name}" for network in busy for who in on_network(network, host))
    return (*taken(vfs, host), *foreign, *connected)


def not_paused(case: PoolCase) -> Refusal | None:
    """The administrator's stop."""
    if not case.host.settings.paused:
        return None
    return Refusal(
        reasons.PAUSED,
        f"nothing is changed for pool {case.wish.name}: the node is paused; set spec.paused of its DeviceHost to false",
    )


def not_blocked(case: PoolCase) -> Refusal | None:
    """A change that has not returned: how it will end is not known."""
    return blocked(case.device, case.name, case.host)


def blocked(device: PciDevice, name: str, host: Observation) -> Refusal | None:
    """Whether a change of the PF, or of one of its VFs, has not returned."""
    if not host.blocked.intersection([device.address, *(vf.address for vf in host.vfs(device.address))]):
        return None
    return Refusal(
        reasons.DETACH_BLOCKED,
        f"a change of {name} or of one of its VFs has not returned: nothing else is changed before it ends; look for"
        " what holds it (dmesg, ps for processes in state D)",
    )


def pf_is_up(case: PoolCase) -> Refusal | None:
    """Libvirt sets MAC address and VLAN at each start of a guest, and refuses while the PF is down (libvirt 11.3)."""
    if case.pf.up:
        return None
    return Refusal(
        reasons.PF_DOWN,
        f"{case.name} is down, so no guest of pool {case.wish.name} can be started: bring it up (ip link set"
        f" {case.pf.netdev} up), or set linkUp: true",
    )


Check = Callable[[PoolCase], Refusal | None]
SUBJECTS: tuple[Check, ...] = (
    makes_sense,
    vfs_can_be_had,
    no_other_pool_is_in_the_way,
    pf_has_a_netdev,
    somebody_made_the_vfs,
    network_can_be_had,
    a_vf_is_left,
)
COUNT: tuple[Check, ...] = (pf_can_be_spared, vfs_are_unused)
CHANGE: tuple[Check, ...] = (not_paused, not_blocked)


def first_refusal(case: PoolCase, checks: tuple[Check, ...]) -> Refusal | None:
    """The first check that refuses."""
    return next((refusal for check in checks if (refusal := check(case))), None)
