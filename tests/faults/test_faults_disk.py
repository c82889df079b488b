"""A disk that fills, breaks or is taken away, and files that somebody else is at: nothing recorded is lost unsaid."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trying import COMMAND, Tried, tried, tried_here

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.domain.samples import LoadBin
from llmtop.recording.reader import RunReader
from llmtop.recording.writer import RunWriter

SMOKE = ("run", "smoke", "--sim", "--json", "--unknown-ok", "--duration")


def recorded(path: Path) -> Path:
    """A short run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = RunMeta(
        llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://h"), profile=Profile(name="p")
    )
    writer = RunWriter(path, meta)
    for number in range(1, 41):
        bins = (LoadBin(t_s=number / 4, span_s=0.25, target=1, in_flight=1),)
        writer.write(FactBatch(t_s=number / 4, bins=bins))
    writer.close(10.0)
    return path


def gaps_s(path: Path) -> float:
    """The longest time without a bin, of a whole run of one."""
    with RunReader(path) as run:
        ends = [each.t_s for batch in run.batches() for each in batch.bins]
        return max(later - earlier for earlier, later in zip([ends[0], *ends], [*ends, run.length_s], strict=True))


def problem(ended: Tried) -> str | None:
    said: str | None = json.loads(ended.out)["recording_problem"]
    return said


# ── While a run goes on ───────────────────────────────────────────────────────────────────────────────────────────────


def at(path: Path, deed: Callable[[Path], None], after_s: float = 3.0) -> Callable[[subprocess.Popen[bytes]], None]:
    """Do it to the run file some seconds after the run has begun."""

    def during(process: subprocess.Popen[bytes]) -> None:
        while not path.exists():
            time.sleep(0.05)
        time.sleep(after_s)
        deed(path)

    return during


def lock(path: Path) -> None:
    database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    database.execute("BEGIN EXCLUSIVE")
    time.sleep(8.0)
    database.execute("COMMIT")
    database.close()


