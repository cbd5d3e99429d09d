"""Plans for NICs of pools: a guest gets <interface type='network'>, and libvirt a VF for it at each start.

Nothing of the host is claimed, so there is no device, no IOMMU group and no record: our alias in the guest's XML says
all that is needed to take the NIC out again. That the VFs and the network are there is the pool's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from . import reasons
from .actions import (
    Action,
    AddInterface,
    InterfaceXml,
    NicXml,
    PlugInterface,
    RemoveInterface,
    UnplugInterface,
)
from .adoption import adoptable_nics, nic_is_as_asked
from .checks import Refusal, missing_guest, no_room, paused
from .intent import AUTO, LIVE, NicIntent, Wish
from .model import Guest, Nic, Observation, PciDevice
from .network import Network, NetworkDefinition, NetworkPortgroup
from .nic import holder_of_mac, is_as, of_alias, pf_of, wanted_nic
from .nic_checks import mac_in_use, pf_down
from .plan import Decision, Plan, image_in_the_way
from .pool import PoolRecord
from .pool_use import addresses_of, free, listed, taken


@dataclass(frozen=True)
class NicCase:
    """What the checks look at."""

    intent: NicIntent
    host: Observation

    @property
    def guest(self) -> Guest | None:
        """The guest, if it is there."""
        return self.host.guest(self.intent.domain_uuid)

    @property
    def config(self) -> Nic | None:
        """Our NIC in the persistent XML; of one that is adopted, the one that is meant if that is certain."""
        if self.guest is None:
            return None
        if not self.intent.adopt:
            return of_alias(self.guest.nics, self.intent.alias)
        found = adoptable_nics(self.intent, self.guest.nics)
        return found[0] if len(found) == 1 else None

    @property
    def live(self) -> Nic | None:
        """Our NIC in the running guest."""
        if self.guest is None:
            return None
        if not self.intent.adopt:
            return of_alias(self.guest.live_nics, self.intent.alias)
        twin = (self.config.network, self.config.mac) if self.config else None
        return next((n for n in self.guest.live_nics if (n.network, n.mac) == twin), None)

    @property
    def adoption(self) -> Refusal | None:
        """Why the guest's NIC cannot be adopted; None if it can, and for one that is made."""
        if self.guest is None or not self.intent.adopt:
            return None
        return nic_is_as_asked(self.intent, self.guest, self.host)

    @property
    def record(self) -> PoolRecord | None:
        """What the pool has made on this node."""
        return _record(self.intent.pool, self.host.pool_records)

    @property
    def network(self) -> Network | None:
        """The pool's libvirt network, if it is there."""
        return self.host.networks.get(self.intent.network) if self.intent.network is not None else None

    @property
    def running(self) -> NetworkDefinition | None:
        """What the started network hands out."""
        return self.network.running if self.network and self.network.active else None

    @property
    def wanted(self) -> NicXml:
        """The NIC as it is to stand in the persistent XML."""
        nic = wanted_nic(self.intent, self.config, self.live)
        assert nic is not None  # noqa: S101 - a pool's NIC is one
        return nic

    @property
    def vlan(self) -> int | None:
        """The VLAN that a NIC which is made now gets: its own before the portgroup's before the network's (libvirt)."""
        group = _portgroup(self.running, self.intent.portgroup)
        vlans = (self.wanted.vlan, group.vlan if group else None, self.running.vlan if self.running else None)
        return next((vlan for vlan in vlans if vlan), None)

    @property
    def configured(self) -> bool:
        """Whether the persistent XML is as asked."""
        nic, intent = self.config, self.intent
        place = (nic.network, nic.portgroup) if nic else None
        return place == (intent.network, intent.portgroup) and is_as(nic, self.wanted)

    @property
    def pending(self) -> bool:
        """Whether the running guest's NIC has another MAC, VLAN or profile than one that is made now gets.

        By the network as it is started: what the pool wants of it since is of no effect before it is started anew.
        """
        live = self.live
        return live is not None and self.running is not None and not is_as(live, replace(self.wanted, vlan=self.vlan))


def _record(pool: str, records: Mapping[str, PoolRecord]) -> PoolRecord | None:
    return next((r for _, r in sorted(records.items()) if r.name == pool), None)


def network_of(pool: str, host: Observation) -> str | None:
    """The name of a pool's libvirt network: the one that was made, before the one that is asked for."""
    wish = next((w for w in host.pool_wishes if w.name == pool), None)
    return made_network(pool, host.pool_records) or (wish.network_name if wish else None)


def made_network(pool: str, records: Mapping[str, PoolRecord]) -> str | None:
    """The same by the pool's record alone; None if it has none."""
    record = _record(pool, records)
    return record.network_name if record else None


