"""Every option that takes a number: an odd one ends in exit code 2 with the option, the value and what is allowed."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pytest

from llmtop.cli import options
from llmtop.cli.effects import effects
from llmtop.cli.main import _parser, main
from llmtop.cli.target import by_hand, session_options, with_arguments
from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.endpoint.probe import unchecked
from llmtop.errors import LlmtopError
from llmtop.profiles import load_profile

ODD = ("nan", "inf", "-inf", "1e308", "1e400", "9" * 5000, "-1", "1_000", "٣", "0x10", " ", "", "abc", "\x1b[2J")


def numeric(command: str) -> list[str]:
    """The options of a command that are read as a number."""
    parser = argparse.ArgumentParser()
    options.ADD[command](parser)
    return [action.option_strings[-1] for action in parser._actions if action.type and action.option_strings]


CASES = [(command, option) for command in options.ADD for option in numeric(command)]
BEFORE = {"run": ["smoke", "--sim"], "replay": ["x"], "predict": ["laptop"]}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a command that ends at once with exit code 2."""
    began = time.process_time()
    try:
        code = main(words)
    except SystemExit as end:
        code = int(str(end.code))
    said = capsys.readouterr().err
    assert code == 2, (words, said)
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert time.process_time() - began < 5, "seconds of this process"
    return said.splitlines()[-1]


