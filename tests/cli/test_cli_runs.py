"""`llmtop runs`, `last`, and what is deleted: only what was said, only what is ours, never unasked."""

from __future__ import annotations

import json
import time
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from documented import drift

from llmtop.cli import recorded, runs
from llmtop.cli.main import main
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Chapter, FactBatch, RunMeta
from llmtop.errors import RunFileError, UsageError
from llmtop.profiles import load_profile, shipped_folder
from llmtop.profiles.jsonschema import profile_schema
from llmtop.recording import shelf
from llmtop.recording.shelf import run_path
from llmtop.recording.writer import RunWriter, runs_directory

DAYS = (1, 10, 40, 100)


def made(days: float) -> str:
    """The name of a recording that was begun so many days ago."""
    begun = datetime.now() - timedelta(days=days)
    name = f"{begun:%Y%m%d-%H%M%S}-r"
    meta = RunMeta(
        llmtop_version="0",
        started_at=begun.timestamp(),
        endpoint=Endpoint(base_url="http://h:1", model="tiny"),
        profile=Profile(name="p"),
    )
    RunWriter(runs_directory() / f"{name}.llmtop", meta).close(61.0)
    return name


def left() -> list[str]:
    return [each.name for each in shelf.recordings()]


def test_the_list_says_when_what_how_long_how_large_and_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert "no recording yet" in capsys.readouterr().out
    names = [made(days) for days in DAYS]
    shelf.remember(run_path(names[1]), "this load keeps the SLO")
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines[:-1:2]] == names
    assert "  01:01  " in lines[0]
    assert lines[0].endswith(" kB")
    assert lines[1] == f"    p, tiny at http://h:1: 0 requests; `llmtop assess {names[0]}` judges it"
    assert lines[3] == "    p, tiny at http://h:1: this load keeps the SLO"
    assert lines[-1].startswith("4 recordings, ")


def test_the_list_is_short_unless_all_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for days in DAYS:
        made(days)
    monkeypatch.setattr(runs, "SHOWN", 3)
    for words, shown in ((["runs", "--json"], 3), (["runs", "--json", "--all"], 4)):
        assert main(words) == 0
        told = json.loads(capsys.readouterr().out)
        assert (len(told["runs"]), told["more"]) == (shown, 4 - shown)
        assert drift("llmtop runs --json", told) == []
    assert main(["runs"]) == 0
    assert "1 older with --all" in capsys.readouterr().out


def test_a_label_stands_for_the_newest_recording_that_has_it() -> None:
    made(3)
    newer = made(2)
    assert run_path("r").stem == newer
    with pytest.raises(RunFileError, match="no such file"):
        run_path("rr")


def test_a_label_stands_for_a_recording_that_lies_elsewhere_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.llmtop"
    meta = RunMeta(
        llmtop_version="0",
        started_at=1.0,
        endpoint=Endpoint(base_url="http://h:1"),
        profile=Profile(name="p"),
        label="before",
    )
    RunWriter(elsewhere, meta).close(1.0, None)
    with pytest.raises(RunFileError):
        run_path("before")
    shelf.remember(elsewhere, "said")
    assert run_path("before") == elsewhere


def test_last_and_a_name_stand_for_a_recording_wherever_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunFileError, match="there is no recording yet"):
        run_path("last")
    old, new = made(2), made(1)
    assert run_path("last").stem == new
    assert run_path(old).stem == old
    assert main(["assess", "last"]) == 5
    assert main(["report", old]) == 0
    assert f"{old}.html" in capsys.readouterr().out
    assert main(["profiles", "save", "last", "--name", "again"]) == 0
    assert main(["replay", "last"]) == 2
    assert main(["report", "nothing"]) == 2
    assert "no such file; `llmtop runs` lists the recordings, 'last' is the newest" in capsys.readouterr().err


def test_assess_is_remembered_where_the_slo_is_the_runs_own(capsys: pytest.CaptureFixture[str]) -> None:
    made(1)
    assert main(["assess", "last", "--slo", "ttft<1s"]) == 5
    assert shelf.said() == {}
    assert main(["assess", "last"]) == 5
    (said,) = shelf.said().values()
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("words", "kept"),
    [(["--keep", "2"], 2), (["--keep", "0"], 0), (["--keep", "9"], 4), (["--older", "30d"], 2), (["--older", "2w"], 2)],
)
def test_what_is_too_much_or_too_old_is_deleted_and_said(
    words: list[str], kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [made(days) for days in DAYS]
    assert main(["runs", "prune", *words, "--yes"]) == 0
    assert left() == names[:kept]
    told = capsys.readouterr().out
    assert all((f"  {name}  " in told) == (name not in names[:kept]) for name in names)
    assert ("nothing to delete" in told) == (kept == 4)


def test_nothing_is_deleted_unasked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made(1)
    assert main(["runs", "prune", "--keep", "0"]) == 2
    assert "say --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer, remaining in (("\n", 1), ("n\n", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin.readline", lambda answer=answer: answer)
        assert main(["runs", "prune", "--keep", "0"]) == (2 if remaining else 0)
        assert len(left()) == remaining


