"""A lab host as docs/host.md prepares it: systemd and the host unit, which brings up the PF that libvirt's VFs need."""

from __future__ import annotations

from tests.lab.host import LabHost
from tests.system.stack import REPOSITORY

PF_MAC = "52:54:00:10:00:01"
CONF = "/var/lib/hostdev-operator/sriov.conf"
UNIT = "/etc/systemd/system/hostdev-sriov.service"
DROP_IN = f"{UNIT}.d/test.conf"
# The emulated host is slower than any real one when the machine is busy.
_PATIENCE = "[Service]\nEnvironment=HOSTDEV_DEADLINE=280\nTimeoutStartSec=300\n"
_LINK_FILE = f"[Match]\nPermanentMACAddress={PF_MAC}\n[Link]\nName=uplink7\n"


def prepare(lab: LabHost) -> None:
    """Install the unit, and wait until the PF has its name."""
    lab.put(REPOSITORY / "manifests/host/hostdev-sriov", "/usr/local/sbin/hostdev-sriov")
    lab.put(REPOSITORY / "manifests/host/hostdev-sriov.service", UNIT)
    lab.write(DROP_IN, _PATIENCE)
    lab.run("udevadm settle --timeout=120", timeout=150)
    lab.run("systemctl daemon-reload; systemctl enable hostdev-sriov")


def rename_pf(lab: LabHost) -> None:
    """From the next boot on it is called uplink7."""
    lab.write("/etc/systemd/network/10-uplink.link", _LINK_FILE)


def pf(lab: LabHost) -> tuple[str, str]:
    """The PF's netdev and PCI address now."""
    file = lab.run(f"readlink -f $(grep -lx {PF_MAC} /sys/class/net/*/address)").stdout
    # ends with 0000:01:00.0/net/NAME/address
    address, _, name, _ = file.split("/")[-4:]
    return name, address
