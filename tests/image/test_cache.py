"""What the image's cache keeps and what it makes anew; the programs that make it are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from image import build
from image.cache import BuildError


class Programs:
    """In place of the scripts. ``base``: what Debian or the registry has today."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.base = "sha256:first"
        self.builds = 0

    def run(self, command: Sequence[Path | str], name: str, environment: Mapping[str, str]) -> str:
        self.ran.append(name)
        if name == "base":
            (Path(command[2]) / "base.tar").write_text(self.base)
        if name == "image":
            self.builds += 1
            store, out = Path(command[2]), Path(command[1])
            epoch = store.with_suffix(".epoch")
            layers = "old" if epoch.exists() else "new"
            epoch.write_text(environment["SOURCE_DATE_EPOCH"])
            made: dict[str, Any] = {"name": "hostdev-operator:0", "id": f"{self.base} {layers}", "bytes": self.builds}
            (out / "image.json").write_text(json.dumps(made))
        return f"Trying to pull ...\n{self.base}\n"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Programs:
    made = Programs()
    monkeypatch.setattr(build, "run", made.run)
    monkeypatch.setattr(build, "_sbom_tools", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("IMAGE_PULL", "IMAGE_FRESH"):
        monkeypatch.delenv(name, raising=False)
    return made


def ensure() -> build.Image:
    return build.ensure(lambda _line: None)


def test_what_is_there_is_taken_and_can_be_run_on_this_machine(programs: Programs) -> None:
    first = ensure()
    programs.ran.clear()
    assert ensure() == first
    assert programs.ran == ["tools"]


def test_fresh_is_all_of_it_even_if_the_base_is_the_same(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other packages than the base's may be newer."""
    ensure()
    monkeypatch.setenv("IMAGE_FRESH", "1")
    fresh = ensure()
    assert (fresh.id, fresh.bytes) == ("sha256:first new", 2)
    monkeypatch.delenv("IMAGE_FRESH")
    assert ensure() == fresh


def test_a_failure_leaves_what_was_there(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure()
    monkeypatch.setenv("IMAGE_FRESH", "1")

    def fail(_command: Sequence[Path | str], name: str, _environment: Mapping[str, str]) -> str:
        if name == "image":
            raise BuildError("no network")
        return programs.run(_command, name, _environment)

    monkeypatch.setattr(build, "run", fail)
    with pytest.raises(BuildError):
        ensure()
    monkeypatch.delenv("IMAGE_FRESH")
    assert ensure() == first


def test_the_base_that_was_pulled_is_part_of_the_key(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PULL", "1")
    first = ensure()
    assert programs.ran == ["tools", "pull", "image"]
    programs.ran.clear()
    assert ensure() == first
    assert programs.ran == ["tools", "pull"]
    programs.base = "sha256:second"
    assert ensure().id.startswith("sha256:second")


def test_pull_asks_the_registry_and_prints_the_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a made-up buildah."""
    program = tmp_path / "bin/buildah"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho sha256:today\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert build._pull(tmp_path / "store", {"SOURCE_DATE_EPOCH": "7"}) == "sha256:today"
    assert "pull --quiet --policy always debian:trixie-slim" in (tmp_path / "calls").read_text()
    assert (tmp_path / "store.epoch").read_text() == "7\n"
