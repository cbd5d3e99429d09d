"""The campaign's own tests: a fixed set of runs holds, each planted bug is found, and a run can be repeated."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from hostdev_operator.adapters import journal
from hostdev_operator.adapters.journal import Journal
from hostdev_operator.core.errors import HostError
from tests.chaos.campaign import Outcome, run, shortened
from tests.chaos.disk import Disk
from tests.chaos.draw import steps_of
from tests.chaos.mutants import MUTANTS, planted
from tests.chaos.operations import OPERATIONS
from tests.core.hosts import assigned
from tests.fakes.samples import UID

RUNS = 60
RECORD = assigned().records[UID]
#: Within so many operations each planted bug is found.
FOUND_WITHIN = 1500


def name(number: int) -> str:
    return f"fixed/{number}"


@pytest.fixture(scope="module")
def sound() -> Outcome:
    """The product as it is, in the runs in which the planted bugs are found."""
    total = Outcome()
    for number in range(RUNS):
        found = run(steps_of(name(number)), name(number))
        assert found.violations == [], f"run {number} of seed fixed"
        total.add(found)
    return total


def test_fixed_runs_hold(sound: Outcome) -> None:
    assert sound.runs == RUNS


def test_they_do_everything(sound: Outcome) -> None:
    """Each operation made sense at least once; each invariant was looked at; faults struck."""
    assert set(OPERATIONS) - set(sound.by_name) == set()
    assert sum(sound.hits.values()) > 4 * RUNS
    assert {"agent killed at a boundary", "power cut", "etcd restored", "second agent"} <= set(sound.hits)


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_planted_bug_is_found(mutant: str) -> None:
    """By an invariant that is about it, in a bounded number of operations."""
    operations = 0
    for number in range(RUNS):
        with planted(mutant):
            found = run(steps_of(name(number)), name(number))
        operations += found.operations
        if MUTANTS[mutant].breaks & {invariant for invariant, _ in found.violations}:
            assert operations <= FOUND_WITHIN
            return
    pytest.fail(f"{mutant} was not found in {operations} operations")


def test_same_seed_same_run() -> None:
    assert run(steps_of(name(3)), name(3)) == run(steps_of(name(3)), name(3))


def test_what_breaks_is_made_short() -> None:
    """What is left breaks the same, and needs each of its steps."""
    with planted("no-journal"):
        number = next(n for n in range(RUNS) if run(steps_of(name(n)), name(n)).violations)
        short = shortened(steps_of(name(number)), name(number))
        assert 1 <= len(short) <= 2
        assert run(short, name(number)).violations
        assert not run(short[:-1], name(number)).violations


def on(disk: Disk) -> Journal:
    made = Journal(disk.path)
    made.open()
    return made


def test_power_cut_keeps_what_was_synced(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with patch.object(journal, "os", disk):
        on(disk).assignments.save(RECORD)
        (tmp_path / "assignments" / "b.json").write_text("never synced")
        for seed in range(4):
            disk.power_cut(Random(seed))  # noqa: S311
            assert (tmp_path / "assignments" / f"{UID}.json").read_text() == RECORD.to_json()
            unsynced = tmp_path / "assignments" / "b.json"
            assert not unsynced.exists() or unsynced.read_text() == ""


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_disk_in_trouble_is_told(tmp_path: Path, trouble: int) -> None:
    disk = Disk(tmp_path)
    with patch.object(journal, "os", disk):
        made = on(disk)
        disk.trouble = trouble
        with pytest.raises(HostError, match="could not be written"):
            made.assignments.save(RECORD)
        disk.trouble = None
        made.assignments.save(RECORD)
        assert set(made.assignments.load()) == {UID}
