"""What is said of a recording that cannot be written as it should: at once, and at the end of the run."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.wording.figures import clock

LOCKED = "another program holds a lock on it"
FULL = "the disk is full"
SILENT = "the disk does not answer"
DELETED = "it was deleted"
REPLACED = "it was replaced by another file"
CUT_SHORT = "somebody else has written into it"

Span = tuple[float, float | None]
"""From when to when, on the run clock; None: it goes on."""


def waits_text(path: object, why: str) -> str:
    return f"recording waits: {why}; what comes is kept in memory until it can be written: {path}"


def goes_on_text(path: object) -> str:
    return f"recording goes on in {path}: what was kept in memory is written"


def full_memory_text(facts: int) -> str:
    return f"recording: {facts} facts wait in memory, no more are kept: what comes now is lost until it can be written"


def moved_text(path: object, why: str, before_s: float | None) -> str:
    """`before_s`: what was recorded until then could not be saved; None: everything is in the new file."""
    lost = "with all of the run" if before_s is None else f"without what was recorded until {clock(before_s)}"
    return f"recording goes on in {path}, {lost}, because {why}"


def elsewhere_text(wanted: object, why: str, path: object) -> str:
    return f"the run is recorded in {path}, because {wanted} cannot be: {why}"


def nowhere_text(wanted: object, why: str) -> str:
    return f"{wanted}: {why}, and no temporary folder can be written either: the run is not recorded"


def left_out_text(rows: int, why: str) -> str:
    return f"recording: {rows} {'fact' if rows == 1 else 'facts'} could not be written and are left out: {why}"


def lost_text(span: Span) -> str:
    from_s, to_s = span
    return f"what came from {clock(from_s)} {'on' if to_s is None else f'to {clock(to_s)}'} is lost"


def missing_text(waiting: str | None, waits_since_s: float | None, lost: Sequence[Span], left_out: int) -> str | None:
    """What is not in the run file, and why; None: nothing is missing."""
    parts = []
    if waiting is not None:
        since = "" if waits_since_s is None else f" since {clock(waits_since_s)}"
        parts.append(f"nothing is written{since}: {waiting}")
    parts += [lost_text(span) for span in lost]
    if left_out:
        parts.append(f"{left_out} {'fact is' if left_out == 1 else 'facts are'} left out")
    return "; ".join(parts) or None


def rest_text(path: object, from_s: float) -> str:
    return f"what came from {clock(from_s)} on is in {path}"


def cut_off_text(at_s: float, lacks: object) -> str:
    """Of a run file without an end. `lacks`: the log that its last facts are in, if it is not beside it."""
    rest = "" if lacks is None else f"; what came after it was in {lacks}, which is not there"
    return f"the run was cut off at {clock(at_s)}, or still goes on{rest}"
