"""A recording goes out in every format, and what is read back says what the recording says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from host_fakes import CONNECTED

from llmtop.cli.main import main
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, LoadChange
from llmtop.domain.samples import LoadBin
from llmtop.exchange.files import read
from llmtop.host.review import sides_of_run
from llmtop.recording.writer import RunWriter

HOLD_S = 30
LOADS = (2, 4)


def request(begin_s: float, failed: bool) -> RequestRecord:
    sent, first, last = (round((begin_s + each) * 1e9) for each in (0.0, 0.1, 0.5))
    return RequestRecord(
        scheduled_ns=sent,
        dispatched_ns=sent,
        sent_ns=sent,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=None if failed else first,
        first_answer_ns=None if failed else first,
        last_token_ns=None if failed else last,
        end_ns=first if failed else last,
        started_at=0.0,
        asked_prompt_tokens=128,
        asked_output_tokens=11,
        prompt_tokens=128,
        output_tokens=0 if failed else 11,
        chunks=0 if failed else 11,
        outcome=Outcome.HTTP_ERROR if failed else Outcome.OK,
        status=503 if failed else 200,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two loads, held for half a minute each: answers in 0.5 s, one in sixteen is refused."""
    path = tmp_path_factory.mktemp("runs") / "before.llmtop"
    writer = RunWriter(path, CONNECTED)
    for tick in range(2 * HOLD_S * len(LOADS)):
        load = LOADS[tick // (2 * HOLD_S)]
        begin_s = tick / 2
        ended = tuple(request(begin_s, tick % 8 == 5 and user == 0) for user in range(load))
        changes = (LoadChange(begin_s, LoadPoint(concurrency=load)),) if tick % (2 * HOLD_S) == 0 else ()
        ok = sum(each.outcome is Outcome.OK for each in ended)
        told = LoadBin(
            t_s=begin_s + 0.5,
            span_s=0.5,
            target=float(load),
            in_flight=load,
            sent=load,
            ok=ok,
            errors=load - ok,
            output_tokens=11 * ok,
        )
        writer.write(FactBatch(t_s=begin_s + 0.5, changes=changes, requests=ended, bins=(told,)))
    writer.close(HOLD_S * len(LOADS))
    return path


def exported(run: Path, out: Path, *words: str) -> None:
    assert main(["export", str(run), *words, "-o", str(out), "--force"]) == 0


@pytest.mark.parametrize("form", ["vllm", "guidellm"])
def test_levels_come_back_as_they_were_measured(run: Path, tmp_path: Path, form: str) -> None:
    exported(run, tmp_path / "x", "--format", form)
    (side,) = sides_of_run(run)
    found = read(tmp_path / "x")
    assert [each.load for each in found] == [level.load for level in side.levels] == [2, 4]
    for each, level in zip(found, side.levels, strict=True):
        assert (each.ok, each.failed) == (level.n, level.errors)
        assert each.figure("ttft_p50") == pytest.approx(0.1)
        assert each.figure("tpot_p50") == pytest.approx(0.04)
        assert each.figure("e2e_p95") == pytest.approx(0.5)
        assert each.output_tokens_per_s == pytest.approx(level.output_tokens_per_s)


@pytest.mark.parametrize(("form", "name"), [("aiperf", "x.json"), ("aiperf", "x.jsonl"), ("br", "x.json")])
def test_a_format_of_one_load_asks_which(
    run: Path, tmp_path: Path, form: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--format", form]) == 2
    assert (
        f"--format {form} holds one load and the run has levels at 2, 4: choose with --load" in capsys.readouterr().err
    )
    assert main(["export", str(run), "--format", form, "--load", "3"]) == 2
    assert "--load 3: the levels of that run are at 2, 4" in capsys.readouterr().err
    exported(run, tmp_path / name, "--format", form, "--load", "4")
    (found,) = read(tmp_path / name)
    assert found.figure("tpot_p50") == pytest.approx(0.04)
    assert found.failed


def test_a_table_of_levels_says_what_the_recording_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(run, tmp_path / "x.csv", "--format", "csv")
    capsys.readouterr()
    main(["assess", str(tmp_path / "x.csv"), "--json"])
    (side,) = sides_of_run(run)
    points = json.loads(capsys.readouterr().out)["curves"][0]["points"]
    told = [(point["load"], point["n"], point["errors"], point["ttft_p50_ms"]) for point in points]
    assert told == [(each.load, each.n, each.errors, each.ttft_p50_ms) for each in side.curve.points]


def test_every_request_is_a_line_and_a_row(run: Path, tmp_path: Path) -> None:
    exported(run, tmp_path / "x.jsonl", "--format", "jsonl")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * HOLD_S * sum(LOADS)
    assert {row["outcome"]: (row["status"], row["tpot_s"]) for row in rows} == {
        "ok": (200, 0.04),
        "http_error": (503, None),
    }
    parquet = pytest.importorskip("pyarrow.parquet")
    exported(run, tmp_path / "x.parquet", "--format", "parquet")
    assert parquet.read_table(tmp_path / "x.parquet").to_pylist() == rows


def test_what_cannot_be_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in (
        (["--format", "parquet"], "--format parquet is no text: name a file with -o"),
        (["--format", "jsonl", "--load", "2"], "--load is not of --format jsonl"),
        (["--format", "xml"], "--format"),
        (["--format", "csv", "-o", str(tmp_path / "none" / "x.csv")], "there is no folder"),
    ):
        try:
            code = main(["export", str(run), *words])
        except SystemExit as end:
            code = int(str(end.code))
        assert (code, says in capsys.readouterr().err) == (2, True), words
    mine = tmp_path / "mine.json"
    mine.write_text('{"mine": 1}')
    assert main(["export", str(run), "--format", "vllm", "-o", str(mine)]) == 2
    assert mine.read_text() == '{"mine": 1}'
