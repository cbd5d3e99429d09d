"""Questions to the host: what sysfs, lspci and virsh say. Tests judge by these, not by our status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tests.lab.channel import Command, LabCommandError

if TYPE_CHECKING:
    import subprocess


class Runner(Protocol):
    """What the questions need of the laboratory host."""

    def run(
        self, command: Command, *, timeout: float = 120, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, see LabHost.run."""


def device_folder(address: str) -> str:
    """Give a PCI device's sysfs folder. The address has the form 0000:04:01.0."""
    return f"/sys/bus/pci/devices/{address}"


class Inspection:
    """The questions, as methods of the laboratory host. Addresses have the form 0000:04:01.0."""

    def sysfs(self: Runner, path: str) -> str:
        """Read a sysfs attribute, without the line end; a path that is not absolute is taken below /sys."""
        return self.run(["cat", path if path.startswith("/") else f"/sys/{path}"]).stdout.strip()

    def driver(self: Runner, address: str) -> str | None:
        """Name the driver that a device is bound to, or None. Raises LabCommandError without the device."""
        return _link_name(self, address, "driver")

    def iommu_group(self: Runner, address: str) -> int | None:
        """Give the number of a device's IOMMU group, or None without an IOMMU."""
        name = _link_name(self, address, "iommu_group")
        return None if name is None else int(name)

    def group_members(self: Runner, address: str) -> list[str]:
        """List the addresses of all devices in a device's IOMMU group, itself and bridges included."""
        return self.run(["ls", f"{device_folder(address)}/iommu_group/devices"]).stdout.split()

    def lspci_k(self: Runner, address: str) -> str:
        """Say what `lspci -Dnnk` prints about one device."""
        return self.run(["lspci", "-Dnnk", "-s", address]).stdout

    def find_devices(self: Runner, vendor_device: str) -> list[str]:
        """List the addresses of all devices with an identity such as "8086:100e", in order.

        Bus numbers depend on the machine's other devices, so tests look devices up and never write addresses.
        """
        lines = self.run(["lspci", "-Dn", "-d", vendor_device]).stdout.splitlines()
        return [line.split()[0] for line in lines]

    def virsh(self: Runner, *arguments: str, timeout: float = 120, check: bool = True) -> str:
        """Run virsh on the system connection and return its stdout. Raises LabCommandError when it fails."""
        return self.run(["virsh", "-q", *arguments], timeout=timeout, check=check).stdout


def _link_name(lab: Runner, address: str, link: str) -> str | None:
    folder = device_folder(address)
    # one readlink(2): a driver may be unbound between two looks
    result = lab.run(f"cd {folder} && {{ to=$(readlink {link}); echo ${{to##*/}}; }}", check=False)
    if result.returncode != 0:
        raise LabCommandError(link, result.returncode, result.stdout, result.stderr, f"no device {address}")
    return result.stdout.strip() or None
