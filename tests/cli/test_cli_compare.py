"""`llmtop compare`: exit codes say what was asked, text fits a terminal, and what cannot be compared is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from llmtop.analysis.sides import Side
from llmtop.cli import compare
from llmtop.cli.main import main
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Axis
from llmtop.domain.profile import Profile
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.host.beside import sides_at


def table(path: Path, factor: float = 1.0, n: int = 200, loads: tuple[int, ...] = (4, 16), seed: int = 0) -> str:
    draw, rows = np.random.default_rng(seed), ["level,ttft_s,tpot_s,e2e_s"]
    for load in loads:
        ttft, tpot = 0.1 * factor * np.exp(draw.normal(0, 0.05, n)), 0.02 * np.exp(draw.normal(0, 0.05, n))
        rows += [f"{load},{a:.6f},{b:.6f},{a + 63 * b:.6f}" for a, b in zip(ttft, tpot, strict=True)]
    path.write_text("\n".join(rows))
    return str(path)


@pytest.fixture
def before(tmp_path: Path) -> str:
    return table(tmp_path / "before.csv")


@pytest.fixture
def after(tmp_path: Path) -> str:
    return table(tmp_path / "after.csv", 1.5, seed=1)


def test_text_says_the_whole_first_and_fits_eighty_columns(
    before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", before, after]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("`after` is worse than `before`: TTFT p95 +")
    assert max(map(len, lines)) <= compare.COLUMNS
    assert any(line.startswith("16 users") and "!" in line for line in lines)


@pytest.mark.parametrize(
    ("limits", "code", "says"),
    [
        ("ttft_p95 +10%", 1, "--fail-on ttft_p95 +10.0 %: +"),
        ("ttft_p95 +90%", 0, ""),
        ("tpot_p50 +10%, e2e_p50 +30%", 0, ""),
        ("error_ratio +1%", 5, "not measured on both sides"),
    ],
)
def test_a_threshold_is_the_exit_code(
    before: str, after: str, limits: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if limits.startswith("error_ratio"):
        Path(after).write_text("level,y,n\n4,0.15,200\n16,0.15,200\n")
    assert main(["compare", before, after, "--fail-on", limits]) == code
    assert says in capsys.readouterr().err
    assert main(["compare", before, after, "--fail-on", limits, "--unknown-ok"]) == (0 if code == 5 else code)
    assert main(["compare", after, before, "--fail-on", "ttft_p95 +10%"]) in (0, 5), "the other way it got better"


def test_a_difference_that_chance_may_have_made_is_not_known(
    tmp_path: Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = table(tmp_path / "few.csv", 1.5, n=12)
    assert main(["compare", before, few, "--fail-on", "ttft_p50 +10%"]) == 5
    assert "not proven: too few requests" in capsys.readouterr().err


def test_json_has_every_comparison_and_what_was_crossed(
    before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", before, after, before, "--json", "--fail-on", "ttft_p50 +10%"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 1
    assert [each["verdict"] for each in told["compared"]] == ["worse", "same"]
    assert [[each["metric"] for each in some] for some in told["crossed"]] == [["ttft_p50"], []]


def test_measurements_of_one_name_are_told_apart(before: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", before, before]) == 0
    assert capsys.readouterr().out.startswith("`before 2` is the same as `before 1` at 4 to 16 users")


def test_a_page_is_written_beside_the_text_and_refused_before_anything_is_read(
    tmp_path: Path, before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "c.html"
    assert main(["compare", before, after, "-o", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert main(["compare", "missing", after, "-o", str(tmp_path / "c.csv")]) == 2
    assert "use .html, .md" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused_by_name(
    tmp_path: Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        ([before], "one configuration alone"),
        (
            [before, table(tmp_path / "far.csv", loads=(64, 128))],
            "no load in common: before has 4, 16, far has 64, 128",
        ),
        ([before, str(tmp_path / "none.llmtop")], "none.llmtop"),
        ([before, before, "--fail-on", "speed -5%"], "'speed -5%'"),
    ):
        assert main(["compare", *words]) == 2
        assert says in capsys.readouterr().err


def test_a_run_that_is_not_whole_is_said_to_be_once(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = RunMeta(
        llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://h"), profile=Profile(name="p")
    )

    def of_runs(text: str, slo: Slo | None = None, axis: Axis = "concurrency", *_: object) -> tuple[Side, ...]:
        return tuple(dataclasses.replace(side, meta=meta, source=Path(text)) for side in sides_at(text, slo, axis))

    monkeypatch.setattr(compare, "sides_at", of_runs)
    monkeypatch.setattr(compare, "cut_off", lambda run: f"{run}: cut" if run == Path(before) else None)
    assert main(["compare", before, before, after]) == 0
    assert capsys.readouterr().err == f"llmtop: {before}: cut\n"


def test_another_workload_is_compared_only_when_somebody_insists(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_models(text: str, slo: Slo | None = None, axis: Axis = "concurrency", *_: object) -> tuple[Side, ...]:
        model = Path(text).stem
        return tuple(dataclasses.replace(side, traits={"model": model}) for side in sides_at(text, slo, axis))

    monkeypatch.setattr(compare, "sides_at", of_models)
    assert main(["compare", before, after]) == 2
    assert "not the same workload: model before -> after; --anyway" in capsys.readouterr().err
    assert main(["compare", before, after, "--anyway"]) == 0
    assert "differs    model before -> after" in capsys.readouterr().out
