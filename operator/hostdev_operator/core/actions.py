"""The typed actions that plans consist of. Each states what it finds and what it leaves; each is idempotent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .identity import Identity
from .model import VFIO_DRIVER
from .pci import PciAddress
from .pool_actions import ConfigureVf
from .record import Record
from .topology import NewController


@dataclass(frozen=True)
class WriteRecord:
    """Store the record durably. Always the first action that a plan has."""

    record: Record

    def __str__(self) -> str:
        return f"record {len(self.record.members)} endpoint(s) for {self.record.owner}"


@dataclass(frozen=True)
class DetachDriver:
    """Take a device from its host driver and bind it to vfio-pci (nodedev-detach).

    ``overridden``: the administrator allows it although the host needs the device.
    """

    address: PciAddress
    driver: str
    identity: Identity
    overridden: bool = False

    def __str__(self) -> str:
        return f"detach {self.address} from {self.driver or 'no driver'} to {VFIO_DRIVER}"


@dataclass(frozen=True)
class NicXml:
    """What an <interface> of ours says of the NIC.

    ``mac`` is lower case; ``vlan`` None: untagged, or as the network and its portgroup have it; ``profile``: port
    profile of an 802.1Qbh switch; ``guest_address``: where the guest sees it, None: libvirt chooses;
    ``multifunction``: it shares that slot.
    """

    mac: str
    vlan: int | None = None
    profile: str | None = None
    guest_address: PciAddress | None = None
    multifunction: bool = False


@dataclass(frozen=True)
class HostdevXml:
    """A <hostdev> as we write it; with ``nic`` an <interface type='hostdev'>, which only VFs can be.

    ``unassigned``: the guest holds the device without seeing it. ``guest_address``: where it sees it, None: libvirt
    chooses; ``multifunction``: it shares that slot.
    """

    address: PciAddress
    alias: str
    managed: bool
    driver: str | None = None
    unassigned: bool = False
    nic: NicXml | None = None
    guest_address: PciAddress | None = None
    multifunction: bool = False


@dataclass(frozen=True)
class InterfaceXml:
    """An <interface type='network'> as we write it: at each start of the guest libvirt gives it a VF of the network."""

    network: str
    alias: str
    nic: NicXml
    portgroup: str | None = None


@dataclass(frozen=True)
class AddController:
    """Add a PCI controller to the guest's persistent XML (attach-device --config).

    Nothing to do if it is there; HostError HostChanged if another one has its index by now.
    """

    domain_uuid: str
    controller: NewController
    alias: str

    def __str__(self) -> str:
        return f"add {self.controller} to the persistent XML of guest {self.domain_uuid}"


@dataclass(frozen=True)
class RemoveController:
    """Remove a PCI controller of ours, which has no devices, from the guest's persistent XML (detach-device --config).

    Nothing to do if the one of that index is not there, or is not ours any more.
    """

    domain_uuid: str
    controller: NewController
    alias: str

    def __str__(self) -> str:
        return f"remove {self.controller} from the persistent XML of guest {self.domain_uuid}"


@dataclass(frozen=True)
class DropSavedImage:
    """Remove the guest's managed save image, and with it what it had in memory. Nothing to do if there is none."""

    domain_uuid: str

    def __str__(self) -> str:
        return f"drop the managed save image of guest {self.domain_uuid}"


@dataclass(frozen=True)
class PlugHostdev:
    """Add the hostdev to the running guest (attach-device --live); libvirt takes a managed one from its host driver.

    ``overridden``: the administrator allows it although the host needs the device.
    """

    domain_uuid: str
    hostdev: HostdevXml
    identity: Identity
    overridden: bool = False

    def __str__(self) -> str:
        return f"plug {self.hostdev.address} into running guest {self.domain_uuid}"


@dataclass(frozen=True)
class AddHostdev:
    """Add the hostdev to the guest's persistent XML (attach-device --config)."""

    domain_uuid: str
    hostdev: HostdevXml
    identity: Identity

    def __str__(self) -> str:
        return f"add {self.hostdev.address} to the persistent XML of guest {self.domain_uuid}"


@dataclass(frozen=True)
class UnplugHostdev:
    """Ask the running guest to let go of the hostdev (detach-device --live), and wait until it is out of the live XML.

    HostError UnplugRejected or UnplugPending if it stays.
    """

    domain_uuid: str
    address: PciAddress
    alias: str | None

    def __str__(self) -> str:
        return f"unplug {self.address} from running guest {self.domain_uuid}"