def _portgroup(definition: NetworkDefinition | None, name: str | None) -> NetworkPortgroup | None:
    groups = definition.portgroups if definition else ()
    return next((g for g in groups if (g.default if name is None else g.name == name)), None)


def guest_exists(case: NicCase) -> Refusal | None:
    """The guest of the pinned UUID must be there, with a persistent definition."""
    intent = case.intent
    return missing_guest(case.host, intent.owner, intent.domain_uuid, intent.domain_name, intent.thing)


def pool_exists(case: NicCase) -> Refusal | None:
    """The node has the pool. One that is being given back takes nobody in."""
    pool = case.intent.pool
    names = sorted(w.name for w in case.host.pool_wishes)
    if pool in names or (case.record is not None and case.config is not None):
        return None
    others = f"the pools of this node are {', '.join(names)}" if names else "it has no pools"
    what = "is being deleted" if case.record else "does not exist on this node"
    return Refusal(
        reasons.POOL_NOT_FOUND,
        f"pool {pool} {what}; {others}: compare with kubectl get nodevfpool, and with the nodeSelector of the VFPool",
    )


def not_paused(case: NicCase) -> Refusal | None:
    """The administrator's stop."""
    return paused(case.host, f"guest {case.guest.name if case.guest else ''}")


def network_is_active(case: NicCase) -> Refusal | None:
    """The network must be the pool's own, and started: a guest that starts without it fails."""
    intent, network, record = case.intent, case.network, case.record
    what = f"libvirt network {intent.network} of pool {intent.pool}"
    look = "the pool's conditions say why (kubectl get nodevfpool)"
    if network is None:
        return Refusal(reasons.POOL_NOT_FOUND, f"{what} is not defined on this node; {look}")
    if record is None or record.network_uuid != network.uuid:
        text = f"{what} is there, but is not the pool's (yet), so no NIC is made for it; {look}"
        return Refusal(reasons.POOL_INACTIVE, text)
    if case.running is None:
        text = f"{what} is not started" if not network.active else f"{what} hands out no VFs"
        return Refusal(reasons.POOL_INACTIVE, f"{text}: a guest with a NIC of it does not start; {look}")
    return None


def portgroup_is_known(case: NicCase) -> Refusal | None:
    """Libvirt ignores a portgroup that it does not know, and with it the VLAN: the guest would be in a wrong one."""
    name, network = case.intent.portgroup, case.network
    if name is None or _portgroup(case.running, name):
        return None
    groups = case.running.portgroups if case.running else ()
    known = ", ".join(sorted(g.name for g in groups)) or "none"
    later = _portgroup(network.hands_out if network else None, name)
    then = (
        "it comes when the network is started anew, once no running guest is on it"
        if later
        else "add it to network.portgroups of the pool, or name another one"
    )
    return Refusal(
        reasons.PORTGROUP_UNKNOWN,
        f"libvirt network {case.intent.network} has no portgroup {name}, so the guest's persistent XML has no NIC of"
        f" it: libvirt would start it without the VLAN. The network has: {known}; {then}",
    )


def mac_is_free(case: NicCase) -> Refusal | None:
    """No other NIC of any guest of this node has the MAC address."""
    if case.guest is None:
        return None
    holder = holder_of_mac(case.wanted.mac, case.guest, (case.config, case.live), case.host)
    return mac_in_use(case.wanted.mac, holder, case.intent.owner) if holder else None


def guest_has_room(case: NicCase) -> Refusal | None:
    """The limits of the guest."""
    return no_room(case.guest, int(case.config is None), case.intent.thing, case.host) if case.guest else None


def it_can_be_plugged(case: NicCase) -> Refusal | None:
    """attach: Live. A running guest must have a slot, and the pool a VF."""
    return cannot_be_plugged(case) if case.intent.attach == LIVE else None


def cannot_be_plugged(case: NicCase) -> Refusal | None:
    """Why the running guest cannot be given a VF now; None if it can, has one, or does not run."""
    guest = case.guest
    if guest is None or not guest.active or case.live:
        return None
    if refusal := no_vf(case):
        return refusal
    express = int(any(vf.express for vf in _vfs(case)))
    lack = guest.slots.lack(express=express, conventional=1 - express)
    if lack is None:
        return None
    return Refusal(
        reasons.NO_GUEST_PCI_SLOT,
        f"a VF of pool {case.intent.pool} cannot be plugged into running guest {guest.name}: {lack}; use attach: Auto"
        " or NextBoot, and add a controller to its persistent XML for the next boot",
    )


def no_vf(case: NicCase) -> Refusal | None:
    """Why libvirt could not give the guest a VF now: none is free, or the PF cannot set its MAC address."""
    network = case.network
    if network is None or case.running is None:
        return None
    available = free(network, case.host)
    return pf_down(case.host.devices[available[0]], case.host) if available else _exhausted(case)


