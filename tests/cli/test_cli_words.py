"""The words of a command line: in any order, with what was meant where a word is wrong, and no key ever repeated."""

from __future__ import annotations

import argparse
import shlex

import pytest

from llmtop.cli import help as below
from llmtop.cli import options
from llmtop.cli.main import COMMANDS, main
from llmtop.cli.words import Parser, sorted_out
from llmtop.domain.slo import METRICS, STATS, parse_slo
from llmtop.errors import UsageError

KEY = "sk-4f9D2kQ8xZ17"


def read(*words: str) -> tuple[str, argparse.Namespace]:
    name, rest = sorted_out(words, COMMANDS)
    parser = Parser(prog=f"llmtop {name}")
    options.ADD[name](parser)
    return name, parser.read(rest, COMMANDS)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, "one line, and no page of usage"
    return said.err


@pytest.mark.parametrize(
    "words",
    [
        "run smoke http://h --json --concurrency 3",
        "run smoke --json http://h --concurrency 3",
        "run --json smoke --concurrency 3 http://h",
        "--json run smoke --concurrency 3 http://h",
        "--concurrency 3 --json run smoke http://h",
        "--concurrency=3 run --json smoke http://h",
    ],
)
def test_options_stand_before_between_or_behind_the_rest(words: str) -> None:
    name, arguments = read(*words.split())
    assert (name, arguments.profile, arguments.url) == ("run", "smoke", "http://h")
    assert (arguments.json, arguments.concurrency) == (True, 3)


@pytest.mark.parametrize("words", ["--sim run smoke", "run --sim smoke", "run smoke --sim", "--sim run --seed 3 smoke"])
def test_a_bare_sim_takes_no_command_and_no_profile_for_its_preset(words: str) -> None:
    name, arguments = read(*words.split())
    assert (name, arguments.profile, arguments.sim) == ("run", "smoke", "laptop")


