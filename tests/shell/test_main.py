"""The command line: what is refused before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hostdev_operator.__main__ import _parser, main


@pytest.mark.parametrize("name", ["", " ", "Node", "-n", "n" * 254, "a/b", "a,b=c"])
def test_node_name_that_is_none_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parser().parse_args(["agent", f"--node-name={name}"])
    assert stopped.value.code == 2
    assert "is not a node name" in capsys.readouterr().err


def test_agent_needs_a_node_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["agent"])
    assert "--node-name" in capsys.readouterr().err


def test_defaults() -> None:
    arguments = _parser().parse_args(["agent", "--node-name", "n1.example"])
    assert (arguments.connect, str(arguments.host_root)) == ("qemu:///system", "/")
    assert str(arguments.state_dir) == "/var/lib/hostdev-operator"


def test_of_several_controllers_one_works_unless_told_otherwise() -> None:
    arguments = _parser().parse_args(["controller"])
    assert (arguments.lease_namespace, arguments.lease_name) == ("hostdev-system", "hostdev-controller")
    assert (arguments.lease_seconds, arguments.no_lease) == (30, False)
    assert _parser().parse_args(["controller", "--no-lease"]).no_lease


@pytest.mark.parametrize("seconds", ["2", "0", "-5", "x", "3.5", ""])
def test_a_lease_too_short_to_be_renewed_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["controller", f"--lease-seconds={seconds}"])
    assert "is no number of seconds, 3 at least" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "Default", "a/b", "n" * 64, "x\ny"])
def test_import_takes_a_namespace_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["import", f"--namespace={name}"])
    assert "is not the name of a namespace" in capsys.readouterr().err


def test_import_writes_what_a_host_has_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With libvirt's test driver, a made-up /sys, and no journal."""
    root = tmp_path / "host"
    for folder in ("sys/bus/pci/devices", "sys/kernel/iommu_groups", "proc/1/net", "sys/class/net"):
        (root / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    command = ["hostdev_operator", "import", "--connect=test:///default", f"--host-root={root}", "--node-name=n1"]
    monkeypatch.setattr("sys.argv", [*command, f"--state-dir={tmp_path / 'none'}"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("# What host n1 had")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_simulation_that_does_not_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hostdev_operator", "simulation", "--state-dir", str(tmp_path), "show"])
    assert main() == 1
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "no.tar.zst").write_bytes(b"nothing")
    words = ["agent", "--node-name", "n1", "--simulate", str(tmp_path / "no.tar.zst"), "--state-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["hostdev_operator", *words])
    assert main() == 1
    assert "this is no recording" in capsys.readouterr().err
