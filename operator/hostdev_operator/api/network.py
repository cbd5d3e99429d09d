"""What resources say of a NIC: MAC, VLAN, virtual port, and the settings of an SR-IOV virtual function."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from .common import Model, rules

_MAC = re.compile("[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_NO_MAC = "00:00:00:00:00:00"


def _unicast(text: str) -> str:
    """The address in lower case; ValueError if it is none that a NIC can have."""
    mac = text.lower()
    if mac == _NO_MAC or not _MAC.fullmatch(mac):
        raise ValueError(f"{text!r} is not the MAC address of a NIC")
    return mac


#: A unicast MAC address, with upper or lower case digits as in libvirt; the model has it in lower case.
MacAddress = Annotated[
    str,
    Field(
        max_length=17,
        json_schema_extra=rules(
            (
                "self.matches('^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$')",
                "a MAC address is six pairs of hexadecimal digits: 52:54:00:12:34:56",
            ),
            (
                "!self.matches('^.[13579bBdDfF]')",
                "this is a multicast MAC address, which no NIC can have: the second digit must be even, as in"
                " 52:54:00:12:34:56",
            ),
            (f"self != '{_NO_MAC}'", "this MAC address is all zero, which no NIC can have"),
        ),
    ),
    AfterValidator(_unicast),
]
#: An IEEE 802.1Q VLAN tag; untagged is said by leaving it out.
VlanTag = Annotated[int, Field(ge=1, le=4094)]
#: A VLAN tag as a driver reports it; 0 is untagged.
VlanSeen = Annotated[int, Field(ge=0, le=4095)]
#: Megabits per second; 0 is no limit.
Rate = Annotated[int, Field(ge=0, le=4294967295)]
#: A netdev's name: 15 characters at most (IFNAMSIZ), of those that libvirt's schema takes for a device's name.
NetdevName = Annotated[str, Field(min_length=1, max_length=15, pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
#: The name of a libvirt network, of the characters that libvirt's schema takes where a guest names it; no slash, since
#: libvirt makes a file's name of it.
NetworkName = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$")]
#: The name of a portgroup of a libvirt network.
PortgroupName = NetworkName


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
    profile_id: Annotated[str, Field(min_length=1, max_length=39, pattern="^[A-Za-z0-9_.:-]+$")] = Field(
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
        description="The guest's MAC address: unicast; upper and lower case mean the same. Without it the one that the"
        " guest's XML has is kept, else one is derived from the assignment's namespace and name and the guest's UUID,"
        " and stays the same.",
    )
    vlan: VlanTag | None = Field(default=None, description="The VLAN that the VF is in; untagged if absent.")
    virtual_port: VirtualPort | None = Field(default=None, description="The port profile of a VM-FEX (802.1Qbh) card.")


class NicStatus(Model):
    """The guest's NIC on the VF, as the guest's XML has it."""

    name: NetworkName | None = Field(
        default=None, description="The libvirt network that the VF is from; absent if the assignment names the VF."
    )
    portgroup: PortgroupName | None = Field(default=None, description="The network's portgroup, if there is one.")
    mac: Annotated[str, Field(max_length=17)] = Field(description="Its MAC address, in lower case.")
    vlan: VlanTag | None = Field(default=None, description="Its VLAN; absent if it is untagged.")
    pending: bool = Field(
        default=False, description="true: the running guest still has other settings, until it boots the next time."
    )


class VfSettingsStatus(Model):
    """Settings of a VF as its PF's driver has them; what is absent was not told."""

    trust: bool | None = Field(default=None, description="Trust.")
    spoof_check: bool | None = Field(default=None, description="Spoof check.")
    link_state: Annotated[str, Field(max_length=8)] | None = Field(
        default=None, description="Link state: auto, enable or disable."
    )
    min_tx_rate: int | None = Field(default=None, description="Guaranteed Mbit/s; 0: none.")
    max_tx_rate: int | None = Field(default=None, description="Limit in Mbit/s; 0: none.")


class VfConfigStatus(VfSettingsStatus):
    """All of a VF's settings as its PF's driver has them; what is absent was not told."""

    mac: Annotated[str, Field(max_length=17)] | None = Field(default=None, description="MAC address.")
    vlan: VlanSeen | None = Field(default=None, description="VLAN; 0: untagged.")