def _exhausted(case: NicCase) -> Refusal:
    """Who holds the VFs."""
    holders = listed(taken(_vfs(case), case.host)) or "it has none"
    return Refusal(
        reasons.POOL_EXHAUSTED,
        f"pool {case.intent.pool} has no free VF: {holders}; shut one of those guests off, or raise numVFs of the pool",
    )


def _vfs(case: NicCase) -> tuple[PciDevice, ...]:
    """What the network hands out, in order of address."""
    found = addresses_of(case.network, case.host) if case.network else ()
    return tuple(d for a in sorted(found) if (d := case.host.devices.get(a)))


NicCheck = Callable[[NicCase], Refusal | None]
#: These say whether there is anything to talk about.
SUBJECTS: tuple[NicCheck, ...] = (guest_exists, pool_exists)
#: These stand before the first change.
CHECKS: tuple[NicCheck, ...] = (
    not_paused,
    network_is_active,
    portgroup_is_known,
    mac_is_free,
    guest_has_room,
    it_can_be_plugged,
)
#: These are asked of a NIC that stands.
STANDING: tuple[NicCheck, ...] = (network_is_active, portgroup_is_known)
#: These are asked of one that is adopted: nothing is changed for it.
ADOPTING: tuple[NicCheck, ...] = (*STANDING, mac_is_free)


def decide_nic(wish: Wish, host: Observation) -> Decision[NicIntent]:
    """What the assignment means here, and what is to be done for it."""
    intent = nic_intent(wish, host)
    return Decision(intent, plan_nic(intent, host))


def nic_intent(wish: Wish, host: Observation) -> NicIntent:
    """The assignment with the network that its pool has on this node."""
    assert wish.spec.source.pool  # noqa: S101 - who asks has looked
    return wish.nic_intent(network_of(wish.spec.source.pool.name, host))


def plan_nic(intent: NicIntent, host: Observation) -> Plan | Refusal:
    """What is left to do so that the guest has the NIC in its persistent XML, and, if it can be, while it runs."""
    case = NicCase(intent, host)
    if refusal := next((r for check in SUBJECTS if (r := check(case))), None):
        return refusal
    if intent.adopt:
        return case.adoption or next((r for check in ADOPTING if (r := check(case))), None) or Plan()
    actions = _actions(case)
    return next((r for check in (CHECKS if actions else STANDING) if (r := check(case))), None) or Plan(actions)


def _actions(case: NicCase) -> tuple[Action, ...]:
    """A new NIC is plugged in before it is written, so that attach: Live does all or nothing.

    Of one that is changed the persistent XML comes first: it stands as asked whatever the running guest can do.
    """
    intent = case.intent
    xml = InterfaceXml(intent.network or "", intent.alias, case.wanted, intent.portgroup)
    live = case.live
    plugged = replace(xml, nic=replace(xml.nic, guest_address=live.guest_address if live else None))
    actions: list[Action] = []
    if _to_be_plugged(case):
        actions.append(PlugInterface(intent.domain_uuid, plugged))
    if not case.configured:
        actions += [RemoveInterface(intent.domain_uuid, intent.alias)] if case.config else []
        actions.append(AddInterface(intent.domain_uuid, xml))
    if live is not None and case.pending and intent.attach == LIVE:
        actions.append(UnplugInterface(intent.domain_uuid, intent.alias, live.address))
        actions.append(PlugInterface(intent.domain_uuid, plugged))
    return (*actions, *(image_in_the_way(intent, case.guest) if case.guest else ()))


def nic_withdrawal(wish: Wish, host: Observation) -> Plan:
    """Our NIC in the persistent XML whose portgroup is gone: the guest's next start would be in a wrong VLAN.

    It comes back together with the portgroup. The running guest keeps what it has, and an adopted one all.
    """
    case = NicCase(nic_intent(wish, host), host)
    kept = wish.spec.adopt or host.settings.paused
    if kept or case.config is None or network_is_active(case) or not portgroup_is_known(case):
        return Plan()
    return Plan((RemoveInterface(case.intent.domain_uuid, case.intent.alias),))


def _to_be_plugged(case: NicCase) -> bool:
    guest = case.guest
    if guest is None or not guest.active or case.live is not None:
        return False
    return case.intent.attach == LIVE or (case.intent.attach == AUTO and cannot_be_plugged(case) is None)


def nic_inputs(intent: NicIntent, host: Observation) -> tuple[object, ...]:
    """Everything that the NIC's fate depends on; a failed one is not tried again while this is equal."""
    case = NicCase(intent, host)
    pfs = {pf.address: (pf.netdev, pf.up) for vf in _vfs(case) if (pf := pf_of(vf, host))}
    return intent, case.guest, case.network, case.record, taken(_vfs(case), host), pfs, host.settings