def test_a_recording_that_may_go_on_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = made(1)
    monkeypatch.setattr(shelf, "glance", lambda path: shelf.Glance())
    assert main(["runs", "prune", "--keep", "0", "--yes"]) == 0
    assert left() == [name]
    assert f"{name} may still be written, and stays" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prune"], "--keep N, all but the newest N, or --older 30d"),
        (["prune", "--keep", "1", "--older", "3d"], "one of them"),
        (["prune", "--older", "3x"], "--older '3x': write it as 12h, 30d or 8w"),
        (["prune", "--keep", "-1"], "--keep '-1': must be a whole number"),
        (["prune", "--keep", "1", "--json"], "are of the list"),
        (["--keep", "1"], "llmtop runs prune --keep 20"),
        (["prnue"], "write `llmtop runs` or `llmtop runs prune`"),
    ],
)
def test_what_cannot_be_meant_deletes_nothing(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    made(1)
    assert main(["runs", *words, "--yes"]) == 2
    assert says in capsys.readouterr().err
    assert len(left()) == 1


def test_an_age_is_told_in_seconds() -> None:
    assert [runs.age(text) for text in ("12h", "30d", "2w")] == [43_200, 2_592_000, 1_209_600]
    with pytest.raises(UsageError):
        runs.age("30")


def test_recordings_that_take_a_gigabyte_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded.MUCH_BYTES == 1_000_000_000
    made(1)
    assert recorded.much_room() is None
    monkeypatch.setattr(recorded, "MUCH_BYTES", 1000)
    assert "`llmtop runs prune --keep 20`" in (recorded.much_room() or "")


def test_a_thousand_recordings_are_looked_through_at_once() -> None:
    path = run_path(made(1))
    for at in range(300):
        (path.parent / f"20200101-00{at // 60:02d}{at % 60:02d}-r.llmtop").hardlink_to(path)
    began = time.process_time()
    assert len(shelf.recordings()) >= 300
    assert run_path("last") == path
    assert time.process_time() - began < 0.3, "0.1 ms each: no database is opened"


def test_a_saved_profile_has_the_name_that_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    name = made(1)
    assert main(["profiles", "save", "last", "--name", "mine"]) == 0
    assert main(["profile", "save", "last"]) == 0
    assert main(["profile", "save", "last"]) == 0
    assert f"llmtop run {name}-2 [URL]" in capsys.readouterr().out, "none is written over"
    assert main(["profiles", "save", "last", "--name", "mine"]) == 2
    assert "mine.toml" in capsys.readouterr().err
    assert load_profile("mine").name == "mine"
    assert load_profile(name).name == "tiny by hand", "without a name, what it was"


def test_what_a_run_simulated_is_predicted_with_the_knobs_that_were_turned(capsys: pytest.CaptureFixture[str]) -> None:
    simulated = Endpoint(base_url="http://127.0.0.1:1", simulated=True)
    meta = RunMeta(llmtop_version="0", started_at=0.0, endpoint=simulated, profile=Profile(name="p"), preset="laptop")
    writer = RunWriter(runs_directory() / "20260101-120000-laptop.llmtop", meta)
    writer.write(FactBatch(t_s=1.0, chapters=(Chapter(1.0, "turned", "start=1 max_num_seqs=17"),)))
    writer.close(2.0)
    for name in ("last", "20260101-120000-laptop"):
        assert main(["predict", name, "--concurrency", "4", "--per-level", "20"]) == 0
        assert "laptop: 17 slots" in capsys.readouterr().out
    assert main(["predict", "last", "--concurrency", "4", "--per-level", "20", "--set", "max_num_seqs=9"]) == 0
    assert "laptop: 9 slots" in capsys.readouterr().out
    made(0)
    assert main(["predict", "last"]) == 2
    assert "last: drove a real server" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["profile", "profiles"])
def test_a_profile_is_shown_as_it_stands_below_what_it_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "show", "ramp"]) == 0
    shown = capsys.readouterr().out
    head, rest = shown.split("\n\n", 1)
    assert head.startswith("# ramp, shipped with llmtop: ")
    assert "# asks peak · " in head
    text = (shipped_folder() / "ramp.toml").read_text()
    assert rest.strip() == text.strip()
    assert tomllib.loads(shown) == tomllib.loads(text)
    assert main([command, "show", "ramp", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["text"] == text
    assert told["profile"]["name"] == "ramp"


def test_the_schema_of_profiles_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == profile_schema()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["keep", "last"], "'keep': save RUN, show PROFILE, schema, or nothing"),
        (["save"], "llmtop profiles save RUN: it takes that and no more"),
        (["show"], "llmtop profiles show PROFILE"),
        (["schema", "ramp"], "llmtop profiles schema: it takes that and no more"),
        (["show", "rampp"], "did you mean ramp?"),
        (["--name", "x"], "--name is for: llmtop profiles save RUN --name NAME"),
    ],
)
def test_what_cannot_be_done_with_profiles_is_said(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profiles", *words]) == 2
    assert says in capsys.readouterr().err