@dataclass(frozen=True)
class RemoveHostdev:
    """Remove the hostdev from the guest's persistent XML (detach-device --config)."""

    domain_uuid: str
    address: PciAddress
    alias: str | None

    def __str__(self) -> str:
        return f"remove {self.address} from the persistent XML of guest {self.domain_uuid}"


@dataclass(frozen=True)
class PlugInterface:
    """Add the NIC to the running guest (attach-device --live): libvirt gives it a free VF of the network.

    Nothing to do if the running guest has an interface with this alias.
    """

    domain_uuid: str
    interface: InterfaceXml

    def __str__(self) -> str:
        return f"plug a NIC of network {self.interface.network} into running guest {self.domain_uuid}"


@dataclass(frozen=True)
class AddInterface:
    """Add the NIC to the guest's persistent XML (attach-device --config).

    Nothing to do if that has an interface with this alias.
    """

    domain_uuid: str
    interface: InterfaceXml

    def __str__(self) -> str:
        return f"add a NIC of network {self.interface.network} to the persistent XML of guest {self.domain_uuid}"


@dataclass(frozen=True)
class UnplugInterface:
    """Ask the running guest to let go of the NIC with this alias, and wait until it is out of the live XML.

    HostError UnplugRejected or UnplugPending if it stays; nothing to do if it is not there. ``address`` is the VF that
    it had when it was planned; None if it had none. One without alias is known by ``mac``.
    """

    domain_uuid: str
    alias: str | None
    address: PciAddress | None = None
    mac: str | None = None

    def __str__(self) -> str:
        return f"unplug NIC {self.address or self.alias or self.mac} from running guest {self.domain_uuid}"


@dataclass(frozen=True)
class RemoveInterface:
    """Remove the NIC with this alias from the guest's persistent XML (detach-device --config).

    Nothing to do if it is not there, or the guest is gone. One without alias is known by ``mac``.
    """

    domain_uuid: str
    alias: str | None
    mac: str | None = None

    def __str__(self) -> str:
        return f"remove NIC {self.alias or self.mac} from the persistent XML of guest {self.domain_uuid}"


@dataclass(frozen=True)
class ReturnDriver:
    """Give a device back from vfio-pci or from no driver (nodedev-reattach) and verify that ``driver`` is bound.

    ``driver`` None: it had none before. The kernel may bind one on its own then; that is the host's policy. Nothing is
    done to another device that is there by now.
    """

    address: PciAddress
    driver: str | None
    identity: Identity

    def __str__(self) -> str:
        return f"return {self.address} to {self.driver or 'the host (it had no driver)'}"


@dataclass(frozen=True)
class DropRecord:
    """Forget the record: everything is given back. Always the last action that a plan has."""

    uid: str

    def __str__(self) -> str:
        return f"drop the record of {self.uid}"


Action = (
    WriteRecord
    | DetachDriver
    | ConfigureVf
    | AddController
    | RemoveController
    | DropSavedImage
    | PlugHostdev
    | AddHostdev
    | UnplugHostdev
    | RemoveHostdev
    | PlugInterface
    | AddInterface
    | UnplugInterface
    | RemoveInterface
    | ReturnDriver
    | DropRecord
)


#: What gives a running guest something; a NIC of a pool gets any VF.
PLUGS: tuple[type[Action], ...] = (PlugHostdev, PlugInterface)
#: What takes it from the guest again.
UNPLUGS: tuple[type[Action], ...] = (UnplugHostdev, UnplugInterface)


def plugged(actions: Iterable[Action]) -> frozenset[PciAddress]:
    """The devices that actions plug in."""
    return frozenset(a.hostdev.address for a in actions if isinstance(a, PlugHostdev))


def touched(actions: Iterable[Action]) -> frozenset[PciAddress]:
    """The devices that actions change, or change something of; which VF libvirt takes for a NIC is not among them."""
    found = set[PciAddress]()
    for action in actions:
        match action:
            case WriteRecord(record):
                found |= {record.address, *(member.address for member in record.members)}
            case PlugHostdev() | AddHostdev():
                found.add(action.hostdev.address)
            case ConfigureVf():
                found.add(action.pf)
            case UnplugInterface():
                found |= {action.address} if action.address else set()
            case PlugInterface() | AddInterface() | RemoveInterface() | DropRecord():
                pass
            case AddController() | RemoveController() | DropSavedImage():
                pass
            case _:
                found.add(action.address)
    return frozenset(found)
