"""The typed actions that plans consist of. Each states what it finds and what it leaves; each is idempotent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .identity import Identity
from .model import VFIO_DRIVER
from .pci import PciAddress
from .record import Record


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
class HostdevXml:
    """A <hostdev> as we write it. ``unassigned``: the guest holds the device without seeing it."""

    address: PciAddress
    alias: str
    managed: bool
    driver: str | None = None
    unassigned: bool = False


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
    WriteRecord | DetachDriver | PlugHostdev | AddHostdev | UnplugHostdev | RemoveHostdev | ReturnDriver | DropRecord
)


def touched(actions: Iterable[Action]) -> frozenset[PciAddress]:
    """The devices that actions change, or change something of."""
    found = set[PciAddress]()
    for action in actions:
        match action:
            case WriteRecord(record):
                found |= {record.address, *(member.address for member in record.members)}
            case PlugHostdev() | AddHostdev():
                found.add(action.hostdev.address)
            case DropRecord():
                pass
            case _:
                found.add(action.address)
    return frozenset(found)
