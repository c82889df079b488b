"""`llmtop locate`: where files lie."""

from __future__ import annotations

import argparse
from pathlib import Path

from llmtop.cli.output import complain, print_json, say
from llmtop.cli.settings import settings_path
from llmtop.cli.wanted import state_path, unkept
from llmtop.files import Kind, ignored
from llmtop.host.log import log_path
from llmtop.profiles import own_folder
from llmtop.recording.writer import runs_directory


def main(arguments: argparse.Namespace) -> int:
    places: dict[str, tuple[Path, Kind]] = {
        "runs": (runs_directory(), "data"),
        "profiles": (own_folder(), "config"),
        "settings": (settings_path(), "config"),
        "state": (state_path(), "state"),
        "log": (log_path(), "log"),
    }
    there = [name for name, (path, _) in places.items() if _is_there(path)]
    odd = tuple(dict.fromkeys(filter(None, (ignored(kind) for _, kind in places.values()))))
    if arguments.json:
        print_json({**{name: str(path) for name, (path, _) in places.items()}, "there": there, "ignored": odd})
        return 0
    for name, (path, _) in places.items():
        say(f"{name:<9} {path}{'' if name in there else '   (not there yet)'}")
    if (problem := unkept(state_path())) is not None:
        complain(f"{state_path()}: {problem}")
    for each in odd:
        complain(each)
    return 0


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
