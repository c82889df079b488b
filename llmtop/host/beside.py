"""What stands on a command line for something measured: a recording, one configuration of it, a table of levels, or the
results of another tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.domain.load import Axis
from llmtop.domain.slo import Slo
from llmtop.errors import FileError, RunFileError, UsageError
from llmtop.exchange.heads import looks_foreign
from llmtop.inputs import path_of, text_of
from llmtop.recording.reader import RunReader
from llmtop.recording.shelf import run_path

if TYPE_CHECKING:
    from llmtop.analysis.grounds import Grounds
    from llmtop.analysis.levels import Level
    from llmtop.analysis.sides import Side

TABLE = ".csv"
MOST_BYTES = 50_000_000
"""Of a table of levels: a million requests."""
_PART = re.compile(r"(?P<run>.+)@(?P<part>[0-9]{1,4})")


def looked_up(text: str) -> str:
    """The words with the file that they stand for now: `last` is another run as soon as one begins.

    Raises FileError: it is not there, or no run file, no table of levels and no results of a tool that is known.
    """
    if is_table(text):
        levels_at(path_of(text))
        return text
    run, part = _parted(text)
    path = run_path(run)
    if part is None and looks_foreign(path):
        from llmtop.exchange.files import read  # late, as what judges it: the first picture does not wait for it

        read(path)
        return text
    with RunReader(path):
        return str(path) if part is None else f"{path}@{part}"


def sides_at(
    text: str, slo: Slo | None = None, axis: Axis = "concurrency", usual: Slo | None = None
) -> tuple[Side, ...]:
    """What was measured there, a side for each configuration, judged by `slo` or by the run's own; at least one.

    Args:
        text: a run file, its name, `last`; `RUN@2` for the second configuration of a run; a table of levels, `.csv`;
            a file that another tool has written.
        axis: of a table's levels.
        usual: by what is judged that has none of its own; None: by what is usual.

    Raises:
        FileError: there is no such file, it cannot be read, nothing was measured in it, or not in that configuration.
    """
    if is_table(text):
        return (_of_table(path_of(text), slo or usual or Slo(), axis),)
    run, part = _parted(text)
    path = run_path(run)
    sides = _of_tool(path, slo or usual or Slo()) if looks_foreign(path) else _of_run(path, slo)
    if part is None:
        return sides
    if not 1 <= part <= len(sides):
        from llmtop.host.review import no_such_part

        raise RunFileError(path, no_such_part(part, len(sides)))
    return (sides[part - 1],)


def side_at(text: str, slo: Slo | None = None) -> Side:
    """As `sides_at`, of several the last, which its own verdicts are about."""
    side = sides_at(text, slo)[-1]
    return side if _parted(text)[1] is not None or side.source is None else replace(side, name=_own_name(side))


def read(texts: Sequence[str], slo: Slo) -> tuple[Side, ...]:
    """Of each the configuration that is meant: the last, or the one that is named. Raises FileError naming the file."""
    return tuple(side_at(text, slo) for text in texts)


def reader(texts: Sequence[str]) -> Callable[[Slo], tuple[Side, ...]] | None:
    """What reads them as soon as the SLO is known; None: there is nothing to read."""
    return partial(read, texts) if texts else None


def grounds_at(
    text: str, axis: Axis = "concurrency", prompt_tokens: float | None = None, output_tokens: float | None = None
) -> tuple[Grounds, Slo | None, Path]:
    """What the twin of the server rests on that was measured there, the SLO that it was judged by (None: by none), and
    the file.

    Args:
        text: as of `sides_at`.
        axis: of a table's levels.
        prompt_tokens, output_tokens: of a table that does not tell them.

    Raises:
        FileError: there is no such file, it cannot be read, or has no such configuration.
    """
    from llmtop.analysis.grounds import grounds_of_levels
    from llmtop.host.review import grounds_of_run

    def of(levels: Sequence[Level], axis: Axis) -> Grounds:
        return grounds_of_levels(levels, axis, prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    if is_table(text):
        path = path_of(text)
        return of(levels_at(path), axis), None, path
    run, part = _parted(text)
    path = run_path(run)
    if looks_foreign(path):
        side = sides_at(text)[-1]
        return of(side.levels, side.axis), None, path
    grounds, slo = grounds_of_run(path, part)
    return grounds, slo, path


def _own_name(side: Side) -> str:
    return _parted(side.name)[0] if side.of > 1 else side.name


def is_table(text: str) -> bool:
    """Whether it is a table of levels that is named, by the ending."""
    return text.lower().endswith(TABLE)


def _parted(text: str) -> tuple[str, int | None]:
    """The run, and which of its configurations."""
    named = _PART.fullmatch(text)
    return (text, None) if named is None or Path(text).exists() else (named["run"], int(named["part"]))


def _of_run(path: Path, slo: Slo | None) -> tuple[Side, ...]:
    from llmtop.host.review import sides_of_run  # late: what is only looked up is judged by nobody yet

    sides = sides_of_run(path, slo)
    if not sides:
        raise RunFileError(path, "no load in it was held long enough to be a level: nothing to compare")
    if len(sides) == 1:
        return sides
    return tuple(replace(side, name=f"{side.name}@{at}") for at, side in enumerate(sides, 1))


def _of_tool(path: Path, slo: Slo) -> tuple[Side, ...]:
    from llmtop.exchange.files import sides_in

    return tuple(replace(side, source=path) for side in sides_in(path, slo))


def _of_table(path: Path, slo: Slo, axis: Axis) -> Side:
    from llmtop.analysis.sides import side_of_levels

    return replace(side_of_levels(path.stem, levels_at(path), slo, axis=axis), source=path)


def levels_at(path: Path) -> tuple[Level, ...]:
    """A table of levels. Raises FileError naming the line or the column."""
    from llmtop.exchange.levels import parse_levels

    try:
        return parse_levels(text_of(path, MOST_BYTES))
    except UsageError as error:
        raise FileError(path, str(error)) from None
