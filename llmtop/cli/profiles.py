"""`llmtop profiles`: shipped and own profiles, and a hand-driven run saved as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec.structs import replace

from llmtop.cli.output import complain, print_json, say
from llmtop.domain.plain import plain
from llmtop.domain.profile import Question
from llmtop.errors import UsageError
from llmtop.meter.facts import Facts
from llmtop.profiles import ProfileEntry, list_profiles, own_folder, own_problem, profile_from_run, save_profile
from llmtop.recording.reader import RunReader
from llmtop.recording.shelf import run_path
from llmtop.wording.figures import clock

MOST_NAME = 200
"""Bytes of a profile's name; file systems take 255 with what is added."""
MOST = 1000
"""Characters that are shown of a profile."""


def main(arguments: argparse.Namespace) -> int:
    if arguments.run is not None:
        path = save_run(run_path(arguments.run), arguments.name)
        say(f"{path}\n  llmtop run {path.stem} [URL]")
        return 0
    if arguments.name is not None:
        raise UsageError("--name: say with --from RUN which recording to save")
    complain(own_problem())
    entries = list_profiles()
    if arguments.json:
        print_json({"profiles": entries})
        return 0
    for entry in entries:
        whose = "" if entry.shipped else f"  {entry.path}"
        asks = entry.question or ""
        said = plain(f"{entry.problem or entry.description}{whose}", MOST)
        say(f"{entry.name:<14} {asks:<8} {_length(entry):>8}  {said}")
    return 0


def _length(entry: ProfileEntry) -> str:
    if entry.problem is not None:
        return ""
    if entry.duration_s:
        return clock(round(entry.duration_s))
    return "searched" if entry.question is Question.CAPACITY else "by hand"


def save_run(run: Path, name: str | None) -> Path:
    """The load of a recording as an own profile, to be repeated against the next configuration."""
    given, name = name, run.stem if name is None else name
    odd = not name.strip() or name.startswith((".", "~")) or not name.isprintable() or "/" in name
    if odd or len(name.encode()) > MOST_NAME:
        what = f"a name of a profile is 1 to {MOST_NAME} bytes without a slash, and begins with no dot or ~"
        raise UsageError(f"--name {plain(name, 60)!r}: {what}")
    with RunReader(run) as reader:
        if reader.cut_off:
            complain(f"{run}: {reader.cut_off}")
        facts = Facts.of(reader.batches())
        profile = profile_from_run(reader.meta, facts.changes, facts.chapters)
    if given is not None:
        profile = replace(profile, name=given)
    path = own_folder() / f"{name}.toml"
    save_profile(profile, path)
    return path
