"""The law that work grows no faster than what it is done on."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

RATIO = 6.0
"""Four times as much may take at most so many times as long: four times where time is linear, and somewhat more where
caches fill; sixteen times where it is quadratic."""
TRIES = 10


def is_linear(run: Callable[[int], object], n: int) -> None:
    """Raises AssertionError where `run(2 * n)` takes far more than four times the CPU time of `run(n // 2)`.

    Whatever else the machine does only adds to a time: the least of several is nearest to what the work takes.
    """
    sizes = n // 2, 2 * n
    gc.disable()
    try:
        run(sizes[1])  # memory that is asked of the system for the first time costs more
        least_s = [float("inf"), float("inf")]
        for _ in range(TRIES):
            for place, size in enumerate(sizes):
                least_s[place] = min(least_s[place], _seconds(run, size))
            if least_s[1] <= RATIO * least_s[0]:
                return
    finally:
        gc.enable()
    raise AssertionError(least_s)


def _seconds(run: Callable[[int], object], n: int) -> float:
    """Of CPU, of this thread alone."""
    started_s = time.thread_time()
    run(n)
    return time.thread_time() - started_s
