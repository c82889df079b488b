"""`llmtop worker`: this machine sends load for a run that is driven elsewhere."""

from __future__ import annotations

import argparse
import os
import stat

from llmtop.errors import UsageError


def main(arguments: argparse.Namespace) -> int:
    if arguments.stdio:
        return _on_pipes()
    raise UsageError("llmtop worker: a load host joins a scheduler: llmtop worker dask://HOST:8786 or tls://HOST:8786")


def _on_pipes() -> int:
    """Raises UsageError where nobody speaks messages."""
    if any(os.isatty(end) or stat.S_ISREG(os.fstat(end).st_mode) for end in (0, 1)):
        raise UsageError("--stdio: a session starts that by itself: llmtop URL --workers ssh://HOST")
    from llmtop.load.worker import main as work

    return work(greets=True)
