"""`make demo`: the main job on real parts, step by step. Exits non-zero if a step is not as stated.

Judged by sysfs, virsh and lspci in the lab host; our own status is shown, not believed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.lab import image
from tests.lab.guests import define, guest_xml, wait_for_guest
from tests.lab.host import LabHost
from tests.lab.shell import answer
from tests.system.demo_pools import PoolDemo
from tests.system.stack import NODE, REPOSITORY, Stack

EXAMPLE = "examples/first-light.yaml"
MATE_EXAMPLE = "examples/group-mate.yaml"
NEEDED_EXAMPLE = "examples/host-needed.yaml"
HOT_EXAMPLE = "examples/hot-plug.yaml"
STUBBORN_EXAMPLE = "examples/stubborn-guest.yaml"


class Demo:
    """The steps share the running system and the two devices."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.lab = stack.lab
        self.device, self.mate = self.lab.find_devices("8086:100e")

    def run(self) -> None:
        """All steps in order."""
        steps = (self.host, self.assign, self.start, self.refuse, self.needed, self.release, self.plug, self.stubborn)
        for number, step in enumerate((*steps, *PoolDemo(self).steps), 1):
            title, _, rest = (step.__doc__ or "").partition("\n")
            print(f"\n=== {number}. {title}")
            print("\n".join(line.strip() for line in rest.splitlines() if line.strip()), flush=True)
            step()

    def host(self) -> None:
        """What the agent sees: the host's devices, IOMMU groups and guests.

        DeviceHost is written by the agent of the node of the same name.
        """
        for guest in ("web", "db"):
            define(self.lab, guest, guest_xml(guest, refuse=guest == "db"))
            self.stack.wait_guest_listed(guest)
        self.kubectl("get", "devicehosts")
        columns = "ADDRESS:.address,CLASS:.class,DRIVER:.driver,GROUP:.iommuGroup,PRODUCT:.product.name,NEEDED:.hostUse"
        self.table(self.stack.get("devicehost", NODE)["status"]["devices"], columns)
        self.must(sorted(self.lab.group_members(self.device))[1:] == [self.device, self.mate], "two NICs, one group")
        self.lspci("before")
        self.must([self.lab.driver(a) for a in (self.device, self.mate)] == ["e1000", "e1000"], "both on e1000")

    def assign(self) -> None:
        """One of the two group mates for the guest "web", which is shut off.

        The whole IOMMU group is claimed: the mate goes to vfio-pci, the device into the guest's persistent XML.
        """
        self.xml("web", "before")
        print(f"$ cat {EXAMPLE}\n{(REPOSITORY / EXAMPLE).read_text()}")
        self.must(self.device in (REPOSITORY / EXAMPLE).read_text(), "the example names this device")
        self.kubectl("apply", "-f", EXAMPLE)
        self.watch_conditions("web-nic", "Ready", "True")
        self.kubectl("get", "deviceassignments", "-o", "wide")
        self.lspci("after")
        self.xml("web", "after")
        self.must(self.lab.driver(self.mate) == "vfio-pci", "the mate is on vfio-pci")
        self.must(self.has_device("web", "--inactive"), "the device is in the persistent XML of web")

    def start(self) -> None:
        """The guest starts with the device; its own console tells."""
        self.start_guest("web")
        self.console("web", "plugged .* 8086:100e")
        self.watch_conditions("web-nic", "Attached", "True")
        self.lspci("running")
        self.must(self.lab.driver(self.device) == "vfio-pci", "the device is on vfio-pci")
        self.must(self.has_device("web"), "the device is in the live XML of web")

    def refuse(self) -> None:
        """The mate for another guest: refused, since a group is never split."""
        self.kubectl("apply", "-f", MATE_EXAMPLE)
        self.watch_conditions("db-nic", "Ready", "False")
        self.kubectl("get", "deviceassignments")
        self.must(self.stack.condition("db-nic")["reason"] == "GroupInUse", "refused with GroupInUse")
        self.must("<hostdev" not in self.lab.virsh("dumpxml", "db"), "the XML of db is untouched")
        self.kubectl("delete", "-f", MATE_EXAMPLE)

    def needed(self) -> None:
        """A device that the host needs, its own network card: refused."""
        self.kubectl("apply", "-f", NEEDED_EXAMPLE)
        self.watch_conditions("host-needed", "Ready", "False")
        self.must(self.stack.condition("host-needed")["reason"] == "HostCritical", "refused with HostCritical")
        self.must(self.lab.driver("0000:00:04.0") == "virtio-pci", "the card is on its driver")
        self.kubectl("delete", "-f", NEEDED_EXAMPLE)

    def release(self) -> None:
        """Deleted while the guest runs it waits; with the guest off, everything is given back."""
        self.kubectl("delete", "-f", EXAMPLE, "--wait=false")
        self.watch_conditions("web-nic", "Ready", "False")
        self.must(self.has_device("web"), "the running guest still has it")
        print("$ virsh destroy web")
        self.lab.virsh("destroy", "web")
        self.stack.wait_gone("web-nic")
        self.kubectl("get", "deviceassignments")
        self.lspci("in the end")
        self.xml("web", "in the end")
        self.must([self.lab.driver(a) for a in (self.device, self.mate)] == ["e1000", "e1000"], "both on e1000 again")
        self.must(not self.has_device("web", "--inactive"), "the XML of web is without it")

    def plug(self) -> None:
        """The same device for a guest that runs: plugged in, and out again, while it goes on.

        The guest's console is the witness.
        """
        self.start_guest("web")
        self.kubectl("apply", "-f", HOT_EXAMPLE)
        self.watch_conditions("hot-nic", "Ready", "True")
        self.console("web", "plugged .* 8086:100e")
        self.must(self.has_device("web"), "the device is in the live XML of web")
        self.kubectl("delete", "-f", HOT_EXAMPLE, "--wait=false")
        self.stack.wait_gone("hot-nic")
        self.console("web", "GUEST gone")
        self.must(not self.has_device("web"), "the live XML of web is without it, and web runs on")
        self.lspci("after the unplug")
        self.must([self.lab.driver(a) for a in (self.device, self.mate)] == ["e1000", "e1000"], "both on e1000 again")
        self.lab.virsh("destroy", "web")

    def stubborn(self) -> None:
        """A guest that does not let go: it is asked once, and keeps the device until it is shut off."""
        self.start_guest("db")
        self.kubectl("apply", "-f", STUBBORN_EXAMPLE)
        self.watch_conditions("stubborn-nic", "Ready", "True")
        self.kubectl("delete", "-f", STUBBORN_EXAMPLE, "--wait=false")
        self.watch_conditions("stubborn-nic", "Ready", "False")
        self.must(self.stack.condition("stubborn-nic")["reason"] == "UnplugPending", "it waits with UnplugPending")
        self.console("db", "unplug requested")
        self.must(self.has_device("db"), "the device is still in the live XML of db")
        self.must(self.lab.driver(self.mate) == "vfio-pci", "and its group is still held")
        print("$ virsh destroy db")
        self.lab.virsh("destroy", "db")
        self.stack.wait_gone("stubborn-nic")
        self.must([self.lab.driver(a) for a in (self.device, self.mate)] == ["e1000", "e1000"], "both on e1000 again")

    # -- showing ------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str) -> None:
        """Show a kubectl command and its output."""
        print(f"$ kubectl {' '.join(arguments)}")
        result = self.stack.plane.kubectl(*arguments)
        print((result.stdout + result.stderr).rstrip(), flush=True)

    def table(self, rows: Iterable[dict[str, object]], columns: str) -> None:
        """The devices as a table; kubectl's custom columns cannot go into a list inside one object."""
        names = [c.split(":.") for c in columns.split(",")]
        lines = [[name for name, _ in names]]
        for row in rows:
            line = []
            for _, path in names:
                value: object = row
                for part in path.split("."):
                    value = value.get(part) if isinstance(value, dict) else None
                line.append("-" if value is None else str(value))
            lines.append(line)
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        print("its status.devices:")
        for line in lines:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())

    def watch_conditions(self, name: str, kind: str, status: str) -> None:
        """Print each condition when it changes, until one is as wanted."""
        seen: dict[str, tuple[str, str]] = {}

        def look() -> bool:
            conditions = self.stack.get("deviceassignment", name).get("status", {}).get("conditions", [])
            for c in conditions:
                if seen.get(c["type"]) != (c["status"], c["reason"]):
                    seen[c["type"]] = (c["status"], c["reason"])
                    print(f"  {c['type']:<11} {c['status']:<6} {c['reason']:<20} {c['message']}", flush=True)
            return seen.get(kind, ("", ""))[0] == status

        print(f"  conditions of {name}:")
        self.stack.wait(f"{name}: {kind}={status}", look)

    def start_guest(self, name: str) -> None:
        """Start a guest and wait until it is up."""
        print(f"$ virsh start {name}", flush=True)
        self.lab.virsh("start", name)
        wait_for_guest(self.lab, name, "GUEST up")

    def console(self, name: str, text: str) -> None:
        """Show what the guest says of the device, when it has said it."""
        console = wait_for_guest(self.lab, name, text)
        lines = [x for x in console.splitlines() if re.search(f"100e|gone|requested|{text}", x)]
        print(f"$ cat /var/log/guest-{name}.log\n" + "\n".join(lines), flush=True)

    def lspci(self, when: str) -> None:
        """Show the drivers of the group."""
        print(f"$ lspci -k    # the IOMMU group, {when}")
        for address in self.lab.group_members(self.device):
            lines = self.lab.lspci_k(address).splitlines()
            print("\n".join(line for line in lines if not line.startswith("\t") or "in use" in line))
        sys.stdout.flush()

    def xml(self, guest: str, when: str) -> None:
        """Show the hostdev part of the persistent XML."""
        text = self.lab.virsh("dumpxml", guest, "--inactive")
        found = re.findall(r" *<hostdev.*?</hostdev>", text, re.DOTALL)
        print(f"$ virsh dumpxml {guest} --inactive    # its <hostdev> elements, {when}")
        print("\n".join(found) or "    (none)", flush=True)

    def has_device(self, guest: str, *flags: str) -> bool:
        """Whether libvirt's XML of the guest has the device."""
        _, bus, slot, function = re.split("[:.]", self.device)
        wanted = f"bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>\n      </source>"
        return wanted in self.lab.virsh("dumpxml", guest, *flags)

    def must(self, true: bool, what: str) -> None:  # noqa: FBT001
        """A statement of the demo, proved."""
        if not true:
            raise SystemExit(f"demo: NOT as stated: {what}\n{self.stack.describe()}")
        print(f"  ok: {what}", flush=True)


