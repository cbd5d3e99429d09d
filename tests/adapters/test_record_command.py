"""The command `record`, on a made-up /sys and libvirt's test driver."""

from __future__ import annotations

import sys
from pathlib import Path

import libvirt
import pytest

from hostdev_operator import __main__, __version__
from hostdev_operator.adapters.recording import open_recording, read_head
from tests.adapters import libvirt_node
from tests.adapters.replaying import seen
from tests.fakes.samples import DB, WEB
from tests.fakes.sysfs_tree import DISK, storage_and_network


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = storage_and_network(tmp_path / "host")
    tree.mount("8:1", "/", "ext4", "/dev/root")
    (tree.root / "proc/sys/kernel").mkdir(parents=True)
    (tree.root / "proc/sys/kernel/osrelease").write_text("6.12.1\n")
    return tree.root


def record(monkeypatch: pytest.MonkeyPatch, root: Path, uri: str, *more: str) -> Path:
    output = root.parent / "host.tar.zst"
    state = str(root.parent / "none")
    words = ["record", "-o", str(output), "--host-root", str(root), "--connect", uri, "--state-dir", state, *more]
    monkeypatch.setattr(sys, "argv", ["hostdev_operator", *words])
    assert __main__.main() == 0
    return output


def test_the_command_records_kernel_and_libvirt(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(monkeypatch, root, libvirt_node.uri(tmp_path))
    with open_recording(path) as host:
        found = seen(host)
    assert {guest.uuid for guest in found.guests} == {WEB, DB}
    assert {(str(use.address), use.what) for use in found.uses if "mounted" in use.what} == {
        (DISK, "carries the file system that is mounted on /")
    }
    head = read_head(path)
    assert (head.versions["hostdev-operator"], head.versions["kernel"], head.masked) == (__version__, "6.12.1", False)
    assert len(head.versions["libvirt"].split(".")) == 3
    assert path.stat().st_mode & 0o777 == 0o600


def test_libvirt_is_opened_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, open_it = [], libvirt.openReadOnly

    def count(uri: str) -> object:
        opened.append(uri)
        return open_it(uri)

    monkeypatch.setattr(libvirt, "openReadOnly", count)
    uri = libvirt_node.uri(tmp_path)
    record(monkeypatch, root, uri)
    assert opened == [uri]


def test_masked_it_has_other_uuids_and_the_same_devices(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = record(monkeypatch, root, libvirt_node.uri(tmp_path))
    with open_recording(plain) as host:
        before = seen(host)
    masked = record(monkeypatch, root, libvirt_node.uri(tmp_path), "--mask")
    with open_recording(masked) as host:
        after = seen(host)
    assert read_head(masked).masked
    assert not {guest.uuid for guest in after.guests} & {WEB, DB}
    assert sorted(guest.name for guest in after.guests) == sorted(guest.name for guest in before.guests)
    assert (after.devices, after.uses, after.platform) == (before.devices, before.uses, before.platform)


def test_without_libvirt_the_kernel_is_recorded_and_the_trouble_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = record(monkeypatch, root, f"test://{tmp_path}/missing.xml")
    assert "libvirt is recorded as not answering" in caplog.text
    with open_recording(path) as host:
        assert len(host.devices.devices()) > 3
    assert "libvirt" not in read_head(path).versions


def test_an_output_that_cannot_be_written_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "record",
        "-o",
        str(tmp_path / "no/such"),
        "--host-root",
        str(root),
        "--connect",
        libvirt_node.uri(tmp_path),
    ]
    monkeypatch.setattr(sys, "argv", ["hostdev_operator", *words])
    assert __main__.main() == 1
    assert "no/such" in capsys.readouterr().err
