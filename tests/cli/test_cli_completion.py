"""`llmtop completion`: each script is one of its shell, knows every command and option, and completes them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtop.cli import completion, groups, options
from llmtop.cli.main import COMMANDS, main
from llmtop.domain.endpoint import Dialect
from llmtop.profiles import profile_names
from llmtop.simulator.engine import preset_names

pytest.importorskip("shtab")
TIMES_OUT_S = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own profiles, recordings and a run that goes on: what a shell finds there is read when somebody presses Tab."""
    home = tmp_path_factory.mktemp("it's home")
    runs = "d/llmtop/runs"
    recorded, going = f"{runs}/20261128-041028-laptop.llmtop", f"{runs}/20261128-050000-live.sock"
    for name in ("c/llmtop/profiles/own name.toml", recorded, going, "here/file.toml"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


@pytest.fixture(scope="module")
def scripts(home: Path) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("DATA", "CONFIG", "STATE"):
            patch.setenv(f"XDG_{variable}_HOME", str(home / variable[0].lower()))
        made = {shell: completion.script(shell) for shell in options.SHELLS}
    paths = {shell: home / f"llmtop.{shell}" for shell in made}
    for shell, text in made.items():
        paths[shell].write_text(text)
    return paths


def shell(*words: str, cwd: Path | None = None) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, timeout=TIMES_OUT_S, check=False, cwd=cwd)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def bash(scripts: dict[str, Path], home: Path) -> Callable[..., set[str]]:
    """What Tab offers behind these words; the last one is being typed. Words are split as bash splits them."""
    code = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _shtab_llmtop; printf "%s\\n" "${COMPREPLY[@]}"'
    )

    def tab(*words: str) -> set[str]:
        told = shell("bash", "--norc", "-c", code, "bash", str(scripts["bash"]), *words, cwd=home / "here")
        return set(told.splitlines()) - {""}

    return tab


@pytest.mark.parametrize("name", options.SHELLS)
def test_a_script_is_one_of_its_shell(name: str, scripts: dict[str, Path]) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    shell(name, "-n", str(scripts[name]))


@pytest.mark.parametrize("name", options.SHELLS)
def test_every_command_and_every_option_is_in_every_script(name: str, scripts: dict[str, Path]) -> None:
    text = scripts[name].read_text()
    assert set(options.ADD) == set(COMMANDS)
    for command, add in options.ADD.items():
        assert command in text
        parser = argparse.ArgumentParser()
        add(parser)
        for option in parser._option_string_actions:
            long = option.startswith("--")
            shown = f"-{'l' if long else 's'} {option.lstrip('-')}" if name == "fish" else option
            assert shown in text, (command, option)


def test_the_options_of_each_command_are_those_that_bash_offers_behind_it(bash: Callable[..., set[str]]) -> None:
    for command, add in options.ADD.items():
        parser = argparse.ArgumentParser()
        add(parser)
        assert bash("llmtop", command, "-") == set(parser._option_string_actions), command


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ru",), {"run", "runs"}),
        (("run", "--ju"), {"--junit"}),
        (("run", "smo"), {"smoke"}),
        (("run", "smoke", "http", ":", "//h", ":", "80", "--fail"), {"--fail-on"}),
        (("http", ":", "//h", ":", "80", "--outp"), {"--output-tokens"}),
        (("http", ":", "//h", "--transport", ""), {"auto", "httpx"}),
        (("run", "x", "--api", ""), set(groups.APIS)),
        (("run", "x", "--api", "c"), {"chat", "completions"}),
        (("run", "x", "--sim", "h100"), {name for name in preset_names() if name.startswith("h100")}),
        (("run", "x", "--dialect", ""), {str(each) for each in Dialect}),
        (("run", "x", "--junit", ""), {"file.toml"}),
        (("run", ""), {*profile_names(), "own name", "file.toml"}),
        (("report", ""), {"last", "20261128-041028-laptop", "file.toml"}),
        (("attach", ""), {"last", "20261128-050000-live", "file.toml"}),
        (("stop", "2"), {"20261128-050000-live"}),
        (("profiles", "s"), {"save", "show", "schema"}),
        (("profiles", "show", "own"), {"own name"}),
        (("completion", ""), set(options.SHELLS)),
        (("--prof",), {"--profile"}),
        (("--profile", "soa"), {"soak"}),
        (("run", "x", "--slo", ""), set()),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: set[str], bash: Callable[..., set[str]]) -> None:
    assert bash("llmtop", *words) == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes(scripts: dict[str, Path], home: Path) -> None:
    lines = {
        "llmtop ru": {"run", "runs"},
        "llmtop run --ju": {"--junit"},
        "llmtop http://h:80 --outp": {"--output-tokens"},
        "llmtop run x --api c": {"chat", "completions"},
        "llmtop report la": {"last"},
        "llmtop run smo": {"smoke"},
        "llmtop profiles show own": {"own name"},
    }
    for line, offered in lines.items():
        told = shell("fish", "--no-config", "-c", f"source '{_fish(scripts['fish'])}'; complete -C '{line}'")
        assert {each.partition("\t")[0] for each in told.splitlines()} == offered, line


def _fish(path: Path) -> str:
    return str(path).replace("'", "\\'")


@pytest.mark.parametrize("name", options.SHELLS)
def test_it_is_printed_whole_however_long_its_lines_are(
    name: str, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert main(["completion", name]) == 0
    out = capsysbinary.readouterr().out
    assert out.decode() == completion.script(name)


def test_without_what_makes_it_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    out, err = capsys.readouterr()
    assert "pip install 'llmtop[completion]'" in err
    assert out == ""


@pytest.mark.parametrize("words", [[], ["powershell"], ["bash", "zsh"]])
def test_another_shell_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 2
    said = capsys.readouterr().err
    assert "bash" in said or "belongs to nothing" in said


@pytest.mark.parametrize("name", options.SHELLS)
def test_help_says_where_it_goes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "--help"])
    out = capsys.readouterr().out
    assert f"\n  {name} " in out
    assert "~/" in out.partition(f"\n  {name} ")[2].partition("\n")[0]
