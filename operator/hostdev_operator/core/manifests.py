"""Manifests for what a host has already: assignments that adopt, and pools over networks that hand out VFs.

Each is planned for before it is written, with the plans that the agent makes: what would be refused, or would change
anything, is left out, and a comment says why.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from ..api import API_VERSION
from ..api.deviceassignment import DeviceAssignmentSpec
from ..api.vfpool import NodeVFPoolSpec, VFPoolSpec
from .actions import WriteRecord
from .adoption_status import group_left
from .checks import Refusal
from .intent import ALIAS_PREFIX, Wish
from .model import Guest, Hostdev, Nic, Observation, PciDevice
from .network import Network, NetworkDefinition
from .nic_plan import decide_nic
from .plan import Decision, decide
from .pool import PoolWish
from .pool_actions import WritePoolRecord
from .pool_plan import plan_pool
from .pool_use import addresses_of

_WIDTH = 118
_KEEP = "Keep"
#: Limits of the names that are made: a VFPool's, and the part of an assignment's that is its guest's.
_POOL_NAME, _GUEST_NAME = 63, 40

_HEADER = (
    "What host {node} had when this was written by hostdev_operator import: guests' devices and NICs, and networks that"
    " hand out VFs. Applied, nothing of guests and host is changed; deleted, neither (releasePolicy: Keep). What is"
    " left out stands in comments. Read docs/adoption.md first."
)
_POOL_NOTE = (
    "It is for this node alone, by the node's label kubernetes.io/hostname. Where several nodes have the same network"
    " and PF selector, one VFPool with their selector serves them all."
)


@dataclass
class _Import:
    """The host as it becomes with what is written so far, and the parts of the text."""

    host: Observation
    node: str
    namespace: str
    parts: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def comment(self, text: str) -> None:
        self.parts.append(_comment(text))

    def left_out(self, what: str, why: str) -> None:
        self.comment(f"Left out: {what}: {why}")

    def document(self, kind: str, name: str, spec: dict[str, Any], *notes: str) -> None:
        meta = {"name": name, **({"namespace": self.namespace} if kind == "DeviceAssignment" else {})}
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
        text = yaml.safe_dump(body, sort_keys=False, default_flow_style=False)
        self.parts.append("---\n" + "".join(map(_comment, notes)) + text)


def manifests(host: Observation, node: str, namespace: str) -> str:
    """The text, as kubectl takes it. ``host`` is as it is now; what its journal has recorded is left out."""
    made = _Import(host, node, namespace)
    made.comment(_HEADER.format(node=node))
    for _, network in sorted(host.networks.items()):
        if network.hands_out_vfs:
            _pool(made, network)
    for guest in sorted(host.guests, key=lambda g: (g.name, g.uuid)):
        _guest(made, guest)
    return "".join(made.parts)


def _comment(text: str) -> str:
    """Lines that nothing in the text can end early."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return textwrap.fill(words, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"


def _label(text: str, limit: int) -> str:
    """The text as part of an object's name."""
    return re.sub("[^a-z0-9]+", "-", text.lower())[:limit].strip("-") or "x"


def _unused(name: str, names: set[str], limit: int) -> str:
    """The name, or one with a number behind it."""
    candidates = (name, *(f"{name[: limit - 4].strip('-')}-{n}" for n in range(2, 1000)))
    found = next(candidate for candidate in candidates if candidate not in names)
    names.add(found)
    return found


