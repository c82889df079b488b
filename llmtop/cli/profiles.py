"""`llmtop profiles`: shipped and own profiles, and a hand-driven run saved as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from llmtop.cli.output import print_json
from llmtop.errors import UsageError
from llmtop.meter.facts import Facts
from llmtop.profiles import list_profiles, own_folder, profile_from_run, save_profile
from llmtop.recording.reader import RunReader
from llmtop.wording.figures import clock


def main(arguments: argparse.Namespace) -> int:
    if arguments.run is not None:
        path = save_run(Path(arguments.run), arguments.name)
        print(f"{path}\n  llmtop run {path.stem} [URL]")
        return 0
    if arguments.name is not None:
        raise UsageError("--name: say with --from RUN which recording to save")
    entries = list_profiles()
    if arguments.json:
        print_json(entries)
        return 0
    for entry in entries:
        length = clock(round(entry.duration_s)) if entry.duration_s else "by hand" if entry.problem is None else ""
        whose = "" if entry.shipped else f"  {entry.path}"
        print(f"{entry.name:<14} {length:>8}  {entry.problem or entry.description}{whose}")
    return 0


def save_run(run: Path, name: str | None) -> Path:
    """The load of a recording as an own profile, to be repeated against the next configuration."""
    with RunReader(run) as reader:
        facts = Facts.of(reader.batches())
        profile = profile_from_run(reader.meta, facts.changes)
    path = own_folder() / f"{name or run.stem}.toml"
    if path.exists():
        raise UsageError(f"{path} exists already: give another --name")
    save_profile(profile, path)
    return path
