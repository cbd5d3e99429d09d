"""The programs are found, or built once and whole; a stand-in for `go` builds them here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster import binaries

if TYPE_CHECKING:
    from pathlib import Path

# Notes each call and writes what follows -o.
GO_THAT_WORKS = """#!/bin/sh
echo "$@" >> "$XDG_CACHE_HOME/calls"
while [ "$1" != -o ]; do shift; done
echo built > "$2"
"""
GO_THAT_FAILS = """#!/bin/sh
echo no space left
exit 7
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder in use, with no programs from elsewhere."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path))
    return tmp_path


def install_go(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go = folder / "bin" / "go"
    go.parent.mkdir(exist_ok=True)
    go.write_text(script, encoding="utf-8")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(go.parent), prepend=os.pathsep)


def test_a_second_call_builds_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(cache, GO_THAT_WORKS, monkeypatch)
    lines: list[str] = []

    folder = binaries.ensure(lines.append)
    told = len(lines)

    assert sorted(path.name for path in folder.iterdir()) == ["etcd", "kube-apiserver", "kubectl"]
    assert binaries.ensure(lines.append) == folder
    assert len(lines) == told > 0
    calls = (cache / "calls").read_text(encoding="utf-8").splitlines()
    assert len(calls) == 3
    assert all("gitVersion=v1." in call for call in calls)


def test_the_programs_of_nodes_have_a_folder_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(cache, GO_THAT_WORKS, monkeypatch)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", os.fspath(cache))  # which has none of them

    folder = binaries.ensure_nodes(lambda _line: None)

    assert {"kubelet", "kube-scheduler", "kube-controller-manager"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "kubectl").exists()


def test_a_broken_build_is_not_taken_for_a_whole_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(cache, GO_THAT_FAILS, monkeypatch)
    for _ in range(2):
        with pytest.raises(binaries.BinariesError, match=r"(?s)failed with 7:.*no space left"):
            binaries.ensure(lambda _line: None)

    install_go(cache, GO_THAT_WORKS, monkeypatch)
    assert (binaries.ensure(lambda _line: None) / "kubectl").is_file()


def test_a_missing_compiler_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(cache))

    with pytest.raises(binaries.BinariesError, match="no `go` on PATH"):
        binaries.ensure()


def test_incomplete_assets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd").touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", os.fspath(tmp_path))

    with pytest.raises(binaries.BinariesError, match="lacks kube-apiserver, kubectl"):
        binaries.ensure()
