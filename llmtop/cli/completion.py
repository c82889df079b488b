"""`llmtop completion SHELL`: a script by which a shell completes commands, options, files and names.

It is made from the parsers of all commands, so that it knows what they know. Names of profiles, presets and recordings
are those of the files in their folders at that moment: the shell lists them itself, and llmtop is not started for it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtop.cli import options
from llmtop.cli.main import COMMANDS
from llmtop.cli.output import hand_out
from llmtop.domain.endpoint import Dialect
from llmtop.errors import UsageError
from llmtop.host import sockets
from llmtop.profiles import own_folder, shipped_folder
from llmtop.recording.runfile import SUFFIX
from llmtop.recording.shelf import LAST
from llmtop.recording.writer import runs_directory
from llmtop.simulator.engine import preset_folder

MISSING = "the script is made by shtab, which is not installed: pip install 'llmtop[completion]', or pip install shtab"
_WORD = re.compile(r"[a-z]+")
"""What stands for itself where an argument is named: `save|show|schema`."""
_FILE = re.compile(r"FILE|SOURCE|[A-Za-z]+\.[a-z]+")
Folders = tuple[tuple[Path, str], ...]
"""Folders, each with how the files in it end whose stems are names."""


def main(arguments: argparse.Namespace) -> int:
    hand_out(os.fsencode(script(arguments.shell)))
    return 0


def script(shell: str) -> str:
    """Raises UsageError: what makes it is not installed."""
    try:
        import shtab
    except ImportError:
        raise UsageError(MISSING) from None
    parser = whole_parser()
    for each in _parsers(parser):
        for action in each._actions:
            _let_complete(action, shtab.FILE)
    return f"{shtab.complete(parser, shell)}\n"


def whole_parser() -> argparse.ArgumentParser:
    """All commands as one parser: the first word is one, or the URL of the cockpit, whose options it has as well."""
    parser = argparse.ArgumentParser(prog="llmtop")
    commands = parser.add_subparsers()
    for name, (_, does) in COMMANDS.items():
        options.ADD[name](commands.add_parser(name, description=does, help=does))
    parser.add_argument("--version", action="version", version="", help="say the version")
    options.ADD["live"](parser)
    for action in parser._get_positional_actions():
        if action.dest == "url":  # a shell cannot know it, and would wait for it before the commands
            action.help = argparse.SUPPRESS
    return parser


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _let_complete(action: Any, files: Any) -> None:
    """Say what may stand in the place of an argument: words, names with files, or files; else nothing is offered."""
    kinds = ["GOING"] if action.dest == "going" else str(action.metavar or "").split("|")
    if action.choices:
        return
    if action.dest == "dialect":
        action.choices = [str(each) for each in Dialect]
    elif named := [kind for kind in kinds if kind in _folders()]:
        action.complete = _names(named)
    elif any(map(_FILE.fullmatch, kinds)):
        action.complete = files
    elif all(map(_WORD.fullmatch, kinds)):
        action.choices = kinds


def _folders() -> dict[str, Folders]:
    return {
        "PROFILE": ((shipped_folder(), ".toml"), (own_folder(), ".toml")),
        "PRESET": ((preset_folder(), ".toml"),),
        "RUN": ((runs_directory(), SUFFIX),),
        "GOING": ((runs_directory(), sockets.SUFFIX),),
    }


def _names(kinds: Sequence[str]) -> dict[str, Any]:
    """What completes to names of these kinds and to files: a function for each shell, which looks into folders."""
    name = f"_llmtop_files_{'_'.join(kinds).lower()}"  # by `_files` bash knows that it may be a path
    folders = [pair for kind in kinds for pair in _folders()[kind]]
    extra = [LAST] if {"RUN", "GOING"} & {*kinds} else []
    made = {"bash": _bash(name, folders, extra), "zsh": _zsh(name, folders, extra), "fish": _fish(name, folders, extra)}
    return {"bash": name, "zsh": name, "fish": f"({name})", "preamble": made}


def _bash(name: str, folders: Sequence[tuple[Path, str]], extra: Sequence[str]) -> str:
    globs = " ".join(f"{shlex.quote(str(folder))}/*{suffix}" for folder, suffix in folders)
    return f"""
{name}() {{
  local path stem
  for path in {" ".join((*extra, globs))}; do
    stem=${{path##*/}}; stem=${{stem%.*}}
    [[ $stem != '*' && $stem == "$1"* ]] && printf '%s\\n' "$stem"
  done
  compgen -f -- "$1"
}}"""


def _zsh(name: str, folders: Sequence[tuple[Path, str]], extra: Sequence[str]) -> str:
    globs = " ".join(f"{shlex.quote(str(folder))}/*{suffix}(N:t:r)" for folder, suffix in folders)
    return f"""
{name}() {{
  local -a names
  names=({" ".join((*extra, globs))})
  compadd -a names
  _files
}}"""


def _fish(name: str, folders: Sequence[tuple[Path, str]], extra: Sequence[str]) -> str:
    globs = " ".join(f"{_fish_quoted(str(folder))}/*{suffix}" for folder, suffix in folders)
    return f"""
function {name}
  for path in {" ".join((*extra, globs))}
    string replace -r '\\.[a-z]+$' '' -- (string split -r -m1 / -- $path)[-1]
  end
  __fish_complete_path (commandline -ct)
end"""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
