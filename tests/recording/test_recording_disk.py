"""Whatever the disk does: no fact is in the file twice, and what is missing from it is said."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import FactBatch, LoadChange, Mark, RunMeta
from llmtop.domain.samples import LoadBin
from llmtop.host.options import CLOSE_S
from llmtop.recording import runfile
from llmtop.recording import writer as writer_module
from llmtop.recording.reader import RunReader
from llmtop.recording.runfile import RunFile
from llmtop.recording.writer import RunWriter
from llmtop.wording.recording import SILENT, waits_text
from tests.waiting import until

META = RunMeta(llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://h"), profile=Profile(name="p"))
BUSY, FULL, IOERR = 5, 13, 10 | 3 << 8


def batch(number: int, text: str | None = None) -> FactBatch:
    t_s = number / 4
    changes = (LoadChange(t_s, LoadPoint(concurrency=number), "stage"),) if number % 5 == 1 else ()
    bins = (LoadBin(t_s=t_s, span_s=0.25, target=1, in_flight=number),)
    return FactBatch(t_s=t_s, bins=bins, changes=changes, marks=(Mark(t_s, text or str(number)),))


def numbers(path: Path) -> list[int]:
    with RunReader(path) as run:
        return [each.bins[0].in_flight for each in run.batches() if each.bins]


class Weather:
    """What the disk does at its next few calls."""

    def __init__(self) -> None:
        self.next: list[str] = []

    def at(self, moment: str) -> None:
        if self.next and self.next[0].startswith(moment):
            self.raises(self.next.pop(0).partition(" ")[2])

    def raises(self, what: str) -> None:
        if what == "memory":
            raise MemoryError
        error = sqlite3.OperationalError(what)
        error.sqlite_errorcode = {"busy": BUSY, "full": FULL, "error": IOERR}[what]
        raise error


class Disk(sqlite3.Connection):
    weather = Weather()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql.startswith(("BEGIN", "COMMIT")):
            self.weather.at(sql.split()[0].lower())
        done = super().execute(sql, *values)
        if sql == "COMMIT":
            self.weather.at("committed")
        return done

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        self.weather.at("insert")
        return super().executemany(sql, rows)


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weather:
    """In place of the disk's own; and no thread: whoever tries it calls `step`."""

    def connect(path: Path) -> sqlite3.Connection:
        uri = f"{path.as_uri()}?mode=rw"
        database = sqlite3.connect(uri, uri=True, timeout=0.0, isolation_level=None, factory=Disk)
        database.execute("PRAGMA synchronous = OFF")
        return database

    Disk.weather = Weather()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(runfile, "_connect", connect)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: None)
    return Disk.weather


ERRORS = [
    *(f"{moment} {what}" for moment in ("begin", "insert", "commit") for what in ("busy", "full", "error", "memory")),
    "committed error",
]
OLDER: dict[Path, bytes] = {}
DEEDS = ["deleted", "an older copy", "replaced", "truncated", "written over", "cut"]


def do(deed: str, path: Path, other: Path) -> None:
    match deed:
        case "deleted":
            path.unlink()
        case "an older copy":
            path.write_bytes(OLDER.get(path, b"") + bytes(path.stat().st_size))
        case "replaced":
            shutil.copyfile(other, path.with_name("copy"))
            path.with_name("copy").replace(path)
        case "truncated":
            os.truncate(path, 0)
        case "written over":
            path.write_bytes(other.read_bytes() + bytes(path.stat().st_size))
        case "cut":
            os.truncate(path, max(0, path.stat().st_size - 4096))


