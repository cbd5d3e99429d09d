"""``python -m hostdev_operator plan`` on a made-up /sys and /proc and libvirt's test driver."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from hostdev_operator.__main__ import main
from tests.adapters import libvirt_node
from tests.fakes.samples import NIC, body
from tests.fakes.sysfs_tree import SysfsTree


def command(folder: Path) -> list[str]:
    """The command for a host with a free sound card at 0000:04:00.0."""
    tree = SysfsTree(folder / "host")
    tree.pci("0000:00:01.0/0000:04:00.0", 0x040300, driver="snd_hda_intel", group=5)
    tree.pci(f"0000:00:02.0/{NIC}", driver="igb", group=6)
    (tree.sys / "bus/pci/drivers/vfio-pci").mkdir(parents=True)
    parameter = tree.sys / "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    parameter.parent.mkdir(parents=True)
    parameter.write_text("Y\n")
    where = ["--host-root", str(tree.root), "--state-dir", str(folder / "none")]
    return ["plan", "--node-name", "n1", "--connect", libvirt_node.uri(folder), *where]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    return ["hostdev_operator", *command(tmp_path)]


def run(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, *objects: object) -> int:
    """The command's exit code."""
    path = folder / "objects.json"
    path.write_text(json.dumps({"kind": "List", "items": objects}))
    monkeypatch.setattr(sys, "argv", [*arguments, "-f", str(path)])
    return main()


def test_a_plan_is_printed_and_no_file_is_written(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.walk(tmp_path / "host"))
    wanted = body(address="0000:04:00.0", guest="db", attach="NextBoot")
    assert run([*arguments, "-o", "json"], tmp_path, monkeypatch, wanted) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert [action["action"] for action in told["plan"]["actions"]] == ["WriteRecord", "AddHostdev"]
    assert told["plan"]["actions"][1]["disruption"] == "GuestRestart"
    assert sorted(os.walk(tmp_path / "host")) == before
    assert not (tmp_path / "none").exists()


def test_a_refusal_ends_with_1(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, tmp_path, monkeypatch, body(address=NIC, guest="db")) == 1
    assert "refused: DeviceInUse" in capsys.readouterr().out


def test_a_wrong_file_ends_with_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, tmp_path, monkeypatch, {**body(), "spec": {"source": 7}}) == 2
    assert "source" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*arguments, "-f", str(tmp_path / "missing")])
    assert main() == 2
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2


def test_a_host_that_cannot_be_read_is_told(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [a if not a.startswith("test://") else "test:///nowhere/node.xml" for a in arguments]
    assert run(broken, tmp_path, monkeypatch, body()) == 1
    assert "LibvirtUnavailable" in capsys.readouterr().err