@pytest.mark.faults
def test_a_lock_for_8_s_is_said_and_caught_up_with(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.llmtop"
    ended = tried(*SMOKE, "16", "--record", str(path), home=home, during=at(path, lock), limit_s=60)
    ended.is_in_words(0)
    assert "another program holds a lock" in ended.err
    assert "recording goes on" in ended.err
    assert problem(ended) is None
    assert gaps_s(path) < 1.5


@pytest.mark.faults
def test_a_lock_beyond_the_end_of_the_run_puts_the_rest_elsewhere(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.llmtop"

    def locked(path: Path) -> None:
        database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        database.execute("BEGIN EXCLUSIVE")
        time.sleep(60.0)

    (tmp_path / "tmp").mkdir()
    more = {"TMPDIR": str(tmp_path / "tmp")}
    ended = tried(*SMOKE, "5", "--record", str(path), home=home, more=more, during=at(path, locked), limit_s=60)
    ended.is_in_words(0)
    rest = tmp_path / "tmp" / f"llmtop-{os.getuid()}" / "r.llmtop"
    assert f"is in {rest}" in (problem(ended) or "")
    with RunReader(rest) as run:
        assert run.complete
        assert sum(len(batch.bins) for batch in run.batches()) > 5


@pytest.mark.faults
def test_a_file_that_is_deleted_comes_back_whole(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.llmtop"
    ended = tried(*SMOKE, "8", "--record", str(path), home=home, during=at(path, Path.unlink), limit_s=60)
    ended.is_in_words(0)
    assert "because it was deleted" in ended.err
    assert problem(ended) is None
    assert gaps_s(path) < 1.5


@pytest.mark.faults
@pytest.mark.parametrize("deed", [lambda path: os.truncate(path, 0), lambda path: path.write_bytes(b"mine" * 99999)])
def test_a_file_that_is_emptied_or_written_over_goes_on_beside(
    home: Path, tmp_path: Path, deed: Callable[[Path], None]
) -> None:
    path = tmp_path / "r.llmtop"
    ended = tried(*SMOKE, "8", "--record", str(path), home=home, during=at(path, deed), limit_s=60)
    ended.is_in_words(0)
    assert "somebody else has written into it" in ended.err
    assert "is lost" in (problem(ended) or "")
    beside = tmp_path / "r-2.llmtop"
    assert json.loads(ended.out)["run_file"] == str(beside)
    with RunReader(beside) as run:
        assert run.complete
        assert any(batch.changes for batch in run.batches())


@pytest.mark.faults
def test_a_folder_that_is_removed_is_replaced_by_a_temporary_one(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "r.llmtop"
    (tmp_path / "tmp").mkdir()
    deed = at(path, lambda path: shutil.rmtree(path.parent))
    more = {"TMPDIR": str(tmp_path / "tmp")}
    ended = tried(*SMOKE, "8", "--record", str(path), home=home, more=more, during=deed, limit_s=60)
    ended.is_in_words(0)
    moved = Path(json.loads(ended.out)["run_file"])
    assert moved.is_relative_to(tmp_path / "tmp")
    assert gaps_s(moved) < 1.5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
def test_a_full_disk_is_said_and_caught_up_with_when_there_is_room(home: Path, small_disk: Path) -> None:
    path = small_disk / "r.llmtop"

    def fill_for_a_while(path: Path) -> None:
        filler = path.with_name("filler")
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1024))
            except OSError:
                pass
        time.sleep(6.0)
        filler.unlink()

    ended = tried(*SMOKE, "14", "--record", str(path), home=home, during=at(path, fill_for_a_while), limit_s=60)
    ended.is_in_words(0)
    assert "the disk is full" in ended.err
    assert "recording goes on" in ended.err
    assert problem(ended) is None
    assert gaps_s(path) < 1.5


@pytest.mark.faults
def test_a_disk_that_stays_full_leaves_the_whole_run_in_a_temporary_folder(
    home: Path, small_disk: Path, tmp_path: Path
) -> None:
    path = small_disk / "r.llmtop"
    (tmp_path / "tmp").mkdir()
    (small_disk / "filler").write_bytes(bytes(100 * 1024))
    more = {"TMPDIR": str(tmp_path / "tmp")}
    ended = tried(*SMOKE, "8", "--record", str(path), home=home, more=more, limit_s=60)
    ended.is_in_words(0)
    assert "the disk is full" in ended.err
    moved = Path(json.loads(ended.out)["run_file"])
    assert moved.is_relative_to(tmp_path / "tmp")
    assert str(moved) in ended.err
    assert gaps_s(moved) < 1.5


@pytest.mark.faults
def test_a_disk_that_breaks_is_said_and_the_run_goes_on(home: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))

    path = tmp_path / "r.llmtop"
    (tmp_path / "tmp").mkdir()
    more = {"TMPDIR": str(tmp_path / "tmp")}
    ended = tried(*SMOKE, "8", "--record", str(path), home=home, more=more, before=limit, limit_s=60)
    ended.is_in_words(0)
    assert "recording waits" in ended.err
    assert problem(ended) is not None


@pytest.mark.faults
def test_after_kill_nine_the_file_alone_holds_all_but_the_last_second(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.llmtop"
    copy = tmp_path / "copy" / "r.llmtop"
    copy.parent.mkdir()
    seen: list[float] = []

    def kill(process: subprocess.Popen[bytes]) -> None:
        import psutil

        while not path.exists():
            time.sleep(0.05)
        time.sleep(6.0)
        family = psutil.Process(process.pid).children(recursive=True)
        seen.append(time.time())
        for each in (*family, psutil.Process(process.pid)):
            each.send_signal(signal.SIGKILL)
        shutil.copyfile(path, copy)

    tried(*SMOKE, "30", "--record", str(path), home=home, during=kill, limit_s=60)
    assert [each.name for each in tmp_path.glob("r.llmtop*")] == ["r.llmtop"], "nothing lies beside it"
    with RunReader(copy) as run:
        assert not run.complete
        lost_s = seen[0] - run.meta.started_at - run.length_s
        assert lost_s < 1.25, f"the last {lost_s:.2f} s are lost"
    told = tried("assess", str(copy), "--unknown-ok", home=home)
    told.is_in_words(0, 1)
    assert "the run was cut off at" in told.err


# ── Targets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["x.html", "x.md", "x.json"])
def test_a_report_never_takes_the_place_of_its_recording(home: Path, tmp_path: Path, name: str) -> None:
    run = recorded(tmp_path / name)
    before = run.read_bytes()
    words = ["report", str(run), *(["-o", str(run)] if name == "x.json" else []), "--force"]
    ended = tried_here(*words, home=home)
    ended.is_in_words(2)
    assert "is not written over" in ended.err
    assert run.read_bytes() == before


@pytest.mark.faults
def test_a_report_in_places_that_do_not_take_it_leaves_no_half_file(home: Path, tmp_path: Path) -> None:
    run = recorded(tmp_path / "r.llmtop")
    mine = tmp_path / "r.md"
    mine.write_text("# My notes\n")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    for words in (("report", str(run)), ("report", str(run), "-o", str(tmp_path / "no" / "x.html"))):
        ended = tried(*words, home=home)
        ended.is_in_words(2)
    ended = tried("report", str(run), "-o", str(tmp_path / "half.html"), home=home, before=limit)
    ended.is_in_words(2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "r.llmtop", "r.md"]
    assert mine.read_text() == "# My notes\n"


def place(folder: Path, kind: str) -> str:
    path = folder / "target"
    match kind:
        case "a long name":
            return str(folder / ("n" * 300))
        case "a FIFO":
            os.mkfifo(path)
        case "a dangling link":
            path.symlink_to(folder / "nowhere")
        case "a folder":
            path.mkdir()
        case "below a file":
            (folder / "file").write_text("")
            return str(folder / "file" / "x")
        case "no name":
            return ""
        case "a database":
            sqlite3.connect(path).execute("CREATE TABLE mine (x)")
        case "somebody's file":
            path.write_text("mine")
    return str(path)


KINDS = ["a long name", "a FIFO", "a dangling link", "a folder", "below a file", "no name", "a database"]


@pytest.mark.faults
@pytest.mark.parametrize("option", ["--record", "--junit"])
@pytest.mark.parametrize("kind", [*KINDS, "somebody's file"])
def test_a_target_that_cannot_be_is_told_before_any_load(home: Path, tmp_path: Path, option: str, kind: str) -> None:
    ended = tried("run", "smoke", "--sim", option, place(tmp_path, kind), home=home)
    ended.is_in_words(2)
    assert len(ended.err.splitlines()) == 1, ended.err
    assert "in flight" not in ended.err
    assert not list(home.rglob("*.llmtop"))


@pytest.mark.faults
def test_a_run_that_does_not_begin_makes_no_file_and_no_folder(home: Path, tmp_path: Path, unused_port: int) -> None:
    path = tmp_path / "new" / "r.llmtop"
    ended = tried("run", "smoke", f"http://127.0.0.1:{unused_port}", "--record", str(path), home=home)
    ended.is_in_words(3)
    assert not path.parent.exists()
    assert not list(home.rglob("*.llmtop"))


# ── Streams ───────────────────────────────────────────────────────────────────────────────────────────────────────────

STREAMS = [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full", ">&- 2>/dev/full"]


@pytest.mark.faults
@pytest.mark.parametrize("json_too", ["", "--json"])
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize(("slo", "code"), [("ttft_p95<60s", 0), ("ttft_p95<1ms", 1)])
def test_a_stream_that_takes_nothing_changes_no_answer(
    home: Path, tmp_path: Path, streams: str, json_too: str, slo: str, code: int
) -> None:
    words = f"exec {shlex.join(COMMAND)} run smoke --sim --duration 3 --unknown-ok"
    script = f"{words} --slo '{slo}' {json_too} {streams}"
    ended = tried("-c", script, home=home, command=("sh",))
    refused = ">/dev/full" in streams.split() and code == 0
    ended.is_in_words(2 if refused else code)
