"""What stands on a command line for something measured: a recording, one configuration of it, or a table of levels."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from llmtop.analysis.sides import Side, side_of_levels
from llmtop.domain.load import Axis
from llmtop.domain.plain import plain
from llmtop.domain.slo import Slo
from llmtop.errors import FileError, RunFileError, UsageError
from llmtop.exchange.levels import parse_levels
from llmtop.host.review import sides_of_run
from llmtop.inputs import path_of, text_of
from llmtop.recording.shelf import run_path

TABLE = ".csv"
MOST_BYTES = 50_000_000
"""Of a table of levels: a million requests."""
_PART = re.compile(r"(?P<run>.+)@(?P<part>[0-9]{1,4})")


def sides_at(text: str, slo: Slo | None = None, axis: Axis = "concurrency") -> tuple[Side, ...]:
    """What was measured there, a side for each configuration, judged by `slo` or by the run's own; at least one.

    Args:
        text: a run file, its name, `last`; `RUN@2` for the second configuration of a run; a table of levels, `.csv`.
        axis: of a table's levels.

    Raises:
        FileError: there is no such file, it cannot be read, or nothing was measured in it.
        UsageError: the run has no such configuration.
    """
    if text.lower().endswith(TABLE):
        return (_of_table(path_of(text), slo or Slo(), axis),)
    named = _PART.fullmatch(text)
    if named is None or Path(text).exists():
        return _of_run(run_path(text), slo)
    sides, part = _of_run(run_path(named["run"]), slo), int(named["part"])
    if not 1 <= part <= len(sides):
        there = "1" if len(sides) == 1 else f"1 to {len(sides)}"
        raise UsageError(f"{plain(text, 80)}: that run has the configurations {there}")
    return (sides[part - 1],)


def _of_run(path: Path, slo: Slo | None) -> tuple[Side, ...]:
    sides = sides_of_run(path, slo)
    if not sides:
        raise RunFileError(path, "no load in it was held long enough to be a level: nothing to compare")
    if len(sides) == 1:
        return sides
    return tuple(replace(side, name=f"{side.name}@{at}") for at, side in enumerate(sides, 1))


def _of_table(path: Path, slo: Slo, axis: Axis) -> Side:
    try:
        levels = parse_levels(text_of(path, MOST_BYTES))
    except UsageError as error:
        raise FileError(path, str(error)) from None
    return replace(side_of_levels(path.stem, levels, slo, axis=axis), source=path)
