"""KEYS.md says what is printed: its text is made from the code, and what commands print has its keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documented import drift

from llmtop.cli import doctor, selftest
from llmtop.cli.keys import documents, page
from llmtop.cli.main import main
from llmtop.domain.endpoint import Dialect, EndpointInfo, Finding
from llmtop.load.selftest import Row
from llmtop.wording.keys import FORMAT

ROOT = Path(__file__).parents[2]
INFO = EndpointInfo(dialect=Dialect.VLLM, model="tiny", findings=(Finding("models", True, "tiny"),))
ROW = Row(
    streams=1,
    chunks_per_s=1.0,
    stamp_error_p50_us=1.0,
    stamp_error_p99_us=1.0,
    ttft_error_p50_ms=1.0,
    ttft_error_p99_ms=1.0,
    cpu=0.1,
    state="green",
)


def test_the_page_is_the_one_that_the_code_makes() -> None:
    """To renew it: python -m llmtop.cli.keys > llmtop/KEYS.md"""
    assert (ROOT / "llmtop" / "KEYS.md").read_text() == page()


def test_the_readme_names_the_page_and_every_command_that_prints_json_is_on_it() -> None:
    assert "(llmtop/KEYS.md)" in (ROOT / "README.md").read_text()
    assert {command.split()[1] for command in documents()} == {
        *("run", "tune", "assess", "compare", "import", "report", "predict", "doctor", "selftest", "profiles"),
        *("runs", "ls", "locate", "traffic", "check"),
    }


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(list(words)) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert next(iter(told)) == "format", "what a reader asks first"
    assert told["format"] == FORMAT
    return told


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("llmtop profiles --json", ["profiles"]),
        ("llmtop locate --json", ["locate"]),
        ("llmtop doctor --json", ["doctor", "http://127.0.0.1:9"]),
        ("llmtop selftest --json", ["selftest"]),
        ("llmtop predict --json", ["predict", "laptop", "--concurrency", "1,2", "--per-level", "20", "--rows"]),
    ],
)
def test_a_command_prints_the_keys_that_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, words: list[str]
) -> None:
    async def info(*_: object) -> EndpointInfo:
        return INFO

    async def rows(*_: object) -> list[Row]:
        return [ROW]

    monkeypatch.setattr(doctor, "examine", info)
    monkeypatch.setattr(selftest, "_steps", rows)
    assert drift(command, printed(capsys, *words, "--json")) == []


def test_a_table_of_levels_is_assessed_with_the_keys_that_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "levels.csv"
    table.write_text("level,y,se_log,n\n" + "".join(f"{load},0.1,0.01,50\n" for load in (1, 2, 4, 8, 16, 32)))
    told = printed(capsys, "assess", str(table), "--json")
    assert drift("llmtop assess --json", told) == []
    assert told["figures"] is None


def test_a_key_that_is_not_told_is_found() -> None:
    located = {"format": 1, "there": [], "ignored": [], **dict.fromkeys(("runs", "profiles", "settings", "state"), "")}
    assert drift("llmtop locate --json", {**located, "log": "", "more": 1}) == [".more"]
    assert drift("llmtop locate --json", located) == [".log"]
    entry: dict[str, object] = {"name": "a", "path": "", "shipped": True, "description": "", "problem": None}
    entry |= {"peak": None, "duration_s": 0.0}
    assert drift("llmtop profiles --json", {"format": 1, "profiles": [entry]}) == [".profiles[].question"]
