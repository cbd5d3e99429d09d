from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostdev_operator.adapters.journal import Journal
from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pool import PoolRecord
from hostdev_operator.core.record import Record
from tests.core.hosts import assigned
from tests.fakes.samples import LONER, NIC, OTHER_UID, UID, device

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
    journal.assignments.save(RECORD)
    journal.assignments.save(replace(RECORD, uid=OTHER_UID))
    assert Journal(tmp_path / "state").assignments.load() == {UID: RECORD, OTHER_UID: replace(RECORD, uid=OTHER_UID)}
    assert file_of(tmp_path).stat().st_mode & 0o077 == 0


def test_the_new_text_is_whole_and_durable_before_it_takes_the_place_of_the_old(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.assignments.save(RECORD)
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
    journal.assignments.save(newer)
    assert seen == [".partial whole=True old=True", "assignments whole=None old=False"]


def test_a_write_that_fails_leaves_the_old_record(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.assignments.save(RECORD)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = trouble(journal.assignments.save, RECORD.changed(RECORD.address, ()))
    assert [w for w in (RECORD.owner, "No space left", "nothing was changed") if w not in message] == []
    assert journal.assignments.load() == {UID: RECORD}


def test_drop_removes_durably_and_twice_is_once(tmp_path: Path, journal: Journal) -> None:
    journal.assignments.save(RECORD)
    journal.assignments.drop(UID)
    journal.assignments.drop(UID)
    assert journal.assignments.load() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 9}', "\xff"])
def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file(
    tmp_path: Path, journal: Journal, text: str
) -> None:
    journal.assignments.save(replace(RECORD, uid=OTHER_UID))
    file_of(tmp_path).write_bytes(text.encode("latin-1"))
    assert str(file_of(tmp_path)) in trouble(journal.assignments.load)


def test_what_a_power_cut_left_of_a_write_is_no_record(tmp_path: Path, journal: Journal) -> None:
    file_of(tmp_path).with_suffix(".partial").write_text("{")
    assert journal.assignments.load() == {}


def test_a_second_agent_is_refused(tmp_path: Path, journal: Journal) -> None:
    assert "another agent" in trouble(Journal(tmp_path / "state").open)


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in trouble(Journal(tmp_path / "file").open)


@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "a/b", "x" * 65, "a\n", "é", "a.b"])
def test_a_hostile_uid_never_becomes_a_path(tmp_path: Path, journal: Journal, uid: str) -> None:
    assert "is not a UID" in trouble(journal.assignments.save, replace(RECORD, uid=uid))
    assert "is not a UID" in trouble(journal.assignments.drop, uid)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["agent.lock", "approvals", "assignments", "pools", "state"]


def test_a_record_round_trips_through_its_file(tmp_path: Path, journal: Journal) -> None:
    journal.assignments.save(RECORD)
    assert Record.from_json(file_of(tmp_path).read_text()) == RECORD


# -- pools ------------------------------------------------------------------------------------------------------------


def pool(uid: str = UID, **more: Any) -> PoolRecord:
    values: dict[str, Any] = {"pf": NIC, "pf_mac": "52:54:00:10:00:01", "num_vfs": 7, "autoprobe": False, **more}
    return PoolRecord(
        uid, "vfs", identity=device(NIC).identity, num_vfs_before=0, up_before=False, network_name="vfs", **values
    )


def boot_lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "state/sriov.conf").read_text().splitlines()[1:]


LINE = "52:54:00:10:00:01 0000:01:00.0 7 0 -"


def test_the_boot_file_follows_the_records(tmp_path: Path, journal: Journal) -> None:
    assert not (tmp_path / "state/sriov.conf").exists()
    journal.pools.save(pool())
    assert boot_lines(tmp_path) == [LINE]
    journal.pools.save(pool(OTHER_UID, pf=LONER, pf_mac=None, num_vfs=3, autoprobe=None))
    assert boot_lines(tmp_path) == [f"- {LONER} 3 - -", LINE]
    journal.pools.drop(UID)
    assert boot_lines(tmp_path) == [f"- {LONER} 3 - -"]
    journal.pools.drop(OTHER_UID)
    assert boot_lines(tmp_path) == []
    assert (tmp_path / "state/sriov.conf").stat().st_mode & 0o077 == 0


def test_a_pool_that_was_never_there_leaves_no_trace(tmp_path: Path, journal: Journal) -> None:
    journal.pools.drop(UID)
    assert not (tmp_path / "state/sriov.conf").exists()


def test_the_boot_file_is_whole_and_durable_and_stands_while_the_record_does(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []
    real_fsync, real_unlink = os.fsync, Path.unlink

    def fsync(descriptor: int) -> None:
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, record.exists()))
        real_fsync(descriptor)

    def unlink(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is called
        seen.append((f"unlink {path.name}", record.exists()))
        real_unlink(path, missing_ok)

    record = tmp_path / "state/pools" / f"{UID}.json"
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "unlink", unlink)
    journal.pools.save(pool())
    assert [name for name, _ in seen] == [f"{UID}.partial", "pools", "sriov.partial", "state"]
    assert [there for _, there in seen] == [False, True, True, True]
    seen.clear()
    journal.pools.drop(UID)
    assert seen == [("sriov.partial", True), ("state", True), (f"unlink {UID}.json", True), ("pools", False)]


def test_a_crash_between_record_and_boot_file_is_mended_by_the_next_agent(tmp_path: Path, journal: Journal) -> None:
    journal.pools.save(pool())
    (tmp_path / "state/sriov.conf").write_text("half")
    os.close(journal._lock or 0)
    Journal(tmp_path / "state").open()
    assert boot_lines(tmp_path) == [LINE]


def test_a_pool_record_that_cannot_be_read_keeps_no_agent_from_starting(tmp_path: Path, journal: Journal) -> None:
    journal.pools.save(pool())
    file = tmp_path / "state/pools" / f"{UID}.json"
    file.write_text("{")
    os.close(journal._lock or 0)
    again = Journal(tmp_path / "state")
    again.open()
    assert str(file) in trouble(again.pools.load)
    assert boot_lines(tmp_path) == [LINE]
    assert again.assignments.load() == {}


def test_a_boot_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / "state/sriov.conf").mkdir()
    assert "sriov.conf" in trouble(journal.pools.save, pool())
