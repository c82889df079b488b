"""Runs pytest again and again for `mutate.py`, each time in a fork of a process that has imported what is heavy.

    python mutate_nursery.py MODULES.json

Each line of stdin is {"options": [...], "env": {...}, "limit_s": seconds or null}; each line of stdout says whether
that run ended in time. A run that does not is killed with all its children.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

LOOK_S = 0.02


def preload(names: list[str]) -> None:
    """Whatever can be imported. What cannot is met again, and told, in the run itself."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def born(options: list[str], env: dict[str, str]) -> int:
    """A child in a group of its own that runs pytest; its number."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.environ.update(env)
    code = 3
    try:
        code = int(pytest.main(options))
    finally:
        os._exit(code)


def watched(pid: int, limit_s: float | None) -> bool:
    """Wait for its end, and leave nothing of it behind. Whether it came in time."""
    end = None if limit_s is None else time.monotonic() + limit_s
    in_time = True
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if end is not None and time.monotonic() > end:
            in_time = False
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(LOOK_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return in_time


def main() -> None:
    preload(json.loads(Path(sys.argv[1]).read_text()))
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(watched(born(asked["options"], asked["env"]), asked["limit_s"])), flush=True)


if __name__ == "__main__":
    main()
