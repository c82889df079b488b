"""Waits for what comes at its own time, however long a busy machine takes for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

PATIENCE_S = 30.0


def until(reached: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Raises AssertionError where it never comes."""
    deadline_s = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.005)


def lives(process: psutil.Process) -> bool:
    """Neither gone nor a zombie that nobody has waited for: whoever inherits an orphan may take its time."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two
        return False


def runs(pid: int) -> bool:
    """As `lives`, of whoever has this number now."""
    try:
        return lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def until_gone(*pids: int) -> None:
    """Until none of these processes runs."""
    until(lambda: not any(map(runs, pids)))
