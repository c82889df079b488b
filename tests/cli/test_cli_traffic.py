"""`llmtop traffic`: a page of 80 columns, JSON as it is told, and a profile that can be run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from documented import drift

from llmtop.cli.letters import use_letters
from llmtop.cli.main import main
from llmtop.cli.traffic import clock_of
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Hold
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.profiles import load_profile
from llmtop.recording.writer import RunWriter, runs_directory
from llmtop.wording.traffic import BARS, WIDTH


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour and a half at 1/s, its second half hour at 3/s."""
    rng = np.random.default_rng(7)
    rate = np.repeat([1.0, 3.0, 1.0], 1800)
    counts = rng.poisson(rate)
    times = np.sort(np.repeat(np.arange(5400.0), counts) + rng.random(counts.sum()))
    prompt = np.maximum(1, rng.lognormal(6, 1, len(times))).astype(int)
    output = np.maximum(1, rng.exponential(150, len(times))).astype(int)
    path = tmp_path_factory.mktemp("logs") / "requests.csv"
    rows = (f"{at:.4f},{one},{other}" for at, one, other in zip(times, prompt, output, strict=True))
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return path


def test_one_page_tells_it_all_in_80_columns(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["traffic", str(log)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= 24
    heads = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert heads[1:6] == ["requests", "rate", "bursts", "tokens", "prompt"]
    assert "1.9x the mean" in " ".join(out.split())
    assert any(bar in out for bar in BARS)
    assert out.endswith("test with that.\n")


def test_bars_are_letters_where_the_terminal_has_no_others() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    use_letters(stream)
    stream.write(BARS)
    stream.flush()
    assert stream.buffer.getvalue() == b".:-=+*%#"  # type: ignore[attr-defined]


def test_json_has_the_keys_that_are_told(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.toml"
    assert main(["traffic", str(log), "--json", "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert drift("llmtop traffic --json", told) == []
    assert told["profile"] == str(target)
    assert err == f"llmtop: {target}: written\n"


def test_the_profile_has_mean_peak_and_more_and_follows_peak(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine.toml"
    assert main(["traffic", str(log), "-o", str(target)]) == 0
    assert f"llmtop run {target} URL" in capsys.readouterr().out.replace("\n", " ")
    profile = load_profile(target)
    rates = [stage.shape.rate_rps for stage in profile.plan.stages if isinstance(stage.shape, Hold)]
    assert [stage.name for stage in profile.plan.stages] == ["mean", "peak", "beyond the peak"]
    assert rates == pytest.approx([1.67, 3.05, 3.8], rel=0.05)
    assert len(profile.workload.lengths) == 2000
    again = load_profile(target, peak=30.5)
    assert again.plan.top == pytest.approx(38.125)
    assert "lognormal" not in target.read_text()


def test_a_file_that_is_there_is_written_over_by_force_alone(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine.toml"
    target.write_text("mine")
    assert main(["traffic", str(log), "-o", str(target)]) == 2
    assert "exists already: give another name, or --force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert main(["traffic", str(log), "-o", str(target), "--force"]) == 0
    assert load_profile(target).peak is not None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere.csv"], 2, "No such file"),
        (["LOG", "-o", "FOLDER/none/x.toml"], 2, "there is no folder"),
        (["LOG", "-o", "FOLDER/x.txt"], 2, "ends in .toml"),
        (["LOG", "--days", "3"], 2, "--days is of a Prometheus"),
        (["LOG", "--model", "m"], 2, "--model is of a Prometheus"),
        (["LOG", "--format", "nothing"], 2, "is not known"),
        (["LOG", "--days", "1e9"], 2, "must be a number from 0.05 to 90"),
        (["http://127.0.0.1:1", "--unit", "ms"], 2, "--unit is of a file"),
        (["http://127.0.0.1:1"], 3, "127.0.0.1:1: "),
        (["127.0.0.1:1"], 3, "127.0.0.1:1: "),
        (["http://user:pass@127.0.0.1:1"], 2, "does not belong into a URL"),
    ],
)
def test_what_cannot_be_meant_is_said(
    words: list[str], code: int, says: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [word.replace("FOLDER", str(tmp_path)).replace("LOG", str(log)) for word in words]
    assert main(["traffic", *told]) == code
    assert says in capsys.readouterr().err


def test_times_without_lengths_make_a_page_and_no_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "few.csv"
    log.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,374,44\n2023-11-16 18:15:46.6,3,4\n")
    assert main(["traffic", str(log)]) == 0
    assert "no rate is known" in " ".join(capsys.readouterr().out.split())
    assert main(["traffic", str(log), "-o", str(tmp_path / "x.toml")]) == 2
    assert "there is no rate to write a profile of" in capsys.readouterr().err
    assert not (tmp_path / "x.toml").exists()


def test_moments_are_told_by_the_clock_or_by_how_far_in_they_are() -> None:
    begun, clock = clock_of(0.0)
    assert (begun, clock(3660)) == ("1970-01-01 00:00 UTC", "01 Jan 01:01")
    for unknown in (None, 1e300, float("nan")):
        begun, clock = clock_of(unknown)
        assert (begun, clock(3660)) == (None, "1 h 01 min in")


def test_a_recording_is_traffic_too_by_its_name_or_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = runs_directory() / "20260101-000000-mine.llmtop"
    path.parent.mkdir(parents=True)
    endpoint = Endpoint(base_url="http://h:1", model="tiny")
    meta = RunMeta(llmtop_version="0", started_at=1.7e9, endpoint=endpoint, profile=Profile(name="p"))
    at_ns = dict.fromkeys(("scheduled_ns", "dispatched_ns", "sent_ns", "first_token_ns", "first_answer_ns"), 10**9)
    tokens = {"asked_prompt_tokens": 9, "asked_output_tokens": 2, "prompt_tokens": 9, "output_tokens": 2}
    record = RequestRecord(
        **at_ns, **tokens, headers_ns=None, connect_ns=0, last_token_ns=2 * 10**9, end_ns=2 * 10**9,
        started_at=1.7e9, outcome=Outcome.OK,
    )  # fmt: skip
    writer = RunWriter(path, meta)
    writer.write(FactBatch(t_s=3.0, requests=(record,)))
    writer.close(ended_s=3.0)
    for source in ("mine", "last", str(path)):
        assert main(["traffic", source]) == 0
        assert capsys.readouterr().out.startswith("llmtop run: ")
    assert main(["traffic", "last", "--unit", "ms"]) == 2
    assert "is a recording, which says what it has" in capsys.readouterr().err
    assert main(["traffic", "no-such"]) == 2
    assert "`llmtop runs` lists the recordings" in capsys.readouterr().err
