"""What a DeviceAssignment asks for, freed of its wire form: as a wish, then, with its device found, as an intent.

One that names a pool means no device: libvirt takes a VF at each start of the guest. It becomes a NIC intent.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..api.deviceassignment import DeviceAssignmentSpec
from ..api.network import NetworkSettings
from ..api.source import PciSource
from .identity import Identity
from .pci import PciAddress
from .sriov import VfConfig

ALIAS_PREFIX = "ua-hostdev-"

# Values of spec.groupPolicy and spec.attach.
DETACH_UNUSED, ASSIGN_ALL, REQUIRE_FREE = "DetachUnused", "AssignAll", "RequireFree"
AUTO, LIVE, NEXT_BOOT = "Auto", "Live", "NextBoot"
# Of spec.topology, beside Auto; of spec.savedImage, beside Keep.
KEEP = "Keep"
DROP = "Drop"


@dataclass(frozen=True)
class Seen:
    """Where the device was when it was seen last, and its fingerprint."""

    address: PciAddress
    identity: Identity


@dataclass(frozen=True)
class SeenNic:
    """A NIC of a pool that was adopted: by its libvirt network and MAC address (lower case), since it has no alias."""

    network: str
    mac: str


@dataclass(frozen=True)
class NicWish:
    """What spec.network asks for. ``mac`` None: see nic.mac_of; ``settings`` are those that libvirt does not set."""

    mac: str | None = None
    vlan: int | None = None
    profile: str | None = None
    settings: VfConfig = VfConfig()  # noqa: RUF009 - frozen

    @classmethod
    def of(cls, spec: NetworkSettings) -> NicWish:
        """From its wire form."""
        return cls(
            mac=spec.mac,
            vlan=spec.vlan,
            profile=spec.virtual_port.profile_id if spec.virtual_port else None,
            settings=VfConfig.of(spec),
        )


@dataclass(frozen=True)
class Wish:
    """One assignment, bound to this node; which device it means is not looked up yet.

    ``created`` is its creationTimestamp (RFC 3339): the older of two that want the same goes first. ``seen`` is what
    its status says of the device, ``nic_seen`` what it says of an adopted NIC.
    """

    uid: str
    namespace: str
    name: str
    created: str
    generation: int
    spec: DeviceAssignmentSpec
    domain_uuid: str | None
    seen: Seen | None = None
    nic_seen: SeenNic | None = None

    @property
    def keeps(self) -> bool:
        """Whether deleting it leaves guest and host as they are."""
        return self.spec.release_policy == "Keep"

    @property
    def attach(self) -> str:
        """spec.attach; nothing is plugged into a guest for what is adopted."""
        return NEXT_BOOT if self.spec.adopt else self.spec.attach

    @property
    def rank(self) -> tuple[str, str]:
        """Age; of two of the same second the UID decides."""
        return self.created, self.uid

    @property
    def owner(self) -> str:
        """The assignment as namespace/name."""
        return f"{self.namespace}/{self.name}"

    def intent(self, address: PciAddress) -> Intent:
        """The same for a certain device."""
        spec = self.spec
        return Intent(
            uid=self.uid,
            namespace=self.namespace,
            name=self.name,
            address=address,
            domain_uuid=self.domain_uuid,
            domain_name=spec.domain.name if spec.domain else None,
            managed=spec.managed and self.domain_uuid is not None,
            driver=spec.driver.name if spec.driver else None,
            group_policy=spec.group_policy,
            unassigned_mates=spec.mate_address == "Unassigned",
            attach=self.attach,
            detach=spec.detach,
            adopt=spec.adopt,
            generation=self.generation,
            nic=NicWish.of(spec.network) if spec.network and self.domain_uuid is not None else None,
            guest_address=PciAddress.parse(spec.guest_address) if spec.guest_address else None,
            multifunction=spec.multifunction,
            keeps_topology=spec.topology == KEEP,
            spare_ports=spec.spare_hotplug_ports,
            drops_image=spec.saved_image == DROP,
        )

    def nic_intent(self, network: str | None) -> NicIntent:
        """The same for a NIC of a pool; ``network`` is the pool's libvirt network, None if it is not known."""
        spec = self.spec
        assert spec.source.pool  # noqa: S101 - who asks has looked
        return NicIntent(
            uid=self.uid,
            namespace=self.namespace,
            name=self.name,
            pool=spec.source.pool.name,
            network=network,
            portgroup=spec.source.pool.portgroup,
            domain_uuid=self.domain_uuid or "",
            domain_name=spec.domain.name if spec.domain else None,
            nic=NicWish.of(spec.network) if spec.network else NicWish(),
            attach=self.attach,
            generation=self.generation,
            adopt=spec.adopt,
            seen=self.nic_seen,
            drops_image=spec.saved_image == DROP,
        )


