from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.api.preparation import Preparation
from hostdev_operator.core.conditions import find
from hostdev_operator.core.model import Platform
from hostdev_operator.core.preparation import AMD, INTEL, Answer, BootFacts, DaemonLimits, Request, early_of
from hostdev_operator.core.preparation_status import Asked, conditions
from tests.core.hosts import PLATFORM, observation

OFF = replace(PLATFORM, iommu=False)
INTELS = BootFacts(vendor="GenuineIntel", table="DMAR", words=("quiet",))
AMDS = BootFacts(vendor="AuthenticAMD", table="IVRS")
REQUIRED = Preparation(iommu="Required")


def message(facts: BootFacts, platform: Platform = OFF, answer: Answer | None = None) -> str:
    """Of IOMMUReady."""
    found = find(conditions(REQUIRED, observation(platform=platform), facts, Asked(Request(), answer)), "IOMMUReady")
    return found.message if found else ""


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (INTELS, INTEL),
        (AMDS, AMD),
        (BootFacts(vendor="AuthenticAMD"), AMD),
        (BootFacts(vendor="GenuineIntel"), INTEL),
        (BootFacts(vendor="AuthenticAMD", table="DMAR"), INTEL),
    ],
)
def test_the_word_is_that_of_the_table_and_else_of_the_processor(facts: BootFacts, word: str) -> None:
    assert facts.boot_word == word


@pytest.mark.parametrize(
    ("line", "says", "blocked"),
    [
        ("quiet", False, None),
        ("intel_iommu=on", True, None),
        ("intel_iommu=on,sm_on", True, None),
        ("intel_iommu=sm_on", False, None),
        ("intel_iommu=off intel_iommu=on", True, None),
        ("intel_iommu=on intel_iommu=off", False, None),
        ("intel_iommu=on iommu=pt,off", True, "iommu=off"),
        ("xintel_iommu=on iommu=pt amd_iommu=off", False, None),
    ],
)
def test_of_several_words_the_kernel_takes_the_last(line: str, says: bool, blocked: str | None) -> None:  # noqa: FBT001
    facts = replace(INTELS, words=tuple(line.split()))
    assert (facts.says(INTEL), facts.blocked_by) == (says, blocked)


CASES = {
    "no table": (replace(INTELS, table=None), ("VT-d", "no DMAR table", INTEL)),
    "no table, on": (replace(INTELS, table=None, words=(INTEL,)), ("enable VT-d",)),
    "off": (INTELS, ("the IOMMU is off", INTEL, "with grubby `grubby --update-kernel=ALL", "with systemd-boot")),
    "GRUB": (replace(INTELS, words=("BOOT_IMAGE=/vmlinuz",)), ("`update-grub`", "grub2-mkconfig -o /etc/grub2.cfg")),
    "GRUB, EFI": (replace(INTELS, words=("BOOT_IMAGE=/vmlinuz",), efi=True), ("-o /etc/grub2-efi.cfg",)),
    "Fedora": (
        replace(INTELS, words=("BOOT_IMAGE=(hd0,gpt2)/vmlinuz",)),
        (f"`grubby --update-kernel=ALL --args={INTEL}`",),
    ),
    "systemd-boot": (replace(INTELS, words=("initrd=\\x\\initrd",)), ("/etc/kernel/cmdline", "kernel-install add-all")),
    "blocked": (replace(INTELS, words=("iommu=off",)), ("iommu=off on the kernel's command line",)),
    "on, no groups": (replace(INTELS, words=(INTEL,)), ("dmesg",)),
    "AMD without a table": (replace(AMDS, table=None), ("enable AMD-Vi", "no IVRS table")),
    "AMD, blocked": (replace(AMDS, words=("amd_iommu=off",)), ("amd_iommu=off on the kernel's command line",)),
    "AMD": (AMDS, ("dmesg",)),
}


@pytest.mark.parametrize(("facts", "words"), CASES.values(), ids=CASES)
def test_what_is_missing_comes_with_the_commands_that_mend_it(facts: BootFacts, words: tuple[str, ...]) -> None:
    said = message(facts)
    assert all(word in said for word in words), said


def test_the_loader_that_the_unit_has_found_is_believed() -> None:
    facts = replace(INTELS, words=("BOOT_IMAGE=/vmlinuz",))
    assert "grubby" not in message(facts)
    assert "`grubby --update-kernel" in message(facts, answer=Answer("1", loader="grubby"))


def test_an_iommu_that_is_on_is_not_spoken_of() -> None:
    assert message(INTELS, PLATFORM) == ""


def test_interrupt_remapping_belongs_to_an_iommu_that_is_required() -> None:
    host = observation(platform=replace(PLATFORM, interrupt_remapping=False))
    prepared = find(conditions(REQUIRED, host, INTELS, Asked(Request(), None)), "Prepared")
    assert prepared
    assert (prepared.reason, "unsafeInterrupts" in prepared.message) == ("NotPrepared", True)


LIMITS = {
    "all well": (DaemonLimits("libvirtd", True, 65536, 1024), (100, 1000), "True", ""),
    "cannot lock": (DaemonLimits("virtqemud", False, 65536, 8192), None, "False", "LimitMEMLOCK=infinity"),
    "few files": (DaemonLimits("virtqemud", False, None, 1024), None, "False", "LimitNOFILE=8192"),
    "host full": (DaemonLimits("libvirtd", True, None, 8192), (950, 1000), "False", "fs.file-max=2000"),
    "not found": (None, (0, 1), "Unknown", "libvirt's daemon"),
}


@pytest.mark.parametrize(("daemon", "files", "status", "text"), LIMITS.values(), ids=LIMITS)
def test_limits_of_libvirts_daemon(
    daemon: DaemonLimits | None, files: tuple[int, int] | None, status: str, text: str
) -> None:
    facts = replace(INTELS, daemon=daemon, files=files)
    found = find(conditions(REQUIRED, observation(), facts, Asked(Request(), None)), "LimitsReady")
    assert found
    assert (found.status, text in found.message) == (status, True)


def test_a_request_is_the_same_text_for_the_same_wish_and_has_a_fixed_vocabulary() -> None:
    early = (("0000:01:00.0", "8086:10c9"),)
    full = Request(INTEL, unsafe_interrupts=True, modules=True, early=early)
    assert full.text.splitlines()[1:] == [
        "version 1",
        f"request {full.id}",
        "boot-word intel_iommu=on",
        "unsafe-interrupts yes",
        "modules vfio-pci",
        "early 0000:01:00.0 8086:10c9",
    ]
    assert early_of(full.text) == dict(early)
    assert Request(INTEL).id != Request(AMD).id
    assert Request().text.splitlines()[1:] == ["version 1", f"request {Request().id}"]


def test_an_answer_is_read_and_what_is_strange_left_out() -> None:
    answer = Answer.parse("version 1\nrequest ab\nfailed a b\nfailed c\nearly 0000:01:00.0 bound\nstrange\n\n")
    assert (answer.version, answer.request, answer.failed) == ("1", "ab", ("a b", "c"))
    assert dict(answer.early) == {"0000:01:00.0": "bound"}
    assert Answer.parse("").version == ""
    assert len(Answer.parse("version 1\n" + "failed x\n" * 1000).failed) < 300
