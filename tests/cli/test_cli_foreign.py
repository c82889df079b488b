"""`llmtop import`, and `assess` of another tool's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from documented import drift

from llmtop.cli.main import main

DATA = Path(__file__).parents[1] / "exchange" / "data"
VLLM, GUIDE = str(DATA / "vllm_bench_serve_append.jsonl"), str(DATA / "guidellm_benchmarks_v2.json")


def test_levels_and_verdicts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", VLLM]) == 0
    head, columns, row, *_ = capsys.readouterr().out.splitlines()
    assert head == "vllm_bench_serve_append: vllm bench serve, toy, 128/11 tokens"
    assert columns.split()[:6] == ["load", "ok", "failed", "TTFT", "p50", "p95"]
    assert row.split()[:5] == ["2", "4", "1", "130", "ms"]
    assert row.split()[-2:] == ["73.33", "6.667"]


def test_json_has_the_keys_that_are_told_and_null_for_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(DATA.glob("*.json*")):
        assert main(["import", str(path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert drift("llmtop import --json", told) == []
        (side,) = told["sides"]
        for level in side["levels"]:
            assert level["output_tokens_per_s"] == pytest.approx(73.33, abs=0.01)
            assert level["ttft_p50_ms"] == pytest.approx(130, rel=1e-6)
            assert level["failed"] == (None if path.name.startswith(("sglang", "inferencex")) else 1)


def test_several_files_are_one_curve_and_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for users in (2, 4):
        report = json.loads((DATA / "aiperf_profile_export_aiperf.json").read_text())
        report["input_config"] = {"loadgen": {"concurrency": users}}
        paths.append(str(tmp_path / f"{users}.json"))
        Path(paths[-1]).write_text(json.dumps(report))
    out = tmp_path / "levels.csv"
    assert main(["import", *paths, "-o", str(out)]) == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["level", "2.0", "4.0"]
    assert main(["import", *paths, "-o", str(out)]) == 0, "its own table is replaced"
    assert main(["import", *paths, GUIDE, "-o", str(out)]) == 2
    assert "a table holds one configuration, these files 2" in capsys.readouterr().err
    out.write_text("mine")
    assert main(["import", *paths, "-o", str(out)]) == 2
    assert out.read_text() == "mine"


def test_a_load_that_is_not_told_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(DATA / "aiperf_profile_export.jsonl")
    assert main(["import", path]) == 0
    assert "1.82 were in flight by Little's law" in capsys.readouterr().err
    assert main(["import", path, "--load", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["sides"][0]["levels"][0]["load"] == 2
    assert err == ""


def test_assess_of_a_file_refuses_a_baseline_that_it_would_not_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = tmp_path / "levels.csv"
    levels.write_text("level,y,n\n4,0.15,200\n16,0.15,200\n")
    for file in (GUIDE, str(levels)):
        assert main(["assess", file, "--baseline", str(levels)]) == 2
        assert "llmtop compare BEFORE AFTER" in capsys.readouterr().err


def test_assess_takes_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assess", GUIDE, "--json", "--slo", "ttft_p95<2s"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert drift("llmtop assess --json", told) == []
    assert told["curves"][0]["points"][0]["tpot_p50_ms"] == pytest.approx(11.5)
    both = tmp_path / "both.json"
    both.write_text(json.dumps([json.loads(line) for line in Path(VLLM).read_text().splitlines()]))
    assert main(["assess", str(both)]) == 1, "one of five requests failed"
    newer = tmp_path / "newer.json"
    newer.write_text(Path(GUIDE).read_text().replace('"version": 2', '"version": 3'))
    for command in ("assess", "import"):
        assert main([command, str(newer)]) == 2
        assert "metadata.version: is 3; reports of version 2 are read" in capsys.readouterr().err
