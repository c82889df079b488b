"""`llmtop knobs`: the file that it prints, what it says of a server, and its exit codes."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from llmtop.cli import knobs
from llmtop.cli.main import main
from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.session import bank
from llmtop.session.liveknobs import Stand

SOURCE = resources.files("llmtop.session").joinpath("llmtop_knobs.py").read_text()
URL = "http://127.0.0.1:8000"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a look at a server finds, and where it was to look."""
    told: dict[str, Any] = {}

    async def probe(*_: Any) -> EndpointInfo:
        return EndpointInfo(dialect=Dialect.VLLM, model="m")

    async def find(endpoint: Any, info: Any, url: str | None) -> Any:
        told["url"] = url
        return told["knobs"]

    monkeypatch.setattr(knobs, "probe", probe)
    monkeypatch.setattr(bank, "find", find)
    return told


def test_the_file_comes_out_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knobs", "--print"]) == 0
    told = capsys.readouterr()
    assert told.out == SOURCE
    assert told.err == ""


def test_without_a_server_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knobs"]) == 0
    told = capsys.readouterr().out
    assert "vllm serve MODEL ... --scheduler-cls llmtop_knobs.LiveScheduler" in told
    assert "--knobs-url http://127.0.0.1:9475" in told
    assert all(len(line) <= 120 for line in told.splitlines())


def test_what_turns_is_yes_and_what_does_not_is_no(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    class Speaker:
        by = "llmtop_knobs"

    found["knobs"] = (Speaker(), Stand(knobs={"max_num_seqs": 16.0}, most={"max_num_seqs": 64.0}))
    assert main(["knobs", URL, "--knobs-url", "http://127.0.0.1:9999"]) == 0
    assert capsys.readouterr().out == "max_num_seqs 16 (1 to 64)\nturned by llmtop_knobs\n"
    assert found["url"] == "http://127.0.0.1:9999"
    found["knobs"] = "it turns nothing"
    assert main(["knobs", URL]) == 1
    assert capsys.readouterr().out == "it turns nothing; --gate stands for fewer slots of any server\n"
    assert found["url"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["knobs", URL, "--print"], "give one of them"),
        (["knobs", "--knobs-url", URL], "give the URL of that server, too"),
        (["knobs", URL, "--knobs-url", "9475"], "--knobs-url 9475: write it like http://127.0.0.1:9475"),
        (["knobs", URL, "--knobs-url", "http://u:secret@h:x"], "nothing can be asked there"),
        (["run", "smoke", "--sim", "--knobs-url", URL], "the simulated engine turns its knobs itself"),
    ],
)
def test_what_cannot_be_meant_is_said(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "secret" not in told


def test_a_server_that_is_not_there_ends_as_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knobs", "http://127.0.0.1:1"]) == 3
    assert "nothing listens on port 1" in capsys.readouterr().err
