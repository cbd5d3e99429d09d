"""How it is shown that nothing of guests and host was touched, byte by byte.

By virsh, sysfs, ip link, the kernel's uevents, and libvirtd's own log of its calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.lab.host import LabHost
from tests.lab.process import Process
from tests.system.conftest import drivers
from tests.system.stack import Stack

CONF, LOG = "/etc/libvirt/libvirtd.conf", "/var/log/libvirt/libvirtd.log"
#: The public API calls are logged by these modules, on behalf of each client.
CALLS = "1:libvirt.domain 1:libvirt.network 1:libvirt.nodedev 1:libvirt.storage"
READING = r"Get|List|Lookup|Connect|Free|Ref|Is[A-Z]|Has|NumOf|Event|Close|Open"
#: The netdevs that are devices; those of pods come and go.
_NETDEVS = "for d in /sys/class/net/*/device; do n=$(basename ${d%/device})"


def snapshot(lab: LabHost, guests: Iterable[str], network: str) -> dict[str, str]:
    """All that must stay."""
    found = {f"{name}, persistent": lab.virsh("dumpxml", name, "--inactive") for name in guests}
    found |= {f"{name}, as it is": lab.virsh("dumpxml", name) for name in guests}
    found["guests"] = lab.virsh("list", "--all")
    found["network"] = lab.virsh("net-dumpxml", network)
    found["network, persistent"] = lab.virsh("net-dumpxml", network, "--inactive")
    found["network, state"] = lab.virsh("net-info", network)
    found["drivers"] = drivers(lab)
    found["ip link"] = lab.run(f"{_NETDEVS}; ip -d link show $n; done").stdout
    found["carrier"] = lab.run(f"{_NETDEVS}; grep -H . /sys/class/net/$n/carrier_changes; done").stdout
    found["sriov"] = lab.run("grep -s . /sys/bus/pci/devices/*/sriov_{numvfs,drivers_autoprobe}").stdout
    found["overrides"] = lab.run("grep -s . /sys/bus/pci/devices/*/driver_override").stdout
    return found


@contextmanager
def calls_logged(lab: LabHost) -> Iterator[None]:
    """Libvirtd is started anew, and logs the calls of its clients."""
    lab.run(f"cp {CONF} /tmp/libvirtd.conf; sed -i 's/^log_filters = \"/&{CALLS} /' {CONF}")
    lab.stop_libvirtd()
    lab.start_libvirtd()
    try:
        yield
    finally:
        if not lab.lost:
            lab.run(f"cp /tmp/libvirtd.conf {CONF}")
            lab.stop_libvirtd()
            lab.start_libvirtd()


def log_size(lab: LabHost) -> int:
    """Of libvirtd's log: the place from which on calls are asked for."""
    return int(lab.run(f"stat -c %s {LOG}").stdout)


def changing_calls(lab: LabHost, since: int) -> list[str]:
    """The API functions that clients have called since that size of libvirtd's log, without those that only read."""
    text = lab.run(f"tail -c +{since + 1} {LOG}").stdout
    calls = re.findall(r" debug : (vir[A-Z]\w+):\d+ : ", text)
    assert "virDomainGetXMLDesc" in calls, "the log does not tell of calls"
    return sorted({call for call in calls if not re.search(READING, call)})


class Uevents:
    """The kernel's events of PCI devices, as udevadm monitor shows them. A change that we ask for proves it listens."""

    def __init__(self, system: Stack, device: str) -> None:
        self._system = system
        self._device = device
        self._asked = 0
        command = "exec stdbuf -oL udevadm monitor --kernel --subsystem-match=pci"
        self._process: Process = system.lab.spawn(command, "uevents")
        self.settle()

    def _seen(self) -> list[str]:
        return re.findall(r"^KERNEL\[[^]]*\] +(\w+) +", self._process.log(), re.MULTILINE)

    def settle(self) -> None:
        """Until what was asked for last is seen, and so everything before it."""

        def asked() -> bool:
            self._system.lab.run(f"echo change > /sys/bus/pci/devices/{self._device}/uevent")
            return "change" in self._seen()[self._asked :]

        self._system.wait("udevadm monitor to listen", asked)
        self._asked = len(self._seen())

    def others(self) -> list[str]:
        """All but those that we have asked for."""
        self.settle()
        return [kind for kind in self._seen() if kind != "change"]

    def stop(self) -> None:
        """End it."""
        self._process.kill(15)
