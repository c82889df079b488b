"""The summary of a step that a GitHub job shows: its runner names a file, to which Markdown is appended."""

from __future__ import annotations

import os
from collections.abc import Callable

from llmtop.cli.output import complain, named
from llmtop.errors import LlmtopError
from llmtop.files import append

VARIABLE = "GITHUB_STEP_SUMMARY"
MOST = 1 << 16
"""Bytes of one summary. A step that comes to 1 MiB shows none, and others may write to the same file."""
CUT = "\n\n… more was said than a summary has room for; a report of the run file has all of it\n"


def add(text: Callable[[], str]) -> None:
    """Append what `text` makes, where there is such a file. One that cannot be written is said, and nothing else."""
    if not os.environ.get(VARIABLE):
        return
    try:
        append(named(VARIABLE, os.environ[VARIABLE]), bounded(text()).encode(errors="backslashreplace"))
    except LlmtopError as error:
        complain(f"{VARIABLE}: {error}")


def bounded(text: str) -> str:
    """A text of at most `MOST` bytes between blank lines: of a longer one whole lines, and that there was more."""
    whole = f"\n{text.strip()}\n"
    if len(whole.encode(errors="backslashreplace")) <= MOST:
        return whole
    room = MOST - len(f"{CUT}</details>\n".encode())
    kept = whole.encode(errors="backslashreplace")[:room].decode(errors="ignore").rpartition("\n")[0]
    opened = kept.count("<details>") > kept.count("</details>")
    return f"{kept}{CUT}" + ("</details>\n" if opened else "")
