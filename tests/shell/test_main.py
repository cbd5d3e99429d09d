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