@pytest.mark.parametrize(("command", "option"), CASES)
def test_an_odd_number_is_told_with_what_is_allowed(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ODD:
        line = refused([command, *BEFORE.get(command, []), f"{option}={value}"], capsys)
        assert option in line
        assert "must be a" in line
        assert " from " in line
        assert len(line) < 300


def test_every_number_of_a_load_is_among_them() -> None:
    asked = {option for command, option in CASES if command == "run"}
    wanted = "concurrency rate peak prompt-tokens output-tokens think-time shared-prefix max-concurrency workers seed"
    assert asked >= {f"--{name}" for name in (*wanted.split(), "duration")}
    others = {option for command, option in CASES if command != "run"}
    assert others >= {"--fps", "--speed", "--port", "--stagger", "--per-level", "--seconds"}


@pytest.mark.parametrize("option", ["--concurrency", "--rate"])
@pytest.mark.parametrize("value", [*ODD, "0", "1e9", "1,,2", ",", "1," * 200 + "1"])
def test_a_list_of_levels_names_the_number_that_cannot_be_meant(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["predict", "laptop", f"{option}={value}"], capsys)
    assert option in line
    assert "must be a" in line or "at most 100 levels" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "smoke", "--workers", "1000"], "--workers 1000: this machine carries"),
        (["run", "smoke", "--sim", "http://127.0.0.1:9"], "that is a URL; leave out --sim"),
        (["run", "http://127.0.0.1:9", "smoke"], "is a URL; a profile comes before it"),
        (["run", "smoke", "--sim", "--header", "nothing"], "--header: write it as NAME:VALUE"),
        (["run", "smoke", "--sim", "--header", "A: b\nC: d"], "in one line of text"),
        (["run", "smoke", "--sim", "--dialect", "klingon"], "--dialect klingon: use one of"),
        (["run", "smoke", "--sim", "--api-key-env", "NO_SUCH_VAR"], "this environment variable is not set"),
        (["run", "capacity", "--sim", "--concurrency", "5000"], "--concurrency 5000: at most 1024 may be in flight"),
        (["run", "smokes", "--sim"], "no such profile; did you mean smoke?"),
        (["run", "./smoke.toml", "--sim"], "No such file or directory; did you mean smoke?"),
        (["run", "a" * 5000, "--sim"], "it is too long"),
        (["run", "a" * 300, "--sim"], "File name too long"),
        (["run", "~no-such-user/x.toml", "--sim"], "there is no such user"),
        (["run", "", "--sim"], "is no name of a file"),
        (["run", ".", "--sim"], "is a folder"),
        (["run", "a\0b", "--sim"], "it has a NUL"),
        (["run", "a\x1b[2Jb\nc", "--sim"], r"a\x1b[2Jb c: no such profile"),
        (["run", "/dev/zero", "--sim"], "is a device"),
        (["assess", "a" * 5000], "it is too long"),
        (["report", "~no-such-user/x"], "there is no such user"),
        (["profiles", "save", "a" * 300], "File name too long"),
        (["predict", "/dev/zero"], "/dev/zero"),
        (["predict", "laptop", "--requests", ""], "is no name of a file"),
        (["predict", "laptop", "--requests", "/"], "is a folder"),
        (["predict", "laptop", "--set", "max_num_seqs=1.5"], "knob max_num_seqs=1.5: must be a whole number"),
        (["run", "smoke", "--sim", "--slo", "ttft_p95<nan s"], "write it like"),
        (["run", "smoke", "--sim", ""], "is no name of a file"),
        (["run", "smoke", "--sim", "--slo", ""], "SLO: no limit given"),
        (["predict", "laptop", "--slo", ""], "SLO: no limit given"),
        (["assess", "/dev/null", "--slo", ""], "SLO: no limit given"),
        (["report", "/dev/null", "--slo", ""], "SLO: no limit given"),
        (["run", "smoke", "--sim", "--label", "a\udcff"], r"label a\udcff: is not UTF-8 text"),
        (["run", "smoke", "--sim", "--set", "a\udcff=1"], r"set a\udcff=1: is not UTF-8 text"),
        (["run", "smoke", "--sim", "--record", "a\udcff"], r"record a\udcff: is not UTF-8 text"),
        (["run", "a\udcff", "--sim"], r"a\udcff: no such profile"),
        (["assess", "a\udcff"], r"a\udcff: no such file"),
        (["sim", "--host", ""], "--host '': is no name or address"),
        (["sim", "--host", "a" * 70], "is no name or address"),
        (["sim", "/dev/zero"], "is a device"),
        (["sim", "--set", "stream_interval=99999999999"], "must be a whole number from 1 to 256"),
        (["sim", "--fault", "http_500=nan"], "a number from 0 to 1"),
        (["doctor", "http://a..b"], "there is no host in it"),
        (["profiles", "save", "/dev/null", "--name", "../x"], "1 to 200 bytes without a slash"),
        (["run", "smoke", "--sim", "--gate", "0"], "--gate"),
        (["run", "smoke", "--sim", "--gate", "1.5"], "--gate"),
        *(
            (["run", "smoke", "--sim", f"--canary={rate}"], f"'{rate}': must be a number from 0.01 to 5 (requests per")
            for rate in ("0", "6", "nan", "-1", "half")
        ),
        (["run", "smoke", "--sim", "--slo", "ttft<2s,ttft_p95<1s"], "a second limit on ttft_p95"),
    ],
)
def test_what_cannot_be_meant_says_what_is(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(words, capsys)


def test_an_option_may_stand_before_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a real server has none" in refused(
        ["run", "smoke", "--set", "max_num_seqs=4", "--json", "http://127.0.0.1:9"], capsys
    )


def test_nothing_is_skipped_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--model" in refused(["run", "smoke", "http://127.0.0.1:1", "--skip-checks"], capsys)
    assert "with a URL" in refused(["run", "smoke", "--sim", "--skip-checks", "--model", "m"], capsys)


def test_what_is_unchecked_says_so() -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:1", model="m", dialect=Dialect.VLLM)
    info = unchecked(endpoint)
    assert (info.model, info.dialect, info.apis) == ("m", Dialect.VLLM, ("chat", "completions"))
    assert "unchecked" in (info.server or "")
    assert [finding.ok for finding in info.findings] == [None]


