"""Recordings at a glance: which there are, in which order, and that nothing but them is ever deleted."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
from msgspec import structs

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import RunMeta
from llmtop.errors import FileError, RunFileError
from llmtop.recording import shelf
from llmtop.recording.writer import RunWriter, runs_directory

META = RunMeta(
    llmtop_version="0",
    started_at=0.0,
    endpoint=Endpoint(base_url="http://h:1", model="tiny"),
    profile=Profile(name="p"),
    label="before",
)


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def made(name: str, ended_s: float | None = 3.0) -> Path:
    path = runs_directory() / f"{name}.llmtop" if "/" not in name else Path(name)
    writer = RunWriter(path, META)
    writer.close(ended_s or 0.0)
    if ended_s is None:
        with sqlite3.connect(path) as database:
            database.execute("""UPDATE meta SET value = replace(value, '"ended_s":0.0', '"ended_s":null')""")
        database.close()
    return path


def test_the_newest_comes_first_by_when_it_was_begun_not_by_when_it_was_touched() -> None:
    old, new = made("20260101-120000-a"), made("20260301-120000-b")
    os.utime(old)
    assert [each.path for each in shelf.recordings()] == [new, old]
    assert shelf.newest() == new
    assert shelf.named("20260101-120000-a") == shelf.named("20260101-120000-a.llmtop") == old
    assert shelf.named("20260101") is None
    assert shelf.named("../runs/20260101-120000-a") is None


def test_without_a_recording_there_is_no_newest() -> None:
    with pytest.raises(RunFileError, match="there is no recording yet"):
        shelf.newest()


def test_a_glance_says_what_it_was() -> None:
    told = shelf.glance(made("20260101-120000-a"))
    assert (told.profile, told.label, told.model, told.target) == ("p", "before", "tiny", "http://h:1")
    assert (told.length_s, told.requests, told.problem) == (3.0, 0, None)
    assert shelf.glance(made("20260102-120000-a", None)).length_s is None


def test_what_is_no_recording_of_ours_is_neither_listed_nor_deleted(tmp_path: Path) -> None:
    ours = made("20260101-120000-a")
    folder = runs_directory()
    (folder / "20260102-120000-text.llmtop").write_text("hello")
    (folder / "20260103-120000-folder.llmtop").mkdir()
    (folder / "20260104-120000-link.llmtop").symlink_to(ours)
    with sqlite3.connect(folder / "20260105-120000-other.llmtop") as other:
        other.execute("CREATE TABLE a (b)")
    other.close()
    os.mkfifo(folder / "20260106-120000-pipe.llmtop")
    mine = made("mine")
    elsewhere = made(str(tmp_path / "20260107-120000-elsewhere.llmtop"))
    shelf.remember(elsewhere, "it was told")
    assert {each.path for each in shelf.recordings()} == {ours, mine, elsewhere}
    assert shelf.newest() == elsewhere or shelf.newest() == mine, "also one that was recorded elsewhere"
    assert [each.path for each in shelf.own_recordings()] == [ours], "a name that somebody gave is not ours to delete"


def test_a_file_that_was_put_in_its_place_is_not_deleted() -> None:
    path = made("20260101-120000-a")
    (recording,) = shelf.own_recordings()
    path.unlink()
    path.write_text("somebody's")
    with pytest.raises(FileError, match="has changed"):
        shelf.remove(recording)
    assert path.read_text() == "somebody's"


def test_what_sqlite_left_beside_a_recording_goes_with_it_and_its_report_stays() -> None:
    path = made("20260101-120000-a")
    journal, report = path.with_name(f"{path.name}-journal"), path.with_suffix(".html")
    journal.write_bytes(b"")
    report.write_text("report")
    shelf.remove(shelf.own_recordings()[0])
    assert list(runs_directory().iterdir()) == [report]


def test_a_recording_that_may_go_on_is_known() -> None:
    made("20260101-120000-a", None)
    made("20260102-120000-b")
    whole, cut = shelf.own_recordings()
    now = time.time()
    assert shelf.goes_on(cut, now)
    assert not shelf.goes_on(cut, now + shelf.GOES_ON_S + 60)
    assert not shelf.goes_on(whole, now)
    assert shelf.GOES_ON_S >= 120, "a disk may wait a minute for its next commit"


def test_what_was_said_is_remembered_until_the_file_is_another() -> None:
    path = made("20260101-120000-a")
    shelf.remember(path, "it holds\x1b[2J")
    assert shelf.said() == {path: "it holds\\x1b[2J"}
    with path.open("ab") as file:
        file.write(b"more")
    assert shelf.said() == {}
    shelf.remember(path, "again")
    path.unlink()
    shelf.remember(made("20260102-120000-b"), "b")
    assert set(shelf.said().values()) == {"b"}


def test_memory_that_is_damaged_or_not_ours_is_left_alone_and_no_error() -> None:
    path = made("20260101-120000-a")
    for content in ("[" * 100_000, '{"runs": 3}', '{"mine": 1}'):
        shelf._place().write_text(content)
        shelf.remember(path, "said")
        assert shelf.said() == {}
        assert shelf._place().read_text() == content


def test_a_forged_recording_is_told_as_a_problem() -> None:
    path = made("20260101-120000-a")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '{}' WHERE key = 'run'")
    database.close()
    assert "missing required field" in (shelf.glance(path).problem or "")
    path.write_bytes(path.read_bytes()[:100])
    assert shelf.glance(path).problem


def test_a_recording_is_a_fact_of_its_file_alone() -> None:
    path = made("20260101-120000-a")
    (recording,) = shelf.recordings()
    assert recording == structs.replace(recording, path=path, size=path.stat().st_size)
    assert recording.name == "20260101-120000-a"
