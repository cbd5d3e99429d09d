"""The conditions of a host's preparation: what is missing, and the commands that mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..api.common import Condition
from ..api.preparation import Preparation
from . import reasons
from .conditions import condition
from .model import Observation, is_vfio
from .pci import PciAddress
from .preparation import AMD, APPLY, VERSION, Answer, BootFacts, Request, needed
from .preparation_reasons import NOT_PREPARED, PREPARATION_FAILED, PREPARATION_UNIT_MISSING, REBOOT_REQUIRED

INSTALL = "install manifests/host/hostdev-prepare on the node as docs/host.md says"
#: Of a guest's QEMU with many devices and disks; libvirt's daemon gives on what it has itself.
ENOUGH_FILES = 8192
_FEW_FILES_LEFT = 0.9
_MODPROBE = "/etc/modprobe.d/vfio.conf"
_UNSAFE = "allow_unsafe_interrupts"
#: Status, reason and message of Prepared.
Obstacle = tuple[bool | None, object, str]


@dataclass(frozen=True)
class Lack:
    """Something that is asked for and not there. ``kind`` is the condition that says more of it; empty: none does."""

    kind: str
    text: str


@dataclass(frozen=True)
class Asked:
    """How it stands with the host's unit. ``request`` stands in the file; ``overdue``: it was not answered in time.

    ``boot`` is this boot's ID: the unit answers at each, and one that does not is there no more.
    """

    request: Request
    answer: Answer | None
    boot: str = ""
    overdue: bool = False

    @property
    def is_there(self) -> bool:
        """Whether there is, or was, a unit that speaks our version."""
        return self.answer is not None and self.answer.version == VERSION

    @property
    def answered(self) -> bool:
        """Whether the answer is to this very request, and of this boot; of one for nothing the boot does not matter."""
        if self.answer is None or self.answer.version != VERSION or self.answer.request != self.request.id:
            return False
        return self.answer.boot == self.boot or self.request == Request()


def conditions(asked: Preparation | None, host: Observation, facts: BootFacts, unit: Asked) -> tuple[Condition, ...]:
    """All of them. Without spec.preparation only what is left of a former one: a failure, a reboot to come."""
    pending = tuple(_pending(host, facts, unit.answer))
    found = []
    if asked is None:
        if unit.answered and unit.answer and unit.answer.failed:
            found.append(condition("Prepared", False, PREPARATION_FAILED, _failures(unit.answer)))
        return (*found, _reboot(pending)) if pending else tuple(found)
    lacks = tuple(_lacks(asked, host, facts, unit.answer))
    for kind, reason in (("IOMMUReady", reasons.IOMMU_DISABLED), ("VFIOReady", reasons.VFIO_MODULE_MISSING)):
        texts = [lack.text for lack in lacks if lack.kind == kind]
        if texts:
            found.append(condition(kind, False, reason, "; ".join(texts)))
    found.append(_prepared(asked, host, unit, lacks, pending))
    found.append(_reboot(pending))
    found.append(_limits(facts))
    if asked.unsafe_interrupts:
        text = f"guests may have devices without interrupt remapping: {asked.unsafe_interrupts.reason}"
        if host.platform.interrupt_remapping:
            text = f"not made use of, since interrupt remapping is on: {asked.unsafe_interrupts.reason}"
        found.append(condition("UnsafeInterrupts", True, "UnsafeInterruptsAccepted", text))
    return tuple(found)


def _prepared(
    asked: Preparation, host: Observation, unit: Asked, lacks: tuple[Lack, ...], pending: tuple[str, ...]
) -> Condition:
    """The first thing that stands in the way of all that is asked for."""
    missing = "; ".join(lack.text for lack in lacks)
    obstacle = _left_out(asked, host) or (_obstacle(host, unit, missing, pending) if asked.mode == APPLY else None)
    if obstacle:
        return condition("Prepared", *obstacle)
    if lacks:
        return condition("Prepared", False, NOT_PREPARED, missing)
    return condition("Prepared", True, "HostPrepared", "the host has all that spec.preparation asks for")


def _left_out(asked: Preparation, host: Observation) -> Obstacle | None:
    left_out = sorted(needed(asked, host).items())
    text = "; ".join(f"{address} is not bound early: {why}" for address, why in left_out)
    return (False, reasons.HOST_CRITICAL, text) if left_out else None


def _obstacle(host: Observation, unit: Asked, missing: str, pending: tuple[str, ...]) -> Obstacle | None:
    """Of mode Apply."""
    answer, found = unit.answer, None
    if answer is None or not unit.is_there or unit.overdue:
        found = (False, PREPARATION_UNIT_MISSING, f"{_no_unit(answer, unit)}: {INSTALL}. {missing}".strip())
    elif not unit.answered and host.settings.paused:
        found = (False, reasons.PAUSED, "spec.paused is true: the host's unit is asked for nothing")
    elif not unit.answered:
        return None, "PreparationPending", "the host's unit has been asked, and has not answered yet"
    elif answer.failed:
        found = (False, PREPARATION_FAILED, _failures(answer))
    elif pending:
        found = (False, REBOOT_REQUIRED, f"{'; '.join(pending)}: reboot the node when that suits")
    return found


def _no_unit(answer: Answer | None, unit: Asked) -> str:
    if answer is None:
        return "the host has no unit hostdev-prepare, without which nothing is changed"
    if answer.version != VERSION:
        return f"the host's unit hostdev-prepare is of version {answer.version or '?'}, and {VERSION} is needed"
    return f"the host's unit hostdev-prepare does not answer request {unit.request.id}"


def _failures(answer: Answer) -> str:
    return f"the host's unit could not do all of it: {'; '.join(answer.failed)}"


def _reboot(pending: tuple[str, ...]) -> Condition:
    if pending:
        return condition(
            "RebootRequired", True, REBOOT_REQUIRED, f"{'; '.join(pending)}. The agent never reboots a host"
        )
    return condition("RebootRequired", False, "NothingPending", "what stands for the next boot is in force")


def _pending(host: Observation, facts: BootFacts, answer: Answer | None) -> Iterator[str]:
    """What the unit has seen to, and this boot does not have. Words are compared with the kernel's own command line."""
    if answer is None or answer.version != VERSION:
        return
    for word in answer.next:
        if not facts.says(word):
            yield f"{word} stands on the next boot's command line, and not on this one's"
    if answer.boot == host.platform.boot_id:
        for word in answer.undone:
            if word in facts.words and word not in answer.next:
                yield f"{word} was taken off the next boot's command line, and stands on this one's"
    for address, _ in _unbound(host, tuple(answer.early)):
        if answer.early[address] == "waits":
            yield f"{address} goes to vfio-pci at the next boot"


