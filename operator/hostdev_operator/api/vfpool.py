"""VFPool: virtual functions of SR-IOV cards that libvirt hands out to guests; NodeVFPool: one pool on one node."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import (
    AddressInput,
    AddressText,
    Conditions,
    DriverName,
    Model,
    NodeName,
    PciId,
    PoolName,
    ReleasePolicy,
    Uuid,
    rules,
)
from .deviceassignment import IdentityStatus
from .drift import DriftPolicy, PoolSettledStatus
from .network import (
    MacAddress,
    NetdevName,
    NetworkName,
    PortgroupName,
    VfSettings,
    VfSettingsStatus,
    VlanSeen,
    VlanTag,
)
from .plan import Approval, PlanHash, PlanStatus

POOL_FINALIZER = "hostdev.dev/pool"

_RANGE = "^[0-9]{1,5}-[0-9]{1,5}$"


class PfSelector(Model):
    """Which physical function of a node is meant: all fields that are given must fit, and exactly one PF may."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.name) || has(self.mac) || has(self.address) || has(self.vendor) || has(self.device)",
                "say which PF: by name, mac, address, or vendor and device",
            ),
            (
                f"!has(self.vfs) || !self.vfs.matches('{_RANGE}')"
                " || int(self.vfs.split('-')[0]) <= int(self.vfs.split('-')[1])",
                "vfs is a range from the first to the last index: 0-3",
            ),
        )
    )

    name: NetdevName | None = Field(default=None, description="The PF's netdev, for example ens1f0.")
    mac: MacAddress | None = Field(default=None, description="The PF's permanent MAC address.")
    address: AddressInput | None = Field(
        default=None, description="The PF's PCI address: 0000:01:00.0, or libvirt's pci_0000_01_00_0."
    )
    vendor: PciId | None = Field(default=None, description="PCI vendor, for example 0x8086.")
    device: PciId | None = Field(default=None, description="PCI device (product), for example 0x10c9.")
    vfs: Annotated[str, Field(max_length=11, pattern=_RANGE)] | None = Field(
        default=None,
        description="The VFs of the pool by index, for example 0-3, so that pools can share a PF; all if absent.",
    )


class Portgroup(Model):
    """A <portgroup> of the libvirt network: guests name it and get its VLAN."""

    name: PortgroupName = Field(description="Name.")
    vlan: VlanTag | None = Field(default=None, description="VLAN of its guests; untagged if absent.")
    default: bool = Field(default=False, description="Whether guests that name no portgroup are in this one.")


