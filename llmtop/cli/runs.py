"""`llmtop runs`: the recordings, newest first; `llmtop runs prune` deletes those that are too many or too old."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from llmtop.cli.output import complain, print_json, say
from llmtop.cli.recorded import much_room
from llmtop.cli.target import confirmed
from llmtop.domain.plain import plain
from llmtop.errors import FileError, UsageError
from llmtop.recording import shelf
from llmtop.recording.shelf import Recording
from llmtop.recording.writer import runs_directory
from llmtop.wording.figures import TEXT, clock

SHOWN = 20
"""Runs that are listed without --all."""
NAMED = 10
"""Recordings that are named one by one before they are deleted."""
_AGE = re.compile(r"(\d{1,5})([hdw])")
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 604800.0}


class RunEntry(Struct, frozen=True, kw_only=True):
    """One recording."""

    name: str
    """What `replay`, `report` and `assess` know it by."""
    path: str
    begun_at: float
    """Wall clock, Unix seconds."""
    size: int
    """Bytes."""
    profile: str | None
    label: str | None
    model: str | None
    target: str | None
    """URL, or `--sim` and the preset of the simulated engine."""
    length_s: float | None
    """None: it was cut off, or goes on."""
    requests: int | None
    """That have ended, also those that were cut at its end."""
    sentence: str | None
    """What was said at its end; None: nothing is remembered, and `llmtop assess` says it."""
    problem: str | None
    """Why it cannot be read; None: it can."""


def main(arguments: argparse.Namespace) -> int:
    if arguments.do not in (None, "prune"):
        raise UsageError(f"runs {plain(arguments.do, 40)!r}: write `llmtop runs` or `llmtop runs prune`")
    if arguments.do is not None:
        return _prune(arguments)
    if arguments.keep is not None or arguments.older is not None:
        raise UsageError("--keep and --older say what is deleted: llmtop runs prune --keep 20")
    found = shelf.recordings()
    shown = found if arguments.all else found[:SHOWN]
    entries = _entries(shown)
    if arguments.json:
        print_json({"runs": entries, "more": len(found) - len(shown), "size": sum(each.size for each in found)})
        return 0
    if not found:
        say(f"no recording yet in {runs_directory()}: the cockpit and `llmtop run` make one each time")
    for entry in entries:
        say(_text(entry))
    if found:
        more = f", {len(found) - len(shown)} older with --all" if len(shown) < len(found) else ""
        say(f"{_many(found)}{more}")
    complain(much_room())
    return 0


def _entries(found: Sequence[Recording]) -> list[RunEntry]:
    said = shelf.said()
    entries = []
    for each in found:
        glance = shelf.glance(each.path)
        facts = {name: getattr(glance, name) for name in glance.__struct_fields__}
        name, path = plain(each.name), plain(str(each.path))
        entries.append(
            RunEntry(
                name=name, path=path, begun_at=each.begun_at, size=each.size, sentence=said.get(each.path), **facts
            )
        )
    return entries


def _text(entry: RunEntry) -> str:
    """Two lines: when, name, length and size; what, and what was said of it."""
    when = f"{datetime.fromtimestamp(entry.begun_at):%d %b %H:%M}"
    length = "cut off" if entry.length_s is None else clock(entry.length_s)
    head = f"{when}  {entry.name}  {length if entry.problem is None else ''}  {TEXT.size(entry.size)}"
    if entry.problem is not None:
        return f"{head}\n    {entry.problem}"
    what = ", ".join(filter(None, (entry.label, entry.profile, f"{entry.model or 'no model'} at {entry.target}")))
    said = entry.sentence or f"{entry.requests} requests; `llmtop assess {entry.name}` judges it"
    return f"{head}\n    {what}: {said}"


def _many(found: Sequence[Recording]) -> str:
    noun = "recording" if len(found) == 1 else "recordings"
    return f"{len(found)} {noun}, {TEXT.size(sum(each.size for each in found))}"


# ── Deleting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prune(arguments: argparse.Namespace) -> int:
    if (arguments.keep is None) == (arguments.older is None):
        raise UsageError("runs prune: say what is deleted: --keep N, all but the newest N, or --older 30d; one of them")
    if arguments.json or arguments.all:
        raise UsageError("runs prune: --json and --all are of the list, `llmtop runs`")
    now = time.time()
    found = shelf.own_recordings()
    if arguments.keep is not None:
        picked = found[arguments.keep :]
    else:
        age_s = age(arguments.older)
        picked = tuple(each for each in found if now - each.begun_at > age_s)
    busy = [each for each in picked if shelf.goes_on(each, now)]
    doomed = [each for each in picked if each not in busy]
    for each in busy:
        complain(f"{each.name} may still be written, and stays")
    if not doomed:
        say(f"nothing to delete among {_many(found)} in {runs_directory()}")
        return 0
    say(f"to be deleted from {runs_directory()}: {_many(doomed)}")
    for each in doomed[:NAMED]:
        say(f"  {each.name}  {TEXT.size(each.size)}")
    if len(doomed) > NAMED:
        say(f"  and {len(doomed) - NAMED} older ones, to {doomed[-1].name}")
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was deleted: say --yes if it shall be")
        if not confirmed(f"Delete {_many(doomed)}? [y/N] "):
            raise UsageError("nothing was deleted")
    return _delete(doomed)


def _delete(doomed: Sequence[Recording]) -> int:
    gone: list[Recording] = []
    failed: FileError | None = None
    for each in doomed:
        try:
            shelf.remove(each)
        except FileError as error:
            failed = error
            complain(str(error))
        else:
            gone.append(each)
    say(f"deleted: {_many(gone)}")
    return 0 if failed is None else failed.exit_code


def age(text: str) -> float:
    """Seconds of `30d`, `12h` or `2w`. Raises UsageError."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--older {plain(text, 40)!r}: write it as 12h, 30d or 8w")
    return int(match[1]) * _SECONDS[match[2]]
