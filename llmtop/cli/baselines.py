"""Earlier measurements that a command line names: `--baseline RUN|RUN@N|LEVELS.csv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from llmtop.cli.recorded import run_path
from llmtop.domain.slo import Slo
from llmtop.errors import FileError, RunFileError, UsageError
from llmtop.inputs import path_of, text_of

if TYPE_CHECKING:
    from llmtop.analysis.sides import Side

MOST = 8
"""Of one run: a chart has no room for more, and each costs an opinion."""
MOST_BYTES = 50_000_000
"""Of a table of levels: a million requests."""
PART = "@"
"""Before the number of one configuration of a run."""


def named(texts: Sequence[str]) -> tuple[str, ...]:
    """What the words stand for, looked up before a new run becomes the newest. Each was glanced at: it can be read.

    Raises FileError naming the file, UsageError.
    """
    if len(texts) > MOST:
        raise UsageError(f"--baseline: {len(texts)} earlier measurements; at most {MOST} are shown beside a run")
    return tuple(map(_named, texts))


def read(texts: Sequence[str], slo: Slo) -> tuple[Side, ...]:
    """Of each the configuration that is meant: the last, or the one that is named. Raises FileError naming the file.

    Args:
        texts: from `named`.
    """
    return tuple(_side(text, slo) for text in texts)


def reader(texts: Sequence[str]) -> Callable[[Slo], tuple[Side, ...]] | None:
    """What reads them as soon as the SLO is known; None: there is nothing to read."""
    return partial(read, texts) if texts else None


def _named(text: str) -> str:
    from llmtop.recording.reader import RunReader

    file, part = _parted(text)
    if _is_table(file):
        text_of(path_of(file), MOST_BYTES)
        return text
    path = run_path(file)
    with RunReader(path):
        return f"{path}{PART}{part}" if part else str(path)


def _side(text: str, slo: Slo) -> Side:
    from llmtop.analysis.sides import side_of_levels
    from llmtop.exchange.levels import parse_levels
    from llmtop.host.review import sides_of_run

    file, part = _parted(text)
    path = path_of(file)
    if _is_table(file):
        try:
            side = side_of_levels(path.stem, parse_levels(text_of(path, MOST_BYTES)), slo)
        except UsageError as error:
            raise FileError(path, str(error)) from None
        return replace(side, source=path)
    sides = {str(side.part + 1): side for side in sides_of_run(path, slo)}
    if not sides:
        raise RunFileError(path, "holds no level of load that could be compared: too few requests")
    if not part:
        return list(sides.values())[-1]
    if part not in sides:
        raise RunFileError(path, f"has no configuration {part} with levels; it has {', '.join(sides)}")
    return replace(sides[part], name=f"{sides[part].name}{PART}{part}")


def _parted(text: str) -> tuple[str, str]:
    """The file, and which of its configurations; empty: the last."""
    file, at, part = text.rpartition(PART)
    return (file, part) if at and part.isdecimal() and part.isascii() else (text, "")


def _is_table(file: str) -> bool:
    return file.lower().endswith(".csv")
