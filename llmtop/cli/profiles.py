"""`llmtop profiles`: shipped and own ones, one of them as it stands, a hand-driven run saved as one, their schema."""

from __future__ import annotations

import argparse
from pathlib import Path

from llmtop.cli.output import complain, print_json, say
from llmtop.domain.plain import plain
from llmtop.domain.profile import Question
from llmtop.errors import UsageError
from llmtop.meter.facts import Facts
from llmtop.profiles import (
    ProfileEntry,
    check_name,
    list_profiles,
    look_up,
    own_problem,
    repeated_by,
    save_driven,
)
from llmtop.recording.reader import RunReader
from llmtop.recording.shelf import run_path
from llmtop.wording.figures import clock

MOST = 1000
"""Characters that are shown of a profile."""
DOES = {"save": "RUN", "show": "PROFILE", "schema": None}
"""What can be done besides listing them, and to what."""


def main(arguments: argparse.Namespace) -> int:
    does, what = arguments.do, arguments.what
    if does is not None and does not in DOES:
        raise UsageError(f"{plain(does, 40)!r}: save RUN, show PROFILE, schema, or nothing to list the profiles")
    if arguments.name is not None and does != "save":
        raise UsageError("--name is for: llmtop profiles save RUN --name NAME")
    if (does is not None and DOES[does] is not None) != (what is not None):
        raise UsageError(f"llmtop profiles {does}{f' {DOES[does]}' if DOES[does] else ''}: it takes that and no more")
    if does == "save":
        path = save_run(run_path(what), arguments.name)
        say(f"{path}\n  {repeated_by(path)} [URL]")
    elif does == "show":
        _show(what, as_json=arguments.json)
    elif does == "schema":
        from llmtop.profiles.jsonschema import schema_text

        say(schema_text())
    else:
        _list(as_json=arguments.json)
    return 0


def _list(*, as_json: bool) -> None:
    complain(own_problem())
    entries = list_profiles()
    if as_json:
        print_json({"profiles": entries})
        return
    for entry in entries:
        whose = "" if entry.shipped else f"  {entry.path}"
        asks = entry.question or ""
        said = plain(f"{entry.problem or entry.description}{whose}", MOST)
        say(f"{entry.name:<14} {asks:<8} {_length(entry):>8}  {said}")


def _show(name: str, *, as_json: bool) -> None:
    """The file with a head of comments: what is printed is a profile, too."""
    entry, text = look_up(name)
    if as_json:
        print_json({"profile": entry, "text": text})
        return
    whose = "shipped with llmtop" if entry.shipped else "your own"
    told = [f"asks {entry.question}", _length(entry), f"peak {entry.peak:g}" if entry.peak is not None else ""]
    head = f"# cannot be used: {entry.problem}" if entry.problem else f"# {' · '.join(filter(None, told))}"
    say(f"# {entry.name}, {whose}: {entry.path}\n{head}\n\n{text.rstrip()}")


def _length(entry: ProfileEntry) -> str:
    if entry.problem is not None:
        return ""
    if entry.duration_s:
        return clock(round(entry.duration_s))
    return "searched" if entry.question is Question.CAPACITY else "by hand"


def save_run(run: Path, name: str | None) -> Path:
    """The load of a recording as an own profile, to be repeated against the next configuration."""
    if name is not None:
        check_name(name)
    with RunReader(run) as reader:
        if reader.cut_off:
            complain(f"{run}: {reader.cut_off}")
        facts = Facts.of(reader.batches())
        return save_driven(reader.meta, facts.changes, facts.chapters, name=name, run_file=run)
