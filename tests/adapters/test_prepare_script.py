"""manifests/host/hostdev-prepare with GRUB on a made-up host; tests/system/test_preparation.py boots a host with it."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostdev_operator.core.preparation import INTEL, Request
from tests.adapters.prepared_root import BOOT, SHELLS, Root

WORD = Request(word=INTEL)
NOTHING = Request()
DEFAULTS = 'GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet splash"\nGRUB_CMDLINE_LINUX="console=ttyS0 a=\'b\'"\n'


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Root:
    return Root(tmp_path, request.param)


def entry(host: Root, config: str = "boot/grub/grub.cfg") -> list[str]:
    """The words of the usual entry."""
    return next(line for line in host.read(config).splitlines() if "\tlinux\t" in line).split()


@pytest.mark.parametrize("dropins", [False, True])
def test_the_word_is_added_once_and_taken_out_byte_for_byte(host: Root, dropins: bool) -> None:  # noqa: FBT001
    host.grub(DEFAULTS, dropins=dropins)
    before = host.files()
    assert host.ask(WORD) == 0, host.output
    assert entry(host)[-4:] == ["a='b'", INTEL, "quiet", "splash"]
    assert (host.read("etc/default/grub") == DEFAULTS) is dropins
    assert host.answer.request == WORD.id
    assert (host.answer.next, host.answer.failed, host.answer.loader) == ((INTEL,), (), "grub")
    assert host.read("boot/grub/grub.cfg.before-hostdev-prepare").encode() == before["boot/grub/grub.cfg"]
    assert (host.path / "etc/default/grub.d").exists() is dropins
    standing = {path: (host.path / path).stat().st_ino for path in host.files()}
    assert host.ask(WORD) == 0
    assert {path: (host.path / path).stat().st_ino for path in host.files()} == standing
    assert host.ask(NOTHING) == 0, host.output
    assert {k: v for k, v in host.files().items() if "undone" not in k} == before
    assert not (host.path / "etc/default/grub.d").exists()
    assert (host.answer.next, host.answer.undone, host.answer.boot) == ((), (INTEL,), BOOT)
    host.write("proc/sys/kernel/random/boot_id", BOOT.replace("1", "9") + "\n")
    assert host.run() == 0
    assert host.answer.undone == ()
    assert host.files() == before


def test_efi_and_red_hats_names_and_a_configuration_that_only_leads_to_another(host: Root) -> None:
    host.grub(DEFAULTS, config="boot/grub2/grub.cfg")
    efi = host.write("boot/efi/EFI/fedora/grub.cfg", host.read("boot/grub2/grub.cfg"))
    stub = host.write("boot/efi/EFI/other/grub.cfg", "configfile /boot/grub2/grub.cfg\n")
    (host.path / "bin/grub-mkconfig").rename(host.path / "bin/grub2-mkconfig")
    (host.path / "etc/sysconfig").mkdir()
    (host.path / "etc/sysconfig/grub").symlink_to("../default/grub")
    assert host.ask(WORD) == 0, host.output
    assert INTEL in entry(host, "boot/grub2/grub.cfg")
    assert INTEL in entry(host, "boot/efi/EFI/fedora/grub.cfg")
    assert stub.read_text() == "configfile /boot/grub2/grub.cfg\n"
    assert host.ask(NOTHING) == 0
    assert INTEL not in efi.read_text()


@pytest.mark.parametrize("theirs", ["intel_iommu=on", "intel_iommu=on,sm_on", "intel_iommu=off intel_iommu=on"])
def test_a_word_that_was_there_is_nobody_elses(host: Root, theirs: str) -> None:
    host.grub(f'GRUB_CMDLINE_LINUX="{theirs}"\n')
    before = host.files()
    assert host.ask(WORD) == 0
    assert host.answer.next == (INTEL,)
    assert host.ask(NOTHING) == 0
    assert host.answer.undone == ()
    assert host.files() == before


@pytest.mark.parametrize("variable", ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"])
def test_off_is_kept_and_ours_stands_behind_it(host: Root, variable: str) -> None:
    host.grub(f'{variable}="intel_iommu=off"\n')
    assert host.ask(WORD) == 0, host.output
    assert entry(host)[-2:] == ["intel_iommu=off", INTEL]


@pytest.mark.parametrize(
    ("request_", "line"), [(WORD, "iommu=pt,off"), (Request(word="amd_iommu=on"), "amd_iommu=off")]
)
def test_what_nothing_takes_back_is_the_administrators(host: Root, request_: Request, line: str) -> None:
    host.grub(f'GRUB_CMDLINE_LINUX="{line}"\n')
    before = host.files()
    assert host.ask(request_) == 1
    assert f"{line} stands on it, and nothing takes that back" in host.answer.failed[0]
    assert {k: v for k, v in host.files().items() if k != "etc/hostdev-prepare/word"} == before


BROKEN = {
    "the shell cannot read it": "GRUB_CMDLINE_LINUX='quiet\n",
    "it ends before its end": 'GRUB_CMDLINE_LINUX="quiet"\nexit 0\n',
    "nothing can be added to it": "readonly GRUB_CMDLINE_LINUX=quiet\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_defaults_that_cannot_be_changed_are_left_alone(host: Root, text: str) -> None:
    host.grub(DEFAULTS)
    host.write("etc/default/grub", text)
    before = host.files()
    assert host.ask(WORD) == 1
    assert host.answer.failed
    assert {k: v for k, v in host.files().items() if k != "etc/hostdev-prepare/word"} == before


@pytest.mark.parametrize("trouble", ["mkconfig-fails", "broken"])
def test_a_configuration_that_is_not_made_changes_nothing_and_is_made_later(host: Root, trouble: str) -> None:
    host.grub(DEFAULTS)
    before = host.files()
    cause = host.write(trouble, "syntax error\n")
    assert host.ask(WORD) == 1
    assert ("no space left" if trouble != "broken" else "does not accept") in host.answer.failed[0]
    now = {k: v for k, v in host.files().items() if "hostdev-prepare" not in k}
    assert now == before
    cause.unlink()
    assert host.run() == 0, host.output
    assert INTEL in entry(host)
    assert host.ask(NOTHING) == 0
    assert {k: v for k, v in host.files().items() if "undone" not in k} == before


def test_without_a_boot_loader_it_says_so(host: Root) -> None:
    assert host.ask(WORD) == 1
    assert "no boot loader was found" in host.answer.failed[0]


def test_undo_by_hand_asks_nobody(host: Root) -> None:
    host.grub(DEFAULTS)
    assert host.ask(replace(WORD, modules=True, unsafe_interrupts=True)) == 0
    assert host.run("undo") == 0
    assert host.read("etc/default/grub") == DEFAULTS
    assert not list((host.path / "etc").rglob("hostdev-prepare.conf"))


# -- any defaults file ------------------------------------------------------------------------------------------------

_word = st.from_regex(r"[a-z0-9_.]{1,8}(=[a-zA-Z0-9_.,:/+-]{0,10})?", fullmatch=True).filter(
    lambda word: not word.startswith(("iommu=", "intel_iommu="))
)
_words = st.lists(_word, max_size=4).map(" ".join)
_name = st.sampled_from(["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_TIMEOUT", "MINE"])
_line = st.one_of(
    st.builds('{}="{}"'.format, _name, _words),
    st.builds("{}='{}'".format, _name, _words),
    st.builds("{}={}".format, _name, _word),
    st.builds('{0}="${{{0}}} {1}"'.format, _name, _words),
    st.builds('{}="{} \\\n{}"'.format, _name, _words, _words),
    st.builds("export {}='{}'".format, _name, _words),
    st.builds('  {}="$MINE {}" # {}'.format, _name, _words, _words),
    st.builds("[ -e /nowhere ] && {}={}".format, _name, _word),
    st.builds("# {}".format, st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=12)),
    st.sampled_from(["", "\t", "false", "if true; then\nGRUB_CMDLINE_LINUX=inner\nfi", "IFS=:", "set -e"]),
)
_defaults = st.builds(
    lambda lines, end: "\n".join(lines) + end, st.lists(_line, max_size=6), st.sampled_from(["", "\n"])
)


def words(path: Path) -> tuple[list[str], list[str]]:
    """As grub-mkconfig's shell has them, by another shell than the script's."""
    show = 'unset IFS; printf "%s\\n" "$GRUB_CMDLINE_LINUX" == "$GRUB_CMDLINE_LINUX_DEFAULT"'
    command = ["bash", "-c", f'. "$0" > /dev/null 2>&1; {show}', str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    every, usual = text.split("==\n", 1)
    return every.split(), usual.split()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@settings(max_examples=20, deadline=None)
@given(text=_defaults, later=_line)
def test_every_other_word_is_kept_and_undone_byte_for_byte(shell: list[str], text: str, later: str) -> None:
    text = text.replace("set -e", "set +e")  # a file that ends the shell is refused: above
    with tempfile.TemporaryDirectory() as folder:
        host = Root(Path(folder), shell)
        host.grub(text)
        file = host.path / "etc/default/grub"
        every, usual = words(file)
        assert host.ask(WORD) == 0, (host.output, text)
        assert words(file) == ([*every, INTEL], usual)
        changed = file.read_bytes()
        assert host.ask(WORD) == 0
        assert file.read_bytes() == changed
        file.write_bytes(changed + later.encode() + b"\n")
        assert host.ask(NOTHING) == 0, host.output
        parted = "" if text.endswith("\n") or not text else "\n"
        assert file.read_bytes() == f"{text}{parted}{later}\n".encode()
        file.write_bytes(text.encode())
        assert host.ask(WORD) == 0
        assert host.ask(NOTHING) == 0
        assert file.read_bytes() == text.encode()
