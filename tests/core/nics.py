"""A host with a PF whose VFs go to guests as NICs: by address, or from a pool."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hostdev_operator.api.vfpool import NodeVFPoolSpec
from hostdev_operator.core.intent import Intent, NicIntent, NicWish
from hostdev_operator.core.model import Guest, Observation, PciDevice, Pool
from hostdev_operator.core.network import Network, NetworkDefinition, NetworkPortgroup
from hostdev_operator.core.nic_plan import plan_nic
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool import PoolRecord, PoolWish
from hostdev_operator.core.sriov import Pf, VfConfig
from tests.core.hosts import GUESTS, actions_of, carry_out, observation, with_guest
from tests.fakes.samples import UID, WEB, device, intent

PF = PciAddress.parse("0000:05:00.0")
VF = PciAddress.parse("0000:05:10.0")
VF2 = PciAddress.parse("0000:05:10.2")
PF_MAC = "52:54:00:10:00:01"
MAC, MAC2 = "52:54:00:00:00:01", "52:54:00:00:00:02"
FRESH = VfConfig("00:00:00:00:00:00", 0, trust=False, spoof_check=True, link_state="auto", min_tx_rate=0, max_tx_rate=0)
POOL_UID, NETWORK_UUID = "pool-uid", "99999999-9999-4999-8999-999999999999"
GROUPS = (NetworkPortgroup("blue", 10), NetworkPortgroup("red", 20))


def vf(address: PciAddress, index: int, **more: Any) -> PciDevice:
    """A VF of PF, without a driver."""
    return device(
        address, **{"driver": None, "group": 50 + index, "physfn": PF, "vf_index": index, "pf_mac": PF_MAC, **more}
    )


def nic_host(*guests: Guest, **pf: Any) -> Observation:
    """One PF eth3, up, with two VFs; ``pf`` changes its network side."""
    side = Pf(PF, "eth3", PF_MAC, up=True, autoprobe=False, vfs={0: FRESH, 1: FRESH})
    devices = (device(PF, "igb", 49, total_vfs=7, num_vfs=2), vf(VF, 0), vf(VF2, 1), device("0000:06:00.0", "e1000e"))
    return observation(devices, guests or GUESTS, pfs=MappingProxyType({PF: replace(side, **pf)}))


def with_vf(host: Observation, index: int, **changes: Any) -> Observation:
    """The host with settings of one VF changed."""
    side = host.pfs[PF]
    changed = replace(side, vfs={**side.vfs, index: replace(side.vfs[index], **changes)})
    return replace(host, pfs=MappingProxyType({**host.pfs, PF: changed}))


def vf_intent(mac: str | None = MAC, vlan: int | None = None, **more: Any) -> Intent:
    """The sample assignment for VF 0 as a NIC; ``settings`` and ``profile`` are of spec.network."""
    wish = NicWish(mac, vlan, more.pop("profile", None), more.pop("settings", VfConfig()))
    return replace(intent(VF, **more), nic=wish)


DEFINITION = NetworkDefinition("net-a", addresses=(VF, VF2), portgroups=GROUPS)
NETWORK = Network("net-a", NETWORK_UUID, hands_out=DEFINITION, running=DEFINITION)
RECORD = PoolRecord(
    POOL_UID,
    "pool-a",
    PF,
    device(PF).identity,
    PF_MAC,
    num_vfs_before=0,
    up_before=True,
    network_name="net-a",
    num_vfs=2,
    network_uuid=NETWORK_UUID,
)
POOL = PoolWish(
    POOL_UID,
    "pool-a",
    "2026-01-01T00:00:00Z",
    1,
    NodeVFPoolSpec.model_validate(
        {"pf": {"name": "eth3"}, "network": {"name": "net-a"}, "poolName": "pool-a", "nodeName": "n1"}
    ),
)


def pool_host(*guests: Guest, network: Network | None = NETWORK, **changes: Any) -> Observation:
    """The same with a pool of both VFs; ``changes`` of the observation."""
    networks = {network.name: network} if network else {}
    pools = tuple(Pool(n.name, n.addresses) for n in networks.values() if n.hands_out_vfs)
    host = replace(
        nic_host(*guests),
        networks=MappingProxyType(networks),
        pools=pools,
        pool_records=MappingProxyType({POOL_UID: RECORD}),
        pool_wishes=(POOL,),
    )
    return replace(host, **changes)


def nic_intent(
    guest: str = WEB, *, uid: str = UID, mac: str | None = None, vlan: int | None = None, **more: Any
) -> NicIntent:
    """An assignment of a VF of pool-a."""
    wish = NicWish(mac, vlan, more.pop("profile", None))
    values = {"pool": "pool-a", "network": "net-a", "portgroup": None, "domain_name": "web", **more}
    return NicIntent(uid, "default", "nic", domain_uuid=guest, nic=wish, **values)


def configured(host: Observation | None = None, **wanted: Any) -> Observation:
    """The host after the sample assignment was carried out."""
    start = host or pool_host()
    return carry_out(actions_of(plan_nic(nic_intent(**wanted), start)), start)


def running(**wanted: Any) -> Observation:
    """The guest was running when the assignment was made: it has a VF."""
    return configured(with_guest(pool_host(), WEB, active=True), **wanted)
