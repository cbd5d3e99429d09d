"""The SR-IOV side of the made-up host: PFs whose VFs appear and vanish, and what their drivers keep of each VF."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..core import reasons
from ..core.errors import HostError
from ..core.model import PciDevice
from ..core.pci import PciAddress
from ..core.sriov import Pf, VfConfig

if TYPE_CHECKING:
    from .host import FakeHost

#: What a driver has of a VF that nobody has touched, as igb tells it.
FRESH = VfConfig(
    mac="00:00:00:00:00:00",
    vlan=0,
    trust=False,
    spoof_check=True,
    link_state="auto",
    min_tx_rate=0,
    max_tx_rate=0,
)
_FIRST_GROUP = 1000


@dataclass
class FakePf:
    """What a test can change of a PF. ``rejects``: names of VfConfig's fields that its driver refuses.

    ``vf_driver`` is what the host binds to its VFs, ``makes`` how many VFs its driver makes at most.
    """

    address: PciAddress
    netdev: str | None
    mac: str | None
    up: bool = False
    autoprobe: bool | None = True
    vf_driver: str = "igbvf"
    rejects: set[str] = field(default_factory=set)
    makes: int | None = None
    configs: dict[int, VfConfig] = field(default_factory=dict)


class FakeSriov:
    """All PFs of one host."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self.pfs: dict[PciAddress, FakePf] = {}

    # -- for tests ----------------------------------------------------------------------------------------------------

    def add(
        self, device: PciDevice, netdev: str | None = "eth3", mac: str | None = "52:54:00:10:00:01", total: int = 7
    ) -> FakePf:
        """A PF, down, without VFs."""
        self._host.insert(replace(device, total_vfs=total, num_vfs=0))
        pf = self.pfs[device.address] = FakePf(device.address, netdev, mac)
        return pf

    def vfs(self, pf: PciAddress) -> list[PciDevice]:
        """Its VFs in order of index."""
        found = [d for d in self._host.devices.values() if d.physfn == pf]
        return sorted(found, key=lambda d: d.vf_index or 0)

    def state(self) -> object:
        """What pools and assignments could change."""
        return {
            a: (len(self.vfs(a)), pf.up, pf.autoprobe, {i: c for i, c in pf.configs.items() if c != FRESH})
            for a, pf in self.pfs.items()
        }

    def by_netdev(self, name: str) -> FakePf | None:
        """The PF with that netdev."""
        return next((pf for pf in self.pfs.values() if pf.netdev == name), None)

    def set_count(self, address: PciAddress, count: int) -> None:
        """Echo into sriov_numvfs, by whomever: all VFs go, then so many come. Guests lose what they had of them."""
        for vf in self.vfs(address):
            self._host.remove(vf.address)
            self._host.native.pop(vf.address, None)
        pf = self.pfs[address]
        count = min(count, pf.makes if pf.makes is not None else count)
        pf.configs = dict.fromkeys(range(count), FRESH)
        for index in range(count):
            self._host.insert(self._vf(pf, index))
        self._host.devices[address] = replace(self._host.devices[address], num_vfs=count)

    def power_cycle(self, boot_file: str) -> None:
        """No VFs, probing on, links down; then what the boot unit does."""
        for pf in self.pfs.values():
            pf.up, pf.autoprobe = False, pf.autoprobe if pf.autoprobe is None else True
            if pf.address in self._host.devices:
                self.set_count(pf.address, 0)
        for line in boot_file.splitlines():
            if not line.startswith("#"):
                mac, address, count, autoprobe, link = line.split()
                found = next((pf for pf in self.pfs.values() if mac == pf.mac or address == str(pf.address)), None)
                if found:
                    found.autoprobe = found.autoprobe if autoprobe == "-" else autoprobe == "1"
                    self.set_count(found.address, int(count))
                    found.up = link == "up"

    def _vf(self, pf: FakePf, index: int) -> PciDevice:
        """As the 82576 has them: 128 functions behind the PF, every second one."""
        physical = self._host.devices[pf.address]
        at = pf.address.bus * 256 + pf.address.slot * 8 + pf.address.function + 0x80 + 2 * index
        address = PciAddress(pf.address.domain, at >> 8, at >> 3 & 31, at & 7)
        known = [d.iommu_group for d in self._host.devices.values() if d.iommu_group is not None]
        return PciDevice(
            address,
            vendor=physical.vendor,
            product=0x10CA,
            class_code=physical.class_code,
            driver=pf.vf_driver if pf.autoprobe else None,
            iommu_group=max(_FIRST_GROUP, *known) + 1 if known else None,
            physfn=pf.address,
            vf_index=index,
            slot_path=f"{physical.slot_path.rsplit('/', 1)[0]}/{address.slot:02x}.{address.function}",
            pf_mac=pf.mac,
            express=True,
        )

    # -- what the kernel does for us ----------------------------------------------------------------------------------

    def look(self) -> tuple[Pf, ...]:
        """HostDevices.pfs."""
        return tuple(
            Pf(
                address,
                pf.netdev,
                pf.mac if pf.netdev else None,
                pf.up and pf.netdev is not None,
                pf.autoprobe,
                dict(pf.configs) if pf.netdev else {},
            )
            for address, pf in sorted(self.pfs.items())
            if address in self._host.devices
        )

    def need(self, address: PciAddress) -> FakePf:
        """A PF that must be there."""
        if address not in self._host.devices:
            raise HostError(reasons.DEVICE_NOT_FOUND, f"there is no device {address}")
        if address not in self.pfs:
            raise HostError(reasons.SRIOV_UNSUPPORTED, f"{address} has no sriov_numvfs")
        return self.pfs[address]

    def set_num_vfs(self, address: PciAddress, count: int) -> None:
        """HostDevices.set_num_vfs. A kernel whose VFs a guest has does not return."""
        self.need(address)
        total = self._host.devices[address].total_vfs
        if count > total:
            raise HostError(reasons.VF_COUNT_TOO_HIGH, f"{address} can have {total} VFs, not {count}")
        if count == len(self.vfs(address)):
            return
        if any(self._host.holders(vf.address) for vf in self.vfs(address)):
            self._host.blocked_pfs.add(address)
            raise HostError(reasons.DETACH_BLOCKED, f"taking the VFs of {address} away did not return")
        self.set_count(address, count)
        made = len(self.vfs(address))
        if made != count:
            raise HostError(reasons.VF_COUNT_TOO_HIGH, f"asked for {count} VFs, {address} has made {made}")

    def set_autoprobe(self, address: PciAddress, *, on: bool) -> None:
        """HostDevices.set_autoprobe: it also decides on what is bound to a VF that is given back."""
        pf = self.need(address)
        if pf.autoprobe is None:
            raise HostError(reasons.SRIOV_UNSUPPORTED, f"{address} has no sriov_drivers_autoprobe")
        pf.autoprobe = on
        for vf in self.vfs(address):
            self._host.native[vf.address] = pf.vf_driver if on else None

    def set_link(self, address: PciAddress, *, up: bool) -> None:
        """HostDevices.set_link."""
        pf = self.need(address)
        if pf.netdev is None:
            raise HostError(reasons.PF_DOWN, f"PF {address} has no netdev")
        pf.up = up

    def configure(self, address: PciAddress, index: int, config: VfConfig) -> None:
        """HostDevices.configure_vf."""
        pf = self.need(address)
        if pf.netdev is None:
            raise HostError(reasons.PF_DOWN, f"PF {address} has no netdev")
        if index not in pf.configs:
            raise HostError(reasons.VFS_NOT_CREATED, f"PF {address} has no VF {index}")
        driver = self._host.devices[address].driver
        lacking = pf.configs[index].lacking(config)
        for name in vars(VfConfig()):
            value = getattr(lacking, name)
            if value is not None and name in pf.rejects:
                message = f"driver {driver} of PF {address} refuses {name} {value} for VF {index}"
                raise HostError(reasons.VF_CONFIG_REJECTED, message)
            if value is not None:
                pf.configs[index] = replace(pf.configs[index], **{name: value})

    # -- what libvirt does for a guest --------------------------------------------------------------------------------

    def dress(self, vf: PciAddress, mac: str | None, vlan: int | None) -> VfConfig:
        """Give a VF the MAC and VLAN of a guest's <interface>; returns what it had (virhostdev.c)."""
        device = self._host.devices[vf]
        if device.physfn is None or device.vf_index is None:
            message = f"Interface type hostdev is currently supported on SR-IOV Virtual Functions only: {vf}"
            raise HostError(reasons.NOT_VIRTUAL_FUNCTION, message)
        pf, index = self.pfs[device.physfn], device.vf_index
        if not pf.up:
            message = f"Unable to configure VF {index} of PF '{pf.netdev}' because the PF is not online"
            raise HostError(reasons.PF_DOWN, message)
        before = pf.configs[index]
        for name, value in (("mac", mac), ("vlan", vlan or 0)):
            if name in pf.rejects and getattr(before, name) != value:
                raise HostError(reasons.VF_CONFIG_REJECTED, f"Cannot set interface {name} for VF {index}")
        pf.configs[index] = replace(before, mac=mac or before.mac, vlan=vlan or 0)
        return VfConfig(mac=before.mac, vlan=before.vlan)

    def undress(self, vf: PciAddress, before: VfConfig) -> None:
        """Give a VF back what it had, if it is still there."""
        device = self._host.devices.get(vf)
        if device and device.physfn and device.vf_index is not None:
            configs = self.pfs[device.physfn].configs
            configs[device.vf_index] = replace(configs[device.vf_index], mac=before.mac, vlan=before.vlan)
