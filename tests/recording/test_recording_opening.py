"""A run file is read wherever it lies, with what is beside it, and by others while it is written."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from test_recording_disk import META, batch, numbers

from llmtop.errors import RunFileError
from llmtop.recording import opening
from llmtop.recording.reader import RunReader
from llmtop.recording.rows import put
from llmtop.recording.runfile import RunFile
from llmtop.recording.writer import RunWriter


def cut(path: Path, *told: int) -> RunFile:
    """A run that was not ended."""
    run = RunFile(path, META)
    for number in told:
        run.tell(batch(number))
    run.save()
    return run


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A run that was cut off while its last facts were only in the log beside it, as a kill leaves it."""
    there = tmp_path / "there"
    there.mkdir()
    cut(there / "a.llmtop", 1).close()
    database = sqlite3.connect(there / "a.llmtop", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    database.execute("BEGIN")
    put(database, batch(2))
    database.execute("COMMIT")
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("a.llmtop", "a.llmtop-wal"):
        shutil.copyfile(there / name, killed / name)
    database.close()
    return killed / "a.llmtop"


def no_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that cannot be written: SQLite cannot make what it needs beside a log."""
    real = opening._connected

    def connected(path: Path, how: str) -> sqlite3.Connection:
        if how == "mode=ro" and path.with_name(f"{path.name}-wal").exists():
            raise sqlite3.OperationalError("unable to open database file")
        return real(path, how)

    monkeypatch.setattr(opening, "_connected", connected)


@pytest.mark.parametrize("writable", [True, False])
def test_what_is_only_in_the_log_beside_it_is_read_too(
    logged: Path, writable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not writable:
        no_writing(monkeypatch)
    before = {each.name: each.read_bytes() for each in logged.parent.iterdir()}
    with RunReader(logged) as run:
        assert run.cut_off == "the run was cut off at 00:00, or still goes on"
        assert [each.bins[0].in_flight for each in run.batches()] == [1, 2]
    assert {name: (logged.parent / name).read_bytes() for name in before} == before
    link = logged.parent.parent / "link.llmtop"
    link.symlink_to(logged)
    assert numbers(link) == [1, 2], "the log is looked for where the file is"


def test_a_copy_without_its_log_is_read_and_what_it_lacks_is_named(logged: Path) -> None:
    logged.with_name("a.llmtop-wal").unlink()
    with RunReader(logged) as run:
        assert run.cut_off is not None
        assert f"{logged}-wal, which is not there" in run.cut_off
        assert [each.bins[0].in_flight for each in run.batches()] == [1]
    assert [each.name for each in logged.parent.iterdir()] == ["a.llmtop"], "reading leaves nothing beside it"


def test_a_commit_that_was_cut_off_is_taken_back(tmp_path: Path) -> None:
    run = cut(tmp_path / "a.llmtop", 1)
    database = run._connection()
    database.execute("PRAGMA cache_size = 1")
    database.execute("BEGIN IMMEDIATE")
    for number in range(2, 200):
        put(database, batch(number, "x" * 500))
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("a.llmtop", "a.llmtop-journal"):
        shutil.copyfile(tmp_path / name, killed / name)
    run.close()
    assert (killed / "a.llmtop").stat().st_size > (tmp_path / "a.llmtop").stat().st_size
    assert numbers(killed / "a.llmtop") == [1]


def test_a_file_is_read_while_it_is_written_and_its_writer_is_not_held_up(tmp_path: Path) -> None:
    run = cut(tmp_path / "a.llmtop", 1)
    with RunReader(tmp_path / "a.llmtop") as reader:
        batches = reader.batches()
        next(batches)
        run.tell(batch(2))
        run.save()
        assert reader.cut_off is not None
    assert numbers(tmp_path / "a.llmtop") == [1, 2]
    run.close()


def test_the_file_alone_copied_at_any_time_holds_what_was_committed(tmp_path: Path) -> None:
    run = RunFile(tmp_path / "a.llmtop", META)
    for number in range(1, 6):
        run.tell(batch(number))
        run.save()
        copy = tmp_path / "copy" / f"{number}.llmtop"
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(tmp_path / "a.llmtop", copy)
        assert numbers(copy) == list(range(1, number + 1))
        assert not (tmp_path / "a.llmtop-journal").exists()
    run.close()


def test_a_file_that_somebody_holds_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WAIT_S", 0.05)
    path = tmp_path / "a.llmtop"
    RunWriter(path, META).close(0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RunFileError, match="another program holds a lock"):
        RunReader(path)
    other.close()


def mkfifo(path: Path) -> None:
    import os

    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (Path.mkdir, "but a folder"),
        (mkfifo, "but a device or pipe"),
        (lambda path: path.symlink_to(path), "is no name of a file"),
        (lambda path: path.symlink_to(path.with_name("nowhere")), "no such file"),
    ],
)
def test_what_is_no_file_is_told_at_once(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "a.llmtop")
    with pytest.raises(RunFileError, match=said):
        RunReader(tmp_path / "a.llmtop")


@pytest.mark.parametrize("name", ["n" * 5000, "nul\0", "file/x"])
def test_a_name_that_is_none_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFileError):
        RunReader(tmp_path / name)
