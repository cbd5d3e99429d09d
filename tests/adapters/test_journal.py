from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hostdev_operator.adapters.journal import Journal
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.record import Record
from tests.core.hosts import assigned
from tests.fakes.samples import OTHER_UID, UID

RECORD = assigned().records[UID]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "state")
    made.open()
    return made


def file_of(tmp_path: Path, uid: str = UID) -> Path:
    return tmp_path / "state/assignments" / f"{uid}.json"


def trouble(call: object, *arguments: object) -> str:
    with pytest.raises(HostError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.reason is reasons.STATE_DIRECTORY_FAILED
    return caught.value.message


def test_records_are_kept_for_the_next_process(tmp_path: Path, journal: Journal) -> None:
    journal.save(RECORD)
    journal.save(replace(RECORD, uid=OTHER_UID))
    assert Journal(tmp_path / "state").load() == {UID: RECORD, OTHER_UID: replace(RECORD, uid=OTHER_UID)}
    assert file_of(tmp_path).stat().st_mode & 0o077 == 0


def test_the_new_text_is_whole_and_durable_before_it_takes_the_place_of_the_old(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.save(RECORD)
    newer = RECORD.changed(RECORD.address, ())
    seen: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        content = path.read_text() == newer.to_json() if path.is_file() else None
        seen.append(
            f"{path.suffix or path.name} whole={content} old={file_of(tmp_path).read_text() == RECORD.to_json()}"
        )
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.save(newer)
    assert seen == [".partial whole=True old=True", "assignments whole=None old=False"]


def test_a_write_that_fails_leaves_the_old_record(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.save(RECORD)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = trouble(journal.save, RECORD.changed(RECORD.address, ()))
    assert [w for w in (RECORD.owner, "No space left", "nothing was changed") if w not in message] == []
    assert journal.load() == {UID: RECORD}


def test_drop_removes_durably_and_twice_is_once(tmp_path: Path, journal: Journal) -> None:
    journal.save(RECORD)
    journal.drop(UID)
    journal.drop(UID)
    assert journal.load() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 9}', "\xff"])
def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file(
    tmp_path: Path, journal: Journal, text: str
) -> None:
    journal.save(replace(RECORD, uid=OTHER_UID))
    file_of(tmp_path).write_bytes(text.encode("latin-1"))
    assert str(file_of(tmp_path)) in trouble(journal.load)


def test_what_a_power_cut_left_of_a_write_is_no_record(tmp_path: Path, journal: Journal) -> None:
    file_of(tmp_path).with_suffix(".partial").write_text("{")
    assert journal.load() == {}


def test_a_second_agent_is_refused(tmp_path: Path, journal: Journal) -> None:
    assert "another agent" in trouble(Journal(tmp_path / "state").open)


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in trouble(Journal(tmp_path / "file").open)


@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "a/b", "x" * 65, "a\n", "é", "a.b"])
def test_a_hostile_uid_never_becomes_a_path(tmp_path: Path, journal: Journal, uid: str) -> None:
    assert "is not a UID" in trouble(journal.save, replace(RECORD, uid=uid))
    assert "is not a UID" in trouble(journal.drop, uid)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["agent.lock", "assignments", "state"]


def test_a_record_round_trips_through_its_file(tmp_path: Path, journal: Journal) -> None:
    journal.save(RECORD)
    assert Record.from_json(file_of(tmp_path).read_text()) == RECORD