def test_the_value_of_an_option_is_no_command() -> None:
    name, arguments = read("--model", "run", "http://h")
    assert (name, arguments.model, arguments.url) == ("live", "run", "http://h")
    assert read("--sim", "laptop")[1].sim == "laptop"
    assert sorted_out(["help", "run"], COMMANDS) == ("run", ["--help"])
    assert sorted_out(["help"], COMMANDS) == ("live", ["--help"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ramp", "`llmtop run ramp [URL]`"),
        ("rmap", "perhaps you mean `llmtop run ramp`"),
        ("rnu", "perhaps you mean `llmtop run`"),
        ("runn smoke http://h", "'runn' is no command and no URL: perhaps you mean `llmtop run`"),
        ("reprot last", "perhaps you mean `llmtop report`"),
        ("asess last --json", "perhaps you mean `llmtop assess`"),
        ("xyzzy last", "word 2 behind llmtop belongs to nothing"),
        ("xyzzy", "`llmtop --help` lists the commands"),
        ("laptop", "`llmtop --sim laptop`"),
        ("r1.db", "`llmtop replay r1.db` and `llmtop report r1.db`"),
        ("x/before.llmtop", "`llmtop replay x/before.llmtop`"),
        ("last", "`llmtop replay last`"),
        ("levels.csv", "`llmtop assess levels.csv`"),
        ("mine.toml", "`llmtop run mine.toml [URL]`"),
        ("run smoke out.json", "--json goes to stdout"),
        ("run smoke ramp", "'ramp' is no URL"),
        ("run http://h smoke", "a profile comes before it"),
        ("http://h run smoke", "run is a command, and comes first"),
        ("run smok --sim", "did you mean smoke?"),
        ("run", "PROFILE is missing: llmtop run PROFILE [URL]"),
        ("report", "RUN is missing: llmtop report RUN"),
        ("run smoke --jsno", "did you mean --json?"),
        ("run smoke -json", "did you mean --json?"),
        ("run smoke --qps 3", "write --rate"),
        ("run smoke --fps 3", "it is one of llmtop, llmtop demo, llmtop attach, llmtop replay"),
        ("run smoke --zzz", "--zzz is no option of llmtop run: `llmtop run --help` lists them"),
        ("run smoke --model", "--model wants a value: --model MODEL"),
        ("run smoke --transport x", "--transport must be one of auto, httpx"),
        ("run smoke --json=out.json", "--json takes no value"),
        ("sim --port 70000", "--port '70000': must be a whole number"),
        ("report x -pw", "-p… is no option of llmtop report"),
    ],
)
def test_a_wrong_word_is_told_with_what_was_meant(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(capsys, *words.split())


@pytest.mark.parametrize(
    "words",
    [
        ("run", "smoke", "http://127.0.0.1:9", "--api-key", KEY),
        ("run", "smoke", "http://127.0.0.1:9", f"--api-key={KEY}"),
        ("run", "smoke", "http://127.0.0.1:9", f"--apikey={KEY}"),
        ("run", "smoke", "http://127.0.0.1:9", "--api-keys", KEY),
        ("run", "smoke", "http://127.0.0.1:9", f"--api-key{KEY}"),
        ("run", "smoke", "http://127.0.0.1:9", f"--{KEY}"),
        ("run", "smoke", "http://127.0.0.1:9", f"-k{KEY}"),
        ("run", "smoke", "http://127.0.0.1:9", "--api-key-env", KEY),
        ("run", "smoke", "http://127.0.0.1:9", f"--json={KEY}"),
        ("run", "smoke", "http://127.0.0.1:9", "--transport", KEY),
        ("run", "smoke", "http://127.0.0.1:9", "--insecure", KEY),
        ("run", "smoke", "--header", "Authorization:", "Bearer", KEY, "http://127.0.0.1:9"),
        ("run", "smoke", "--header", "Authorization:", KEY),
        ("doctor", "http://127.0.0.1:9", KEY),
        ("doctor", "--", "http://127.0.0.1:9", f"--api-key={KEY}"),
    ],
)
def test_no_complaint_repeats_what_may_be_a_key(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *words)
    assert KEY not in said
    assert KEY[3:9] not in said


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_two_examples_that_are_so_and_its_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    judges = command in ("run", "tune", "assess", "compare", "check", "knobs")
    assert f"exit codes:\n  0    {below.ANSWERED if judges else 'done'}\n" in told
    assert ("  1    no" in told) == judges
    parser = argparse.ArgumentParser()
    options.ADD[command](parser)
    takes_slo = "--slo" in parser._option_string_actions
    assert takes_slo == (command in below.WITH_SLO) == (below.SLO in told)
    assert len(below.EXAMPLES[command]) == 2
    assert all(len(line) <= 80 for line in below.epilog(command).splitlines()), (
        "a terminal of 80 columns breaks no line"
    )
    for example in below.EXAMPLES[command]:
        assert f"  {example}" in told
        words = shlex.split(example.split("   ")[0].split(" > ")[0])[1:]
        assert read(*words)[0] == command


def test_the_limits_that_help_tells_are_those_that_are_read() -> None:
    for name in (*METRICS, *(f"_{stat}" for stat in STATS if stat != "p95")):
        assert name in below.SLO, name
    assert parse_slo("ttft<2s").targets[0].stat == "p95"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttft_p95", "it has no limit"),
        ("ttft_p95>2s", "'>' stands where '<' must"),
        ("ttft_p95=2s", "'=' stands where '<' must"),
        ("ttft_p59<2s", "'ttft_p59' is not known; did you mean ttft_p99?"),
        ("TTFT<2s", "'TTFT' is not known; did you mean ttft?"),
        ("ttft<", "'' is no number"),
        ("ttft<fast", "'fast' is no number"),
        ("ttft<2x", "'x' is no unit"),
        ("ttft<2s tpot<1s", "it has two limits: put a comma between them"),
        ("ttft<2", "ttft wants ms or s or min"),
        ("queue<9%", "queue wants a bare number"),
        ("ttft<2s,errors<1%", "SLO 'errors<1%': 'errors' is not known"),
    ],
)
def test_the_faulty_part_of_a_limit_is_named(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_slo(text)
    assert says in str(caught.value)
