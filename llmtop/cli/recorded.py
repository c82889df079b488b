"""Which recording a RUN on the command line names, and what is said where they take much room."""

from __future__ import annotations

from pathlib import Path

from llmtop.cli.output import complain
from llmtop.domain.verdicts import Assessment
from llmtop.errors import RunFileError
from llmtop.inputs import path_of
from llmtop.recording import shelf
from llmtop.wording.figures import TEXT

LAST = "last"
"""The name of the newest recording."""
MUCH_BYTES = 1_000_000_000
"""Of all recordings together: from here on somebody should know how to be rid of them."""


def run_path(text: str) -> Path:
    """The path of a run file: `last`, a name from `llmtop runs`, or a path. Raises FileError."""
    if text == LAST:
        return shelf.newest()
    path = path_of(text, RunFileError)
    if path.exists():
        return path
    if (known := shelf.named(text)) is not None:
        return known
    raise RunFileError(path, f"no such file; `llmtop runs` lists the recordings, {LAST!r} is the newest")


def note_run(run_file: str | None, assessment: Assessment) -> None:
    """What was said of a run at its end is what `llmtop runs` shows of it; recordings that take much room are told."""
    if run_file is not None:
        shelf.remember(Path(run_file), assessment.judgement.sentence)
        complain(much_room())


def much_room() -> str | None:
    """What to say where recordings take much room; None: they do not."""
    found = shelf.own_recordings()
    size = sum(each.size for each in found)
    if size < MUCH_BYTES:
        return None
    return f"{len(found)} recordings take {TEXT.size(size)}: `llmtop runs prune --keep 20` deletes the older ones"
