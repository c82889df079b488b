"""Earlier measurements that a command line names: `--baseline RUN|RUN@N|LEVELS.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmtop.errors import UsageError

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


def noted(texts: Sequence[str]) -> tuple[str, ...]:
    """What a run keeps of them: the names of their files, without the folders, and which of their configurations."""
    return tuple(Path(text).name for text in texts)
