"""Lets a host go on that was told to end while it was stopped: until then it hears of no signal, and its load stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

LOOK_S = 0.5
"""With the load, which ends next, all is over within 3 s of the signal."""
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""Signals that ask for an end in order."""


def asked_to_end(status: str) -> bool:
    """Whether a stopped process has a signal before it that asks for its end.

    Args:
        status: of /proc/PID/status, see proc(5).
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if fields.get("State", "").strip()[:1] != "T":
        return False
    waiting = int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16)
    return any(waiting >> (number - 1) & 1 for number in ENDS)


async def wake_to_end(parent: int) -> None:
    """Look after this process's parent, until cancelled or until it is gone; without /proc, nothing is done."""
    while os.getppid() == parent:
        with contextlib.suppress(OSError, ValueError):
            if asked_to_end(_status(parent)):
                os.kill(parent, signal.SIGCONT)
        await asyncio.sleep(LOOK_S)


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()