def keep(stack: Stack) -> None:
    """Leave everything running, and answer lines until the end of the input."""
    print(f"""
The system keeps running until Ctrl-D. From another terminal:
  export KUBECONFIG={stack.plane.admin_kubeconfig}
  {binaries.ensure()}/kubectl get devicehosts,deviceassignments
Here, lines that begin with "kubectl" run kubectl; all others run in the lab host (virsh list --all, lspci -k, ...).
The agent's log: {stack.agent.log_file if stack.agent else ""}
""")
    while True:
        try:
            line = input("demo# ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line.startswith("kubectl "):
            result = stack.plane.kubectl(*line.split()[1:], check=False)
            print(result.stdout + result.stderr, end="")
        elif line:
            answer(stack.lab, line)


def main() -> int:
    """Build what is missing, start everything, show it."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", flush=True)

    os.chdir(REPOSITORY)
    say("control plane: etcd, kube-apiserver, kubectl (built once, about 8 minutes)")
    programs = binaries.ensure(say)
    say("lab host image: Debian with kernel, QEMU, libvirt (built once, about 4 minutes)")
    image.ensure(say)
    with tempfile.TemporaryDirectory(prefix="hostdev-demo-") as name:
        folder = Path(name)
        say("starting the API server")
        with ControlPlane.start(folder / "control-plane", programs) as plane:
            say("booting the lab host (an emulated machine with VT-d and VFIO)")
            with LabHost.boot(folder / "lab") as lab:
                say("installing CRDs and roles, starting controller and agent")
                with Stack.start(folder, lab, plane) as stack:
                    stack.wait_host()
                    say("the agent has written its DeviceHost")
                    Demo(stack).run()
                    say("demo: everything was as stated")
                    if os.environ.get("KEEP"):
                        keep(stack)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: {error}")