@given(steps=st.lists(st.tuples(st.integers(0, 4), st.lists(st.sampled_from(ERRORS), max_size=3)), max_size=8))
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_whatever_fails_and_recovers_every_fact_is_in_the_file_once(
    steps: list[tuple[int, list[str]]], weather: Weather, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weather.next = []
    path = tmp_path_factory.mktemp("run") / "a.llmtop"
    writer = RunWriter(path, META)
    told = 0
    for count, errors in steps:
        for _ in range(count):
            told += 1
            writer.write(batch(told))
        weather.next = list(errors)
        writer.step()
    weather.next = []
    writer.close(9.0)
    writer.step()
    assert writer.problem is None
    assert writer.path == path
    writer._file.close()
    assert numbers(path) == list(range(1, told + 1))
    assert [each.name for each in path.parent.iterdir()] == ["a.llmtop"]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["", *DEEDS]), st.lists(st.sampled_from(ERRORS), max_size=2)),
        max_size=6,
    )
)
@example(steps=[(0, "cut", []), (0, "an older copy", ["begin busy", "begin busy"])])
@example(steps=[(0, "deleted", []), (1, "", ["begin busy"])])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_what_is_missing_after_somebody_was_at_the_file_is_what_was_said_to_be_lost(
    steps: list[tuple[int, str, list[str]]], weather: Weather, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weather.next = []
    folder = tmp_path_factory.mktemp("run")
    other = folder / "other"
    RunFile(other, META).close()
    writer = RunWriter(folder / "a.llmtop", META)
    told, news = 0, []
    for count, deed, errors in steps:
        if writer.path.exists():
            OLDER[writer.path] = writer.path.read_bytes()
        for _ in range(count):
            told += 1
            writer.write(batch(told))
        weather.next = list(errors)
        writer.step()
        weather.next = []
        if deed and writer.path.exists():
            do(deed, writer.path, other)
        news += writer.news()
    writer.close(9.0)
    writer.step()
    writer.step()
    news += writer.news()
    writer._file.close()
    lost_s = max((to_s or 0.0 for _, to_s in writer._gone), default=0.0)
    there = numbers(writer.path)
    assert there == sorted(set(there)), "no fact twice"
    assert set(range(1, told + 1)) - set(there) <= {number for number in range(1, told + 1) if number / 4 <= lost_s}
    if lost_s:
        assert "is lost" in (writer.problem or "")
        assert any("without what was recorded" in text for _, text in news)
    else:
        assert writer.problem is None
    if any(deed in ("deleted", "replaced") for _, deed, _ in steps):
        assert any("recording goes on in" in text for _, text in news)


def test_a_deleted_file_comes_back_with_all_of_the_run(weather: Weather, tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a.llmtop", META)
    writer.write(batch(1))
    writer.step()
    (tmp_path / "a.llmtop").unlink()
    writer.write(batch(2))
    writer.step()
    assert writer.problem is None
    assert writer.news() == (
        ("warning", f"recording goes on in {tmp_path}/a.llmtop, with all of the run, because it was deleted"),
    )
    writer.close(1.0)
    writer.step()
    assert numbers(tmp_path / "a.llmtop") == [1, 2]


def test_a_file_that_was_emptied_goes_on_beside_and_begins_with_the_load_of_then(
    weather: Weather, tmp_path: Path
) -> None:
    writer = RunWriter(tmp_path / "a.llmtop", META)
    writer.write(batch(1))
    writer.step()
    os.truncate(tmp_path / "a.llmtop", 0)
    writer.write(batch(2))
    writer.step()
    assert writer.path == tmp_path / "a-2.llmtop"
    assert writer.problem == "what came from 00:00 to 00:00 is lost"
    with RunReader(writer.path) as run:
        first, second = run.batches()
    assert [change.point.concurrency for change in first.changes] == [1]
    assert second == batch(2)
    assert (tmp_path / "a.llmtop").stat().st_size == 0, "it is not ours any more"


def test_a_folder_that_was_removed_is_left_for_a_temporary_one(
    weather: Weather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    writer = RunWriter(tmp_path / "runs" / "a.llmtop", META)
    writer.write(batch(1))
    writer.step()
    shutil.rmtree(tmp_path / "runs")
    writer.write(batch(2))
    writer.step()
    assert writer.path == tmp_path / f"llmtop-{os.getuid()}" / "a.llmtop"
    assert numbers(writer.path) == [1, 2]
    assert not (tmp_path / "runs").exists()


def test_memory_keeps_no_more_than_its_bound_and_says_what_was_lost(
    weather: Weather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "KEPT_FACTS", 20)
    writer = RunWriter(tmp_path / "a.llmtop", META)
    for number in range(1, 31):
        weather.next = ["begin full"]
        writer.write(batch(number))
        writer.step()
    assert "the disk is full; what came from 00:02 on is lost" in (writer.problem or "")
    weather.next = []
    writer.step()
    writer.write(batch(31))
    writer.step()
    texts = [text for _, text in writer.news()]
    assert len(texts) == 4, texts
    assert "recording waits" in texts[0]
    assert "what comes now is lost" in texts[1]
    assert "recording goes on in" in texts[2]
    assert texts[3] == "recording: what came from 00:02 to 00:07 is lost"
    assert writer.problem == "what came from 00:02 to 00:07 is lost"
    there = numbers(tmp_path / "a.llmtop")
    assert there == [*range(1, 11), 31], "8 s of 31 batches: 20 facts and one batch more"
    with RunReader(tmp_path / "a.llmtop") as run:
        changes = [change.point.concurrency for each in run.batches() for change in each.changes]
    assert changes == [1, 6, 11, 16, 21, 26, 31], "what was commanded is kept, so that the rest can be judged"


def test_of_a_time_that_is_passed_over_only_what_was_commanded_is_kept(weather: Weather, tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a.llmtop", META)
    writer.write(batch(5))
    for number in (6, 7):
        writer.pass_over(batch(number))
    writer.write(batch(8))
    writer.close(2.0)
    writer.step()
    assert numbers(tmp_path / "a.llmtop") == [5, 8]
    with RunReader(tmp_path / "a.llmtop") as run:
        told = list(run.batches())
    assert [change.point.concurrency for each in told for change in each.changes] == [6]
    assert [mark.text for each in told for mark in each.marks] == ["5", "8"]


def test_a_value_that_no_database_holds_costs_its_own_row_only(weather: Weather, tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a.llmtop", META)
    bins = (LoadBin(t_s=0.5, span_s=0.25, target=1, in_flight=10**30),)
    writer.write(batch(1))
    writer.write(FactBatch(t_s=0.5, bins=bins, marks=(Mark(0.5, "fit"), Mark(0.5, "half a \ud800 pair"))))
    writer.write(batch(3))
    writer.step()
    assert writer.problem == "1 fact is left out"
    assert [severity for severity, _ in writer.news()] == ["warning"]
    assert numbers(tmp_path / "a.llmtop") == [1, 3]
    with RunReader(tmp_path / "a.llmtop") as run:
        texts = [mark.text for each in run.batches() for mark in each.marks]
    assert "fit" in texts
    assert "half a \\ud800 pair" in texts, "a text that is none is kept as what can be read of it"


# ── With a disk of its own and the thread ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COMMIT_S": 0.02, "RETRY_S": 0.02, "LOCK_S": 0.1, "LAST_S": 0.3}.items():
        monkeypatch.setattr(writer_module, name, value)


def test_a_lock_of_another_program_is_said_and_outlasted(quick: None, tmp_path: Path) -> None:
    path = tmp_path / "a.llmtop"
    writer = RunWriter(path, META)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    writer.write(batch(1))
    until(lambda: writer.problem is not None)
    assert writer.problem == "nothing is written since 00:00: another program holds a lock on it"
    other.execute("COMMIT")
    other.close()
    until(lambda: writer.problem is None)
    writer.close(1.0)
    assert numbers(path) == [1]
    assert ["waits" in text or "goes on" in text for _, text in writer.news()] == [True, True]


def test_a_reader_that_takes_its_time_holds_nobody_up_for_long(quick: None, tmp_path: Path) -> None:
    path = tmp_path / "a.llmtop"
    writer = RunWriter(path, META)
    writer.write(batch(1))
    until(lambda: writer._file.facts == 3)
    with RunReader(path) as run:
        batches = run.batches()
        next(batches)
        writer.write(batch(2))
        until(lambda: writer._file.facts == 5)
    writer.close(1.0)
    assert writer.news() == ()


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Lets this process write no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_to_write_is_said_and_recording_catches_up(
    quick: None, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    path = tmp_path / "a.llmtop"
    writer = RunWriter(path, META)
    until(lambda: writer._file.saved)
    small_files(path.stat().st_size)
    for number in range(1, 100):
        writer.write(batch(number, "x" * 1000))
    until(lambda: writer.problem is not None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: writer.problem is None)
    writer.close(30.0)
    assert numbers(path) == list(range(1, 100))


def test_what_the_disk_does_not_take_at_the_end_lies_in_a_temporary_folder(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "runs" / "a.llmtop"
    writer = RunWriter(path, META)
    writer.write(batch(1))
    until(lambda: writer._file.facts == 3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    writer.write(batch(2))
    writer.close(1.0)
    other.close()
    rest = tmp_path / f"llmtop-{os.getuid()}" / "a.llmtop"
    assert writer.path == path
    assert writer.problem == f"what came from 00:00 on is in {rest}"
    assert (numbers(path), numbers(rest)) == ([1], [2])
    assert writer.news()[-1][0] == "error"


def test_closing_is_bounded_and_nothing_stays_open(quick: None, tmp_path: Path) -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for number in range(20):
        RunWriter(tmp_path / f"{number}.llmtop", META).close(0.0)
    if open_before:
        assert len(list(Path("/proc/self/fd").iterdir())) <= open_before


def test_a_disk_that_hangs_is_said_and_holds_up_neither_the_load_nor_the_end(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SILENT_S", 0.1)
    monkeypatch.setattr(runfile, "RESCUE_S", 0.1)
    writer = RunWriter(tmp_path / "a.llmtop", META)
    answers = threading.Event()
    monkeypatch.setattr(writer._file, "save", answers.wait)
    writer.write(batch(1))
    until(lambda: writer.news() == (("error", waits_text(writer.path, SILENT)),))
    assert writer.problem == "nothing is written since 00:00: the disk does not answer"
    began_s = time.monotonic()
    for number in range(2, 50):
        writer.write(batch(number))
    assert time.monotonic() - began_s < 0.1
    writer.close(1.0)
    assert time.monotonic() - began_s < 2.0
    assert "the disk does not answer" in (writer.problem or "")
    answers.set()


def test_limits_fit_each_other() -> None:
    assert 0.25 + writer_module.COMMIT_S < 1.0, "with its tick, a kill loses less than a second"
    assert writer_module.LAST_S + 2 * runfile.RESCUE_S < CLOSE_S, "a session has written its last before it is killed"
    assert writer_module.COMMIT_S < writer_module.LOCK_S < 8.0, "a lock is said while it lasts"
    assert writer_module.KEPT_FACTS * 600 <= 100e6, "bytes, at what a request takes"
    assert runfile.PIECE_FACTS <= 10_000, "an attempt costs some 30 ms of processor at most"
