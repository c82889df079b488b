"""`llmtop worker`: this machine sends load for a run that is driven elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import stat
import time

from llmtop.cli.output import say
from llmtop.domain.crew import SCHEDULERS
from llmtop.errors import INTERRUPTED, UsageError


def main(arguments: argparse.Namespace) -> int:
    if arguments.stdio:
        return _on_pipes()
    crew = arguments.crew
    if crew is None:
        raise UsageError(f"llmtop worker: a load host joins a scheduler: {SCHEDULERS}")
    from llmtop.cluster.hosting import as_many_as_fit, keep_workers

    processes = arguments.processes or as_many_as_fit()
    ended_by = asyncio.run(keep_workers(crew, processes, arguments.name, _tell))
    return INTERRUPTED if ended_by is signal.SIGINT else 0


def _on_pipes() -> int:
    """Raises UsageError where nobody speaks messages."""
    if any(os.isatty(end) or stat.S_ISREG(os.fstat(end).st_mode) for end in (0, 1)):
        raise UsageError("--stdio: a session starts that by itself: llmtop URL --workers ssh://HOST")
    from llmtop.load.worker import main as work

    return work(greets=True)


def _tell(line: str) -> None:
    say(f"{time.strftime('%H:%M:%S')}  {line}")