class PoolNetwork(Model):
    """The libvirt network that hands out the VFs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.portgroups) || self.portgroups.filter(p, p.default).size() <= 1",
                "only one portgroup can be the default one",
            )
        )
    )

    name: NetworkName | None = Field(default=None, description="Its name; the pool's own name if absent.")
    vlan: VlanTag | None = Field(default=None, description="VLAN of all guests that are in no portgroup with another.")
    portgroups: Annotated[tuple[Portgroup, ...], Field(max_length=64)] = Field(
        default=(),
        description="Portgroups, each with a VLAN of its own.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    adopt: Literal["IfEqual", "Replace"] = Field(
        default="IfEqual",
        description="What happens to a network of that name that exists already. IfEqual: it is taken over if it is as"
        " the pool wants it, else nothing is done. Replace: its definition is replaced, once no guest uses it.",
    )


_SETTINGS_RULES = (
    (
        "has(self.numVFs) != self.externallyManaged",
        "say how many VFs the PF shall have (numVFs), or that somebody else makes them (externallyManaged: true), not"
        " both",
    ),
    (
        f"!has(self.numVFs) || !has(self.pf.vfs) || !self.pf.vfs.matches('{_RANGE}')"
        " || int(self.pf.vfs.split('-')[1]) < self.numVFs",
        "pf.vfs counts from 0: its last index must be below numVFs, which is of the whole PF",
    ),
    ("self.pf == oldSelf.pf", "pf cannot be changed: delete the pool and make a new one"),
    (
        "has(self.network.name) == has(oldSelf.network.name)"
        " && (!has(self.network.name) || self.network.name == oldSelf.network.name)",
        "network.name cannot be changed: delete the pool and make a new one",
    ),
)


class NodePoolSettings(Model):
    """What a pool asks of each node."""

    model_config = ConfigDict(json_schema_extra=rules(*_SETTINGS_RULES))

    pf: PfSelector = Field(description="The physical function.")
    num_vfs: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        alias="numVFs",
        description="How many VFs the whole PF shall have (sriov_numvfs). It is changed only while no VF is in use.",
    )
    externally_managed: bool = Field(
        default=False, description="true: somebody else makes the VFs; sriov_numvfs is never written."
    )
    bind_host_driver: bool = Field(
        default=False,
        description="Whether idle VFs get the host's driver. Without it they are made much faster, guests start faster,"
        " and nothing on the host takes their netdevs (sriov_drivers_autoprobe is 0 while the pool exists).",
    )
    link_up: bool = Field(
        default=False,
        description="true: the PF is brought up. A VF's MAC and VLAN can only be set while its PF is up.",
    )
    network: PoolNetwork = Field(default=PoolNetwork(), description="The libvirt network.")
    vf_settings: VfSettings = Field(default=VfSettings(), description="Settings of all VFs of the pool.")
    release_policy: ReleasePolicy = Field(
        default="Return",
        description="What deleting the pool does. Return: network, VFs and PF become what they were before the first"
        " pool. Keep: all of it stays as it is, guests included; after a reboot nobody makes the VFs again. Can be"
        " changed at any time.",
    )
    approval: Approval = Field(
        default="Automatic",
        description="Manual: on each node nothing is begun before its plan is approved (approvedPlans of the VFPool). A"
        " deletion needs no approval. Automatic gives way to Manual in spec.approval of the DeviceHost.",
    )
    drift_policy: DriftPolicy = Field(
        default="Report",
        description="What becomes of what somebody else changes by hand once all stands as asked: number of VFs, host"
        " driver probing, link, network. Report: Ready is False with reason Drifted, and nothing is changed. Correct:"
        " it is put right, under the same checks as any change, after growing delays if it is changed again and again."
        " What reboots change, and settings of VFs that guests leave behind, is put right by both.",
    )


_LABEL_KEY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
#: The value of a node's label.
LabelValue = Annotated[str, Field(max_length=63, pattern="^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]


class VFPoolSpec(NodePoolSettings):
    """What should be, on each node that is selected."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *_SETTINGS_RULES,
            (
                f"!has(self.nodeSelector) || self.nodeSelector.all(k, k.matches('{_LABEL_KEY}') && size(k) <= 317)",
                "a key of nodeSelector is a label of nodes: kubernetes.io/hostname",
            ),
        )
    )

    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] = Field(
        default={}, description="Labels of the nodes that have the pool; all nodes with an agent if empty."
    )
    approved_plans: Annotated[dict[str, PlanHash], Field(max_length=4096)] = Field(
        default={},
        description="Manual: node -> hash of the plan that may be carried out there (status.plan.hash of its"
        " NodeVFPool).",
    )


