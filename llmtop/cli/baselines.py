"""Earlier measurements that a command line names: `--baseline RUN|RUN@N|LEVELS.csv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.domain.slo import Slo
from llmtop.errors import UsageError

if TYPE_CHECKING:
    from llmtop.analysis.sides import Side

MOST = 8
"""Of one run: a chart has no room for more, and each costs an opinion."""


def named(texts: Sequence[str]) -> tuple[str, ...]:
    """What the words stand for, looked up before a new run becomes the newest. Each was glanced at: it can be read.

    Raises FileError naming the file, UsageError.
    """
    if len(texts) > MOST:
        raise UsageError(f"--baseline: {len(texts)} earlier measurements; at most {MOST} are shown beside a run")
    if not texts:
        return ()
    from llmtop.host.beside import looked_up  # late: the cockpit's first picture does not wait for it

    return tuple(map(looked_up, texts))


def read(texts: Sequence[str], slo: Slo) -> tuple[Side, ...]:
    """Of each the configuration that is meant: the last, or the one that is named. Raises FileError naming the file.

    Args:
        texts: from `named`.
    """
    from llmtop.host.beside import side_at

    return tuple(side_at(text, slo) for text in texts)


def reader(texts: Sequence[str]) -> Callable[[Slo], tuple[Side, ...]] | None:
    """What reads them as soon as the SLO is known; None: there is nothing to read."""
    return partial(read, texts) if texts else None


def noted(texts: Sequence[str]) -> tuple[str, ...]:
    """What a run keeps of them: the names of their files, without the folders, and which of their configurations."""
    return tuple(Path(text).name for text in texts)
