"""The guard's eyes: which PCI devices the host itself needs, from PID 1's view of mounts and network, and from /sys.

Fails closed: what cannot be read raises HostUseUnknown, and then nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..core import reasons
from ..core.errors import HostError
from ..core.model import Use
from .files import absolute, listing, resolve, text_if_any
from .hostuse_network import Addresses, Network
from .hostuse_storage import Storage
from .sysfs import PciSysfs, functions_behind, parse_address

_UNCLASSIFIED, _DISPLAY = 0x00, 0x03
# Folders of objects that hang on a device, and what such a device carries; %s is the object's name.
_SHARED = (
    ("bus/mdev/devices", "", "mediated devices"),
    ("bus/vdpa/devices", "", "vDPA devices"),
    ("class/tpm", "tpm", "the TPM %s"),
    ("class/graphics", "fb", "the framebuffer %s: a screen, and maybe the console"),
)


class HostUse:
    """Maps mounts, swap, members of stacked devices, routes, ports and consoles to PCI devices of the host.

    Each call looks once at what it needs, and forgets it: nothing is kept but what PciSysfs keeps.
    """

    def __init__(self, host_root: Path, pci: PciSysfs) -> None:
        self._root = absolute(host_root)
        self._pci = pci

    def uses(self) -> tuple[Use, ...]:
        """Everything that the host needs; the same device can be there several times, for different reasons."""
        try:
            classes = self._pci.classes()
            network = self._network()
            storage = Storage(self._root, classes, network)
            found = {*storage.uses(), *network.uses(), *self._shared(), *self._console(classes)}
            found.update(network.without_interface(self._pci, classes))
        except (OSError, ValueError, IndexError) as error:
            raise HostError(reasons.HOST_USE_UNKNOWN, f"reading the host's mounts and routes: {error}") from error
        return tuple(sorted(found, key=lambda use: (use.address, use.what)))

    def block_device(self, path: str) -> Addresses | None:
        """PCI devices under a device node such as /dev/sda1, /dev/mapper/x, /dev/disk/by-id/y.

        Links are followed in ``<host root>/dev`` if it is there. None: the path cannot be followed. Empty: it is on no
        PCI device.
        """
        try:
            return self._storage().block_device(path)
        except (OSError, ValueError, IndexError):  # of what is on the way, such as the routes to an iSCSI target
            return None

    def scsi_host(self, name: str) -> Addresses:
        """PCI devices behind a SCSI host, host3 or scsi_host3; empty if there is none."""
        return self._storage().scsi_host(name)

    def interface(self, name: str) -> Addresses:
        """PCI devices under an interface, through bridges, bonds, teams, VLANs and macvtap (their lower_* links)."""
        return self._network().interface(name)

    def _network(self) -> Network:
        return Network(self._root)

    def _storage(self) -> Storage:
        return Storage(self._root, {}, self._network())

    def _shared(self) -> Iterator[Use]:
        """Devices whose driver serves others: guests, or the kernel's own TPM and framebuffer."""
        for place, prefix, what in _SHARED:
            for name in listing(f"{self._root}/sys/{place}"):
                if name.startswith(prefix):
                    for address in functions_behind(resolve(f"{self._root}/sys/{place}/{name}")):
                        yield Use(address, f"carries {what % name if '%' in what else what}")

    def _console(self, classes: dict[str, int]) -> Iterator[Use]:
        for name, code in classes.items():
            if code >> 16 in {_UNCLASSIFIED, _DISPLAY} and text_if_any(f"{self._pci.folder(name)}/boot_vga") == "1":
                yield Use(parse_address(name), "is the console's GPU (boot_vga)")
