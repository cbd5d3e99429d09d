"""What resources say of a NIC: MAC, VLAN, virtual port, and the settings of an SR-IOV virtual function."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .common import Model, rules

#: A unicast MAC address in lower case: the second digit is even.
MacAddress = Annotated[str, Field(max_length=17, pattern="^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$")]
#: An IEEE 802.1Q VLAN tag; untagged is said by leaving it out.
VlanTag = Annotated[int, Field(ge=1, le=4094)]
#: A VLAN tag as a driver reports it; 0 is untagged.
VlanSeen = Annotated[int, Field(ge=0, le=4095)]
#: Megabits per second; 0 is no limit.
Rate = Annotated[int, Field(ge=0, le=4294967295)]
#: A netdev's name in the kernel (15 characters).
NetdevName = Annotated[str, Field(min_length=1, max_length=15, pattern="^[^/\\s:]+$")]
#: The name of a portgroup of a libvirt network.
PortgroupName = Annotated[str, Field(min_length=1, max_length=64)]


class VirtualPort(Model):
    """<virtualport> of the guest's interface."""

    type: Annotated[
        str,
        Field(
            max_length=16,
            json_schema_extra=rules(
                (
                    "self == '802.1Qbh'",
                    "virtualPort.type must be 802.1Qbh: libvirt takes no other one (802.1Qbg, Open vSwitch, MidoNet)"
                    " for a device that is passed through",
                )
            ),
        ),
    ] = Field(default="802.1Qbh", description="802.1Qbh is the only type that libvirt takes here.")
    profile_id: Annotated[str, Field(min_length=1, max_length=39)] = Field(
        alias="profileID", description="The port profile in the switch, for example finance."
    )


_RATES = (
    "!has(self.minTxRate) || !has(self.maxTxRate) || self.maxTxRate == 0 || self.minTxRate <= self.maxTxRate",
    "minTxRate must not be above maxTxRate",
)
_VLAN_OR_PORT = (
    "!has(self.vlan) || !has(self.virtualPort)",
    "give either vlan or virtualPort: with a port profile the switch decides on the VLAN",
)


class VfSettings(Model):
    """Settings of a VF beyond MAC and VLAN, as `ip link set PF vf N` has them. What is left out is left as it is."""

    model_config = ConfigDict(json_schema_extra=rules(_RATES))

    trust: bool | None = Field(
        default=None, description="Whether the guest may set promiscuous mode and MAC addresses of its own."
    )
    spoof_check: bool | None = Field(
        default=None, description="Whether frames with another source MAC or VLAN are dropped."
    )
    link_state: Literal["Auto", "Enable", "Disable"] | None = Field(
        default=None, description="The link that the VF sees. Auto: that of the PF."
    )
    min_tx_rate: Rate | None = Field(default=None, description="Guaranteed bandwidth in Mbit/s; 0: none.")
    max_tx_rate: Rate | None = Field(default=None, description="Limit of bandwidth in Mbit/s; 0: none.")


class NetworkSettings(VfSettings):
    """The guest's NIC on an SR-IOV VF."""

    model_config = ConfigDict(json_schema_extra=rules(_RATES, _VLAN_OR_PORT))

    mac: MacAddress | None = Field(
        default=None,
        description="The guest's MAC address, in lower case. Without it one is derived from the assignment's namespace"
        " and name and the guest's UUID, and stays the same.",
    )
    vlan: VlanTag | None = Field(default=None, description="The VLAN that the VF is in; untagged if absent.")
    virtual_port: VirtualPort | None = Field(default=None, description="The port profile of a VM-FEX (802.1Qbh) card.")
