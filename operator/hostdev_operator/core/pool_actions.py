"""The typed actions of pools. Each states what it finds and what it leaves; each is idempotent."""

from __future__ import annotations

from dataclasses import dataclass

from .identity import Identity
from .pci import PciAddress
from .pool import PoolRecord
from .sriov import VfConfig


@dataclass(frozen=True)
class WritePoolRecord:
    """Store the record durably. Always the first action that a plan has."""

    record: PoolRecord

    def __str__(self) -> str:
        return f"record PF {self.record.pf} of pool {self.record.name}"


@dataclass(frozen=True)
class SetAutoprobe:
    """Write sriov_drivers_autoprobe: whether VFs that are made from now on get a driver of the host."""

    pf: PciAddress
    on: bool

    def __str__(self) -> str:
        return f"set sriov_drivers_autoprobe of {self.pf} to {int(self.on)}"


@dataclass(frozen=True)
class SetVfCount:
    """Write sriov_numvfs: 0 first if there are others, since the kernel takes no other way; none of them is in use."""

    pf: PciAddress
    count: int
    identity: Identity

    def __str__(self) -> str:
        return f"set sriov_numvfs of {self.pf} to {self.count}"


@dataclass(frozen=True)
class SetLink:
    """Bring the PF's netdev up, or down."""

    pf: PciAddress
    up: bool

    def __str__(self) -> str:
        return f"bring the netdev of {self.pf} {'up' if self.up else 'down'}"


@dataclass(frozen=True)
class ConfigureVf:
    """Set what ``config`` says of one VF, and verify it by reading back: VFConfigRejected names driver and setting."""

    pf: PciAddress
    index: int
    config: VfConfig

    def __str__(self) -> str:
        return f"configure VF {self.index} of {self.pf}"


@dataclass(frozen=True)
class ReturnVf:
    """nodedev-reattach of a VF that nobody has and that has no driver: the kernel binds one, if it knows any."""

    address: PciAddress
    identity: Identity

    def __str__(self) -> str:
        return f"give {self.address} back to its host driver"


@dataclass(frozen=True)
class DefineNetwork:
    """net-define: the persistent definition is replaced; a started network goes on as it is."""

    name: str
    xml: str

    def __str__(self) -> str:
        return f"define network {self.name}"


@dataclass(frozen=True)
class StartNetwork:
    """net-start; nothing to do if it is started."""

    name: str

    def __str__(self) -> str:
        return f"start network {self.name}"


@dataclass(frozen=True)
class AutostartNetwork:
    """net-autostart."""

    name: str

    def __str__(self) -> str:
        return f"start network {self.name} at boot"


@dataclass(frozen=True)
class StopNetwork:
    """net-destroy; nothing to do if it is not started. No guest uses it."""

    name: str

    def __str__(self) -> str:
        return f"stop network {self.name}"


@dataclass(frozen=True)
class UndefineNetwork:
    """net-undefine; nothing to do if it is not there, or has another UUID by now."""

    name: str
    uuid: str

    def __str__(self) -> str:
        return f"undefine network {self.name}"


@dataclass(frozen=True)
class DropPoolRecord:
    """Forget the record: everything is given back. Always the last action that a plan has."""

    uid: str

    def __str__(self) -> str:
        return f"drop the record of pool {self.uid}"


PoolAction = (
    WritePoolRecord
    | SetAutoprobe
    | SetVfCount
    | SetLink
    | ConfigureVf
    | ReturnVf
    | DefineNetwork
    | StartNetwork
    | AutostartNetwork
    | StopNetwork
    | UndefineNetwork
    | DropPoolRecord
)
#: These touch nothing that anybody has.
MAKES_NETWORK = (DefineNetwork, AutostartNetwork, StartNetwork)
