"""manifests/host/hostdev-prepare with grubby and with kernel-install; and what it takes for a request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostdev_operator.core.preparation import INTEL, Request
from tests.adapters.prepared_root import BOOT, SHELLS, Root

WORD = Request(word=INTEL)
NOTHING = Request()


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Root:
    return Root(tmp_path, request.param)


def kept(host: Root) -> dict[str, bytes]:
    """The host's files without what is only remembered until the next boot."""
    return {path: text for path, text in host.files().items() if "undone" not in path}


# -- grubby -----------------------------------------------------------------------------------------------------------


def test_grubby_adds_the_word_to_all_entries_and_takes_it_out(host: Root) -> None:
    host.grubby(old="root=/dev/sda1 ro quiet", new="root=/dev/sda1 ro $tuned")
    before = host.files()
    assert host.ask(WORD) == 0, host.output
    assert host.read("boot/loader/entries/old.conf").splitlines()[1] == f"options root=/dev/sda1 ro quiet {INTEL}"
    assert host.read("boot/loader/entries/new.conf").splitlines()[1] == f"options root=/dev/sda1 ro $tuned {INTEL}"
    assert (host.answer.loader, host.answer.next) == ("grubby", (INTEL,))
    calls = host.read("grubby.log").count("--args=")
    assert host.ask(WORD) == 0
    assert host.read("grubby.log").count("--args=") == calls == 1
    assert host.ask(NOTHING) == 0, host.output
    assert kept(host) == before
    assert host.answer.undone == (INTEL,)


def test_grubby_leaves_an_entry_that_had_the_word(host: Root) -> None:
    host.grubby(mine=f"root=/dev/sda1 {INTEL} quiet", other="root=/dev/sda1 quiet")
    before = host.files()
    assert host.ask(WORD) == 0, host.output
    assert INTEL in host.read("boot/loader/entries/other.conf")
    assert host.ask(NOTHING) == 0
    assert kept(host) == before


def test_grubby_would_replace_a_word_that_says_the_opposite(host: Root) -> None:
    host.grubby(mine="root=/dev/sda1 intel_iommu=off")
    assert host.ask(WORD) == 1
    assert "says the opposite" in host.answer.failed[0]
    assert "--args" not in host.read("grubby.log")


# -- kernel-install ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["root=/dev/sda1 ro\n", "root=/dev/sda1  ro", None])
def test_kernel_installs_line_gets_the_word_and_is_as_it_was_again(host: Root, line: str | None) -> None:
    host.systemd_boot(line)
    assert host.ask(WORD) == 0, host.output
    words = (line or "root=/dev/sda1 ro quiet").split()
    assert host.read("etc/kernel/cmdline").split() == [*words, INTEL]
    assert INTEL in host.read("boot/loader/entries/6.1.conf")
    changed = (host.path / "etc/kernel/cmdline").stat().st_ino
    assert host.ask(WORD) == 0
    assert (host.path / "etc/kernel/cmdline").stat().st_ino == changed
    assert host.ask(NOTHING) == 0, host.output
    assert (host.read("etc/kernel/cmdline") if line else (host.path / "etc/kernel/cmdline").exists()) == (line or False)
    assert INTEL not in host.read("boot/loader/entries/6.1.conf")
    assert host.answer.undone == (INTEL,)


def test_a_line_that_was_changed_meanwhile_loses_our_word_alone(host: Root) -> None:
    host.systemd_boot("root=/dev/sda1\n")
    assert host.ask(WORD) == 0
    host.write("etc/kernel/cmdline", f"root=/dev/sdb1 {INTEL} splash\n")
    assert host.ask(NOTHING) == 0
    assert host.read("etc/kernel/cmdline") == "root=/dev/sdb1 splash\n"


# -- options, modules, devices ----------------------------------------------------------------------------------------

PARAMETER = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"


def test_unsafe_interrupts_are_allowed_at_once_and_taken_back(host: Root) -> None:
    host.write(PARAMETER, "N\n")
    assert host.ask(Request(unsafe_interrupts=True)) == 0, host.output
    assert host.read(PARAMETER) == "1\n"
    assert "\noptions vfio_iommu_type1 allow_unsafe_interrupts=1\n" in host.read("etc/modprobe.d/hostdev-prepare.conf")
    host.write(PARAMETER, "Y\n")
    assert host.ask(NOTHING) == 0
    assert host.read(PARAMETER) == "0\n"
    assert host.files() == {}


def test_what_the_administrator_allows_stays_allowed(host: Root) -> None:
    host.write(PARAMETER, "Y\n")
    host.write("etc/modprobe.d/vfio.conf", "options vfio_iommu_type1 allow_unsafe_interrupts=1\n")
    assert host.ask(NOTHING) == 0
    assert host.ask(Request(unsafe_interrupts=True)) == 0
    assert host.ask(NOTHING) == 0
    assert host.read(PARAMETER) == "Y\n"