def _unbound(host: Observation, addresses: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Devices that are there and not on vfio-pci, each with its driver."""
    for address in addresses:
        device = host.devices.get(PciAddress.parse(address)) if _is_address(address) else None
        if device and not is_vfio(device.driver):
            yield address, device.driver or "none"


def _is_address(text: str) -> bool:
    try:
        PciAddress.parse(text)
    except ValueError:
        return False
    return True


def _lacks(asked: Preparation, host: Observation, facts: BootFacts, answer: Answer | None) -> Iterator[Lack]:
    platform = host.platform
    if asked.iommu and not platform.iommu:
        yield Lack("IOMMUReady", _no_iommu(facts, answer))
    if asked.iommu and platform.iommu and platform.interrupt_remapping is False and not asked.unsafe_interrupts:
        yield Lack(
            "InterruptRemappingReady",
            "there is no interrupt remapping: enable it in the firmware (VT-d, x2APIC); or, for trusted guests alone,"
            " say so in spec.preparation.unsafeInterrupts",
        )
    if asked.unsafe_interrupts and not platform.unsafe_interrupts and platform.interrupt_remapping is False:
        yield Lack(
            "InterruptRemappingReady",
            f"{_UNSAFE} is not set: `echo 1 > /sys/module/vfio_iommu_type1/parameters/{_UNSAFE}` and, for each boot,"
            f" `echo options vfio_iommu_type1 {_UNSAFE}=1 > {_MODPROBE}`",
        )
    if asked.vfio_modules and not platform.vfio:
        persistent = "`echo vfio-pci > /etc/modules-load.d/vfio.conf`"
        yield Lack("VFIOReady", f"the vfio-pci driver is not loaded: `modprobe vfio-pci`, and {persistent}")
    early = answer.early if answer and asked.mode == APPLY else {}
    for address, driver in _unbound(host, asked.early_binding):
        yield Lack("", _not_bound(address, driver, early.get(address)))
    for address in asked.early_binding:
        if PciAddress.parse(address) not in host.devices:
            yield Lack("", f"{address} is not there: compare with `lspci -D`")


def _not_bound(address: str, driver: str, result: str | None) -> str:
    if result == "taken":
        return (
            f"{address} had driver {driver} before the host's unit came to it (from the initial RAM disk, or built in):"
            f" keep {driver} out of the initial RAM disk"
        )
    if result == "another":
        return f"{address} is another card by now, and is left alone: compare earlyBinding with `lspci -D`"
    return (
        f"{address} has driver {driver} and not vfio-pci: `driverctl set-override {address} vfio-pci`, or let"
        " spec.preparation.mode Apply do it at boot"
    )


def _no_iommu(facts: BootFacts, answer: Answer | None) -> str:
    amd = facts.boot_word == AMD
    name, table = ("AMD-Vi", "IVRS") if amd else ("VT-d", "DMAR")
    if facts.table is None:
        text = f"the firmware shows the kernel no {table} table: enable {name} (IOMMU) in its setup"
        if facts.blocked_by is None and (facts.says(facts.boot_word) or amd):
            return text
        return f"{text}, and then: {_add_word(facts, answer)}"
    if facts.blocked_by:
        return f"{facts.blocked_by} on the kernel's command line turns the IOMMU off: remove it, and reboot"
    if facts.says(facts.boot_word) or amd:
        return (
            f"the firmware has a {table} table, and the kernel has no IOMMU groups (/sys/class/iommu has"
            f" {', '.join(facts.iommus) or 'nothing'}): `dmesg | grep -e DMAR -e AMD-Vi` says why"
        )
    return f"the firmware has a {table} table, and the IOMMU is off: {_add_word(facts, answer)}"


def _add_word(facts: BootFacts, answer: Answer | None) -> str:
    """By the boot loader that the host's unit has found, or that has left its words on the command line; else all."""
    word = facts.boot_word
    grub = (
        f"`echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {word}\"' >> /etc/default/grub`, then `update-grub` (Debian,"
        f" Ubuntu) or `grub2-mkconfig -o /etc/grub2{'-efi' if facts.efi else ''}.cfg`"
    )
    grubby = f"`grubby --update-kernel=ALL --args={word}`"
    installed = f"add {word} to /etc/kernel/cmdline, then `kernel-install add-all`"
    ways = {"grub": grub, "grubby": grubby, "kernel-install": installed}
    way = ways.get(answer.loader) if answer else None
    image = next((w for w in facts.words if w.startswith("BOOT_IMAGE=")), "")
    if way is None and image:
        way = f"{grubby} (Fedora, Red Hat), or else {grub}" if image.startswith("BOOT_IMAGE=(") else grub
    elif way is None and any(w.startswith("initrd=\\") for w in facts.words):
        way = installed
    return f"{way or f'with GRUB {grub}; with grubby {grubby}; with systemd-boot {installed}'}; and reboot"


def _limits(facts: BootFacts) -> Condition:
    """What libvirt's daemon can give to guests: VFIO locks all their memory, and devices and disks take files."""
    daemon, texts = facts.daemon, []
    if facts.files and facts.files[0] > _FEW_FILES_LEFT * facts.files[1]:
        now, most = facts.files
        texts.append(f"{now} of {most} files of the whole host are open: `sysctl -w fs.file-max={2 * most}`")
    if daemon and daemon.locked is not None and not daemon.may_raise:
        texts.append(
            f"{daemon.name} may lock {daemon.locked} bytes and cannot raise that, and VFIO locks all of a guest's"
            f" memory: `systemctl edit {daemon.name}`, LimitMEMLOCK=infinity"
        )
    if daemon and daemon.files < ENOUGH_FILES and not daemon.may_raise:
        texts.append(
            f"{daemon.name} may open {daemon.files} files, {ENOUGH_FILES} are wanted: `systemctl edit {daemon.name}`,"
            f" LimitNOFILE={ENOUGH_FILES}; or max_files in /etc/libvirt/qemu.conf"
        )
    if texts:
        return condition("LimitsReady", False, NOT_PREPARED, "; ".join(texts))
    if daemon is None:
        return condition("LimitsReady", None, "CannotTell", "libvirt's daemon is not among the processes that are seen")
    return condition(
        "LimitsReady", True, "EnoughForGuests", f"{daemon.name} can give guests locked memory and open files"
    )
