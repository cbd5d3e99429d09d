"""The laboratory host: an emulated machine with VT-d, SR-IOV and VFIO that runs the real libvirt."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab import image, qemu
from tests.lab.channel import Channel, Command, LabError, LabLostError
from tests.lab.inspection import Inspection
from tests.lab.process import Process

if TYPE_CHECKING:
    from types import TracebackType

# A boot takes 15 to 30 s on two idle cores; other work on the machine multiplies that.
BOOT_TIMEOUT = 300.0
POLL = 0.1
BOOT_ATTEMPTS = 3
READY = "ready"
STALLED = "rcu_preempt detected stalls"


class LabBootError(LabError):
    """The laboratory host did not come up; the message ends with its console."""


class StalledBootError(LabBootError):
    """The emulation lost a processor during the boot, by the kernel's own words."""


class LabHost(Inspection):
    """One laboratory host. Its disks live in a folder and are kept between power_cut and power_on.

    Power on from a thread that lives on (pytest's main thread): QEMU dies with the thread that started it.
    """

    def __init__(self, machine: qemu.Machine) -> None:
        self.machine = machine
        self.processes: list[Process] = []
        self.lost = ""  # why a host that is on does not answer any more
        self._qemu: subprocess.Popen[bytes] | None = None
        self._qmp: qemu.Qmp | None = None
        self._channel: Channel | None = None

    @classmethod
    def boot(
        cls,
        folder: Path,
        *,
        share: Path | Mapping[str, Path] | None = None,
        kernel_args: str = "",
        iommu: bool = True,
        board: qemu.Board = "intel",
        grub: bool = False,
        systemd: bool = False,
        extra_qemu: Sequence[str] = (),
    ) -> LabHost:
        """Make new disks in the folder, power on and wait until libvirtd answers.

        Args:
            folder: for disks, console and sockets; made if missing.
            share: the folder behind /share (default: one in `folder`), or a mapping of mount points to
                folders, where all but "/share" are mounted read-only.
            kernel_args: appended to the kernel's command line.
            iommu: whether the kernel is told to use the IOMMU, or not to (Debian's kernel would by itself).
            board: whether the machine has VT-d, AMD-Vi (without interrupt remapping) or neither.
            grub: whether the firmware starts GRUB from a disk, which loads the kernel from the root disk as
                /boot/grub/grub.cfg says; QEMU gives the kernel no command line then.
            systemd: whether PID 1 is systemd, which starts all that a real host starts, and takes longer. Its
                libvirtd is a unit: systemctl instead of stop_libvirtd, kill_libvirtd and start_libvirtd.
            extra_qemu: more arguments for QEMU, such as further devices.

        Raises:
            LabBootError: with the end of the console.
            image.cache.BuildError: when the images cannot be built.
        """
        folder = folder.resolve()
        mounts = dict(share) if isinstance(share, Mapping) else {"/share": share or folder / "share"}
        exchange = mounts.pop("/share", folder / "share").resolve()
        exchange.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        machine = qemu.Machine(
            folder=folder,
            share=exchange,
            image=image.ensure(),
            mounts=tuple((point, path.resolve()) for point, path in mounts.items()),
            kernel_args=kernel_args,
            iommu=iommu,
            board=board,
            systemd=systemd,
            extra_qemu=tuple(extra_qemu),
        )
        if grub:
            with_kernel, boot_disk = image.ensure_grub(machine.image, machine.kernel_line)
            machine = replace(machine, image=with_kernel, boot_disk=boot_disk)
        machine.create_disks()
        lab = cls(machine)
        lab.power_on()
        return lab

    # --- power

    def power_on(self) -> None:
        """Start the machine with the disks it has and wait until libvirtd answers."""
        if self.powered():
            msg = "the laboratory host is on already"
            raise LabError(msg)
        try:
            self._start_qemu()
            self._qmp = qemu.Qmp(self.machine.folder)
            self._channel = Channel(self._qmp.command_port())
            for number, (point, _) in enumerate(self.machine.mounts):
                options = "trans=virtio,version=9p2000.L,msize=262144,ro"
                self.run(f"mkdir -p {point} && mount -t 9p -o {options} {qemu.mount_tag(number)} {point}")
        except BaseException:
            self.power_cut()
            raise

    def _start_qemu(self) -> None:
        """Start QEMU and wait until libvirtd answers.

        Now and then the emulated second processor never gets a timer interrupt, and the kernel hangs before it starts
        its first program; such a boot is tried again. Once it is up, local_apic.py sees to it.
        """
        console = self.machine.console
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            before = console.stat().st_size if console.exists() else 0
            self._qemu = qemu.start(self.machine.command(), self.machine.folder)
            try:
                if self.machine.board == "amd":  # the kernel's own lines are all that its serial console shows
                    self._wait_for_daemon()
                    return
                self._wait_for_console(READY, before)
            except StalledBootError:
                self.power_cut()
                if attempt == BOOT_ATTEMPTS:
                    raise
            else:
                return

    def power_cut(self) -> None:
        """End QEMU by SIGKILL: what the laboratory had not synced is gone. Nothing happens when off."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self._off()

    def shutdown(self, timeout: float = 120) -> None:
        """Shut down in order: processes and guests get SIGTERM, disks are synced. Timeout in seconds."""
        if self._qemu is None:
            return
        self.spawn("lab-poweroff", name="poweroff")
        try:
            self._qemu.wait(timeout)
        except subprocess.TimeoutExpired as error:
            msg = f"not shut down after {timeout} s; the end of the console:\n{self.console_tail()}"
            raise LabError(msg) from error
        self._off()

    def power_cycle(self) -> None:
        """Shut down in order and power on again, with the same disks."""
        self.shutdown()
        self.power_on()

    def powered(self) -> bool:
        """Whether the machine runs."""
        return self._qemu is not None and self._qemu.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut the power: nobody will look at these disks again."""
        self.power_cut()

    # --- commands and files

    def run(
        self, command: Command, *, timeout: float = 120, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root (text: by bash) and return code, stdout and stderr. Threads may share this.

        A process that the command leaves in the background does not hold it up.

        Raises:
            LabCommandError: with check, for a return code other than 0.
            LabCommandTimeoutError: after `timeout` seconds, even without check; its process group was killed.
            LabLostError: it is on, but does not answer; the message has its processors' state and its console.
            LabError: the laboratory host is off.
        """
        try:
            return self.channel.run(command, timeout=timeout, check=check, stdin=stdin)
        except LabLostError as error:
            if self._qemu is None:  # the power was cut meanwhile
                raise
            self.lost = f"{error}\n{self._autopsy()}"
            raise LabLostError(self.lost) from error

    def spawn(self, command: Command, name: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a process that goes on, in its own session. Its log, in the share, survives a power cut."""
        number = sum(1 for process in self.processes if process.name == name)
        file = f"logs/{name}.log" if not number else f"logs/{name}-{number + 1}.log"
        channel = self.channel
        token = channel.spawn(command, f"/share/{file}", environment or {})
        process = Process(name, self.machine.share / file, token, channel)
        self.processes.append(process)
        return process

    def put(self, local: Path, remote: str) -> None:
        """Copy a file into the laboratory host, with its mode; the folder is made."""
        self.channel.put(remote, local.read_bytes(), local.stat().st_mode & 0o777)

    def put_python(self, local: Path, remote: str) -> None:
        """Replace a folder by a local Python source root; bytecode is compiled on this machine."""
        with tempfile.TemporaryDirectory(dir=self.machine.share) as folder:
            tree = Path(folder) / "tree"
            shutil.copytree(local, tree, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.egg-info"))
            image.compile_python(self.machine.image, tree, remote)
            # One archive: thousands of small requests over 9p would take longer than all the rest.
            shutil.make_archive(folder + "/archive", "tar", tree)
            archive = f"/share/{Path(folder).name}/archive.tar"
            script = 'rm -rf "$1"; mkdir -p "$1"; tar -xf "$2" -C "$1"'
            self.run(["bash", "-euc", script, "-", remote, archive])

    def write(self, remote: str, text: str) -> None:
        """Write a text file (or a sysfs attribute) in the laboratory host; the folder is made."""
        self.channel.put(remote, text.encode())

    def read(self, remote: str) -> str:
        """Read a text file in the laboratory host. Raises LabError when it does not exist."""
        return self.channel.get(remote).decode(errors="replace")

    @property
    def channel(self) -> Channel:
        """The connection to the command daemon. Raises LabError while the laboratory host is off."""
        if self._qemu is not None and self._channel is not None and not self.powered():
            self.lost = f"the laboratory host's QEMU ended by itself:\n{self.console_tail()}"
            raise LabLostError(self.lost)
        if self._channel is None:
            msg = f"the laboratory host is off; the end of its console:\n{self.console_tail()}"
            raise LabError(msg)
        return self._channel

    @property
    def qmp(self) -> qemu.Qmp:
        """QEMU's monitor: device_add, device_del, system_powerdown. Device ids stand in qemu.Machine."""
        if self._qmp is None:
            msg = "the laboratory host is off"
            raise LabError(msg)
        return self._qmp

    # --- libvirtd

    def stop_libvirtd(self) -> None:
        """Stop libvirtd by SIGTERM and wait until it has ended. Guests go on."""
        self.run("lab-libvirtd stop")

    def kill_libvirtd(self) -> None:
        """Kill libvirtd by SIGKILL. Guests go on."""
        self.run("lab-libvirtd kill")

    def start_libvirtd(self) -> None:
        """Start libvirtd and wait until it answers."""
        self.run("lab-libvirtd start")

    # --- evidence

    def _autopsy(self) -> str:
        """What can be seen of a host that does not answer: where its processors are, and its console's end."""
        monitor = ""
        for line in ("info registers -a", "info lapic 0", "info lapic 1"):
            try:
                monitor += self.qmp.execute("human-monitor-command", **{"command-line": line})
            except (OSError, LabError) as error:
                monitor += f"{line}: {error}\n"
        telling = re.compile(r"^(CPU#|RIP|RAX|RSP|.*: |LVTT|Timer|IRR|ISR)")
        found = "\n".join(line for line in monitor.splitlines() if telling.match(line))
        return f"{found}\n--- console\n{self.console_tail()}"

    def console_tail(self, characters: int = 4000) -> str:
        """Give the end of what the serial console and QEMU itself printed."""
        text = ""
        for path in (self.machine.folder / "qemu.log", self.machine.console):
            if path.exists():
                text += path.read_text(encoding="utf-8", errors="replace")[-characters:]
        return text

    def collect_logs(self, to: Path) -> None:
        """Copy all that explains a failure into a folder; never raises for what cannot be had."""
        to.mkdir(parents=True, exist_ok=True)
        for path in (self.machine.folder / "qemu.log", self.machine.console):
            if path.exists():
                shutil.copy(path, to)
        for process in self.processes:
            if process.log_file.exists():
                shutil.copy(process.log_file, to)
        commands = {
            "dmesg.log": "dmesg",
            "libvirtd.log": "cat /var/log/libvirt/libvirtd.log",
            "domains.log": "virsh list --all; for d in $(virsh list --all --name); do virsh dumpxml $d; done",
            "guests.log": "tail -n +1 /var/log/libvirt/qemu/*.log /var/log/guest-*.log",
            "lspci.log": "lspci -Dnnk",
            "processes.log": "ps -ef",
            "journal.log": "journalctl --no-pager -b -o short-monotonic",
        }
        for name, command in commands.items():
            try:
                result = self.run(command, timeout=60, check=False)
                text = result.stdout + result.stderr
            except LabError as error:
                text = str(error)
            (to / name).write_text(text, encoding="utf-8")

    def _off(self) -> None:
        if self._qmp is not None:
            self._qmp.close()
        self._qemu = self._qmp = self._channel = None
        self.lost = ""

    def _wait_for_daemon(self) -> None:
        """Wait until the command daemon runs a command that libvirtd answers."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline and self.powered():
            try:
                monitor = qemu.Qmp(self.machine.folder)
                port = monitor.command_port()
                monitor.close()
                Channel(port).run("until virsh -q version; do sleep 0.2; done", timeout=120, check=True, stdin=None)
            except (LabError, OSError):
                time.sleep(POLL)
            else:
                return
        msg = f"libvirtd did not answer within {BOOT_TIMEOUT:.0f} s; the end of the console:\n{self.console_tail()}"
        raise LabBootError(msg)

    def _wait_for_console(self, stage: str, offset: int) -> None:
        """Wait for init's line "LAB <uptime> <stage>" behind an offset of the console."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if self.machine.console.exists():
                with self.machine.console.open("rb") as stream:
                    stream.seek(offset)
                    text = stream.read().decode(errors="replace")
                lines = text.splitlines()
                if any(line.startswith("LAB ") and line.split(" ", 2)[2:] == [stage] for line in lines):
                    return
                if STALLED in text:
                    msg = f"the boot stalled; the end of the console:\n{self.console_tail()}"
                    raise StalledBootError(msg)
            if not self.powered():
                msg = f"QEMU ended before the stage {stage!r}; the end of its output:\n{self.console_tail()}"
                raise LabBootError(msg)
            time.sleep(POLL)
        msg = f"no {stage!r} within {BOOT_TIMEOUT:.0f} s; the end of the console:\n{self.console_tail()}"
        raise LabBootError(msg)