class NodeVFPoolSpec(NodePoolSettings):
    """One pool on one node. Written by the controller from the VFPool."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *_SETTINGS_RULES,
            (
                "self.poolName == oldSelf.poolName && self.nodeName == oldSelf.nodeName",
                "poolName and nodeName cannot be changed: the controller makes a NodeVFPool for each node of a VFPool",
            ),
        )
    )

    pool_name: PoolName = Field(description="Name of the VFPool.")
    node_name: NodeName = Field(description="The node whose agent carries it out.")
    approved_plan: PlanHash | None = Field(
        default=None, description="The VFPool's approvedPlans of this node. Written by the controller: approve there."
    )


class PfStatus(Model):
    """The physical function as it was found."""

    address: AddressText = Field(description="PCI address.")
    name: Annotated[str, Field(max_length=15)] | None = Field(default=None, description="Its netdev.")
    mac: Annotated[str, Field(max_length=17)] | None = Field(default=None, description="Its permanent MAC address.")
    up: bool = Field(description="Whether its netdev is up.")
    total_vfs: int = Field(alias="totalVFs", description="How many VFs it can have.")
    num_vfs: int = Field(alias="numVFs", description="How many VFs it has.")


class VfStatus(Model):
    """One VF of the pool."""

    index: int = Field(description="Index on the PF, from 0.")
    address: AddressText = Field(description="PCI address.")
    driver: DriverName | None = Field(default=None, description="Kernel driver bound now; absent if none.")
    mac: Annotated[str, Field(max_length=17)] | None = Field(
        default=None, description="MAC address that the PF has for it."
    )
    vlan: VlanSeen | None = Field(default=None, description="VLAN that the PF has for it; 0: untagged.")
    holder: Annotated[str, Field(max_length=320)] | None = Field(
        default=None, description="Who has it, for example 'guest web'; absent if it is free."
    )


class NetworkStatus(Model):
    """The libvirt network as virsh net-dumpxml and net-info show it."""

    name: NetworkName = Field(description="Name.")
    uuid: Uuid = Field(description="UUID.")
    active: bool = Field(description="Whether it is started.")
    autostart: bool = Field(description="Whether libvirt starts it at boot.")
    connections: int = Field(description="How many NICs of running guests are on it.")


class VfCounts(Model):
    """Counts of VFs."""

    total: int = Field(description="VFs of the pool.")
    allocated: int = Field(description="Those that somebody has.")
    free: int = Field(description="Those that a guest can get.")


class VfBefore(VfSettingsStatus):
    """Settings of one VF before they were changed."""

    index: int = Field(description="Index on the PF.")


class PoolRecordStatus(Model):
    """Copy of the node's own record of the pool. A node that lost its state directory takes this one."""

    sequence: int = Field(description="Grows with each change of the record; the highest wins.")
    pf: AddressText = Field(description="The PF's address.")
    identity: IdentityStatus = Field(description="The PF's fingerprint.")
    pf_mac: Annotated[str, Field(max_length=17)] | None = Field(
        default=None, alias="pfMAC", description="The PF's permanent MAC address."
    )
    num_vfs_before: int = Field(alias="numVFsBefore", description="How many VFs the PF had.")
    autoprobe_before: bool | None = Field(
        default=None, description="sriov_drivers_autoprobe as it was; absent if it was not changed."
    )
    up_before: bool = Field(description="Whether the PF's netdev was up.")
    num_vfs: int | None = Field(
        default=None, alias="numVFs", description="How many VFs it shall have; absent if they are managed externally."
    )
    autoprobe: bool | None = Field(
        default=None, description="sriov_drivers_autoprobe as it shall be; absent if it is left alone."
    )
    link_up: bool = Field(default=False, description="Whether its netdev shall be up after a reboot.")
    network_name: NetworkName = Field(description="The libvirt network.")
    network_uuid: Uuid | None = Field(
        default=None, alias="networkUUID", description="Its UUID, once it was made or adopted."
    )
    adopted: bool = Field(description="Whether the network was there before, so that it stays.")
    vfs_before: Annotated[tuple[VfBefore, ...], Field(max_length=1024)] = Field(
        default=(), alias="vfsBefore", description="Settings of the VFs as they were."
    )


class NodeVFPoolStatus(Model):
    """What is. Written by the node's agent."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that this status was computed from."
    )
    node_name: NodeName | None = Field(
        default=None,
        description="Set by the agent before its first change, cleared after it has given everything back; until then"
        " the object cannot go.",
    )
    pf: PfStatus | None = Field(default=None, description="The physical function.")
    vfs: Annotated[tuple[VfStatus, ...], Field(max_length=1024)] = Field(default=(), description="The pool's VFs.")
    counts: VfCounts | None = Field(default=None, description="The VFs, counted.")
    network: NetworkStatus | None = Field(default=None, description="The libvirt network; absent if there is none.")
    record: PoolRecordStatus | None = Field(default=None, description="What the agent remembers for giving it back.")
    plan: PlanStatus | None = Field(
        default=None, description="The plan that waits for approval; else the last one that had anything to do."
    )
    settled: PoolSettledStatus | None = Field(
        default=None, description="What stood when nothing was left to do; absent while it has never been so."
    )
    conditions: Conditions = Field(
        default=(),
        description="Planned: the plan passed all checks. VFsReady: the PF has the VFs. NetworkReady: the network is"
        " as asked, active and started at boot. Ready: all of it.",
    )


class NodeVFPool(Model):
    """One VFPool on one node, named <pool>.<node>. Made by the controller, carried out by the node's agent."""

    spec: NodeVFPoolSpec = Field(description="What should be.")
    status: NodeVFPoolStatus | None = Field(default=None, description="What is.")


class VFPoolStatus(Model):
    """Over all nodes. Written by the controller."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that this status was computed from."
    )
    nodes: int = Field(default=0, description="Nodes that are selected.")
    nodes_ready: int = Field(default=0, description="Those whose NodeVFPool is Ready.")
    counts: VfCounts | None = Field(default=None, description="The VFs of all nodes, counted.")
    conditions: Conditions = Field(
        default=(), description="Ready: all selected nodes are; else its message names the first that are not, and why."
    )


class VFPool(Model):
    """VFs of SR-IOV cards that libvirt hands out: number of VFs, network, VLANs and settings on each selected node."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63",
                "a pool's name is a DNS label, of at most 63 characters and without dots: with the node's name it makes"
                " the name of its NodeVFPool",
            )
        )
    )

    spec: VFPoolSpec = Field(description="What should be.")
    status: VFPoolStatus | None = Field(default=None, description="What is.")