def _invalid(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


# -- pools ------------------------------------------------------------------------------------------------------------


def _pool(made: _Import, network: Network) -> None:
    what = f"libvirt network {network.name}"
    known = next((r for r in made.host.pool_records.values() if r.network_uuid == network.uuid), None)
    if known:
        made.left_out(what, f"it is that of VFPool {known.name}")
        return
    pf, vfs = _source(network, made.host)
    definition = network.hands_out
    if definition is None or pf is None or vfs is None:
        one = "a pool is of one PF, and of VFs whose indices follow each other"
        made.left_out(what, one if definition else "it has no persistent definition")
        return
    name = _unused(_label(f"{network.name}-{made.node}", _POOL_NAME), made.names, _POOL_NAME)
    settings = _settings(network.name, definition, pf, vfs, made.host)
    selector = {"kubernetes.io/hostname": made.node}
    try:
        VFPoolSpec.model_validate({**settings, "nodeSelector": selector})
        spec = NodeVFPoolSpec.model_validate({**settings, "poolName": name, "nodeName": made.node})
    except ValidationError as error:
        made.left_out(what, _invalid(error))
        return
    wish = PoolWish(f"import-{name}", name, "", 0, spec)
    answer = _planned_pool(made, wish)
    if isinstance(answer, str):
        made.left_out(what, answer)
        return
    later = plan_pool(wish, made.host)
    notes = [f"Not ready as things are: {later.message}"] if isinstance(later, Refusal) else []
    made.document("VFPool", name, {"nodeSelector": selector, **settings}, f"{what}. {_POOL_NOTE}", *notes)


def _planned_pool(made: _Import, wish: PoolWish) -> str | None:
    """Why it would be refused or change something; else the host has its record from now on."""
    answer = plan_pool(wish, made.host)
    if isinstance(answer, Refusal):
        return f"{answer.reason}: {answer.message}"
    record = next((action.record for action in answer if isinstance(action, WritePoolRecord)), None)
    others = [str(action) for action in answer if not isinstance(action, WritePoolRecord)]
    if others or record is None:
        return f"a pool would change something: {'; '.join(others)}"
    made.host = replace(
        made.host,
        pool_records=MappingProxyType({**made.host.pool_records, wish.uid: record}),
        pool_wishes=(*made.host.pool_wishes, wish),
    )
    return None


def _source(network: Network, host: Observation) -> tuple[PciDevice | None, str | None]:
    """The PF, and the VFs of the pool: a range such as 0-3, "" for all; None if that cannot be said of them."""
    definition = network.hands_out
    if definition is None:
        return None, None
    if definition.pf is not None:
        address = next((pf.address for pf in host.pfs.values() if pf.netdev == definition.pf), None)
        return (host.devices.get(address) if address else None), ""
    vfs = [d for a in addresses_of(network, host) if (d := host.devices.get(a)) is not None]
    indices = sorted(d.vf_index for d in vfs if d.vf_index is not None)
    parents = {d.physfn for d in vfs}
    if not indices or len(parents) != 1 or indices != list(range(indices[0], indices[0] + len(definition.addresses))):
        return None, None
    parent = parents.pop()
    return (host.devices.get(parent) if parent else None), f"{indices[0]}-{indices[-1]}"


def _settings(
    name: str, definition: NetworkDefinition, device: PciDevice, vfs: str, host: Observation
) -> dict[str, Any]:
    """What VFPool and NodeVFPool have in common, so that nothing of the PF is written."""
    pf = host.pfs.get(device.address)
    selector: dict[str, Any] = {"mac": pf.mac} if pf and pf.mac else {"address": str(device.address)}
    network: dict[str, Any] = {"name": name}
    if definition.vlan:
        network["vlan"] = definition.vlan
    if definition.portgroups:
        network["portgroups"] = [
            {"name": g.name, **({"vlan": g.vlan} if g.vlan else {}), **({"default": True} if g.default else {})}
            for g in definition.portgroups
        ]
    return {
        "pf": {**selector, **({"vfs": vfs} if vfs else {})},
        "externallyManaged": True,
        "bindHostDriver": bool(pf and pf.autoprobe),
        "network": network,
        "releasePolicy": _KEEP,
    }


# -- assignments ------------------------------------------------------------------------------------------------------


def _guest(made: _Import, guest: Guest) -> None:
    for hostdev in guest.config:
        _device(made, guest, hostdev)
    names = {pool.name for pool in made.host.pools}
    for nic in guest.nics:
        if nic.network in names:
            _nic(made, guest, nic)
    from_networks = {n.address for n in guest.live_nics if n.network is not None}
    known = {h.address for h in guest.config} | from_networks
    for hostdev in guest.live:
        if hostdev.address not in known:
            why = "the running guest alone has it" if guest.persistent else "the guest is transient"
            made.left_out(f"{hostdev.address} of guest {guest.name}", f"{why}, so it is gone with it")


def _device(made: _Import, guest: Guest, hostdev: Hostdev) -> None:
    what = f"{hostdev.address} of guest {guest.name}"
    if hostdev.element == "disk":
        made.left_out(what, "it is a disk of type nvme, which is no hostdev")
        return
    spec: dict[str, Any] = {
        "nodeName": made.node,
        "domain": {"uuid": guest.uuid},
        "source": {"pci": {"address": str(hostdev.address)}},
        **({} if hostdev.managed else {"managed": False}),
    }
    if hostdev.element == "interface":
        nic = next((n for n in guest.nics if n.address == hostdev.address), Nic())
        spec["network"] = _network(nic)
    _assignment(made, guest, what, hostdev.alias, spec)


def _nic(made: _Import, guest: Guest, nic: Nic) -> None:
    what = f"NIC {nic.mac} of libvirt network {nic.network} of guest {guest.name}"
    network = made.host.networks.get(nic.network or "")
    record = next((r for r in made.host.pool_records.values() if network and r.network_uuid == network.uuid), None)
    if record is None:
        made.left_out(what, "there is no pool for its network: see above")
        return
    source = {"name": record.name, **({"portgroup": nic.portgroup} if nic.portgroup else {})}
    spec = {
        "domain": {"uuid": guest.uuid},
        "source": {"pool": source},
        "network": _network(nic),
    }
    _assignment(made, guest, what, nic.alias, spec)


def _network(nic: Nic) -> dict[str, Any]:
    found: dict[str, Any] = {"mac": nic.mac} if nic.mac else {}
    if nic.vlan:
        found["vlan"] = nic.vlan
    if nic.profile:
        found["virtualPort"] = {"profileID": nic.profile}
    return found


def _assignment(made: _Import, guest: Guest, what: str, alias: str | None, wire: dict[str, Any]) -> None:
    wire = {**wire, "adopt": True, "releasePolicy": _KEEP}
    try:
        spec = DeviceAssignmentSpec.model_validate(wire)
    except ValidationError as error:
        made.left_out(what, _invalid(error))
        return
    device = spec.source.pci.address if spec.source.pci else (spec.network.mac if spec.network else None)
    suffix = f"{guest.uuid[:8]}-{_label(device or 'nic', _GUEST_NAME)}"
    name = _unused(f"{_label(guest.name, _GUEST_NAME)}-{suffix}", made.names, 253)
    wish = Wish(f"import-{name}", made.namespace, name, "", 0, spec, guest.uuid)
    decision: Decision[Any] = decide_nic(wish, made.host) if spec.source.pool else decide(wish, made.host)
    if isinstance(decision.answer, Refusal):
        made.left_out(what, f"{decision.answer.reason}: {decision.answer.message}")
        made.names.discard(name)
        return
    notes = [f"{what}."]
    if alias and alias.startswith(ALIAS_PREFIX):
        notes.append(f"Its alias {alias} is that of an assignment; if that one is there still, this one is refused.")
    for action in decision.answer.actions:
        if isinstance(action, WriteRecord):
            made.host = replace(made.host, records=MappingProxyType({**made.host.records, wish.uid: action.record}))
            found = group_left(made.host.devices[action.record.address], action.record, made.host, guest.name)
            notes += [] if found.status == "True" else [f"Not ready as things are: {found.message}"]
    made.document("DeviceAssignment", name, wire, *notes)