@dataclass(frozen=True)
class Intent:
    """One assignment, bound to this node, to a guest's UUID (None: a reservation) and to a device."""

    uid: str
    namespace: str
    name: str
    address: PciAddress
    domain_uuid: str | None
    domain_name: str | None
    managed: bool = True
    driver: str | None = None
    group_policy: str = DETACH_UNUSED
    unassigned_mates: bool = False
    attach: str = AUTO
    detach: str = "WhenOff"
    generation: int = 0
    nic: NicWish | None = None
    adopt: bool = False
    guest_address: PciAddress | None = None
    multifunction: bool = False
    keeps_topology: bool = False
    spare_ports: int = 0
    drops_image: bool = False

    @property
    def alias(self) -> str:
        """The device's user alias in the guest's XML: tells our hostdev from a foreign one without any record.

        libvirt keeps aliases that start with ``ua-`` (formatdomain, "Device aliases").
        """
        return ALIAS_PREFIX + self.uid

    def alias_of(self, address: PciAddress) -> str:
        """The alias of one endpoint: a mate's has its address appended."""
        if address == self.address:
            return self.alias
        return f"{self.alias}-{address.libvirt_name.removeprefix('pci_').replace('_', '-')}"

    def controller_alias(self, index: int) -> str:
        """The alias of a PCI controller that is added for it."""
        return f"{self.alias}-bus-{index}"

    @property
    def owner(self) -> str:
        """The assignment as namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def thing(self) -> str:
        """What the guest gets, in messages."""
        return str(self.address)

    @property
    def is_reservation(self) -> bool:
        """Whether the group is held for nobody."""
        return self.domain_uuid is None


@dataclass(frozen=True)
class NicIntent:
    """One assignment of a VF of a pool, bound to this node and to a guest's UUID.

    ``portgroup`` None: the network's default one. ``seen``: the NIC that was adopted.
    """

    uid: str
    namespace: str
    name: str
    pool: str
    network: str | None
    portgroup: str | None
    domain_uuid: str
    domain_name: str | None
    nic: NicWish = NicWish()
    attach: str = AUTO
    generation: int = 0
    adopt: bool = False
    seen: SeenNic | None = None
    drops_image: bool = False

    @property
    def alias(self) -> str:
        """The interface's user alias in the guest's XML."""
        return ALIAS_PREFIX + self.uid

    @property
    def thing(self) -> str:
        """What the guest gets, in messages."""
        return f"a VF of pool {self.pool}"

    @property
    def owner(self) -> str:
        """The assignment as namespace/name."""
        return f"{self.namespace}/{self.name}"


#: What an assignment means on this host.
Goal = Intent | NicIntent


def is_alias_of(alias: str | None, uid: str) -> bool:
    """Whether a hostdev with this alias is the assignment's."""
    mine = ALIAS_PREFIX + uid
    return alias is not None and (alias == mine or alias.startswith(mine + "-"))


def is_anothers(alias: str | None) -> bool:
    """Whether it is an assignment's alias; asked after one's own."""
    return alias is not None and alias.startswith(ALIAS_PREFIX)


def address_of(pci: PciSource) -> PciAddress:
    """The address that a source names; ValueError says what is wrong with it."""
    if pci.address is not None:
        return PciAddress.parse(pci.address)
    if pci.bus is None or pci.slot is None or pci.function is None:
        raise ValueError("a source needs either address, or bus, slot and function")
    return PciAddress.from_numbers(pci.domain, pci.bus, pci.slot, pci.function)
