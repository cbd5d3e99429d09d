"""The command line: what is refused before anything starts."""

from __future__ import annotations

import pytest

from hostdev_operator.__main__ import _parser


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