def test_modules_are_loaded_now_and_at_boot(host: Root) -> None:
    assert host.ask(Request(modules=True)) == 0, host.output
    assert "\nvfio-pci\n" in host.read("etc/modules-load.d/hostdev-prepare.conf")
    assert host.read("modprobe.log") == "-a vfio-pci vfio_iommu_type1\n"
    assert host.ask(NOTHING) == 0
    assert host.files() == {}
    host.write("no-modules", "")
    assert host.ask(Request(modules=True)) == 1
    assert "modules modprobe" in host.answer.failed[0]


def test_a_file_of_somebody_else_is_not_replaced(host: Root) -> None:
    host.write("etc/modules-load.d/hostdev-prepare.conf", "mine\n")
    assert host.ask(Request(modules=True)) == 1
    assert host.ask(NOTHING) == 1
    assert host.read("etc/modules-load.d/hostdev-prepare.conf") == "mine\n"


def device(host: Root, address: str, product: str = "0x100e", driver: str | None = None) -> Path:
    """A PCI function. No kernel binds it: whoever writes drivers_probe finds a driver that is there already."""
    folder = f"sys/bus/pci/devices/{address}"
    host.write(f"{folder}/vendor", "0x8086\n")
    host.write(f"{folder}/device", f"{product}\n")
    host.write(f"{folder}/driver_override", "(null)\n")
    host.write("sys/bus/pci/drivers_probe", "")
    if driver:
        (host.path / folder / "driver").symlink_to(f"/nowhere/{driver}")
    return host.path / folder


def test_devices_are_kept_for_vfio_at_boot_and_given_up(host: Root) -> None:
    free, taken, other = (f"0000:04:0{n}.0" for n in range(3))
    early = tuple((address, "8086:100e") for address in (free, taken, other, "0000:09:00.0"))
    device(host, free)
    device(host, taken, driver="ahci")
    device(host, other, product="0x1533")
    assert host.ask(Request(early=early)) == 0, host.output
    assert dict(host.answer.early) == dict.fromkeys((a for a, _ in early), "waits")
    assert host.run("boot") == 0
    assert host.read(f"sys/bus/pci/devices/{free}/driver_override") == "vfio-pci\n"
    assert host.read("sys/bus/pci/drivers_probe") == f"{free}\n"
    for address in (taken, other):
        assert host.read(f"sys/bus/pci/devices/{address}/driver_override") == "(null)\n"
    assert host.run() == 0
    assert dict(host.answer.early) == {free: "refused", taken: "taken", other: "another", "0000:09:00.0": "missing"}
    host.write("run/hostdev-prepare/early", f"{free} bound\n")  # as where a kernel answers
    assert host.ask(NOTHING) == 0
    assert host.read(f"sys/bus/pci/devices/{free}/driver_override") == "\n"
    assert host.files() == {}


# -- the agent's file -------------------------------------------------------------------------------------------------

HEAD = "version 1\nrequest 0123456789abcdef\n"
BAD = {
    "free text": f"{HEAD}boot-word init=/bin/sh\n",
    "another word of the key": f"{HEAD}boot-word intel_iommu=off\n",
    "more words": f"{HEAD}boot-word intel_iommu=on init=/bin/sh\n",
    "an unknown line": f"{HEAD}run reboot\n",
    "a path as an address": f"{HEAD}early ../../../etc 8086:100e\n",
    "an address alone": f"{HEAD}early 0000:01:00.0\n",
    "a module": f"{HEAD}modules evil\n",
    "a substitution": f"{HEAD}modules $(reboot)\n",
    "another version": "version 2\nrequest 00\n",
    "no version": "request 00\n",
    "nothing": "",
    "too long": HEAD + "# x\n" * 300,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_request_that_is_not_understood_changes_nothing_and_is_not_quoted(host: Root, text: str) -> None:
    host.systemd_boot("root=/dev/sda1\n")
    before = host.files()
    assert host.ask_text(text) == 1
    assert host.files() == before
    assert len(host.answer.failed) == 1
    for word in ("init", "reboot", "etc 8086", "evil"):
        assert word not in host.answer.failed[0]


def test_the_request_is_no_link_and_the_answer_replaces_one(host: Root) -> None:
    secret = host.write("etc/secret", "boot-word x\n")
    host.state.mkdir(parents=True)
    (host.state / "prepare.conf").symlink_to(secret)
    (host.state / "prepare.result").symlink_to(secret)
    assert host.run() == 1
    assert "no ordinary file" in host.answer.failed[0]
    assert secret.read_text() == "boot-word x\n"
    assert not (host.state / "prepare.result").is_symlink()


def test_without_a_request_the_answer_says_that_the_unit_is_there(host: Root) -> None:
    assert host.run() == 0, host.output
    assert (host.answer.version, host.answer.request, host.answer.boot) == ("1", "none", BOOT)
    assert host.files() == {}


def test_another_vendors_word_takes_the_firsts_place(host: Root) -> None:
    host.systemd_boot("root=/dev/sda1\n")
    assert host.ask(WORD) == 0
    assert host.ask(replace(WORD, word="amd_iommu=on")) == 0, host.output
    assert host.read("etc/kernel/cmdline") == "root=/dev/sda1 amd_iommu=on\n"
