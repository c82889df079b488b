"""An event loop whose time jumps: what is due in an hour happens at once."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable
from typing import Any

LEAST_S = 1e-9


class JumpingSelector(selectors.SelectSelector):
    """Never waits: it moves the clock on instead.

    For less than a nanosecond, by whole ones: somebody who is woken a little too early by a clock that counts them
    would wait for the rest of one again and again, a hundred thousand times, and no time would go by.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:  # somebody can go on without time, and nobody outside is waited for
            return []
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits and nothing is due"
            whole_s = (math.floor(self.now_s * 1e9) + 1) / 1e9
            self.now_s = self.now_s + timeout if timeout >= LEAST_S else max(self.now_s + timeout, whole_s)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now_s

    def clock_ns(self) -> int:
        return round(self.selector.now_s * 1e9)

    def run_in_executor(self, executor: object, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """At once: a thread would take real time."""
        done = self.create_future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done