EFFECTS = [
    ("smoke --concurrency 0", "--concurrency 0 is not used: profile smoke brings its own loads; --peak N scales them"),
    ("smoke --rate 3", "--rate 3 is not used"),
    ("capacity --concurrency 3", ""),
    ("smoke", ""),
    ("smoke --duration 5", "--duration 5: the 20 s of profile smoke are squeezed to 5 s, each stage in proportion"),
    ("smoke --duration 40", "--duration 40: the 20 s of profile smoke are stretched to 40 s"),
    ("smoke --duration 20", ""),
    ("smoke --peak 64", "--peak 64: the loads of profile smoke follow, up to 96 users"),
    (
        "smoke --max-concurrency 8",
        "--max-concurrency 8: loads above it are cut to it; profile smoke goes up to 48 users",
    ),
    ("smoke --max-concurrency 48", ""),
    ("smoke --prompt-tokens 9 --output-tokens 9", ""),
    ("{own} --prompt-tokens 9", "--prompt-tokens 9 is not used in a: there profile own has its own length"),
    ("{own} --output-tokens 9", ""),
    ("smoke --gate 9", ""),
    ("{own} --gate 9", "--gate 9 is not used in b: there profile own has its own gate"),
    ("{told} --prompt-tokens 9", "--prompt-tokens 9 is not used: prompts are as long as those of"),
]


@pytest.mark.parametrize(("words", "says"), EFFECTS)
def test_what_an_option_does_to_a_profile_is_said(words: str, says: str, tmp_path: Path) -> None:
    own, told = tmp_path / "own.toml", tmp_path / "told.toml"
    hold = "duration = 9\nshape = 'hold'\nconcurrency = 2\n"
    own.write_text(f"[[stage]]\nname = 'a'\nprompt_tokens = 7\n{hold}[[stage]]\nname = 'b'\ngate = 3\n{hold}")
    told.write_text(f"[workload]\nsource = 'jsonl'\nfile = 'x.jsonl'\n[[stage]]\n{hold}")
    parser = argparse.ArgumentParser()
    options.ADD["run"](parser)
    arguments = parser.parse_args(words.format(own=own, told=told).split())
    profile = load_profile(arguments.profile, peak=arguments.peak, most=arguments.max_concurrency)
    said = effects(with_arguments(profile, arguments), arguments)
    assert len(said) == bool(says)
    assert "".join(said).startswith(says)


def test_nobody_in_flight_by_hand_is_said() -> None:
    parser = argparse.ArgumentParser()
    options.ADD["live"](parser)
    for words, says in (("--concurrency 0", ("--concurrency 0: nothing is sent until the load is raised",)), ("", ())):
        assert effects(by_hand(1), parser.parse_args(words.split())) == says


def test_knobs_of_a_profile_are_turned_unless_the_command_line_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[simulated]\npreset = "laptop"\nknobs = { max_num_seqs = 46, block_size = 16 }\n')
    parser = argparse.ArgumentParser()
    options.ADD["live"](parser)
    for words, preset, knobs in (
        ("", "laptop", {"max_num_seqs": 46, "block_size": 16}),
        ("--set max_num_seqs=9", "laptop", {"max_num_seqs": "9", "block_size": 16}),
        ("--sim a100-llama-3.1-8b", "a100-llama-3.1-8b", {}),
    ):
        told = session_options(parser.parse_args(words.split()), load_profile(path), None, patient=True)
        assert (told.preset, told.knobs) == (preset, knobs)
    (said,) = effects(load_profile(path), parser.parse_args(["http://127.0.0.1:1"]))
    assert "turn nothing on a real server" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--set", "warp=9"], "knob 'warp' is not known; use one of "),
        (["--set", "max_num_seqs=many"], "knob max_num_seqs=many: must be a whole number"),
        (["--set", "stream_interval=0"], "knob stream_interval: '0' must be a whole number from 1"),
        (["--sim", "h999"], "h999: no such preset; use one of laptop, "),
        (["--sim", "missing.toml"], "missing.toml: "),
        (["--sim", "--metrics-url", "k8s://a/b"], "--metrics-url is of a real server: the simulated engine tells its "),
        (["--metrics-url", "http://127.0.0.1:1/metrics"], "--metrics-url is of a real server: the simulated engine"),
    ],
)
@pytest.mark.parametrize("command", [[], ["run", "smoke"]], ids=["cockpit", "run"])
def test_a_wrong_knob_preset_or_place_is_a_wrong_usage_before_anything_is_started(
    command: list[str], words: list[str], complaint: str
) -> None:
    parser = _parser(command[0] if command else "live")
    arguments = parser.parse_intermixed_args([*command[1:], *words])
    with pytest.raises(LlmtopError) as caught:
        session_options(arguments, by_hand(4), None, patient=True)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(complaint)
