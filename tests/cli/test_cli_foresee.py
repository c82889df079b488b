"""`llmtop predict --fit`: a twin of what was measured, its figures with their bands, and what it cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documented import drift
from msgspec.structs import replace
from virtual import VirtualSession

from llmtop.cli import foresee
from llmtop.cli.main import main
from llmtop.domain.load import LoadPoint
from llmtop.exchange.levels import levels_csv
from llmtop.host.beside import sides_at
from llmtop.recording.writer import RunWriter
from llmtop.simulator.engine import load_preset


def recorded(path: Path, loads: tuple[LoadPoint, ...], *gates: int | None) -> Path:
    session = VirtualSession(load_preset("laptop"), loads[0])
    for gate in gates or (None,):
        for point in loads:
            session.command(replace(point, gate=gate))
            session.run_until(session.now_s + 9)
    writer = RunWriter(path, replace(session.end(), started_at=1.8e9))
    for batch in session.batches:
        writer.write(batch)
    writer.close(session.facts.t_s)
    return path


def users(*counts: int) -> tuple[LoadPoint, ...]:
    return tuple(LoadPoint(concurrency=count) for count in counts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("runs") / "before.llmtop", users(4, 8, 16))


@pytest.fixture
def by_rate(tmp_path: Path) -> Path:
    """Steps of 10 ms and half a millisecond a request, at 2 to 14 requests/s of 64 tokens."""
    rows = ["level,n,ttft_mean_s,tpot_mean_s,e2e_mean_s,X_rps,prompt_tokens,output_tokens"]
    for rate in (2, 4, 8, 14):
        running = rate * (0.1 + 63 * 0.010) / (1 - rate * 63 * 0.0005)
        tpot_s = 0.010 + 0.0005 * running
        rows.append(f"{rate},500,0.1,{tpot_s},{0.1 + 63 * tpot_s},{rate},192,64")
    path = tmp_path / "rates.csv"
    path.write_text("\n".join(rows))
    return path


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["predict", "--json", "--fit", *map(str, words)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["predict", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def test_it_prints_the_table_of_predict_with_bands_and_what_it_rests_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--fit", str(run), "--set", "max_num_seqs=24", "--concurrency", "4,8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("before: twin of 3 levels, 32 slots, 19")
    assert lines[1] == "max_num_seqs 24"
    assert lines[3].split() == " ".join(foresee.HEADINGS).split()
    assert [line.split()[0] for line in lines[4:6]] == ["4", "8"]
    assert "to" in lines[4]
    assert any(line.startswith("24 slots: ~") and "was fitted on 3 levels" in line for line in lines)


def test_json_has_the_keys_that_are_told_and_as_it_stands_is_what_nobody_turned(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, run)
    assert not drift("llmtop predict --fit RUN --json", found)
    assert (found["settings"], found["label"], found["levels"]) == ([], "", 3)
    assert told(capsys, run) == found, "the same run gives the same twin"
    assert found["points"][0]["tpot_p95_ms"]["low"] < found["points"][0]["tpot_p95_ms"]["value"]


def test_what_lies_outside_is_no_figure_but_a_level_to_measure(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, run, "--set", "max_num_seqs=192", "--concurrency", "8,48")
    assert [point["load"] for point in found["points"]] == [8]
    assert [gap["load"] for gap in found["gaps"]] == [48]
    assert found["gaps"][0]["missing"].startswith("set max_num_seqs to ") or found["gaps"][0]["missing"].startswith(
        "hold "
    )
    assert main(["predict", "--fit", str(run), "--set", "max_num_seqs=192", "--concurrency", "8,48"]) == 0
    out = capsys.readouterr().out
    assert next(line for line in out.splitlines() if line.split()[:1] == ["48"]).split() == ["48", *9 * ["--"]]
    assert "48 users: --, 48 running is more than twice the 16 that were measured; " in out
    longer = told(capsys, run, "--prompt-tokens", "2048")
    assert (longer["points"], longer["users"]) == ([], None)
    assert longer["missing"] == "drag prompt to 2048 for 10 s"


def test_what_was_driven_by_rate_is_asked_in_rates(by_rate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, by_rate, "--axis", "rate", "--rate", "6")
    assert (found["axis"], found["points"][0]["load"]) == ("rate", 6)
    assert found["points"][0]["tpot_p50_ms"]["value"] == pytest.approx(12.7, rel=0.05)
    said = refused(capsys, "--fit", by_rate, "--axis", "rate", "--concurrency", "4")
    assert "--concurrency: the run was driven by rate, and so is its twin; use --rate" in said


def test_a_table_of_the_same_levels_has_the_same_twin_but_for_what_it_cannot_tell(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "levels.csv"
    table.write_text(levels_csv(sides_at(str(run))[0].levels))
    of_run, of_table = (told(capsys, path, "--concurrency", "8")["points"][0] for path in (run, table))
    assert of_table["tpot_p50_ms"]["value"] == pytest.approx(of_run["tpot_p50_ms"]["value"], rel=0.01)
    table.write_text("level,n,ttft_p50_s,tpot_p50_s\n" + "".join(f"{x},99,0.1,0.02\n" for x in (2, 4, 8)))
    assert "no level tells TTFT, TPOT and the tokens of prompts" in refused(capsys, "--fit", table)


def test_levels_at_a_gate_count_for_the_server_and_each_part_of_a_run_may_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path / "gated.llmtop", users(4, 12), 8, None)
    assert told(capsys, run)["levels"] == 4
    as_it_stands, gated = told(capsys, run), told(capsys, f"{run}@1")
    assert gated["wall"]["value"] == pytest.approx(8, rel=0.05)
    assert as_it_stands["wall"] is None or as_it_stands["wall"]["value"] > 8
    assert "has no configuration 3 with levels; it has 1 to 2" in refused(capsys, "--fit", f"{run}@3")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "kv_cache_dtype=fp8"], "a twin cannot turn kv_cache_dtype: it knows slots"),
        (["--set", "foo=3"], "a twin cannot turn foo"),
        (["--set", "max_num_seqs=0"], "--set max_num_seqs=0: must be a whole number from 1"),
        (["--set", "max_num_seqs=nan"], "--set max_num_seqs=nan: must be a whole number from 1"),
        (["--set", "num_gpu_blocks=-3"], "--set num_gpu_blocks=-3: must be a number from 1"),
        (["--set", "max_num_seqs=8", "--set", "np=8"], "max_num_seqs and np are one setting"),
        (["--rate", "3"], "--rate: the run was driven by concurrency"),
        (["--requests", "list.csv"], "--requests is for the simulated engine"),
        (["--stagger", "0"], "--stagger is for the simulated engine"),
        (["laptop"], "--fit and laptop: a twin is of a run, not of a preset"),
    ],
)
def test_what_a_twin_cannot_be_asked_is_said_before_anything_is_fitted(
    run: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, "--fit", run, *words)


def test_a_run_of_one_load_says_what_would_make_a_twin_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path / "one.llmtop", users(8))
    said = refused(capsys, "--fit", run)
    assert str(run) in said
    assert "no twin: one number of requests at once was measured" in said
    assert "hold 2 more loads" in said


def test_without_a_preset_and_without_a_run_both_ways_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a preset (`llmtop sim --list`), or a run to fit a twin to: --fit last" in refused(capsys)
