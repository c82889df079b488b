"""Prices on the command line: they go before a profile's, and what cannot be one is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_analysis_ledger import drive, laptop

from llmtop.cli.main import main
from llmtop.domain.cost import Cost
from llmtop.profiles.schema import CostTable
from llmtop.recording.writer import RunWriter
from llmtop.wording.cost import NO_PRICE

PREDICTED = ["predict", "laptop", "--concurrency", "8,16,24", "--per-level", "60"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main([*words, "--json"]) in (0, 5)
    printed: dict[str, object] = json.loads(capsys.readouterr().out)
    return printed


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose profile states a price and a currency."""
    session = drive(laptop(4), (8, 8), (16, 10))
    path = tmp_path_factory.mktemp("runs") / "a.llmtop"
    priced = replace(session.meta.profile, cost=Cost(gpu_price_per_hour=2.0, currency="EUR"))
    writer = RunWriter(path, replace(session.meta, profile=priced))
    for batch in session.batches:
        writer.write(batch)
    writer.close(session.facts.t_s)
    return path


@pytest.mark.parametrize("command", ["live", "run", "assess", "report", "compare", "predict"])
def test_the_help_of_costs_names_every_key_of_a_profiles_table(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    out = capsys.readouterr().out
    told = out.partition("\ncost:\n")[2].partition("--gpu-price")[0]
    assert "Over the table [cost] of the profile" in told
    assert all(re.search(rf"\b{key}\b", told) for key in CostTable.__struct_fields__)
    assert max(map(len, told.splitlines())) <= 80
    assert ("--fit" in told) is (command == "predict"), "a preset has no profile"


@pytest.mark.parametrize("command", [["run", "smoke", "--sim"], ["report", "RUN"], ["assess", "RUN"], PREDICTED[:2]])
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--gpu-price", "0", "from 0.0001"),
        ("--gpu-price", "-2", "from 0.0001"),
        ("--gpu-price", "nan", "from 0.0001"),
        ("--gpus", "0", "from 1 to"),
        ("--gpus", "1.5", "whole number"),
        ("--currency", "x" * 30, "at most 8 characters"),
        ("--currency", "", "as EUR"),
        ("--cost-peak", "0", "from 0.001"),
    ],
)
def test_what_is_no_price_is_refused_by_name(
    command: list[str], option: str, value: str, says: str, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(run_file) if word == "RUN" else word for word in command]
    try:
        code = main([*command, f"{option}={value}"])
    except SystemExit as end:
        code = int(str(end.code))
    line = capsys.readouterr().err.splitlines()[-1]
    assert option in line
    assert says in line
    assert code == 2


def test_a_predicted_capacity_has_a_cost_in_words_and_as_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PREDICTED, "--gpu-price", "2.49", "--currency", "EUR"]) == 0
    text = capsys.readouterr().out
    assert "EUR" in text.partition("Cost: ")[2]
    costs = said(capsys, *PREDICTED, "--gpu-price", "2.49", "--gpus", "2", "--cost-peak", "200")["costs"]
    assert isinstance(costs, dict)
    slo = costs["rows"][0]["per_million_output"]["value"]
    assert slo == pytest.approx(2 * 2.49 / 3600 / costs["output_tokens_per_s"] * 1e6)
    assert costs["gpus_at_peak"]["value"] % 2 == 0
    assert said(capsys, *PREDICTED)["costs"] is None
    four = ["predict", "4xh100-llama-3.1-70b", "--concurrency", "4", "--per-level", "20", "--gpu-price", "2"]
    costs = said(capsys, *four)["costs"]
    assert isinstance(costs, dict)
    assert costs["gpus"] == 4


@pytest.mark.parametrize("words", [("--currency", "EUR"), ("--gpus", "2"), ("--cost-peak", "200")])
def test_what_a_price_would_give_is_said_where_there_is_none(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PREDICTED, *words]) == 0
    block = capsys.readouterr().out.partition("Cost: ")[2]
    assert NO_PRICE in block
    assert ("GPUs for a peak of 200 users" in block) == (words[0] == "--cost-peak")


def test_the_command_line_goes_before_what_was_recorded(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = said(capsys, "assess", str(run_file))["costs"]
    asked = said(capsys, "assess", str(run_file), "--gpu-price", "3")["costs"]
    assert isinstance(recorded, dict)
    assert isinstance(asked, dict)
    assert (recorded["price_per_hour"], recorded["currency"]) == (2.0, "EUR")
    assert (asked["price_per_hour"], asked["currency"]) == (3.0, "EUR")
    was, now = (each["rows"][0]["per_million_output"]["value"] for each in (recorded, asked))
    assert now == pytest.approx(1.5 * was)


def test_a_report_has_the_figures_of_the_command_line(run_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    assert main(["report", str(run_file), "-o", str(out), "--gpu-price", "3"]) == 0
    document = json.loads(out.read_text())
    assert document["assessment"]["costs"]["price_per_hour"] == 3.0
    assert document["meta"]["profile"]["cost"]["gpu_price_per_hour"] == 3.0


def test_two_runs_of_one_price_have_the_same_cost(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run_file.with_name("b.llmtop")
    other.write_bytes(run_file.read_bytes())
    assert main(["compare", str(run_file), str(other)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cost"))
    assert "EUR per 1M output tokens  0 %" in line
    assert len(line) <= 80
    compared = said(capsys, "compare", str(run_file), str(other), "--gpus", "4")["compared"]
    assert isinstance(compared, list)
    assert compared[0]["cost"]["before"] == compared[0]["cost"]["after"] > 0
    assert compared[0]["currency"] == "EUR"
