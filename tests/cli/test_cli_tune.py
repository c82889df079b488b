"""`llmtop tune`: what it refuses, what it says before it starts anything, and how it says what it has found."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from documented import drift
from msgspec import structs
from msgspec.structs import replace

from llmtop.cli import tune as command
from llmtop.cli.main import main
from llmtop.domain.server_command import ServerCommand
from llmtop.domain.tuning import Carried, Tried, Tune
from llmtop.errors import FileError
from llmtop.host.tuning import Tuned
from llmtop.report.tuning import check_tune, write_tune
from llmtop.wording.tuning import edge_text, flag_line, last_words, sentence, table_text

URL = "http://127.0.0.1:9"
SERVE = ["--serve", "serve --slots {max_num_seqs}"]
TRY = ["--try", "max_num_seqs=32,64"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", URL, *TRY], "give one of --serve CMD and --apply CMD"),
        (["tune", URL, *TRY, *SERVE, "--apply", "x"], "give one of --serve CMD and --apply CMD"),
        (["tune", URL, *SERVE, "--try", "max_num_seqs"], "NAME=VALUE,VALUE"),
        (["tune", URL, *SERVE, "--try", "max_num_seqs=1,,2"], "NAME=VALUE,VALUE"),
        (["tune", URL, *SERVE, "--try", "max_num_seqs=1,x"], "whole numbers"),
        (["tune", URL, *SERVE, *TRY, "--try", "kv=auto"], "{kv}"),
        (["tune", URL, *SERVE, "--try", "kv=auto"], "{max_num_seqs}"),
        (["tune", URL, *SERVE, *TRY, "--users", "2000"], "raise it with --max-concurrency"),
        (["tune", URL, *SERVE, *TRY, "--slo", "ttft"], "SLO"),
        (["tune", URL, *SERVE, *TRY, "-o", "a.pdf"], ".md or .html"),
        (["tune", URL, "--serve", "x {", *TRY], "brace"),
        (["tune", URL, "--serve", "", *TRY], "the command is empty"),
        (["tune", URL, "--serve", "x {max_num_seqs} {kv}", *TRY], "{kv} has no value: give one or more with --try kv="),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_started(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_dry_run_says_each_command_and_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", URL, *SERVE, *TRY, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "2 configurations: at most 3 starts of the server, and about 3 min 15 s of measuring beside them"
    )
    assert lines[1:] == ["serve --slots 32", "serve --slots 64"]


WON = Tried(
    values=(("max_num_seqs", "64"),),
    how="searched",
    users=Carried(58.0, 55.0, 61.0),
    tokens_per_s=Carried(1234.0, 1200.0, 1260.0),
    figures=(("ttft_p95", 1.9), ("tpot_p95", 0.043)),
    restarts=1,
)
LOST = Tried(values=(("max_num_seqs", "32"),), how="by gate", users=Carried(49.0, 47.0, 51.0), restarts=1)
DEAD = Tried(values=(("max_num_seqs", "128"),), how="failed", note="exit code 1\n    out of memory", restarts=1)
FOUND = Tune(rows=(LOST, WON, DEAD), original=LOST.values, winner=WON.values, users=None, gain=58 / 49 - 1, drift=0.01)


def test_the_sentence_has_the_interval_and_the_gain_over_what_there_was() -> None:
    assert sentence(FOUND) == (
        "max_num_seqs 64 carries 58 users at the SLO (55-61), +18.4 % over 32; verified by a capacity search"
    )


def test_the_table_has_a_row_a_configuration_and_below_it_why_one_failed() -> None:
    lines = table_text(FOUND)
    assert lines[2].split() == [
        *("max_num_seqs=64", "*", "searched", "58", "(55-61)", "1", "230", "43.0", "ms", "1.90", "s", "1"),
    ]
    assert lines[4:] == ["max_num_seqs=128: exit code 1"], "its log was shown when it ended"


def test_the_runs_stand_below_the_table_for_whoever_compares_them() -> None:
    lines = table_text(replace(FOUND, runs=(("search max_num_seqs=64", "/runs/a.llmtop"),)))
    assert lines[-1] == "run: /runs/a.llmtop (search max_num_seqs=64)"


def test_a_drift_is_said_in_place_of_a_winner() -> None:
    void = Tune(rows=(LOST, WON), original=LOST.values, winner=WON.values, users=None, drift=-0.08)
    assert sentence(void).startswith("not known: the first configuration gave -8.00 % output tokens/s")
    assert "*" not in "".join(table_text(void))


def test_an_end_of_the_list_is_said() -> None:
    at_edge = Tune(rows=(LOST, WON), original=LOST.values, winner=WON.values, users=None, edge="largest")
    assert edge_text(at_edge) == "the best value is the largest that was tried: try larger ones"
    assert edge_text(at_edge) in last_words(at_edge).split("\n")
    assert edge_text(FOUND) == ""


def test_how_far_the_server_stayed_the_same_is_said_or_that_it_is_not_known() -> None:
    assert last_words(FOUND).endswith("the configuration measured first, again at the end: +1.00 % output tokens/s")
    not_again = structs.replace(FOUND, drift=None)
    assert last_words(not_again).endswith("was not measured again: a drift meanwhile is not known")
    assert "again" not in last_words(Tune(rows=(WON,), original=WON.values, winner=WON.values, users=None))


def test_nothing_to_change_is_said_of_a_winner_that_was_there() -> None:
    same = Tune(rows=(LOST,), original=LOST.values, winner=LOST.values, users=None)
    assert "nothing to change" in sentence(same)


def test_users_that_were_asked_for_are_carried_or_not() -> None:
    held = Tune(rows=(LOST, WON), original=LOST.values, winner=WON.values, users=50, holds=True)
    assert sentence(held).startswith("max_num_seqs 64 keeps the SLO with 50 users and 1 230 output tokens/s")
    short = Tune(rows=(LOST, WON), original=LOST.values, winner=WON.values, users=90, holds=False)
    assert sentence(short).startswith("max_num_seqs 64 does not carry 90 users; it carries 58 (55-61)")


@pytest.mark.parametrize(
    ("template", "flag", "line"),
    [
        ("serve --max-num-seqs {max_num_seqs} --kv={kv}", "--max-num-seqs", "--max-num-seqs 64 --kv=fp8"),
        ("llama-server --parallel {max_num_seqs} -k '{kv}'", None, "--parallel 64 -k fp8"),
        ("N={max_num_seqs} KV={kv} docker compose up -d", None, "N=64 KV=fp8"),
        ("start {max_num_seqs} {kv}", "OLLAMA_NUM_PARALLEL", "OLLAMA_NUM_PARALLEL=64 kv=fp8"),
    ],
)
def test_flags_are_spelled_as_the_server_spells_them_or_else_as_the_command_does(
    template: str, flag: str | None, line: str
) -> None:
    values = (("max_num_seqs", "64"), ("kv", "fp8"))
    assert flag_line(values, template, flag, "max_num_seqs") == line


@pytest.mark.parametrize(
    ("tuned", "code"),
    [
        (Tuned(tune=FOUND), 0),
        (Tuned(tune=FOUND, stopped=130), 130),
        (Tuned(tune=FOUND, stopped=4), 4),
        (Tuned(tune=Tune(rows=(LOST, WON), original=(), winner=WON.values, users=None, drift=0.2)), 5),
        (Tuned(tune=Tune(rows=(DEAD,), original=(), winner=None, users=None)), 3),
        (Tuned(tune=Tune(rows=(LOST, DEAD), original=(), winner=None, users=None)), 5),
        (Tuned(tune=Tune(rows=(WON,), original=(), winner=WON.values, users=90, holds=False)), 1),
    ],
)
def test_the_exit_code_is_the_answer(tuned: Tuned, code: int) -> None:
    assert command._code(tuned) == code


def test_the_json_has_the_keys_that_are_told_and_a_server_that_is_not_put_back_is_told_loudly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = argparse.Namespace(json=True, output=None, unknown_ok=False)
    tuned = Tuned(tune=FOUND, restored=False, problem="it died\n    out of memory")
    apply = ServerCommand("set {max_num_seqs}", "apply")
    command._told(asked, apply, tuned, command._Steps())
    out, err = capsys.readouterr()
    assert drift("llmtop tune --json", json.loads(out)) == []
    assert err.splitlines()[-3:] == [
        "llmtop: THE SERVER DOES NOT HAVE ITS FIRST SETTINGS BACK: it died",
        "llmtop:     out of memory",
        "llmtop: put them back by: set 32",
    ]


def test_the_result_is_in_the_summary_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, written = tmp_path / "step.md", tmp_path / "a.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    asked = argparse.Namespace(json=False, output=str(written), unknown_ok=False)
    command._told(asked, ServerCommand("serve {max_num_seqs}"), Tuned(tune=FOUND), command._Steps())
    whole = written.read_text()
    assert step.read_text().strip() == whole[: whole.index("<!-- written by llmtop")].strip() != ""


@pytest.mark.parametrize("code", [4, 130])
def test_whatever_stops_a_tune_it_is_said_that_the_same_command_goes_on(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = argparse.Namespace(json=False, output=None, unknown_ok=False)
    serve = ServerCommand("serve {max_num_seqs}")
    assert command._told(asked, serve, Tuned(tune=FOUND, stopped=code), command._Steps()) == code
    assert capsys.readouterr().err.endswith("what is measured counts when the same command is given again\n")


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_the_result_is_written_and_an_own_file_written_over_but_no_other(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tune{suffix}"
    odd = Tune(rows=(DEAD,), original=(), winner=None, users=None)
    write_tune(odd, None, path)
    write_tune(FOUND, "--max-num-seqs 64", path)
    text = path.read_text()
    assert "--max-num-seqs 64" in text
    assert "58" in text
    path.write_text(text.replace("58", "99"))
    with pytest.raises(FileError):
        check_tune(path)


def test_what_a_server_wrote_is_no_markup_in_a_report(tmp_path: Path) -> None:
    bad = Tried(values=(("a", "1"),), how="failed", note="<script>|`x`</script>")
    for suffix in (".md", ".html"):
        path = tmp_path / f"tune{suffix}"
        write_tune(Tune(rows=(bad,), original=(), winner=None, users=None), None, path)
        assert "<script>" not in path.read_text().replace("\\<script\\>", "")
