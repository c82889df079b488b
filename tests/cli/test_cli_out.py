"""`--out`: refused before anything starts where it cannot be, and told of while a run goes on."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from smoked import Smoked

from llmtop.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "csv=a"], "is no kind of sink"),
        (["--out", "prometheus=0.0.0.0:9464"], "--yes"),
        (["--out", "otlp=nowhere"], "http://127.0.0.1:4318"),
        (["--out", "json=none/a.jsonl"], "there is no folder"),
        (["--out", "json=a.jsonl", "--out", "json=./a.jsonl"], "named twice"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_nothing_starts(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "smoke", "--sim", *words]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("llmtop: ")
    assert said in told.err
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["run", "smoke", "--sim", "--out", f"prometheus=127.0.0.1:{port}"]) == 2
    assert f"127.0.0.1:{port}: the port cannot be listened on" in capsys.readouterr().err


def test_figures_of_a_run_lie_in_the_file_and_a_collector_that_is_not_there_is_told_of(smoked: Smoked) -> None:
    lines = [json.loads(line) for line in smoked.figures.read_text().splitlines()]
    assert len(lines) >= 2
    totals = smoked.told["totals"]
    assert lines[-1]["requests"]["ok"] == totals["ok"]
    assert lines[-1]["output_tokens"] == totals["output_tokens"]
    assert (lines[-1]["in_flight"], lines[-1]["target_concurrency"]) == (0, None)
    assert smoked.said.count("connection refused") == 2, "when it is seen, and at the end"
    assert smoked.said.count("tried again every 10 s") == 1, "nothing is, once the run is over"
    assert "the last figures did not arrive there" in smoked.said
